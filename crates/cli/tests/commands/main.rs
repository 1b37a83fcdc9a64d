//! The commands, run.

mod cli;
mod diagnose;
mod explain;
mod inputs;
mod lints;
mod prometheus;
mod relabel;

use std::path::{Path, PathBuf};

/// A file of the project.
fn project(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .join(file)
}
