//! `envoy-config/spire/envoy.yaml`, as an operator takes it: with the edits that its first lines ask for.

use anyhow::{Result, ensure};
use mesh_tests::runner::{Scenario, holds};
use mesh_tests::spire::server::{Server, Settings};
use mesh_tests::spire::workload::Plan;
use mesh_tests::{DEADLINE, eventually};
use testbed::envoy::free_port;
use testbed::{Client, Envoy, Stats};

/// In the order in which they run.
pub(crate) const SCENARIOS: &[Scenario] = &[holds(
    "sample::two_envoys_see_each_other",
    two_envoys_see_each_other,
)];

/// A client and a server, each by the sample: either names the other, and tells of its own leaf and bundle.
fn two_envoys_see_each_other() -> Result<()> {
    let server = Server::start(&Settings::of("sample::two_envoys_see_each_other"))?;
    let agent = server.node("one", &["web", "cart"], &[])?;
    let app = testbed::Server::http_echo(None)?;
    let (web, cart) = (free_port()?, free_port()?);
    let start = |name, own, peer| -> Result<Envoy> {
        let plan = Plan::of(name, &server, &agent);
        let sample = plan.sample(own, app.port())?.upstream("peer", peer);
        Envoy::start_program(&plan.program()?, &sample.yaml()?, 1, &[])
    };
    let (web, cart) = (start("web", web, cart)?, start("cart", cart, web)?);
    let port = web.listener_port("outbound")?;
    eventually(DEADLINE, || {
        let status = Client::plaintext().get(port, "/", &[])?.status;
        ensure!(status == 200, "{status}");
        Ok(())
    })?;
    let ca = super::rotation::ca_name(&server.authority("active")?);
    eventually(DEADLINE, || {
        is_told(&web.stats()?, "outbound", "spiffe://example.org/cart", &ca)?;
        is_told(&cart.stats()?, "inbound", "spiffe://example.org/web", &ca)?;
        let connections = [("direction", "inbound"), ("security", "mtls")];
        let connections = cart.stats()?.sum("mtls_connections_total", &connections);
        ensure!(connections >= 1.0, "no connection is counted");
        Ok(())
    })
}

fn is_told(stats: &Stats, direction: &str, peer: &str, ca: &str) -> Result<()> {
    let direction = ("direction", direction);
    let leaf = [direction, ("layer", "workload"), ("identity", peer)];
    let own = [("secret", "default"), ("ca", ca)];
    let trusted = [("secret", "ROOTCA"), ("ca", ca)];
    let expected = [
        ("mtls_requests_total", &[direction, ("status", "ok")][..]),
        (
            "mtls_issuer_last_seen_timestamp_seconds",
            &[direction, ("issuer", ca)],
        ),
        ("mtls_peer_certificate_not_after_timestamp_seconds", &leaf),
        ("mtls_own_issuer", &own),
        ("mtls_own_trust_anchor", &own),
        ("mtls_trust_bundle_ca", &trusted),
    ];
    for (metric, labels) in expected {
        ensure!(stats.sum(metric, labels) >= 1.0, "no {metric} {labels:?}");
    }
    Ok(())
}
