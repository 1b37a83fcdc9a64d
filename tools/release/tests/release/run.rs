//! Running the tool.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};
use tempfile::TempDir;

/// What `release <command>` writes for the module that was built.
pub fn release(command: &str) -> Result<TempDir> {
    let directory = TempDir::new()?;
    release_to(command, directory.path())?;
    Ok(directory)
}

/// As [`release`], to a directory.
pub fn release_to(command: &str, out: &Path) -> Result<()> {
    let status = Command::new(env!("CARGO_BIN_EXE_release"))
        .arg(command)
        .arg(testbed::module::path()?)
        .arg(out)
        .status()?;
    ensure!(status.success(), "release {command}: {status}");
    Ok(())
}
