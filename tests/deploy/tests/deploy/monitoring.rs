//! envoy-config/prometheus and envoy-config/grafana, as Kubernetes gets them. What they do is tested in
//! tests/monitoring.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::kustomize::{load, render};
use crate::schema::check;

/// The one object of a folder.
fn object(folder: &str) -> Result<Value> {
    let mut objects = render(folder)?;
    ensure!(objects.len() == 1, "{folder}: {} objects", objects.len());
    objects.pop().context("none")
}

#[test]
fn the_operator_gets_the_rules_that_are_tested() -> Result<()> {
    let rendered = object("prometheus")?;
    check(&rendered)?;
    assert_eq!(rendered["metadata"]["namespace"], "monitoring");
    assert_eq!(
        rendered["spec"],
        load("prometheus/prometheus-rule.yaml")?["spec"]
    );
    Ok(())
}

#[test]
fn grafana_gets_the_dashboards_that_are_tested() -> Result<()> {
    let rendered = object("grafana")?;
    assert_eq!(rendered["kind"], "ConfigMap");
    assert_eq!(rendered["metadata"]["labels"]["grafana_dashboard"], "1");
    for file in ["mtls-watch.json", "mtls-watch-proxy.json"] {
        let text = rendered["data"][file].as_str();
        let dashboard: Value = serde_json::from_str(text.context("no dashboard")?)?;
        assert_eq!(dashboard, load(&format!("grafana/{file}"))?);
    }
    Ok(())
}
