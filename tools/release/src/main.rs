//! Packs the module for those who run it: OCI image, bill of materials, licences, checksums.
//!
//! Everything it writes depends on the module, the lock file and the toolchain alone: two people who
//! build one commit get the same bytes, and can tell by the checksum.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

mod archive;
mod bill;
mod contents;
mod distribution;
mod image;

/// What to pack.
#[derive(Parser)]
enum Command {
    /// The OCI image, as an image layout in a directory; prints the digest to pin
    Image(Paths),
    /// The module, the image as one file, bill of materials, licences, checksums
    Dist(Paths),
}

#[derive(clap::Args)]
struct Paths {
    /// The module
    wasm: PathBuf,
    /// The directory to write, which is replaced
    out: PathBuf,
}

fn main() -> ExitCode {
    match run(&Command::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("release: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: &Command) -> Result<()> {
    match command {
        Command::Image(paths) => {
            let digest = image::write(&paths.wasm, &paths.out)?;
            println!("{}: manifest {digest}", paths.out.display());
        }
        Command::Dist(paths) => {
            let files = distribution::write(&paths.wasm, &paths.out)?;
            println!("{}: {} files", paths.out.display(), files);
        }
    }
    Ok(())
}
