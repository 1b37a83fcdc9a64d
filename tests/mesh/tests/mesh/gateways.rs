//! Scenario A, gateways: several MUTUAL servers, Istio's own API and the Gateway API, and the overlays for them.

use anyhow::{Context, Result, ensure};
use mesh_tests::authority::Authority;
use mesh_tests::istio::{self, Overlay};
use mesh_tests::kubectl::{apply, get};
use mesh_tests::namespace::{Namespace, Workload};
use mesh_tests::prometheus::{lines, query, wait_for};
use mesh_tests::runner::{Scenario, holds};
use mesh_tests::{DEADLINE, eventually, probe};

use crate::overlays::scraped_from_now_on;

/// In the order in which they run.
pub(crate) const SCENARIOS: &[Scenario] = &[
    holds(
        "gateways::each_server_names_its_clients",
        each_server_names_its_clients,
    ),
    holds(
        "gateways::the_overlay_watches_one_gateway",
        the_overlay_watches_one_gateway,
    ),
    holds(
        "gateways::the_gateway_api_needs_no_target_refs",
        the_gateway_api_needs_no_target_refs,
    ),
    holds(
        "gateways::the_gateway_api_by_its_overlay",
        the_gateway_api_by_its_overlay,
    ),
];

const BILLING: &str = "spiffe://partner.example/billing";

fn start_server(namespace: &Namespace) -> Result<()> {
    namespace.start(&[Workload {
        name: "server",
        ..Workload::default()
    }])
}

/// A selector of what gateways of this namespace count of their clients.
fn clients(metric: &str, namespace: &str, labels: &str) -> String {
    format!("{metric}{{namespace={namespace:?}, direction=\"inbound\", {labels}}}")
}

/// Three servers on one port of the ingress gateway, each with a credential and clients of its own.
fn each_server_names_its_clients() -> Result<()> {
    istio::watch_the_mesh()?;
    let mut seen = Vec::new();
    for name in ["gate-one", "gate-two", "gate-tcp"] {
        let shop = Namespace::injected(name)?;
        start_server(&shop)?;
        let host = format!("{name}.example");
        let partners = match name {
            "gate-tcp" => istio::mutual_tcp_gateway(name, &host)?,
            _ => istio::mutual_gateway(name, &host)?,
        };
        let identity = format!("spiffe://partner.example/{name}");
        let leaf = partners.leaf(&identity)?;
        let stranger = Authority::root("Stranger")?.leaf(&identity)?;
        let gateway = istio::gateway_address()?;
        let call = |leaf| match name {
            "gate-tcp" => probe::echo(&gateway, &host, leaf),
            _ => probe::get(&gateway, &host, leaf),
        };
        eventually(DEADLINE, || call(&leaf))?;
        ensure!(call(&stranger).is_err(), "{name} takes a stranger");
        seen.push((name, identity, partners.ca_name()));
    }
    let gateway = "istio-system";
    for (name, identity, _) in &seen {
        let labels = format!("layer=\"workload\", identity={identity:?}");
        let not_after = "mtls_peer_certificate_not_after_timestamp_seconds";
        wait_for(&clients(not_after, gateway, &labels)).context(*name)?;
    }
    wait_for(&(clients("mtls_requests_total", gateway, "status=\"ok\"") + " > 0"))?;
    let refused = clients(
        "mtls_handshake_failures_total",
        gateway,
        "reason=\"unknown_ca\"",
    );
    wait_for(&(refused + " > 0"))?;
    // Of several HTTPS servers on a port istiod gives the network plugin to the first only.
    let by_issuer = query(&(clients("mtls_connections_by_issuer_total", gateway, "") + " > 0"))?;
    let counted: Vec<&str> = seen
        .iter()
        .filter(|(_, _, ca)| by_issuer.iter().any(|sample| sample.label("issuer") == ca))
        .map(|(name, ..)| *name)
        .collect();
    ensure!(
        counted == ["gate-one", "gate-tcp"],
        "connections are counted of {counted:?}:{}",
        lines(&by_issuer)
    );
    Ok(())
}

/// The overlay gateway, where the whole mesh is not watched.
fn the_overlay_watches_one_gateway() -> Result<()> {
    istio::watch_nothing()?;
    let mut overlay = Overlay::new("gateway");
    overlay.namespace = Some("istio-system".to_owned());
    overlay.apply()?;
    let shop = Namespace::injected("shop-gateway")?;
    start_server(&shop)?;
    let host = "shop-gateway.example";
    let partners = istio::mutual_gateway(&shop.name, host)?;
    let gateway = istio::gateway_address()?;
    let leaf = partners.leaf("spiffe://partner.example/overlay")?;
    eventually(DEADLINE, || probe::get(&gateway, host, &leaf))?;
    // The plugin may come after the first request.
    let labels = "identity=\"spiffe://partner.example/overlay\"";
    eventually(DEADLINE, || {
        probe::get(&gateway, host, &leaf)?;
        let not_after = "mtls_peer_certificate_not_after_timestamp_seconds";
        let seen = query(&clients(not_after, "istio-system", labels))?;
        ensure!(!seen.is_empty(), "the client is not named");
        Ok(())
    })?;
    let elsewhere = query(&shop.selector("mtls_watch_info", ""))?;
    overlay.delete()?;
    ensure!(
        elsewhere.is_empty(),
        "sidecars have it, too:{}",
        lines(&elsewhere)
    );
    Ok(())
}

