//! Objects against the schemas that Istio and Envoy Gateway publish.
//!
//! Of WasmPlugin, EnvoyFilter, PodMonitor and PrometheusRule there are crates, generated from the custom resource definitions. Serde
//! ignores what it does not know, and Kubernetes drops it: so what was read must come back whole.
//! TrafficExtension and Envoy Gateway have none. Istio translates a WasmPlugin field by field to a
//! TrafficExtension, and so it is checked the other way round. The fields of Envoy Gateway that are used
//! stand below, from its API reference (v1.8), and no others are let through. A real Envoy Gateway gets them in
//! `make test-gateway`.

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::core::v1::{Volume, VolumeMount};
use kcr_extensions_istio_io::v1alpha1::wasmplugins::WasmPlugin;
use kcr_monitoring_coreos_com::v1::podmonitors::PodMonitor;
use kcr_monitoring_coreos_com::v1::prometheusrules::PrometheusRule;
use kcr_networking_istio_io::v1alpha3::envoyfilters::EnvoyFilter;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// Checks an object against the schema of its kind.
pub fn check(object: &Value) -> Result<()> {
    let of_kind = match kind(object) {
        "WasmPlugin" => whole::<WasmPlugin>(object),
        "PodMonitor" => whole::<PodMonitor>(object),
        "PrometheusRule" => whole::<PrometheusRule>(object),
        "EnvoyFilter" => whole::<EnvoyFilter>(object),
        "TrafficExtension" => whole::<WasmPlugin>(&wasm_plugin_of(object)?),
        "EnvoyExtensionPolicy" => whole::<Object<EnvoyExtensionPolicy>>(object),
        "EnvoyProxy" => whole::<Object<EnvoyProxy>>(object),
        "ClientTrafficPolicy" => whole::<Object<ClientTrafficPolicy>>(object),
        "EnvoyPatchPolicy" => whole::<Object<EnvoyPatchPolicy>>(object),
        other => bail!("no schema of {other:?}"),
    };
    of_kind.with_context(|| object.to_string())
}

/// The kind of an object.
pub fn kind(object: &Value) -> &str {
    object["kind"].as_str().unwrap_or_default()
}

/// Reads an object, and finds all of it in what was read.
fn whole<T: DeserializeOwned + Serialize>(object: &Value) -> Result<()> {
    let read: T = serde_json::from_value(object.clone())?;
    contains(&serde_json::to_value(read)?, object, "")
}

fn contains(read: &Value, written: &Value, path: &str) -> Result<()> {
    match (read, written) {
        (Value::Object(read), Value::Object(written)) => {
            for (key, value) in written {
                let path = format!("{path}.{key}");
                let found = read.get(key).with_context(|| format!("{path}: unknown"))?;
                contains(found, value, &path)?;
            }
        }
        (Value::Array(read), Value::Array(written)) if read.len() == written.len() => {
            for (index, (read, written)) in read.iter().zip(written).enumerate() {
                contains(read, written, &format!("{path}[{index}]"))?;
            }
        }
        _ => ensure!(read == written, "{path}: {written} reads {read}"),
    }
    Ok(())
}

