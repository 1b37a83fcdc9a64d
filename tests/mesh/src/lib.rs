//! What the scenarios on a real mesh stand on: workloads in a namespace of their own, the certificate
//! authorities that istiod signs with, and the questions that are put to Prometheus.
//!
//! The mesh is the one of `tools/mesh`, and this runs in its network: `make test-mesh`. What stands on a SPIRE is in
//! [`spire`]: `make test-spire`.

pub mod authority;
pub mod documented;
pub mod gateway;
pub mod handshakes;
pub mod istio;
pub mod kubectl;
pub mod mesh_config;
pub mod namespace;
pub mod probe;
pub mod prometheus;
pub mod registry;
pub mod rotation;
pub mod runner;
pub mod spire;

use std::env;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// Pods start, leaves are renewed, Prometheus has scraped: what takes seconds, on a busy machine.
pub const DEADLINE: Duration = Duration::from_secs(120);

/// The root of the workspace, where `envoy-config/` and `target/` are.
#[must_use]
pub fn workspace_root() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.ancestors().nth(2).unwrap_or(package).to_owned()
}

/// A folder for what a scenario writes; each mesh has its own.
#[must_use]
pub fn scratch(name: &str) -> PathBuf {
    let run = env::var_os("MESH_RUN").unwrap_or_default();
    let mesh = Path::new(&run).file_name().unwrap_or_default();
    workspace_root().join("target/mesh").join(mesh).join(name)
}

/// Asks until the answer is no error, and returns it.
///
/// # Errors
/// The last one, after the deadline.
pub fn eventually<T>(deadline: Duration, mut ask: impl FnMut() -> Result<T>) -> Result<T> {
    let start = Instant::now();
    loop {
        match ask() {
            Ok(answer) => return Ok(answer),
            Err(error) if start.elapsed() > deadline => {
                return Err(error).with_context(|| format!("not within {deadline:?}"));
            }
            Err(_) => sleep(Duration::from_millis(300)),
        }
    }
}
