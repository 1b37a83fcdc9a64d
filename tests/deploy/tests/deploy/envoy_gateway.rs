//! envoy-config/envoy-gateway. What a real Envoy Gateway makes of it: `make test-gateway`.

use anyhow::{Context, Result, ensure};
use mtls_watch_core::config::Config;
use serde_json::{Value, json};
use testbed::module;

use crate::kustomize::{load, render};
use crate::proxy::{Proxy, insert_first};
use crate::schema::{check, kind};

fn of_kind<'a>(objects: &'a [Value], name: &str) -> Result<&'a Value> {
    let found = objects.iter().find(|object| kind(object) == name);
    found.with_context(|| format!("no {name}"))
}

/// A manifest of the folder network, in the namespace in which the page applies it.
fn patch_policy() -> Result<Value> {
    let mut policy = load("envoy-gateway/network/patch-policy.yaml")?;
    policy["metadata"]["namespace"] = json!("shop");
    Ok(policy)
}

/// The EnvoyProxy once the page has patched it.
fn proxy_with_the_file() -> Result<Value> {
    let mut proxy = of_kind(&render("envoy-gateway")?, "EnvoyProxy")?.clone();
    let patch = load("envoy-gateway/network/mount.yaml")?;
    proxy["spec"]["provider"] = patch["spec"]["provider"].clone();
    Ok(proxy)
}

#[test]
fn is_what_envoy_gateway_and_the_module_read() -> Result<()> {
    let objects = render("envoy-gateway")?;
    let kinds: Vec<&str> = objects.iter().map(kind).collect();
    // A Gateway takes one ClientTrafficPolicy, the oldest: another one would end Conflicted, or take its place.
    assert_eq!(kinds, ["EnvoyExtensionPolicy", "EnvoyProxy"]);
    for object in objects
        .iter()
        .chain([&patch_policy()?, &proxy_with_the_file()?])
    {
        check(object)?;
    }
    let wasm = &of_kind(&objects, "EnvoyExtensionPolicy")?["spec"]["wasm"][0];
    assert_eq!(wasm["failOpen"], true);
    Config::parse(wasm["config"].to_string().as_bytes())?;
    Ok(())
}

/// What the operator has set for the class, or for all, stays: image, Service, metrics. `check` refuses any other
/// `mergeType`.
#[test]
fn its_proxy_adds_labels_and_replaces_nothing() -> Result<()> {
    let objects = render("envoy-gateway")?;
    let proxy = of_kind(&objects, "EnvoyProxy")?;
    let keys: Vec<_> = proxy["spec"]
        .as_object()
        .context("no spec")?
        .keys()
        .collect();
    assert_eq!(keys, ["bootstrap", "mergeType"]);
    assert_eq!(proxy["spec"]["bootstrap"]["type"], "Merge");
    let reference = &load("envoy-gateway/parameters-ref.yaml")?["spec"]["infrastructure"];
    let group = proxy["apiVersion"]
        .as_str()
        .and_then(|it| it.split('/').next());
    let named = json!({"group": group, "kind": kind(proxy), "name": proxy["metadata"]["name"]});
    assert_eq!(reference["parametersRef"], named);
    Ok(())
}

/// The patch for the chains, applied to a policy that verifies clients, is one that Envoy Gateway reads.
#[test]
fn the_chain_is_a_patch_of_the_policy_that_verifies_clients() -> Result<()> {
    let mut policy = json!({
        "apiVersion": "gateway.envoyproxy.io/v1alpha1",
        "kind": "ClientTrafficPolicy",
        "metadata": {"name": "clients", "namespace": "shop"},
        "spec": {
            "targetRefs": [{"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "ingress"}],
            "tls": {"clientValidation": {"caCertificateRefs": [{"kind": "ConfigMap", "name": "client-ca"}]}},
        },
    });
    let patch = load("envoy-gateway/xfcc-chain.yaml")?;
    assert_eq!(patch.as_object().map(serde_json::Map::len), Some(1));
    for (key, value) in patch["spec"].as_object().context("no spec")? {
        policy["spec"][key] = value.clone();
    }
    check(&policy)
}

/// The ports and labels are those of Envoy Gateway 1.9; `make test-gateway` scrapes by this file.
#[test]
fn its_pod_monitor_is_what_prometheus_operator_reads() -> Result<()> {
    let monitor = load("envoy-gateway/pod-monitor.yaml")?;
    check(&monitor)?;
    let endpoint = &monitor["spec"]["podMetricsEndpoints"][0];
    assert_eq!(endpoint["port"], "metrics");
    assert_eq!(endpoint["path"], "/stats/prometheus");
    let labels = &monitor["spec"]["selector"]["matchLabels"];
    assert_eq!(labels["app.kubernetes.io/name"], "envoy");
    Ok(())
}

/// The file that the filter names is the one that the EnvoyProxy mounts, and its VM that of the extension policy.
#[test]
fn the_network_filter_finds_the_module_and_its_vm() -> Result<()> {
    let proxy = proxy_with_the_file()?;
    let deployment = &proxy["spec"]["provider"]["kubernetes"]["envoyDeployment"];
    let mount = &deployment["container"]["volumeMounts"][0];
    let volume = &deployment["pod"]["volumes"][0];
    assert_eq!(mount["name"], volume["name"]);
    assert_eq!(volume["configMap"]["name"], "mtls-watch");
    let objects = render("envoy-gateway")?;
    let extension = of_kind(&objects, "EnvoyExtensionPolicy")?;
    let (namespace, name) = (
        extension["metadata"]["namespace"]
            .as_str()
            .context("no namespace")?,
        extension["metadata"]["name"].as_str().context("no name")?,
    );
    let policy = patch_policy()?;
    let gateway = policy["spec"]["targetRef"]["name"]
        .as_str()
        .context("no Gateway")?;
    assert_eq!(gateway, extension["spec"]["targetRefs"][0]["name"]);
    let patch = &policy["spec"]["jsonPatches"][0];
    let listener = patch["name"].as_str().context("no listener")?;
    ensure!(
        listener.starts_with(&format!("{namespace}/{gateway}/")),
        "{listener}"
    );
    let vm = &patch["operation"]["value"]["typed_config"]["config"]["vm_config"];
    // As Envoy Gateway calls the VM of the first Wasm of a policy.
    assert_eq!(
        vm["vm_id"],
        format!("envoyextensionpolicy/{namespace}/{name}/wasm/0")
    );
    let folder = mount["mountPath"].as_str().context("no path")?;
    assert_eq!(
        vm["code"]["local"]["filename"],
        format!("{folder}/mtls_watch.wasm")
    );
    Ok(())
}

/// The filter, as the policy puts it into a listener, in a real Envoy.
#[test]
fn the_network_filter_counts_connections() -> Result<()> {
    let policy = patch_policy()?;
    let operation = &policy["spec"]["jsonPatches"][0]["operation"];
    assert_eq!(operation["op"], "add");
    assert_eq!(operation["path"], "/filters/0");
    let mut filter = operation["value"].clone();
    let config = &mut filter["typed_config"]["config"];
    assert_eq!(config["failure_policy"], "FAIL_OPEN");
    config["vm_config"]["code"]["local"]["filename"] = json!(module::path()?);
    let proxy = Proxy::start("http.yaml", |sample| insert_first(sample, &filter))?;
    proxy.get()?;
    let stats = proxy.envoy.stats()?;
    let connections = [("direction", "inbound"), ("security", "mtls")];
    assert_eq!(
        stats.value("mtls_connections_total", &connections),
        Some(1.0)
    );
    Ok(())
}
