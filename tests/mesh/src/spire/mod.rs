//! A real SPIRE, and Envoys that take their certificates from its SDS: `make test-spire`. It needs neither root nor a
//! cluster, and runs beside whatever else does: its ports are free ones, its files are in a folder of their own.

pub mod gates;
pub mod process;
pub mod server;
pub mod shop;
pub mod workload;

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use process::Process;

/// A program of SPIRE's, where `make test-spire` has compiled it to.
///
/// # Errors
/// If it is not there.
pub fn program(name: &str) -> Result<PathBuf> {
    let folder = env::var_os("SPIRE_BIN").context("no SPIRE_BIN: run this by make test-spire")?;
    let path = Path::new(&folder).join(name);
    ensure!(
        path.is_file(),
        "no {}: run this by make test-spire",
        path.display()
    );
    Ok(path)
}

/// What the scenarios need is there.
///
/// # Errors
/// If something is not; the error names it, and what provides it.
pub fn check() -> Result<()> {
    for name in ["spire-server", "spire-agent"] {
        program(name)?;
    }
    for name in ["prometheus", "openssl"] {
        testbed::tool(name)?;
    }
    testbed::Envoy::binary()?;
    testbed::module::path()?;
    let command_line = crate::workspace_root().join("target/release/mtls-watch");
    ensure!(
        command_line.is_file(),
        "no {}: run `make cli`",
        command_line.display()
    );
    Process::check()
}
