//! Installation and removal, by the commands of docs/install-envoy-gateway.md.

use anyhow::{Result, ensure};
use mesh_tests::gateway::page::Page;
use mesh_tests::gateway::shop::{GATEWAY, SYSTEM, Shop};
use mesh_tests::kubectl::apply;
use mesh_tests::probe::Credentials;
use mesh_tests::prometheus::wait_for;
use mesh_tests::runner::{Scenario, holds};
use mesh_tests::{DEADLINE, eventually};

use crate::{installed_for_connections, shop};

pub(crate) const INSTALLATION: &[Scenario] = &[holds(
    "page::installation_replaces_nothing",
    installation_replaces_nothing,
)];
/// The last of all.
pub(crate) const REMOVAL: &[Scenario] = &[holds(
    "page::removal_leaves_nothing",
    removal_leaves_nothing,
)];

/// What the proxies of the Gateway count. `labels` as in PromQL.
pub(crate) fn proxies(metric: &str, labels: &str) -> String {
    let comma = if labels.is_empty() { "" } else { ", " };
    format!("{metric}{{namespace={SYSTEM:?}, pod=~\"envoy-shop-ingress-.*\"{comma}{labels}}}")
}

/// The operator's image and type of Service stay (`mergeType`), no request fails, and clients and the backend are counted.
fn installation_replaces_nothing() -> Result<()> {
    let shop = shop()?;
    let partner = shop.partner()?;
    let before = shop.operators_choice()?;
    ensure!(before.1 == "ClusterIP", "{before:?}");
    Page::checkout()?.install(|command| {
        shop.get("/", &partner)?;
        if command.contains("wait envoyextensionpolicy") {
            // In the proxy that runs, without labels.
            eventually(DEADLINE, || {
                shop.get("/", &partner)?;
                ensure!(
                    shop.stats()?.contains("mtls_requests_total"),
                    "nothing is counted"
                );
                Ok(())
            })?;
        }
        Ok(())
    })?;
    let after = shop.operators_choice()?;
    ensure!(
        before == after,
        "the operator's {before:?} is {after:?} now"
    );
    eventually(DEADLINE, || {
        shop.get("/secure", &partner)?;
        for direction in ["inbound", "outbound"] {
            let labels = format!("status=\"ok\", direction={direction:?}");
            let counted = proxies("mtls_requests_total", &labels) + " > 0";
            ensure!(
                !mesh_tests::prometheus::query(&counted)?.is_empty(),
                "no {direction}"
            );
        }
        Ok(())
    })?;
    let not_after = "mtls_peer_certificate_not_after_timestamp_seconds";
    wait_for(&proxies(
        not_after,
        "direction=\"inbound\", identity=\"partner.example.com\"",
    ))?;
    wait_for(&proxies(
        not_after,
        "direction=\"outbound\", identity=\"secure.shop.svc.cluster.local\"",
    ))?;
    // Own certificates, by the names that Envoy Gateway gives its secrets.
    for secret in ["shop/www", "shop/gateway-client"] {
        let labels = format!("layer=\"workload\", secret={secret:?}");
        wait_for(&(proxies("mtls_own_certificate_present", &labels) + " == 1"))?;
    }
    for secret in ["shop/clients/ca.crt", "secure/shop-ca"] {
        wait_for(&(proxies("mtls_trust_bundle_ca", &format!("secret={secret:?}")) + " == 1"))?;
    }
    Ok(())
}

/// The Gateway is accepted all the while, and what is changed afterwards reaches its proxies.
fn removal_leaves_nothing() -> Result<()> {
    let shop = installed_for_connections()?;
    let partner = shop.partner()?;
    Page::checkout()?.follow("Remove", |_| {
        shop.get("/", &partner)?;
        is_accepted(shop)
    })?;
    let policies = "envoyextensionpolicies,envoypatchpolicies,envoyproxies";
    let left = shop.kubectl(&["get", policies, "--output", "name"])?;
    ensure!(left.is_empty(), "{left}");
    is_not_frozen(shop, "after-removal")?;
    eventually(DEADLINE, || {
        let stats = shop.stats()?;
        ensure!(
            !stats.contains("mtls_watch_info 1"),
            "a proxy has the module"
        );
        shop.get("/", &partner).map(drop)
    })
}

pub(crate) fn is_accepted(shop: &Shop) -> Result<()> {
    let accepted = shop.condition("gateway", GATEWAY, "Accepted")?;
    ensure!(
        accepted.0 == "True",
        "the Gateway is not accepted: {accepted:?}"
    );
    Ok(())
}

/// A new route is served.
pub(crate) fn is_not_frozen(shop: &Shop, name: &str) -> Result<()> {
    add_route(name)?;
    let partner = shop.partner()?;
    let outcome = eventually(DEADLINE, || is_served(shop, name, &partner));
    shop.kubectl(&["delete", "httproute", name])?;
    outcome
}

/// By that route, and not by the one of the app, which has all paths.
pub(crate) fn is_served(shop: &Shop, name: &str, partner: &Credentials) -> Result<()> {
    let reply = shop.reply(&format!("/{name}"), partner)?;
    ensure!(
        reply.contains(&format!("x-route: {name}")),
        "the route {name} is not served"
    );
    Ok(())
}

/// A route to the app whose header tells it from the others.
pub(crate) fn add_route(name: &str) -> Result<()> {
    apply(&format!(
        "apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: {name}, namespace: shop}}
spec:
  parentRefs: [{{name: {GATEWAY}}}]
  hostnames: [www.example.com]
  rules:
    - matches: [{{path: {{type: PathPrefix, value: /{name}}}}}]
      filters: [{{type: ResponseHeaderModifier, responseHeaderModifier: {{set: [{{name: x-route, value: {name}}}]}}}}]
      backendRefs: [{{name: app, port: 80}}]
"
    ))
}
