//! The module under test.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use walrus::{FunctionBuilder, Module, ValType};

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

/// Writes the module into the folder, but for a trap at a response's body, at which it is not called otherwise: the first
/// response in a worker ends that worker's VM.
///
/// # Errors
/// As [`path`], or if it cannot be written.
pub fn trapping(folder: &Path) -> Result<PathBuf> {
    let mut module = Module::from_file(path()?)?;
    let parameters = [ValType::I32; 3];
    let mut function = FunctionBuilder::new(&mut module.types, &parameters, &[ValType::I32]);
    function.func_body().unreachable();
    let locals = parameters.map(|kind| module.locals.add(kind)).to_vec();
    let trap = function.finish(locals, &mut module.funcs);
    module.exports.add("proxy_on_response_body", trap);
    let path = folder.join("trapping.wasm");
    module.emit_wasm_file(&path)?;
    Ok(path)
}

fn target_directory() -> PathBuf {
    let target = env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    workspace_root().join(target)
}
