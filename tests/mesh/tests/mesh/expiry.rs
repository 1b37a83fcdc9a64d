//! Scenarios D and E: an issuing CA ends under the mesh, and leaves are no longer renewed.

use std::time::Duration;

use anyhow::{Result, ensure};
use mesh_tests::authority::{Authority, PluggedIn};
use mesh_tests::kubectl::kubectl;
use mesh_tests::namespace::Namespace;
use mesh_tests::prometheus::{ScaledRules, nothing, query, wait_for, wait_within};
use mesh_tests::runner::{Scenario, holds};
use mesh_tests::{DEADLINE, eventually, istio};
use pki::DAY;

use crate::overlays::pair_with;

/// In the order in which they run.
pub(crate) const SCENARIOS: &[Scenario] = &[
    holds("expiry::an_issuing_ca_ends", an_issuing_ca_ends),
    holds(
        "expiry::a_stalled_rotation_is_told_in_time",
        a_stalled_rotation_is_told_in_time,
    ),
];

fn firing(alert: &str, labels: &str) -> String {
    format!("ALERTS{{alertname=\"{alert}\", alertstate=\"firing\", {labels}}}")
}

/// An intermediate of 90 days that nobody has renewed, in minutes. istiod cuts leaves to their issuer's end: leaf
/// and CA go in the same second.
fn an_issuing_ca_ends() -> Result<()> {
    let _rules = ScaledRules::load()?;
    istio::watch_the_mesh()?;
    let root = Authority::root("Corp Root")?;
    // 5 minutes in all, two of which are over.
    let ending = root.intermediate("Ending CA", 180)?;
    PluggedIn {
        signer: &ending,
        roots: &[&root],
    }
    .apply()?;
    istio::restart_istiod()?;
    let shop = Namespace::injected("shop-ending")?;
    pair_with(&shop, r#"{"proxyMetadata": {"SECRET_TTL": "1h"}}"#)?;
    let failed = shop.calls("failed")?;
    let of_the_ca = format!("layer=\"issuing_ca\", identity={:?}", ending.ca_name());
    for severity in ["warning", "critical"] {
        let labels = format!("{of_the_ca}, severity={severity:?}");
        wait_within(2 * DEADLINE, &firing("MtlsIssuingCaExpiring", &labels))?;
        ensure!(
            shop.calls("failed")? == failed,
            "calls fail before the CA has ended: {severity} came too late"
        );
    }
    // The end.
    let refused = shop.selector("mtls_handshake_failures_total", "reason=\"expired\"");
    wait_within(2 * DEADLINE, &(refused + " > 0"))?;
    wait_for(&firing(
        "MtlsHandshakeRefused",
        "namespace=\"shop-ending\", reason=\"expired\"",
    ))?;
    // The cure: another intermediate of the same root. The workloads ask istiod by themselves.
    let next = root.intermediate("Next CA", 365 * DAY)?;
    PluggedIn {
        signer: &next,
        roots: &[&root],
    }
    .apply()?;
    istio::restart_istiod()?;
    eventually(DEADLINE, || {
        shop.call("client", "tcp://server.shop-ending:7000")
    })?;
    ensure!(shop.failures_during(50)? == 0, "calls fail after the cure");
    // And of the CA that nobody shows any more nothing is said.
    eventually(DEADLINE, || {
        nothing(&firing("MtlsIssuingCaExpiring", &of_the_ca))
    })
}

/// istiod is gone, and the leaves are short.
fn a_stalled_rotation_is_told_in_time() -> Result<()> {
    let _rules = ScaledRules::load()?;
    istio::watch_the_mesh()?;
    let shop = Namespace::injected("shop-stalled")?;
    pair_with(&shop, r#"{"proxyMetadata": {"SECRET_TTL": "3m"}}"#)?;
    scale_istiod(0)?;
    let stalled = || -> Result<()> {
        for account in ["server", "client"] {
            let identity =
                format!("identity=\"spiffe://cluster.local/ns/shop-stalled/sa/{account}\"");
            wait_within(2 * DEADLINE, &firing("MtlsRotationStalled", &identity))?;
        }
        Ok(())
    };
    let told = stalled();
    let left = query(&format!(
        "{} - time()",
        shop.selector(
            "mtls_own_certificate_not_after_timestamp_seconds",
            "layer=\"workload\""
        )
    ))?;
    let calls = shop.call("client", "tcp://server.shop-stalled:7000");
    scale_istiod(1)?;
    told?;
    calls?;
    let least = left
        .iter()
        .map(|sample| sample.value)
        .fold(f64::INFINITY, f64::min);
    ensure!(least > 0.0, "it was told {least} s after the end");
    // Rotation runs again: no word of it any more.
    let identity = "identity=~\"spiffe://cluster.local/ns/shop-stalled/.*\", holder=\"own\"";
    eventually(2 * DEADLINE, || {
        nothing(&firing("MtlsRotationStalled", identity))
    })
}

fn scale_istiod(replicas: u32) -> Result<()> {
    let replicas = format!("--replicas={replicas}");
    kubectl(&[
        "scale",
        "deployment/istiod",
        "--namespace",
        "istio-system",
        &replicas,
    ])?;
    let patience = Duration::from_secs(120).as_secs();
    let timeout = format!("--timeout={patience}s");
    kubectl(&[
        "rollout",
        "status",
        "deployment/istiod",
        "--namespace",
        "istio-system",
        &timeout,
    ])
    .map(drop)
}
