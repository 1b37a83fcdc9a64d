//! Scenario A: what PeerAuthentication and DestinationRule do to what is seen.

use std::time::Duration;

use anyhow::{Result, ensure};
use mesh_tests::kubectl::apply;
use mesh_tests::namespace::{Namespace, Workload};
use mesh_tests::prometheus::{lines, nothing, wait_for, wait_within};
use mesh_tests::runner::{Scenario, holds};
use mesh_tests::{DEADLINE, eventually, istio};

use crate::overlays::pair;

/// In the order in which they run.
pub(crate) const SCENARIOS: &[Scenario] = &[
    holds(
        "policies::permissive_counts_plaintext",
        permissive_counts_plaintext,
    ),
    holds(
        "policies::strict_refuses_plaintext_unseen",
        strict_refuses_plaintext_unseen,
    ),
    holds("policies::a_port_may_differ", a_port_may_differ),
    holds(
        "policies::plaintext_to_a_strict_server_has_no_certificate",
        plaintext_to_a_strict_server_has_no_certificate,
    ),
];

fn server_alone(namespace: &Namespace) -> Result<()> {
    namespace.start(&[Workload {
        name: "server",
        ..Workload::default()
    }])
}

/// A client outside of the mesh that calls these all the while.
fn outsider(name: &str, targets: &[&str]) -> Result<Namespace> {
    let outside = Namespace::outside(name)?;
    outside.start(&[Workload {
        name: "client",
        targets,
        ..Workload::default()
    }])?;
    Ok(outside)
}

fn peer_authentication(namespace: &str, spec: &str) -> Result<()> {
    apply(&format!(
        "{{apiVersion: security.istio.io/v1, kind: PeerAuthentication, metadata: {{name: default, namespace: {namespace}}}, spec: {spec}}}"
    ))
}

fn permissive_counts_plaintext() -> Result<()> {
    let shop = Namespace::injected("shop-permissive")?;
    istio::watch_the_mesh()?;
    server_alone(&shop)?;
    outsider(
        "legacy",
        &[
            "http://server.shop-permissive/",
            "tcp://server.shop-permissive:7000",
        ],
    )?;
    wait_for(
        &(shop.selector(
            "mtls_connections_total",
            "direction=\"inbound\", security=\"plaintext\"",
        ) + " > 0"),
    )?;
    wait_for(
        &(shop.selector(
            "mtls_requests_total",
            "direction=\"inbound\", status=\"no_certificate\"",
        ) + " > 0"),
    )?;
    nothing(&(shop.selector("mtls_handshake_failures_total", "") + " > 0"))
}

/// istiod's strict chains match TLS only: plaintext meets no filter chain, and so no module. What tells is Envoy's
/// own counter, which values.yaml lets through.
fn strict_refuses_plaintext_unseen() -> Result<()> {
    let shop = Namespace::injected("shop-strict")?;
    istio::watch_the_mesh()?;
    peer_authentication(&shop.name, "{mtls: {mode: STRICT}}")?;
    pair(&shop)?;
    let refused = shop.selector(
        "envoy_listener_no_filter_chain_match",
        "pod=~\"server-.*\", listener_address=\"0.0.0.0_15006\"",
    );
    wait_for(&(refused.clone() + " == 0"))?;
    let target = "tcp://server.shop-strict:7000";
    let legacy = outsider("legacy-strict", &[target])?;
    eventually(DEADLINE, || {
        let refused = legacy.call("client", target);
        ensure!(refused.is_err(), "plaintext is let in");
        Ok(())
    })?;
    let mtls = shop.selector(
        "mtls_connections_total",
        "pod=~\"server-.*\", direction=\"inbound\", security=\"mtls\"",
    );
    wait_for(&(mtls + " > 0"))?;
    // It goes on being refused while the others go on.
    ensure!(
        shop.failures_during(100)? == 0,
        "calls inside of the mesh fail"
    );
    ensure!(legacy.calls("ok")? == 0, "plaintext is let in");
    let seen = shop.series(
        "mtls_connections_total",
        "direction=\"inbound\", security=\"plaintext\"",
    )?;
    ensure!(
        seen.iter().all(|sample| sample.value == 0.0),
        "it is seen after all:{}",
        lines(&seen)
    );
    nothing(&shop.selector("mtls_handshake_failures_total", "reason=\"not_tls\""))?;
    wait_for(&(refused + " > 0"))?;
    let alert = "ALERTS{alertname=\"MtlsPlaintextRefused\", alertstate=\"firing\", namespace=\"shop-strict\"}";
    wait_within(Duration::from_secs(60), alert).map(drop)
}

fn a_port_may_differ() -> Result<()> {
    let shop = Namespace::injected("shop-ports")?;
    istio::watch_the_mesh()?;
    apply(
        "{apiVersion: security.istio.io/v1, kind: PeerAuthentication, metadata: {name: ports, namespace: shop-ports}, spec: {selector: {matchLabels: {app: server}}, mtls: {mode: STRICT}, portLevelMtls: {7000: {mode: DISABLE}}}}",
    )?;
    server_alone(&shop)?;
    let open = "tcp://server.shop-ports:7000";
    let legacy = outsider("legacy-ports", &[])?;
    legacy.call_until_ok("client", open)?;
    eventually(DEADLINE, || {
        let strict = legacy.call("client", "greeting://server.shop-ports:7001");
        ensure!(strict.is_err(), "plaintext is let in at the strict port");
        Ok(())
    })?;
    wait_for(
        &(shop.selector(
            "mtls_connections_total",
            "direction=\"inbound\", security=\"plaintext\"",
        ) + " > 0"),
    )?;
    nothing(&(shop.selector("mtls_handshake_failures_total", "") + " > 0"))
}

/// A DestinationRule that turns mTLS off towards a server that insists on it.
fn plaintext_to_a_strict_server_has_no_certificate() -> Result<()> {
    let shop = Namespace::injected("shop-disable")?;
    istio::watch_the_mesh()?;
    peer_authentication(&shop.name, "{mtls: {mode: STRICT}}")?;
    apply(
        "{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {name: server, namespace: shop-disable}, spec: {host: server.shop-disable.svc.cluster.local, trafficPolicy: {tls: {mode: DISABLE}}}}",
    )?;
    let target = "http://server.shop-disable/";
    shop.start(&[
        Workload {
            name: "server",
            ..Workload::default()
        },
        Workload {
            name: "client",
            targets: &[target],
            ..Workload::default()
        },
    ])?;
    eventually(DEADLINE, || {
        let refused = shop.call("client", target);
        ensure!(refused.is_err(), "plaintext is let in");
        Ok(())
    })?;
    wait_for(
        &(shop.selector(
            "mtls_requests_total",
            "pod=~\"client-.*\", direction=\"outbound\", status=\"no_certificate\"",
        ) + " > 0"),
    )?;
    wait_for(
        &(shop.selector("envoy_listener_no_filter_chain_match", "pod=~\"server-.*\"") + " > 0"),
    )?;
    nothing(&(shop.selector("mtls_requests_total", "pod=~\"server-.*\"") + " > 0"))
}
