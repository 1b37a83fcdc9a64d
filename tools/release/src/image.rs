//! The OCI image that mesh agents load the module from.
//!
//! Istio's agent and Envoy Gateway take the last layer of an image manifest if it is a gzip tar, and
//! from it the file named `plugin.wasm`. The digest that one pins is the manifest's own, and an index
//! above it (what multi-platform builds make) fails that comparison: so there is one manifest, one
//! layer, one file.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context, Result};
use flate2::{Compression, GzBuilder};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::archive;

/// The file that Istio's agent and Envoy Gateway look for.
const PLUGIN: &str = "plugin.wasm";

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// A piece of an image, stored under its digest.
struct Blob {
    media_type: &'static str,
    content: Vec<u8>,
}

impl Blob {
    fn json(media_type: &'static str, value: Value) -> Result<Self> {
        Ok(Self {
            media_type,
            content: canonical(value)?,
        })
    }

    fn digest(&self) -> String {
        format!("sha256:{}", sha256(&self.content))
    }

    fn descriptor(&self) -> Value {
        json!({
            "mediaType": self.media_type,
            "digest": self.digest(),
            "size": self.content.len(),
        })
    }

    /// Where an image layout keeps it.
    fn path(&self) -> String {
        format!("blobs/sha256/{}", sha256(&self.content))
    }
}

/// An image of the module.
pub(crate) struct Image {
    manifest: Blob,
    config: Blob,
    layer: Blob,
}

impl Image {
    /// Makes the image of a module.
    ///
    /// # Errors
    /// If the module cannot be packed; never in practice, for all of it is in memory.
    pub(crate) fn of(wasm: &[u8]) -> Result<Self> {
        let tar = archive::tar([(PLUGIN, wasm)])?;
        let layer = Blob {
            media_type: LAYER,
            content: gzip(&tar)?,
        };
        let config = Blob::json(
            CONFIG,
            json!({
                "architecture": "wasm",
                "os": "wasip1",
                "config": {},
                "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", sha256(&tar))]},
            }),
        )?;
        let manifest = Blob::json(
            MANIFEST,
            json!({
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "config": config.descriptor(),
                "layers": [layer.descriptor()],
                "annotations": {
                    "org.opencontainers.image.title": "mtls-watch",
                    "org.opencontainers.image.version": env!("CARGO_PKG_VERSION"),
                    "org.opencontainers.image.licenses": env!("CARGO_PKG_LICENSE"),
                },
            }),
        )?;
        Ok(Self {
            manifest,
            config,
            layer,
        })
    }

    /// What one pins: the digest of the manifest.
    pub(crate) fn digest(&self) -> String {
        self.manifest.digest()
    }

    /// The files of an image layout, by path. Its `index.json` is the layout's table of contents
    /// and is not pushed.
    pub(crate) fn layout(&self) -> Result<Vec<(String, Vec<u8>)>> {
        let mut entry = self.manifest.descriptor();
        entry["annotations"] =
            json!({"org.opencontainers.image.ref.name": env!("CARGO_PKG_VERSION")});
        let index = json!({"schemaVersion": 2, "manifests": [entry]});
        let mut files = vec![
            (
                "oci-layout".to_owned(),
                canonical(json!({"imageLayoutVersion": "1.0.0"}))?,
            ),
            ("index.json".to_owned(), canonical(index)?),
        ];
        for blob in [&self.config, &self.layer, &self.manifest] {
            files.push((blob.path(), blob.content.clone()));
        }
        Ok(files)
    }
}

/// Writes the image of the module at `wasm` as an image layout to `out`, which is replaced, and
/// returns the digest to pin.
///
/// # Errors
/// If the module cannot be read or the layout not be written.
pub(crate) fn write(wasm: &Path, out: &Path) -> Result<String> {
    let module = fs::read(wasm).with_context(|| format!("{}: no module", wasm.display()))?;
    let image = Image::of(&module)?;
    replace(out)?;
    fs::create_dir_all(out.join("blobs/sha256"))?;
    for (path, content) in image.layout()? {
        fs::write(out.join(path), content)?;
    }
    Ok(image.digest())
}

/// Makes an empty directory of this name.
pub(crate) fn replace(directory: &Path) -> Result<()> {
    if directory.exists() {
        fs::remove_dir_all(directory)?;
    }
    fs::create_dir_all(directory).with_context(|| directory.display().to_string())
}

/// In hexadecimal.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    format!("{:x}", Sha256::digest(bytes))
}

/// With the keys in alphabetical order, whatever features other crates switch on in `serde_json`.
fn canonical(mut value: Value) -> Result<Vec<u8>> {
    value.sort_all_objects();
    Ok(serde_json::to_vec(&value)?)
}

/// No time, no file name, and "unknown" for the operating system.
fn gzip(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut writer = GzBuilder::new()
        .mtime(0)
        .operating_system(255)
        .write(Vec::new(), Compression::best());
    writer.write_all(bytes)?;
    Ok(writer.finish()?)
}
