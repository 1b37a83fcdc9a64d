//! What goes wrong with the policies of Envoy Gateway, and what tells.

use anyhow::{Result, ensure};
use mesh_tests::gateway::page::Page;
use mesh_tests::gateway::shop::{GATEWAY, Shop};
use mesh_tests::kubectl::apply;
use mesh_tests::prometheus::{ScaledRules, query, wait_for};
use mesh_tests::runner::{Scenario, holds};
use mesh_tests::{DEADLINE, eventually};
use serde_json::json;

use crate::installed;
use crate::page::{add_route, is_accepted, is_not_frozen, is_served, proxies};

pub(crate) const SCENARIOS: &[Scenario] = &[
    holds(
        "policies::a_routes_own_policy_replaces_ours",
        a_routes_own_policy_replaces_ours,
    ),
    holds(
        "policies::an_invalid_one_takes_the_module_out",
        an_invalid_one_takes_the_module_out,
    ),
    holds(
        "policies::a_list_of_metrics_hides_ours",
        a_list_of_metrics_hides_ours,
    ),
    holds(
        "policies::the_wrong_order_of_removal_freezes",
        the_wrong_order_of_removal_freezes,
    ),
];

const POLICY: &str = "envoyextensionpolicy";

/// The number of requests of clients with this status so far, as the proxy itself says.
fn requests(shop: &Shop, status: &str) -> Result<f64> {
    let stats = shop.stats()?;
    let labels = format!("mtls_requests_total{{direction=\"inbound\",status={status:?}}} ");
    let value = stats.lines().find_map(|line| line.strip_prefix(&labels));
    Ok(value.map_or(Ok(0.0), str::parse)?)
}

/// Waits until requests to this route are counted with this status.
fn counted_as(shop: &Shop, route: &str, status: &str) -> Result<()> {
    let partner = shop.partner()?;
    eventually(DEADLINE, || {
        let before = requests(shop, status)?;
        is_served(shop, route, &partner)?;
        ensure!(requests(shop, status)? > before, "not counted as {status}");
        Ok(())
    })
}

/// Even if it says that it is to be merged, where it has Wasm of its own. Here that is this module, too, with a threshold by
/// which every client is a warning.
fn a_routes_own_policy_replaces_ours() -> Result<()> {
    let shop = installed()?;
    let route = "own-policy";
    add_route(route)?;
    counted_as(shop, route, "ok")?;
    let own = |merged: bool, wasm: &str| {
        let merge_type = if merged {
            "mergeType: StrategicMerge"
        } else {
            ""
        };
        apply(&format!(
            "apiVersion: gateway.envoyproxy.io/v1alpha1
kind: EnvoyExtensionPolicy
metadata: {{name: {route}, namespace: shop}}
spec:
  targetRefs: [{{group: gateway.networking.k8s.io, kind: HTTPRoute, name: {route}}}]
  {merge_type}
  {wasm}
"
        ))
    };
    let theirs = "wasm: [{name: theirs, failOpen: true, code: {type: Image, image: {url: \"10.99.0.1:5000/mtls-watch:0.1.0\"}}, \
                  config: {thresholds: {workload: {warning: [\"100%\"]}}}}]";
    own(false, theirs)?;
    counted_as(shop, route, "warning")?;
    eventually(DEADLINE, || {
        let overridden = shop.condition(POLICY, "mtls-watch", "Overridden")?;
        ensure!(overridden.0 == "True", "{overridden:?}");
        Ok(())
    })?;
    own(true, theirs)?;
    // A little later it is as before: a list replaces a list.
    let merged = || shop.condition(POLICY, route, "Merged");
    eventually(DEADLINE, || {
        let merged = merged()?;
        ensure!(merged.0 == "True", "{merged:?}");
        Ok(())
    })?;
    counted_as(shop, route, "warning")?;
    ensure!(
        !shop.stats()?.contains("mtls_watch_duplicate_plugins 1"),
        "ours is there, too"
    );
    shop.kubectl(&["delete", POLICY, route])?;
    own(true, "")?;
    counted_as(shop, route, "ok")?;
    shop.kubectl(&["delete", POLICY, route])?;
    shop.kubectl(&["delete", "httproute", route]).map(drop)
}

/// An image that is gone: no request fails, nothing is counted any more, and MtlsWatchDown tells. Where the network filter is
/// there too, nothing does: see `clients`.
fn an_invalid_one_takes_the_module_out() -> Result<()> {
    let _rules = ScaledRules::load()?;
    let shop = installed()?;
    let partner = shop.partner()?;
    counted(shop)?;
    wait_for(&(proxies("mtls_watch_info", "") + " == 1"))?;
    becomes_invalid(shop)?;
    let told = eventually(DEADLINE, || {
        shop.get("/", &partner)?;
        let alerts = query("ALERTS{alertname=\"MtlsWatchDown\", alertstate=\"firing\"}")?;
        ensure!(!alerts.is_empty(), "MtlsWatchDown does not fire");
        Ok(())
    });
    set_tag(shop, "0.1.0")?;
    counted(shop)?;
    told
}

