//! envoy-config/istio.

use anyhow::{Context, Result, ensure};
use mtls_watch_core::config::Config;
use serde_json::{Value, json};
use testbed::Client;

use crate::kustomize::{kustomizations, load, render};
use crate::proxy::{PAY, Proxy, insert_first, merge};
use crate::schema::{check, kind};

const NOT_AFTER: &str = "mtls_peer_certificate_not_after_timestamp_seconds";

/// An overlay to apply beside another one, which has the plugins.
const WITHOUT_PLUGINS: &str = "istio/overlays/xfcc-chain";

/// The settings of the module, which a TrafficExtension has one level further down.
fn settings(object: &Value) -> Option<&Value> {
    match kind(object) {
        "WasmPlugin" => Some(&object["spec"]),
        "TrafficExtension" => Some(&object["spec"]["wasm"]),
        _ => None,
    }
}

#[test]
fn is_what_istio_and_the_module_read() -> Result<()> {
    let folders = kustomizations("istio")?;
    ensure!(folders.len() >= 8, "{folders:?}");
    for folder in &folders {
        let objects = render(folder)?;
        for object in &objects {
            // The base is no place to apply.
            ensure!(
                folder == "istio/base" || object["metadata"]["namespace"].is_string(),
                "{folder}"
            );
            check(object).with_context(|| folder.clone())?;
        }
        let modules: Vec<&Value> = objects.iter().filter_map(settings).collect();
        ensure!(
            modules.is_empty() == (folder == WITHOUT_PLUGINS),
            "{folder}: {} plugins",
            modules.len()
        );
        if modules.is_empty() {
            continue;
        }
        for module in &modules {
            assert_eq!(module["failStrategy"], "FAIL_OPEN", "{folder}");
            let configuration = module["pluginConfig"].to_string();
            Config::parse(configuration.as_bytes()).with_context(|| folder.clone())?;
            // One of each type, with the same everything.
            let mut common = (*module).clone();
            common["type"] = modules[0]["type"].clone();
            assert_eq!(common, *modules[0], "{folder}");
        }
        let mut types: Vec<_> = modules
            .iter()
            .filter_map(|module| module["type"].as_str())
            .collect();
        types.sort_unstable();
        let gateway = folder.contains("gateway");
        assert_eq!(
            types,
            if gateway {
                vec!["HTTP"]
            } else {
                vec!["HTTP", "NETWORK"]
            },
            "{folder}"
        );
    }
    Ok(())
}

#[test]
fn its_pod_monitor_is_what_prometheus_operator_reads() -> Result<()> {
    check(&load("istio/pod-monitor.yaml")?)
}

/// What a cluster is told by a WasmPlugin and by a TrafficExtension is the same.
#[test]
fn traffic_extensions_say_what_plugins_say() -> Result<()> {
    let plugins = render("istio/overlays/mesh")?;
    let extensions = render("istio/traffic-extension")?;
    assert_eq!(plugins.len(), extensions.len());
    for (plugin, extension) in plugins.iter().zip(&extensions) {
        let mut flat = extension["spec"]["wasm"].clone();
        flat["phase"] = extension["spec"]["phase"].clone();
        assert_eq!(plugin["spec"], flat);
        assert_eq!(plugin["metadata"], extension["metadata"]);
    }
    Ok(())
}

/// The one patch of the one EnvoyFilter of an overlay.
fn patch(folder: &str, operation: &str) -> Result<Value> {
    let objects = render(folder)?;
    let mut filters = objects
        .iter()
        .filter(|object| kind(object) == "EnvoyFilter");
    let filter = filters
        .next()
        .with_context(|| format!("{folder}: no EnvoyFilter"))?;
    let patch = &filter["spec"]["configPatches"][0];
    ensure!(patch["applyTo"] == "NETWORK_FILTER", "{patch}");
    ensure!(patch["match"]["context"] == "SIDECAR_INBOUND", "{patch}");
    ensure!(patch["patch"]["operation"] == operation, "{patch}");
    Ok(patch["patch"]["value"].clone())
}

fn configuration(folder: &str) -> Result<Value> {
    let objects = render(folder)?;
    let module = objects.iter().find_map(settings).context("no module")?;
    Ok(module["pluginConfig"].clone())
}

#[test]
fn filter_state_gives_the_module_the_certificate() -> Result<()> {
    let overlay = "istio/overlays/istio-1.29";
    let filter = patch(overlay, "INSERT_FIRST")?;
    let mut configuration = configuration(overlay)?;
    // As where there is no attribute: nothing else may help.
    configuration["certificate_sources"] = json!(["filter_state"]);
    let proxy = Proxy::start("both.yaml", |sample| {
        insert_first(sample.configuration(&configuration.to_string()), &filter)
    })?;
    proxy.get()?;
    let stats = proxy.envoy.stats()?;
    let read = [("source", "filter_state"), ("result", "ok")];
    ensure!(stats.value("mtls_watch_inspections_total", &read) >= Some(1.0));
    let leaf = [
        ("direction", "inbound"),
        ("layer", "workload"),
        ("identity", PAY),
    ];
    ensure!(stats.value(NOT_AFTER, &leaf).is_some());
    let connections = [("direction", "inbound"), ("security", "mtls")];
    assert_eq!(
        stats.value("mtls_connections_total", &connections),
        Some(1.0)
    );
    Ok(())
}

/// Where mTLS is permissive, the filter is in the plaintext chains as well.
#[test]
fn filter_state_lets_plaintext_pass() -> Result<()> {
    let filter = patch("istio/overlays/istio-1.29", "INSERT_FIRST")?;
    let proxy = Proxy::start("both.yaml", |sample| {
        insert_first(sample.remove("transport_socket"), &filter)
    })?;
    proxy.get_as(&Client::plaintext())?;
    let stats = proxy.envoy.stats()?;
    let connections = [("direction", "inbound"), ("security", "plaintext")];
    assert_eq!(
        stats.value("mtls_connections_total", &connections),
        Some(1.0)
    );
    Ok(())
}

#[test]
fn xfcc_gives_the_module_the_chain_and_the_application_no_certificates() -> Result<()> {
    let overlay = "istio/overlays/xfcc";
    let filter = patch(overlay, "MERGE")?;
    let configuration = configuration(overlay)?.to_string();
    // As Istio sets up a sidecar.
    let details = json!({"subject": true, "dns": true, "uri": true});
    let proxy = Proxy::start("http.yaml", |sample| {
        let istio = sample
            .configuration(&configuration)
            .set(
                "HttpConnectionManager",
                "forward_client_cert_details",
                "APPEND_FORWARD",
            )
            .set(
                "HttpConnectionManager",
                "set_current_client_cert_details",
                details,
            );
        merge(istio, &filter)
    })?;
    let forwarded = proxy.get()?.json()?;
    let header = forwarded["headers"]["x-forwarded-client-cert"]
        .as_str()
        .context("no header")?;
    ensure!(header.contains(PAY) && header.contains("Hash="), "{header}");
    ensure!(
        !header.contains("Cert=") && !header.contains("Chain="),
        "{header}"
    );
    let stats = proxy.envoy.stats()?;
    for layer in ["workload", "issuing_ca", "intermediate_ca"] {
        let labels = [("direction", "inbound"), ("layer", layer)];
        ensure!(stats.value(NOT_AFTER, &labels).is_some(), "{layer}");
    }
    Ok(())
}
