//! The mesh's configuration (`meshConfig`), which istiod reads without a restart. Each change is one to the
//! configuration that `make mesh` has made; that is kept in an annotation, and so outlives an interrupted run.

use anyhow::{Context, Result};
use serde_json::json;

use crate::authority::Authority;
use crate::kubectl::{get, kubectl};

const ORIGINAL: &str = "mtls-watch/original";

/// The roots beside istiod's own that every sidecar with `PROXY_CONFIG_XDS_AGENT` trusts at once.
#[must_use]
pub fn ca_certificates(roots: &[&Authority]) -> String {
    let entry = |root: &&Authority| format!("{{pem: {:?}}}", root.pem());
    let entries: Vec<String> = roots.iter().map(entry).collect();
    format!("caCertificates: [{}]\n", entries.join(", "))
}

/// Trusts these roots beside istiod's own.
///
/// # Errors
/// If the API server refuses.
pub fn trust_also(roots: &[&Authority]) -> Result<()> {
    append(&ca_certificates(roots))
}

/// The original with these lines at its end.
///
/// # Errors
/// If the API server refuses.
pub fn append(lines: &str) -> Result<()> {
    change(|mesh| format!("{}\n{lines}", mesh.trim_end()))
}

/// The original without the lists of this name, on whatever level.
///
/// # Errors
/// If the API server refuses.
pub fn remove_list(name: &str) -> Result<()> {
    change(|mesh| {
        let mut is_inside = false;
        let kept = mesh.lines().filter(|line| {
            let line = line.trim_start();
            is_inside = line.starts_with(name) || is_inside && line.starts_with("- ");
            !is_inside
        });
        kept.map(|line| format!("{line}\n")).collect()
    })
}

fn change(edit: impl Fn(&str) -> String) -> Result<()> {
    let map = get(&["configmap", "istio", "--namespace", "istio-system"])?;
    let kept = &map["metadata"]["annotations"][ORIGINAL];
    let original = kept.as_str().or(map["data"]["mesh"].as_str());
    let original = original.context("no mesh configuration")?;
    patch(
        &json!({"metadata": {"annotations": {ORIGINAL: original}}, "data": {"mesh": edit(original)}}),
    )
}

/// As `make mesh` has made it.
///
/// # Errors
/// If the API server refuses.
pub fn restore() -> Result<()> {
    let map = get(&["configmap", "istio", "--namespace", "istio-system"])?;
    match map["metadata"]["annotations"][ORIGINAL].as_str() {
        Some(original) => patch(
            &json!({"metadata": {"annotations": {ORIGINAL: null}}, "data": {"mesh": original}}),
        ),
        None => Ok(()),
    }
}

fn patch(patch: &serde_json::Value) -> Result<()> {
    let configmap = ["patch", "configmap", "istio", "--namespace", "istio-system"];
    let merge = ["--type=merge", "--patch", &patch.to_string()];
    kubectl(&[&configmap[..], &merge[..]].concat()).map(drop)
}
