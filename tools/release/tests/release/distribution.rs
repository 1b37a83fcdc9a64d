//! The folder to publish.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use cargo_metadata::{Message, MetadataCommand};
use cyclonedx_bom::models::bom::Bom;
use cyclonedx_bom::validation::Validate as _;
use testbed::workspace_root;

use crate::image::files;
use crate::run::release;

#[test]
fn every_file_has_its_checksum() -> Result<()> {
    let directory = release("dist")?;
    let output = Command::new("sha256sum")
        .args(["--check", "--strict", "SHA256SUMS"])
        .current_dir(&directory)
        .output()?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
    let sums = fs::read_to_string(directory.path().join("SHA256SUMS"))?;
    let listed: BTreeSet<&str> = sums
        .lines()
        .filter_map(|line| line.split_once("  "))
        .map(|(_, file)| file)
        .collect();
    let there = files(directory.path())?;
    let there: BTreeSet<&str> = there
        .keys()
        .map(String::as_str)
        .filter(|file| *file != "SHA256SUMS")
        .collect();
    assert_eq!(listed, there);
    Ok(())
}

/// Name and version of the module, and of every crate of others that cargo compiles for it, by what it says
/// while it compiles.
fn compiled() -> Result<BTreeSet<(String, String)>> {
    let output = Command::new(env!("CARGO"))
        .args([
            "check",
            "--quiet",
            "--locked",
            "--release",
            "--package",
            "mtls-watch",
            "--lib",
        ])
        .args(["--target", "wasm32-wasip1", "--message-format", "json"])
        .current_dir(workspace_root())
        .output()?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata = MetadataCommand::new()
        .current_dir(workspace_root())
        .exec()?;
    let mut compiled = BTreeSet::new();
    for message in Message::parse_stream(&output.stdout[..]) {
        if let Message::CompilerArtifact(artifact) = message?
            && artifact.filenames.iter().any(|file| file.as_str().contains("wasm32-wasip1"))
            // A build script runs on the host and leaves its results in the target's folder.
            && !artifact.target.is_custom_build()
        {
            let package = &metadata[&artifact.package_id];
            // The workspace's other crates are parts of the module.
            if package.source.is_none() && package.name != "mtls-watch" {
                continue;
            }
            compiled.insert((package.name.to_string(), package.version.to_string()));
        }
    }
    Ok(compiled)
}

#[test]
fn the_bill_lists_what_is_inside() -> Result<()> {
    let directory = release("dist")?;
    let text = fs::read(directory.path().join("mtls_watch.cdx.json"))?;
    let bill = Bom::parse_from_json_v1_5(&text[..])?;
    let errors = bill.validate_version(cyclonedx_bom::models::bom::SpecVersion::V1_5);
    assert!(errors.passed(), "{errors:?}");
    let module = bill
        .metadata
        .and_then(|metadata| metadata.component)
        .context("no module")?;
    let components = bill.components.context("no components")?.0;
    let mut listed: BTreeSet<(String, String)> = components
        .iter()
        .chain([&module])
        .map(|component| {
            let version = component.version.as_ref().context("no version")?;
            Ok((component.name.to_string(), version.to_string()))
        })
        .collect::<Result<_>>()?;
    let names: Vec<_> = listed
        .iter()
        .map(|(name, version)| format!("{name}-{version}"))
        .collect();
    for name in names {
        let folder = directory.path().join("licenses").join(&name);
        assert!(folder.is_dir(), "no licence of {name}");
    }
    // The standard library is linked, not compiled.
    let before = listed.len();
    listed.retain(|(name, _)| name != "rust-std");
    assert_eq!(listed.len(), before - 1);
    assert_eq!(listed, compiled()?);
    Ok(())
}
