//! The image by the rules of Istio's agent (`pkg/wasm/imagefetcher.go`), which Envoy Gateway shares:
//! the manifest is the image's own; its last layer is a gzip tar; in it is a file whose name is
//! `plugin.wasm`; what one pins is the manifest's digest.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::io::Read as _;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use flate2::read::GzDecoder;
use oci_spec::image::{
    Descriptor, ImageConfiguration, ImageIndex, ImageManifest, MediaType, OciLayout,
};
use sha2::{Digest as _, Sha256};
use testbed::{files_below, workspace_root};

use crate::run::{release, release_to};

pub fn sha256(bytes: &[u8]) -> String {
    format!("{:x}", Sha256::digest(bytes))
}

/// The content that a descriptor describes, which must be as it says.
fn blob(layout: &Path, descriptor: &Descriptor) -> Result<Vec<u8>> {
    let digest = descriptor.digest().digest();
    let content = fs::read(layout.join("blobs/sha256").join(digest))?;
    ensure!(sha256(&content) == digest, "not the content of {digest}");
    ensure!(
        content.len() as u64 == descriptor.size(),
        "size of {digest}"
    );
    Ok(content)
}

/// The module out of a layer, as Istio's agent takes it.
pub fn plugin(layer: &[u8]) -> Result<Vec<u8>> {
    for entry in tar::Archive::new(GzDecoder::new(layer)).entries()? {
        let mut entry = entry?;
        if entry
            .path()?
            .file_name()
            .is_some_and(|name| name == "plugin.wasm")
        {
            let mut module = Vec::new();
            entry.read_to_end(&mut module)?;
            return Ok(module);
        }
    }
    anyhow::bail!("no plugin.wasm in the layer")
}

#[test]
fn istio_s_agent_finds_the_module_in_it() -> Result<()> {
    let layout = release("image")?;
    let layout = layout.path();
    OciLayout::from_file(layout.join("oci-layout"))?;
    let index = ImageIndex::from_file(layout.join("index.json"))?;
    let [entry] = index.manifests().as_slice() else {
        anyhow::bail!("several images: {index:?}");
    };
    assert_eq!(entry.media_type(), &MediaType::ImageManifest);
    let manifest = ImageManifest::from_reader(&blob(layout, entry)?[..])?;
    assert_eq!(manifest.media_type(), &Some(MediaType::ImageManifest));
    assert_eq!(manifest.layers().len(), 1);
    let layer = manifest.layers().last().context("no layer")?;
    assert_eq!(layer.media_type(), &MediaType::ImageLayerGzip);
    let layer = blob(layout, layer)?;
    assert_eq!(plugin(&layer)?, fs::read(testbed::module::path()?)?);

    // What Docker and containerd check in addition.
    let config = ImageConfiguration::from_reader(&blob(layout, manifest.config())?[..])?;
    let mut tar = Vec::new();
    GzDecoder::new(&layer[..]).read_to_end(&mut tar)?;
    let unpacked = format!("sha256:{}", sha256(&tar));
    assert_eq!(config.rootfs().diff_ids(), &[unpacked]);
    Ok(())
}

/// All files below a directory, with their contents.
pub fn files(directory: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    let files = files_below(directory)?.into_iter();
    files
        .map(|file| {
            let content = fs::read(directory.join(&file))?;
            Ok((file, content))
        })
        .collect()
}

#[test]
fn the_same_module_makes_the_same_bytes() -> Result<()> {
    let (one, two) = (release("dist")?, release("dist")?);
    assert_eq!(files(one.path())?, files(two.path())?);
    Ok(())
}

#[test]
fn nothing_of_an_older_image_stays() -> Result<()> {
    let directory = release("image")?;
    let before = files(directory.path())?;
    fs::write(directory.path().join("blobs/sha256/old"), "old")?;
    release_to("image", directory.path())?;
    assert_eq!(files(directory.path())?, before);
    Ok(())
}

/// Panic messages carry the path of the source: as built by `make`, not of whoever built it.
#[test]
fn the_module_names_no_path_of_this_machine() -> Result<()> {
    let module = fs::read(testbed::module::path()?)?;
    let text = String::from_utf8_lossy(&module);
    let folders = [env::var("HOME")?, workspace_root().display().to_string()];
    for folder in folders.map(|folder| format!("{folder}/")) {
        assert!(
            !text.contains(&folder),
            "{folder} is in the module: build it with `make build`"
        );
    }
    assert!(text.contains("/cargo/registry/"), "nothing was remapped");
    Ok(())
}
