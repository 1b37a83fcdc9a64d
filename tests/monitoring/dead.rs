//! A VM that has died, in one worker and in all: Envoy lets the traffic pass, and an alert is all that tells.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;
use tempfile::TempDir;
use testbed::fleet::impatient_rules;
use testbed::stats::eventually;
use testbed::{Client, Envoy, Hierarchy, Prometheus, Sample, Server, module};

const FILE: &str = "watch.rules.yaml";
/// A VM counts as dead 20 s after its last tick.
const DEADLINE: Duration = Duration::from_secs(90);

fn prometheus(proxies: &[(&str, &Envoy)]) -> Result<Prometheus> {
    let targets: Vec<_> = proxies
        .iter()
        .map(|(name, envoy)| {
            json!({
                "targets": [envoy.admin().to_string()],
                "labels": {"namespace": name, "instance": name},
            })
        })
        .collect();
    let configuration = json!({
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [FILE],
        "scrape_configs": [{
            "job_name": "mesh",
            "metrics_path": "/stats/prometheus",
            "static_configs": targets,
        }],
    });
    // JSON is YAML.
    Prometheus::start(
        &configuration.to_string(),
        &[(FILE, &impatient_rules(FILE)?)],
    )
}

fn values(prometheus: &Prometheus, expression: &str) -> Result<BTreeSet<String>> {
    let found = prometheus.query(expression)?;
    let namespaces = found
        .iter()
        .map(|series| series.label("namespace").to_owned());
    Ok(namespaces.collect())
}

#[test]
fn is_alerted_on() -> Result<()> {
    let directory = TempDir::new()?;
    let cas = Hierarchy::new()?;
    let leaf = cas
        .leaf()
        .uri("spiffe://cluster.local/ns/shop/sa/web")
        .issue()?;
    leaf.write_to(directory.path())?;
    cas.trust_bundle().write_to(directory.path())?;
    let server = Server::http_echo(None)?;
    let module = module::trapping(directory.path())?;
    // Each has ports of its own.
    let start = || {
        let sample = Sample::local("both.yaml", directory.path())?.module(&module);
        sample.upstream("app", server.port()).start(2)
    };
    let [well, one, all] = [start()?, start()?, start()?];
    let prometheus = prometheus(&[("well", &well), ("one", &one), ("all", &all)])?;
    let firing = || {
        values(
            &prometheus,
            "ALERTS{alertname=\"MtlsWatchDead\", alertstate=\"firing\"}",
        )
    };
    eventually(DEADLINE, || {
        let whole = values(
            &prometheus,
            "mtls_watch_workers == envoy_server_concurrency",
        )?;
        ensure!(whole.len() == 3, "{whole:?}");
        let firing = firing()?;
        ensure!(firing.is_empty(), "{firing:?}");
        Ok(())
    })?;
    let client = Client::mtls(&leaf);
    // The response in whose midst a VM dies may be lost.
    drop(client.get(one.listener_port("inbound")?, "/", &[]));
    eventually(DEADLINE, || {
        drop(client.get(all.listener_port("inbound")?, "/", &[]));
        let dead = values(&prometheus, "mtls_watch_workers == 0")?;
        ensure!(dead.contains("all"), "{dead:?}");
        Ok(())
    })?;
    let expected = ["all", "one"].map(str::to_owned).into();
    eventually(DEADLINE, || {
        let firing = firing()?;
        ensure!(firing == expected, "{firing:?}");
        Ok(())
    })?;
    // Traffic passes.
    client
        .get(all.listener_port("inbound")?, "/", &[])
        .map(drop)
}
