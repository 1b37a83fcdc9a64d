//! The folder to publish.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use cargo_metadata::Package;

use crate::contents::Contents;
use crate::image::{Image, replace, sha256};
use crate::{archive, bill};

const CHECKSUMS: &str = "SHA256SUMS";

/// Writes the module at `wasm` with all that belongs to it to `out`, which is replaced, and returns
/// the number of files:
/// `mtls_watch.wasm`, `mtls-watch-image.tar` (the image layout as an archive), `image-digest.txt`
/// (what to pin), `mtls_watch.cdx.json`, `licenses/`, and `SHA256SUMS` over all of them.
///
/// # Errors
/// If the module cannot be read, cargo cannot tell what is in it, a crate has no licence file, or
/// `out` cannot be written.
pub(crate) fn write(wasm: &Path, out: &Path) -> Result<usize> {
    let module = fs::read(wasm).with_context(|| format!("{}: no module", wasm.display()))?;
    let contents = Contents::resolve()?;
    let image = Image::of(&module)?;
    let layout = image.layout()?;
    let archive = archive::tar(layout.iter().map(|(path, blob)| (path.as_str(), &blob[..])))?;
    let bill = serde_json::to_vec_pretty(&bill::of(&contents, &sha256(&module)))?;

    let mut files = licenses(&contents)?;
    files.extend([
        ("mtls_watch.wasm".to_owned(), module),
        ("mtls-watch-image.tar".to_owned(), archive),
        (
            "image-digest.txt".to_owned(),
            format!("{}\n", image.digest()).into_bytes(),
        ),
        ("mtls_watch.cdx.json".to_owned(), bill),
    ]);
    files.sort();
    let sums = files
        .iter()
        .map(|(path, content)| format!("{}  {path}\n", sha256(content)));
    let sums: String = sums.collect();
    files.push((CHECKSUMS.to_owned(), sums.into_bytes()));

    replace(out)?;
    for (path, content) in &files {
        let path = out.join(path);
        fs::create_dir_all(path.parent().unwrap_or(out))?;
        fs::write(path, content)?;
    }
    Ok(files.len())
}

/// The licence files of everything that is linked into the module.
fn licenses(contents: &Contents) -> Result<Vec<(String, Vec<u8>)>> {
    let mut files = Vec::new();
    for package in contents.crates.iter().chain([&contents.module]) {
        files.extend(licenses_of(package)?);
    }
    let toolchain = &contents.toolchain;
    let path = format!(
        "licenses/rust-std-{}/COPYRIGHT-library.html",
        toolchain.version
    );
    files.push((path, fs::read(&toolchain.copyright)?));
    Ok(files)
}

fn licenses_of(package: &Package) -> Result<Vec<(String, Vec<u8>)>> {
    let folder = package
        .manifest_path
        .parent()
        .context("a manifest is in a folder")?;
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if is_license(&name) && entry.path().is_file() {
            let path = format!("licenses/{}-{}/{name}", package.name, package.version);
            files.push((path, fs::read(entry.path())?));
        }
    }
    ensure!(
        !files.is_empty(),
        "{} {} has no licence file",
        package.name,
        package.version
    );
    Ok(files)
}

fn is_license(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    [
        "LICENSE",
        "LICENCE",
        "COPYING",
        "COPYRIGHT",
        "NOTICE",
        "UNLICENSE",
    ]
    .iter()
    .any(|prefix| name.starts_with(prefix))
}
