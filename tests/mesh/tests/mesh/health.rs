//! Scenario E, the other half: a healthy mesh, in which no alert fires. `make soak-mesh` has it run for an hour.

use std::env;
use std::time::Duration;

use anyhow::{Result, ensure};
use mesh_tests::kubectl::kubectl;
use mesh_tests::namespace::{Namespace, Workload};
use mesh_tests::prometheus::{self, lines, query};
use mesh_tests::runner::{Scenario, holds};
use mesh_tests::{eventually, istio};

/// In the order in which they run.
pub(crate) const SCENARIOS: &[Scenario] = &[holds("health::no_alert_fires", no_alert_fires)];

const SHORT_LEAVES: &str = r#"{"proxyMetadata": {"SECRET_TTL": "3m"}}"#;

/// Leaves of three minutes, each renewed in time, connections that stay open, deploys, scaling up and down, a node
/// that is drained, Prometheus restarted.
fn no_alert_fires() -> Result<()> {
    let minutes: u64 = env::var("MINUTES")
        .ok()
        .and_then(|minutes| minutes.parse().ok())
        .unwrap_or(4);
    istio::watch_the_mesh()?;
    let shop = Namespace::injected("shop-healthy")?;
    let targets = [
        "http://server.shop-healthy/",
        "grpc://server.shop-healthy:9090",
        "tcp://server.shop-healthy:7000",
        "kept-tcp://server.shop-healthy:7000",
    ];
    let server = Workload {
        name: "server",
        proxy_config: SHORT_LEAVES,
        ..Workload::default()
    };
    let client = Workload {
        name: "client",
        proxy_config: SHORT_LEAVES,
        targets: &targets,
    };
    shop.start(&[
        server,
        client.clone(),
        Workload {
            name: "deployed",
            ..client
        },
    ])?;
    for target in targets {
        shop.call_until_ok("client", target)?;
    }
    let begin = query("vector(time())").map(|now| now.first().map_or(0.0, |now| now.value))?;
    let (mut round, mut fired) = (0, Vec::new());
    eventually(Duration::from_secs(60 * minutes + 300), || {
        round += 1;
        // Every half minute or so.
        match round % 100 {
            20 => shop.scale("deployed", 3)?,
            50 => shop.restart(&["deployed"])?,
            80 => shop.scale("deployed", 1)?,
            _ => {}
        }
        match round {
            120 => drain(&shop)?,
            220 => prometheus::restart()?,
            _ => {}
        }
        let alerts = query(
            "ALERTS{alertname=~\"Mtls.*\", alertstate=\"firing\", identity=~\"spiffe://cluster.local/ns/shop-healthy/.*\"}
             or ALERTS{alertname=~\"Mtls.*\", alertstate=\"firing\", namespace=\"shop-healthy\"}",
        )?;
        if fired.is_empty() {
            fired = alerts;
        }
        let now = query("vector(time())")?
            .first()
            .map_or(0.0, |now| now.value);
        ensure!(
            now - begin > 60.0 * minutes as f64,
            "{minutes} minutes are not over"
        );
        Ok(())
    })?;
    ensure!(fired.is_empty(), "these fired:{}", lines(&fired));
    Ok(())
}

/// Every pod of the node is moved, istiod and the gateway too: there is one node, so all are away for a moment.
fn drain(shop: &Namespace) -> Result<()> {
    // Istio's disruption budgets let the only istiod never go.
    let ways = [
        "--ignore-daemonsets",
        "--delete-emptydir-data",
        "--force",
        "--disable-eviction",
    ];
    let drained = kubectl(&[&["drain", "node", "--timeout=120s"][..], &ways].concat());
    kubectl(&["uncordon", "node"])?;
    drained?;
    istio::wait_for_istiod()?;
    shop.wait()
}
