//! What the end-to-end tests, the demo and the rotation drill of mtls-watch stand on: a real Envoy, real mTLS
//! clients and the upstreams behind them, with the certificates of [`pki`].
//!
//! Everything is synchronous at the surface, so that a test is a plain `#[test]`. Do not call
//! it from inside an async runtime: the façade blocks on its own.

pub mod client;
pub mod envoy;
pub mod fleet;
pub mod load;
pub mod module;
mod process;
pub mod progress;
pub mod prometheus;
mod runtime;
mod rustls_form;
pub mod sample;
pub mod servers;
pub mod stats;
mod style;
mod tools;

pub use client::Client;
pub use envoy::Envoy;
pub use fleet::Fleet;
pub use pki;
pub use pki::{Ca, Hierarchy, Identity, Lifetime, TrustBundle};
pub use prometheus::Prometheus;
pub use sample::Sample;
pub use servers::Server;
pub use stats::Stats;
pub use style::Style;
pub use tools::tool;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The root of the workspace, where `envoy-config/` and `target/` are.
pub fn workspace_root() -> PathBuf {
    let testbed = Path::new(env!("CARGO_MANIFEST_DIR"));
    testbed.ancestors().nth(2).unwrap_or(testbed).to_owned()
}

/// Whether `FULL=1` asks for the long form of a test: in it nothing is left out to save time.
pub fn is_full() -> bool {
    std::env::var_os("FULL").is_some_and(|full| full == "1")
}

/// The files below a directory, by their paths from there.
///
/// # Errors
/// If the directory, or one below it, cannot be read.
pub fn files_below(directory: &Path) -> anyhow::Result<BTreeSet<String>> {
    let mut files = BTreeSet::new();
    let mut folders = vec![directory.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files.insert(path.strip_prefix(directory)?.display().to_string());
            }
        }
    }
    Ok(files)
}

/// A TLS protocol version to pin a client or a server to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsVersion {
    /// TLS 1.2 (RFC 5246).
    V1_2,
    /// TLS 1.3 (RFC 8446).
    V1_3,
}

impl TlsVersion {
    pub(crate) fn rustls(self) -> &'static rustls::SupportedProtocolVersion {
        match self {
            Self::V1_2 => &rustls::version::TLS12,
            Self::V1_3 => &rustls::version::TLS13,
        }
    }
}
