//! The module under test.

use std::env;
use std::path::PathBuf;

use anyhow::{Result, bail};

use crate::workspace_root;

/// The release build of the module: `MTLS_WATCH_WASM` if set, else
/// `wasm32-wasip1/release/mtls_watch.wasm` in `CARGO_TARGET_DIR` or the workspace's `target`.
///
/// # Errors
/// If there is none; the error names the command that builds it.
pub fn path() -> Result<PathBuf> {
    let path = match env::var_os("MTLS_WATCH_WASM") {
        Some(path) => workspace_root().join(path),
        None => target_directory().join("wasm32-wasip1/release/mtls_watch.wasm"),
    };
    if !path.is_file() {
        bail!("{}: no module there; run `make build`", path.display());
    }
    Ok(path.canonicalize()?)
}

fn target_directory() -> PathBuf {
    let target = env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    workspace_root().join(target)
}