/// A Gateway of the Gateway API, in the namespace and of the name that the overlay gateway-api has.
fn gateway_of_the_api(shop: &Namespace, host: &str) -> Result<(Namespace, Authority, String)> {
    let ingress = Namespace::injected("istio-ingress")?;
    start_server(shop)?;
    let (partners, public) = (
        Authority::root("Partner Root")?,
        Authority::root("Public Root")?,
    );
    let server = public.server(host)?;
    let secret = serde_json::json!({
        "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
        "metadata": {"name": "ingress", "namespace": "istio-ingress"},
        "stringData": {"tls.crt": server.chain_pem(), "tls.key": server.key_pem()?, "ca.crt": partners.pem()},
    });
    apply(&secret.to_string())?;
    apply(&format!(
        "apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: ingress, namespace: istio-ingress, annotations: {{networking.istio.io/service-type: ClusterIP}}}}
spec:
  gatewayClassName: istio
  listeners:
    - name: https
      port: 443
      protocol: HTTPS
      hostname: {host}
      allowedRoutes: {{namespaces: {{from: All}}}}
      tls:
        mode: Terminate
        certificateRefs: [{{name: ingress}}]
        options: {{gateway.istio.io/tls-terminate-mode: MUTUAL}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: server, namespace: {shop}}}
spec:
  parentRefs: [{{name: ingress, namespace: istio-ingress}}]
  hostnames: [{host}]
  rules: [{{backendRefs: [{{name: server, port: 80}}]}}]
",
        shop = shop.name
    ))?;
    let address = eventually(DEADLINE, || {
        let pods = get(&["pods", "--namespace", "istio-ingress"])?;
        let address = pods["items"][0]["status"]["podIP"].as_str();
        address
            .map(|address| format!("{address}:443"))
            .context("no pod of the Gateway")
    })?;
    let leaf = partners.leaf(BILLING)?;
    eventually(DEADLINE, || probe::get(&address, host, &leaf))?;
    Ok((ingress, partners, address))
}

/// Waits for the client, and counts what ten requests are counted as.
fn ten_requests_count(host: &str, partners: &Authority, address: &str) -> Result<f64> {
    let leaf = partners.leaf(BILLING)?;
    eventually(DEADLINE, || {
        probe::get(address, host, &leaf)?;
        let not_after = "mtls_peer_certificate_not_after_timestamp_seconds";
        let labels = format!("identity={BILLING:?}");
        ensure!(
            !query(&clients(not_after, "istio-ingress", &labels))?.is_empty(),
            "the client is not named"
        );
        Ok(())
    })?;
    let count = clients("mtls_requests_total", "istio-ingress", "status=\"ok\"");
    let before = scraped_from_now_on(&count)?;
    (0..10).try_for_each(|_| probe::get(address, host, &leaf))?;
    Ok(scraped_from_now_on(&count)? - before)
}

/// A plugin without selector in the root namespace reaches it.
fn the_gateway_api_needs_no_target_refs() -> Result<()> {
    istio::watch_the_mesh()?;
    let shop = Namespace::injected("shop-api")?;
    let (_ingress, partners, address) = gateway_of_the_api(&shop, "shop-api.example")?;
    let counted = ten_requests_count("shop-api.example", &partners, &address)?;
    ensure!(counted == 10.0, "10 requests were counted {counted} times");
    wait_for(
        &(clients(
            "mtls_connections_total",
            "istio-ingress",
            "security=\"mtls\"",
        ) + " > 0"),
    )
    .map(drop)
}

/// And where the mesh is not watched, its overlay does.
fn the_gateway_api_by_its_overlay() -> Result<()> {
    istio::watch_nothing()?;
    let shop = Namespace::injected("shop-target-refs")?;
    let (_ingress, partners, address) = gateway_of_the_api(&shop, "shop-target-refs.example")?;
    Overlay::new("gateway-api").apply()?;
    let counted = ten_requests_count("shop-target-refs.example", &partners, &address)?;
    ensure!(counted == 10.0, "10 requests were counted {counted} times");
    let elsewhere = query(&shop.selector("mtls_watch_info", ""))?;
    ensure!(
        elsewhere.is_empty(),
        "sidecars have it, too:{}",
        lines(&elsewhere)
    );
    Ok(())
}
