//! Scenario E, the other half: a healthy mesh, in which no alert fires. `make soak-mesh` has it run for an hour.

use std::env;
use std::time::Duration;

use anyhow::{Result, ensure};
use mesh_tests::namespace::{Namespace, Workload};
use mesh_tests::prometheus::{lines, query};
use mesh_tests::runner::{Scenario, holds, not_until};
use mesh_tests::{eventually, istio};

/// In the order in which they run.
pub(crate) const SCENARIOS: &[Scenario] = &[holds("health::no_alert_fires", no_alert_fires)];

const SHORT_LEAVES: &str = r#"{"proxyMetadata": {"SECRET_TTL": "3m"}}"#;

/// Leaves of three minutes, each renewed in time, connections that stay open, deploys, scaling up and down.
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
        if round % 100 == 50 {
            shop.restart(&["deployed"])?;
        }
        let alerts = query(&format!(
            "ALERTS{{alertname=~\"Mtls.*\", alertstate=\"firing\", identity=~\"spiffe://cluster.local/ns/shop-healthy/.*\"}}
             or ALERTS{{alertname=~\"Mtls.*\", alertstate=\"firing\", namespace=\"shop-healthy\"}}"
        ))?;
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
    let silent = if fired.is_empty() {
        Ok(())
    } else {
        Err(anyhow::anyhow!("these fired:{}", lines(&fired)))
    };
    not_until(
        19,
        "a healthy mesh with one open connection raises no alert",
        silent,
    )
}
