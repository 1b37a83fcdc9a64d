//! The alerts of the rules that come with the module, with a real Prometheus where one is installed.

use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use testbed::{Prometheus, workspace_root};

use crate::mesh::Mesh;

const DIRECTORY: &str = "envoy-config/prometheus";
/// The rules that concern a rotation.
const RULES: [&str; 2] = ["rotation.rules.yaml", "handshake.rules.yaml"];

/// The alert on the cardinal rule.
pub const CARDINAL_RULE: &str = "MtlsCardinalRuleBroken";

/// A Prometheus that scrapes the sidecars and evaluates the rules every second.
pub struct Alerts(Prometheus);

impl Alerts {
    /// Starts it; `None` if there is none on this machine.
    ///
    /// # Errors
    /// As [`Prometheus::start`], or if the rules cannot be read.
    pub fn start(mesh: &Mesh) -> Result<Option<Self>> {
        if !Prometheus::is_installed() {
            return Ok(None);
        }
        let read = |name| {
            let path = workspace_root().join(DIRECTORY).join(name);
            fs::read_to_string(&path).with_context(|| path.display().to_string())
        };
        let rules = RULES.map(|name| read(name).map(|text| (name, text)));
        let rules: Vec<(&str, String)> = rules.into_iter().collect::<Result<_>>()?;
        let rules: Vec<(&str, &str)> = rules.iter().map(|(name, text)| (*name, &**text)).collect();
        let targets = mesh.sidecars().iter().map(|sidecar| {
            let address = sidecar.envoy.admin().to_string();
            json!({"targets": [address], "labels": {"instance": sidecar.name}})
        });
        let configuration = json!({
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": RULES,
            "scrape_configs": [{
                "job_name": "drill",
                "metrics_path": "/stats/prometheus",
                "params": {"filter": ["mtls_"]},
                "static_configs": targets.collect::<Vec<_>>(),
            }],
        });
        // JSON is YAML.
        let prometheus = Prometheus::start(&configuration.to_string(), &rules)?;
        Ok(Some(Self(prometheus)))
    }

    /// Checks that Prometheus sees every sidecar, and that no alert has fired so far.
    ///
    /// # Errors
    /// If one has; the error names it.
    pub fn none_has_fired(&self, sidecars: usize) -> Result<()> {
        let seen = self.0.query("mtls_watch_info")?.len();
        ensure!(seen == sidecars, "Prometheus sees {seen} sidecars");
        let fired = self
            .0
            .query(r#"count_over_time(ALERTS{alertstate="firing"}[1h])"#)?;
        let names: Vec<&str> = fired.iter().map(|alert| alert.label("alertname")).collect();
        ensure!(names.is_empty(), "{names:?} have fired");
        Ok(())
    }

    /// What the alert on the cardinal rule says of clients of this sidecar, if it fires.
    ///
    /// # Errors
    /// If it does not.
    pub fn cardinal_rule(&self, sidecar: &str) -> Result<String> {
        let alerts = self.0.api("/api/v1/alerts")?;
        let alerts = alerts["alerts"].as_array().context("no alerts")?;
        let found = alerts.iter().find(|alert| {
            let labels = &alert["labels"];
            alert["state"] == "firing"
                && labels["alertname"] == CARDINAL_RULE
                && labels["workload"] == sidecar
                && labels["direction"] == "inbound"
        });
        let found = found.with_context(|| format!("{CARDINAL_RULE} does not fire"))?;
        let text = |key: &str| found["annotations"][key].as_str().unwrap_or_default();
        Ok(format!("{}\n{}", text("summary"), text("description")))
    }
}
