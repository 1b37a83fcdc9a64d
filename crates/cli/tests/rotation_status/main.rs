//! `mtls-watch rotation-status` on generated metrics, from files and over HTTP, and the pages
//! about it.

mod gates;
mod metrics;
mod model;
mod observed;
mod paths;
mod reissue;
mod revocation;
mod rules;
mod run;
mod shapes;
mod sources;
mod states;

use std::path::{Path, PathBuf};

/// A file of the project.
fn project(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .join(file)
}
