//! Prometheus scrapes the proxies by `envoy-config/envoy-gateway/pod-monitor.yaml`, as its operator would.

use std::path::Path;
use std::{env, fs};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::prometheus::{reload, wait_for};
use crate::workspace_root;

/// Puts the PodMonitor in force.
///
/// # Errors
/// If Prometheus refuses it.
pub fn begin() -> Result<()> {
    let run = env::var("MESH_RUN").context("run this by make test-gateway")?;
    let file = Path::new(&run).join("prometheus.yaml");
    let configuration = fs::read_to_string(&file)?;
    let job = job()?;
    if !configuration.contains(&job) {
        // The list of scrape jobs is the last thing in the file.
        fs::write(&file, format!("{}\n  - {job}\n", configuration.trim_end()))?;
        reload()?;
    }
    wait_for("vector(1)").map(drop)
}

/// The scrape job that Prometheus' operator makes of the PodMonitor, in one line, with the pods from the file in which
/// tools/mesh/targets.py lists them.
fn job() -> Result<String> {
    let path = workspace_root().join("envoy-config/envoy-gateway/pod-monitor.yaml");
    let monitor: Value = serde_yaml_ng::from_str(&fs::read_to_string(path)?)?;
    let (metadata, spec) = (&monitor["metadata"], &monitor["spec"]);
    let labels = spec["selector"]["matchLabels"]
        .as_object()
        .context("no labels")?;
    let endpoints = spec["podMetricsEndpoints"]
        .as_array()
        .context("no endpoints")?;
    ensure!(endpoints.len() == 1, "{} endpoints", endpoints.len());
    let endpoint = &endpoints[0];
    let keep = |source: String, value: &Value| json!({"source_labels": [source], "regex": value, "action": "keep"});
    let copy = |source: &str, target: &str| json!({"source_labels": [format!("__meta_kubernetes_{source}")], "target_label": target});
    let mut relabelings: Vec<Value> = labels
        .iter()
        .map(|(label, value)| {
            let label = label.replace(|c: char| !c.is_ascii_alphanumeric(), "_");
            keep(format!("__meta_kubernetes_pod_label_{label}"), value)
        })
        .collect();
    relabelings.extend([
        keep(
            "__meta_kubernetes_namespace".to_owned(),
            &metadata["namespace"],
        ),
        keep(
            "__meta_kubernetes_pod_container_port_name".to_owned(),
            &endpoint["port"],
        ),
        copy("namespace", "namespace"),
        copy("pod_name", "pod"),
        copy("pod_container_name", "container"),
    ]);
    let name = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let job = json!({
        "job_name": format!("{}/{}", name(&metadata["namespace"]), name(&metadata["name"])),
        "metrics_path": endpoint["path"],
        "file_sd_configs": [{"files": ["/run/mesh/run/targets.json"]}],
        "relabel_configs": relabelings,
    });
    Ok(job.to_string())
}
