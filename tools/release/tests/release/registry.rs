//! The image through a registry: pushed and pulled as operators do it.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;
use testbed::Client;
use testbed::envoy::free_port;
use testbed::stats::eventually;

use crate::image::{plugin, sha256};
use crate::run::release;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// A registry on this machine. Dropping it ends it and removes what was pushed.
struct Registry {
    process: Child,
    port: u16,
    _directory: TempDir,
}

impl Registry {
    fn start() -> Result<Self> {
        let directory = TempDir::new()?;
        let port = free_port()?;
        let configuration = directory.path().join("config.yml");
        let root = directory.path().join("registry");
        let text = format!(
            "version: 0.1\nstorage: {{filesystem: {{rootdirectory: '{}'}}}}\nhttp: {{addr: '127.0.0.1:{port}'}}\n",
            root.display()
        );
        fs::write(&configuration, text)?;
        let process = Command::new(testbed::tool("docker-registry")?)
            .arg("serve")
            .arg(&configuration)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let registry = Self {
            process,
            port,
            _directory: directory,
        };
        eventually(Duration::from_secs(20), || {
            registry.get("/v2/", &[]).map(drop)
        })?;
        Ok(registry)
    }

    fn get(&self, path: &str, headers: &[(&str, &str)]) -> Result<testbed::client::Response> {
        let response = Client::plaintext().get(self.port, path, headers)?;
        ensure!(response.status == 200, "{path}: {}", response.status);
        Ok(response)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn skopeo(arguments: &[&str]) -> Result<()> {
    let output = Command::new(testbed::tool("skopeo")?)
        .arg("--insecure-policy")
        .args(arguments)
        .output()?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "skopeo {arguments:?}: {error}");
    Ok(())
}

/// From the file that is published, to a registry, to the module: the digest in `image-digest.txt` is
/// the one under which the registry serves a manifest, not an index.
#[test]
fn is_served_under_the_digest_to_pin() -> Result<()> {
    let published = release("dist")?;
    let digest = fs::read_to_string(published.path().join("image-digest.txt"))?;
    let digest = digest.trim_end();
    let registry = Registry::start()?;
    let archive = published.path().join("mtls-watch-image.tar");
    let from = format!("oci-archive:{}", archive.display());
    let to = format!("docker://127.0.0.1:{}/mtls-watch:test", registry.port);
    skopeo(&["copy", "--quiet", "--dest-tls-verify=false", &from, &to])?;

    let accept = [("accept", MANIFEST)];
    let path = format!("/v2/mtls-watch/manifests/{digest}");
    let by_digest = registry.get(&path, &accept)?;
    let by_tag = registry.get("/v2/mtls-watch/manifests/test", &accept)?;
    assert_eq!(by_tag.body, by_digest.body);
    assert_eq!(by_tag.header("content-type"), Some(MANIFEST));
    assert_eq!(format!("sha256:{}", sha256(&by_tag.body)), digest);

    let manifest = by_tag.json()?;
    let layer = manifest["layers"][0]["digest"]
        .as_str()
        .context("no layer")?;
    let layer = registry.get(&format!("/v2/mtls-watch/blobs/{layer}"), &[])?;
    assert_eq!(plugin(&layer.body)?, fs::read(testbed::module::path()?)?);
    Ok(())
}