/// By an image that is gone. No request fails meanwhile, and none is counted then.
pub(crate) fn becomes_invalid(shop: &Shop) -> Result<()> {
    let partner = shop.partner()?;
    set_tag(shop, "gone")?;
    eventually(DEADLINE, || {
        shop.get("/", &partner)?;
        let accepted = shop.condition(POLICY, "mtls-watch", "Accepted")?;
        ensure!(
            accepted == ("False".to_owned(), "Invalid".to_owned()),
            "{accepted:?}"
        );
        Ok(())
    })?;
    eventually(DEADLINE, || {
        let before = requests(shop, "ok")?;
        shop.get("/", &partner)?;
        ensure!(requests(shop, "ok")? <= before, "the module counts still");
        Ok(())
    })
}

/// Of the image of our policy.
pub(crate) fn set_tag(shop: &Shop, tag: &str) -> Result<()> {
    let url = format!("10.99.0.1:5000/mtls-watch:{tag}");
    let path = "/spec/wasm/0/code/image/url";
    let patch = json!([{"op": "replace", "path": path, "value": url}]).to_string();
    shop.kubectl(&[
        "patch",
        POLICY,
        "mtls-watch",
        "--type",
        "json",
        "--patch",
        &patch,
    ])
    .map(drop)
}

/// Waits until requests are counted.
pub(crate) fn counted(shop: &Shop) -> Result<()> {
    let partner = shop.partner()?;
    eventually(DEADLINE, || {
        let before = requests(shop, "ok")?;
        shop.get("/", &partner)?;
        ensure!(requests(shop, "ok")? > before, "nothing is counted");
        Ok(())
    })
}

/// Unless it has the prefix that pod-monitor.yaml names.
fn a_list_of_metrics_hides_ours() -> Result<()> {
    let shop = installed()?;
    let partner = shop.partner()?;
    let monitor = mesh_tests::workspace_root().join("envoy-config/envoy-gateway/pod-monitor.yaml");
    let monitor = std::fs::read_to_string(monitor)?;
    let named = monitor.lines().find_map(|line| {
        line.trim_start_matches(['#', ' '])
            .strip_prefix("- { type: Prefix, value: ")
    });
    let named = named.map_or("", |rest| rest.trim_end_matches(" }"));
    let list = |prefixes: &[&str]| {
        let matches: Vec<_> = prefixes
            .iter()
            .map(|it| json!({"type": "Prefix", "value": it}))
            .collect();
        shop.patch(
            "envoyproxy",
            "mtls-watch",
            &json!({"spec": {"telemetry": {"metrics": {"matches": matches}}}}),
        )
    };
    let seen = |ours: bool| {
        eventually(DEADLINE, || {
            shop.get("/", &partner)?;
            let stats = shop.stats()?;
            ensure!(
                !stats.contains("envoy_server_live"),
                "this proxy has no list"
            );
            ensure!(
                stats.contains("envoy_cluster_upstream_rq_total"),
                "this proxy has just started"
            );
            ensure!(
                stats.contains("mtls_requests_total{") == ours,
                "ours are not as they should be"
            );
            Ok(())
        })
    };
    list(&["cluster."])?;
    seen(false)?;
    list(&["cluster.", named])?;
    seen(true)?;
    shop.patch(
        "envoyproxy",
        "mtls-watch",
        &json!({"spec": {"telemetry": null}}),
    )?;
    wait_for(&(proxies("envoy_server_live", "") + " == 1")).map(drop)
}

/// The EnvoyProxy deleted while the Gateway refers to it.
fn the_wrong_order_of_removal_freezes() -> Result<()> {
    let shop = installed()?;
    let page = Page::checkout()?;
    page.run("kubectl delete -k envoy-config/envoy-gateway")?;
    eventually(DEADLINE, || {
        let accepted = shop.condition("gateway", GATEWAY, "Accepted")?;
        ensure!(accepted.0 == "False", "{accepted:?}");
        Ok(())
    })?;
    let (partner, route) = (shop.partner()?, "frozen");
    add_route(route)?;
    for _ in 0..20 {
        shop.get("/", &partner)?;
        ensure!(
            is_served(shop, route, &partner).is_err(),
            "it is not frozen"
        );
    }
    shop.kubectl(&["delete", "httproute", route])?;
    page.run("kubectl apply -k envoy-config/envoy-gateway")?;
    eventually(DEADLINE, || is_accepted(shop))?;
    is_not_frozen(shop, "thawed")?;
    counted(shop)
}
