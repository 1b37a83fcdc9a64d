//! Rendering, as `kubectl apply -k` does it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};
use serde::Deserialize as _;
use serde_json::Value;
use testbed::{files_below, tool, workspace_root};

/// The objects of `envoy-config/<folder>`.
pub fn render(folder: &str) -> Result<Vec<Value>> {
    let output = Command::new(tool("kubectl")?)
        .arg("kustomize")
        .arg(workspace_root().join("envoy-config").join(folder))
        .output()?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "kubectl kustomize {folder}: {error}"
    );
    ensure!(!error.contains("deprecated"), "{folder}: {error}");
    serde_yaml_ng::Deserializer::from_slice(&output.stdout)
        .map(|document| Ok(Value::deserialize(document)?))
        .collect()
}

/// A file of `envoy-config` as it is.
pub fn load(file: &str) -> Result<Value> {
    let path = workspace_root().join("envoy-config").join(file);
    Ok(serde_yaml_ng::from_str(&fs::read_to_string(path)?)?)
}

/// All files below a folder of `envoy-config`, by their path from there.
fn files(folder: &str) -> Result<BTreeSet<String>> {
    let root = workspace_root().join("envoy-config").join(folder);
    let files = files_below(&root)?.into_iter();
    Ok(files.map(|file| format!("{folder}/{file}")).collect())
}

/// The folders below this one with a kustomization of their own.
pub fn kustomizations(folder: &str) -> Result<BTreeSet<String>> {
    let files = files(folder)?.into_iter();
    let folders =
        files.filter_map(|file| file.strip_suffix("/kustomization.yaml").map(str::to_owned));
    Ok(folders.collect())
}

/// Every manifest is part of a kustomization, and so rendered; the others are those that have tests of
/// their own.
#[test]
fn no_file_is_left_out() -> Result<()> {
    let mut left = files("istio")?;
    left.extend(files("envoy-gateway")?);
    for folder in kustomizations("istio")?
        .into_iter()
        .chain(kustomizations("envoy-gateway")?)
    {
        let file = format!("{folder}/kustomization.yaml");
        let kustomization = load(&file)?;
        left.remove(&file);
        let resources = kustomization["resources"].as_array().into_iter().flatten();
        let patches = kustomization["patches"].as_array().into_iter().flatten();
        let named = resources.chain(patches.map(|patch| &patch["path"]));
        for name in named.filter_map(Value::as_str) {
            left.remove(&Path::new(&folder).join(name).display().to_string());
        }
    }
    let others = [
        "envoy-gateway/network/mount.yaml",
        "envoy-gateway/network/patch-policy.yaml",
        "envoy-gateway/parameters-ref.yaml",
        "envoy-gateway/pod-monitor.yaml",
        "envoy-gateway/xfcc-chain.yaml",
        "istio/README.md",
        "istio/pod-annotations.yaml",
        "istio/pod-monitor.yaml",
        "istio/values.yaml",
    ];
    left.retain(|file| !others.contains(&file.as_str()));
    ensure!(left.is_empty(), "{left:?}");
    Ok(())
}