/// The WasmPlugin that istiod (1.30) would translate to this TrafficExtension.
fn wasm_plugin_of(extension: &Value) -> Result<Value> {
    let mut spec = extension["spec"].as_object().context("no spec")?.clone();
    let wasm = spec.remove("wasm").context("no wasm")?;
    for key in spec.keys() {
        let common = ["selector", "targetRefs", "phase", "priority", "match"];
        ensure!(common.contains(&key.as_str()), "spec.{key}: unknown");
    }
    let wasm: Map<String, Value> = wasm.as_object().context("wasm is no object")?.clone();
    for key in wasm.keys() {
        let taken = [
            "selector",
            "targetRef",
            "targetRefs",
            "phase",
            "priority",
            "match",
        ];
        ensure!(!taken.contains(&key.as_str()), "spec.wasm.{key}: unknown");
    }
    spec.extend(wasm);
    Ok(json!({
        "apiVersion": extension["apiVersion"],
        "kind": "WasmPlugin",
        "metadata": extension["metadata"],
        "spec": spec,
    }))
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Object<S> {
    api_version: EnvoyGatewayVersion,
    kind: String,
    metadata: Metadata,
    spec: S,
}

#[derive(Deserialize, Serialize)]
enum EnvoyGatewayVersion {
    #[serde(rename = "gateway.envoyproxy.io/v1alpha1")]
    V1Alpha1,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Metadata {
    name: String,
    namespace: String,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct EnvoyExtensionPolicy {
    target_refs: Vec<TargetRef>,
    wasm: Vec<Wasm>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct TargetRef {
    group: GatewayApi,
    kind: TargetKind,
    name: String,
}

#[derive(Deserialize, Serialize)]
enum GatewayApi {
    #[serde(rename = "gateway.networking.k8s.io")]
    Group,
}

#[derive(Deserialize, Serialize)]
enum TargetKind {
    Gateway,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Wasm {
    name: String,
    code: WasmCode,
    config: Value,
    fail_open: bool,
}

/// `type` says which of its fields is there.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields, tag = "type")]
enum WasmCode {
    Image { image: WasmImage },
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct WasmImage {
    url: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<String>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct EnvoyProxy {
    merge_type: MergeType,
    bootstrap: Bootstrap,
    #[serde(skip_serializing_if = "Option::is_none")]
    provider: Option<Provider>,
}

/// Anything else replaces what the operator has set for the class or for all.
#[derive(Deserialize, Serialize)]
enum MergeType {
    StrategicMerge,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields, tag = "type")]
enum Provider {
    Kubernetes { kubernetes: KubernetesProvider },
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct KubernetesProvider {
    envoy_deployment: EnvoyDeployment,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct EnvoyDeployment {
    pod: Pod,
    container: Container,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Pod {
    volumes: Vec<Volume>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Container {
    volume_mounts: Vec<VolumeMount>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Bootstrap {
    r#type: BootstrapType,
    value: String,
}

#[derive(Deserialize, Serialize)]
enum BootstrapType {
    Merge,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct ClientTrafficPolicy {
    target_refs: Vec<TargetRef>,
    headers: Headers,
    tls: Value,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct EnvoyPatchPolicy {
    target_ref: TargetRef,
    r#type: PatchType,
    json_patches: Vec<JsonPatch>,
}

#[derive(Deserialize, Serialize)]
enum PatchType {
    #[serde(rename = "JSONPatch")]
    JsonPatch,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct JsonPatch {
    r#type: ResourceType,
    name: String,
    operation: Operation,
}

#[derive(Deserialize, Serialize)]
enum ResourceType {
    #[serde(rename = "type.googleapis.com/envoy.config.listener.v3.Listener")]
    Listener,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Operation {
    op: String,
    json_path: String,
    path: String,
    value: Value,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Headers {
    x_forwarded_client_cert: XForwardedClientCert,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct XForwardedClientCert {
    mode: XForwardedClientCertMode,
    cert_details_to_add: Vec<CertDetail>,
}

/// The modes that go with `certDetailsToAdd`.
#[derive(Deserialize, Serialize)]
enum XForwardedClientCertMode {
    AppendForward,
    SanitizeSet,
}

#[derive(Deserialize, Serialize)]
#[expect(clippy::upper_case_acronyms, reason = "as Envoy Gateway spells them")]
enum CertDetail {
    Subject,
    Cert,
    Chain,
    DNS,
    URI,
}

#[test]
fn mistakes_are_found() -> Result<()> {
    let plugin = json!({
        "apiVersion": "extensions.istio.io/v1alpha1",
        "kind": "WasmPlugin",
        "metadata": {"name": "a", "namespace": "b"},
        "spec": {"url": "oci://c", "type": "NETWORK"},
    });
    check(&plugin)?;
    for (path, value) in [
        ("/spec/failStrategy", json!("FAIL_OPENED")),
        ("/spec/failstrategy", json!("FAIL_OPEN")),
        ("/spec/url", json!(7)),
    ] {
        let mut wrong = plugin.clone();
        wrong["spec"][path.trim_start_matches("/spec/")] = value;
        ensure!(check(&wrong).is_err(), "{wrong}");
    }
    let extension = json!({
        "apiVersion": "extensions.istio.io/v1alpha1",
        "kind": "TrafficExtension",
        "metadata": {"name": "a", "namespace": "b"},
        "spec": {"phase": "AUTHN", "wasm": {"url": "oci://c", "type": "NETWORK"}},
    });
    check(&extension)?;
    for (pointer, key) in [
        ("/spec", "url"),
        ("/spec/wasm", "phase"),
        ("/spec/wasm", "kind"),
    ] {
        let mut wrong = extension.clone();
        wrong.pointer_mut(pointer).context("no such place")?[key] = json!("AUTHN");
        ensure!(check(&wrong).is_err(), "{wrong}");
    }
    Ok(())
}
