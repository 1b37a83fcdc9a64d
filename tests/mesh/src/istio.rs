//! What a user applies: the overlays of `envoy-config/istio`, with the edits that they ask for.

use std::fs;

use anyhow::{Context, Result, ensure};

use crate::authority::{Authority, unplug};
use crate::kubectl::{apply, apply_kustomization, delete_kustomization, get, kubectl};
use crate::{DEADLINE, eventually, mesh_config, scratch, workspace_root};

/// Where `make mesh` has put the module's image.
pub const IMAGE: &str = "oci://10.99.0.1:5000/mtls-watch:0.1.0";
/// Where `make test-mesh` has put the same module with another version in it.
pub const NEXT_IMAGE: &str = "oci://10.99.0.1:5000/mtls-watch:0.1.1";
/// What `overlays/mesh` has, but for the interval: a rotation is followed in seconds.
pub const PLUGIN_CONFIG: &str =
    "{hierarchy: {admin_cluster: prometheus_stats, interval: 5s}, strip_xfcc_certificates: false}";

/// An overlay of `envoy-config/istio/overlays`, or `traffic-extension`, edited.
#[derive(Clone, Debug)]
pub struct Overlay {
    /// Of its folder.
    pub name: String,
    /// The namespace, where it is not the overlay's own.
    pub namespace: Option<String>,
    /// The image.
    pub url: String,
    /// The module's configuration, as YAML in one line, where it is not the overlay's own with a poll every 5 s.
    pub plugin_config: Option<String>,
    /// Fields of the plugins' `spec` that the overlay leaves out, such as `sha256`.
    pub added: Vec<(&'static str, String)>,
}

impl Overlay {
    /// With the mesh's image.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            namespace: None,
            url: IMAGE.to_owned(),
            plugin_config: None,
            added: Vec::new(),
        }
    }

    /// `kubectl apply -k`.
    ///
    /// # Errors
    /// If the API server, or istiod's webhook, refuses it.
    pub fn apply(&self) -> Result<()> {
        apply_kustomization(&self.folder()?)
    }

    /// `kubectl delete -k`.
    ///
    /// # Errors
    /// If the API server refuses.
    pub fn delete(&self) -> Result<()> {
        delete_kustomization(&self.folder()?)
    }

    /// A kustomization above the overlay that makes the edits.
    fn folder(&self) -> Result<std::path::PathBuf> {
        let folder = scratch("overlays").join(&self.name);
        fs::create_dir_all(&folder)?;
        let namespace = match &self.namespace {
            Some(name) => format!("namespace: {name}\n"),
            None => String::new(),
        };
        let (overlay, patches) = match self.name.as_str() {
            "traffic-extension" => (
                self.name.clone(),
                self.patch("TrafficExtension", "/spec/wasm"),
            ),
            // Without plugins.
            "xfcc-chain" => (format!("overlays/{}", self.name), String::new()),
            _ => (
                format!("overlays/{}", self.name),
                self.patch("WasmPlugin", "/spec"),
            ),
        };
        let kustomization = format!(
            "apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
{namespace}resources: [../../../../../envoy-config/istio/{overlay}]
{patches}"
        );
        fs::write(folder.join("kustomization.yaml"), kustomization)?;
        Ok(folder)
    }

    fn patch(&self, kind: &str, path: &str) -> String {
        let (key, value) = match &self.plugin_config {
            Some(config) => ("pluginConfig", config.as_str()),
            None => ("pluginConfig/hierarchy/interval", "5s"),
        };
        let added = self.added.iter().map(|(field, value)| {
            format!("      - {{ op: add, path: {path}/{field}, value: {value:?} }}\n")
        });
        format!(
            "patches:
  - target: {{ kind: {kind} }}
    patch: |-
      - {{ op: replace, path: {path}/url, value: {:?} }}
      - {{ op: replace, path: {path}/{key}, value: {value} }}
{}",
            self.url,
            added.collect::<String>()
        )
    }
}

/// The whole mesh is watched, as by `overlays/mesh`; the state in which every scenario begins.
///
/// # Errors
/// If the API server refuses.
pub fn watch_the_mesh() -> Result<()> {
    kubectl(&[&DELETE_ALL[..], &["trafficextensions"]].concat())?;
    Overlay::new("mesh").apply()
}

/// Nothing of the module is in the mesh.
///
/// # Errors
/// If the API server refuses.
pub fn watch_nothing() -> Result<()> {
    kubectl(&[&DELETE_ALL[..], &["wasmplugins,trafficextensions"]].concat()).map(drop)
}

const DELETE_ALL: [&str; 4] = ["delete", "--all", "--namespace", "istio-system"];

/// Sets environment variables of istiod (`NAME=value`, or `NAME-` to unset it), and waits until it runs with them.
///
/// # Errors
/// If it does not start.
pub fn set_istiod_env(variables: &[&str]) -> Result<()> {
    let set = [
        "set",
        "env",
        "deployment/istiod",
        "--namespace",
        "istio-system",
    ];
    kubectl(&[&set[..], variables].concat())?;
    wait_for_istiod()
}

/// Restarts istiod, as after a change of its CA.
///
/// # Errors
/// If it does not start.
pub fn restart_istiod() -> Result<()> {
    kubectl(&[
        "rollout",
        "restart",
        "deployment/istiod",
        "--namespace",
        "istio-system",
    ])?;
    wait_for_istiod()
}

/// Waits until istiod runs, and only as it is configured now.
///
/// # Errors
/// If it does not start.
pub fn wait_for_istiod() -> Result<()> {
    kubectl(&[
        "rollout",
        "status",
        "deployment/istiod",
        "--namespace",
        "istio-system",
        "--timeout=120s",
    ])?;
    // The old one is gone, too: it would sign on.
    eventually(DEADLINE, || {
        let pods = get(&[
            "pods",
            "--namespace",
            "istio-system",
            "--selector",
            "app=istiod",
        ])?;
        let count = pods["items"].as_array().context("no pods")?.len();
        ensure!(count == 1, "{count} pods of istiod");
        Ok(())
    })
}

/// `envoy-config/istio/pod-annotations.yaml`, as the page beside it says.
///
/// # Errors
/// If the API server refuses.
pub fn annotate_as_documented(namespace: &str, deployment: &str) -> Result<()> {
    let file = workspace_root().join("envoy-config/istio/pod-annotations.yaml");
    let patch = [
        "patch",
        "deployment",
        deployment,
        "--namespace",
        namespace,
        "--patch-file",
    ];
    kubectl(&[&patch[..], &[&file.display().to_string()]].concat()).map(drop)
}

/// A server with `tls.mode: MUTUAL` for this host on the ingress gateway, to the workload `server` of the
/// namespace. The CA of the clients that it takes.
///
/// # Errors
/// If the API server refuses.
pub fn mutual_gateway(namespace: &str, host: &str) -> Result<Authority> {
    let partners = mutual_server(namespace, host, "HTTPS")?;
    apply(&format!(
        "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: {namespace}, namespace: {namespace}}}
spec:
  hosts: [{host}]
  gateways: [{namespace}]
  http: [{{route: [{{destination: {{host: server.{namespace}.svc.cluster.local, port: {{number: 80}}}}}}]}}]
"
    ))?;
    Ok(partners)
}

fn mutual_server(namespace: &str, host: &str, protocol: &str) -> Result<Authority> {
    let (partners, public) = (
        Authority::root("Partner Root")?,
        Authority::root("Public Root")?,
    );
    let server = public.server(host)?;
    let secret = serde_json::json!({
        "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
        "metadata": {"name": namespace, "namespace": "istio-system"},
        "stringData": {"tls.crt": server.chain_pem(), "tls.key": server.key_pem()?, "ca.crt": partners.pem()},
    });
    apply(&secret.to_string())?;
    apply(&format!(
        "apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: {namespace}, namespace: {namespace}}}
spec:
  selector: {{istio: ingressgateway}}
  servers:
    - port: {{number: 443, name: {name}, protocol: {protocol}}}
      hosts: [{host}]
      tls: {{mode: MUTUAL, credentialName: {namespace}}}
",
        name = protocol.to_lowercase()
    ))?;
    Ok(partners)
}

/// The same over TCP: TLS ends at the gateway, and what is in it goes to port 7000.
///
/// # Errors
/// If the API server refuses.
pub fn mutual_tcp_gateway(namespace: &str, host: &str) -> Result<Authority> {
    let partners = mutual_server(namespace, host, "TLS")?;
    apply(&format!(
        "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: {namespace}, namespace: {namespace}}}
spec:
  hosts: [{host}]
  gateways: [{namespace}]
  tcp: [{{match: [{{port: 443}}], route: [{{destination: {{host: server.{namespace}.svc.cluster.local, port: {{number: 7000}}}}}}]}}]
"
    ))?;
    Ok(partners)
}

/// Where clients from outside reach the ingress gateway: its pod, at the port that it has for 443.
///
/// # Errors
/// If there is none.
pub fn gateway_address() -> Result<String> {
    let pods = get(&[
        "pods",
        "--namespace",
        "istio-system",
        "--selector",
        "istio=ingressgateway",
    ])?;
    let address = pods["items"][0]["status"]["podIP"]
        .as_str()
        .context("no ingress gateway")?;
    Ok(format!("{address}:8443"))
}

/// What scenarios set in istiod's environment.
const VARIABLES: [&str; 3] = [
    "ISTIO_MULTIROOT_MESH",
    "CITADEL_SELF_SIGNED_ROOT_CERT_CHECK_INTERVAL",
    "CITADEL_SELF_SIGNED_ROOT_CERT_GRACE_PERIOD_PERCENTILE",
];

/// istiod as `make mesh` has started it, with a CA of its own; also after scenarios that have changed that. What
/// was not changed is not restarted.
///
/// # Errors
/// If istiod, or the gateway, does not start.
pub fn reset() -> Result<()> {
    mesh_config::restore()?;
    let istio_system = ["--namespace", "istio-system", "--ignore-not-found"];
    let secret = kubectl(&[&["get", "secret", "cacerts"][..], &istio_system].concat())?;
    let istiod = get(&["deployment", "istiod", "--namespace", "istio-system"])?.to_string();
    let is_set = |name: &&&str| istiod.contains(&format!("\"name\":{name:?}"));
    let set: Vec<String> = VARIABLES
        .iter()
        .filter(is_set)
        .map(|name| format!("{name}-"))
        .collect();
    if secret.is_empty() && set.is_empty() {
        return Ok(());
    }
    unplug()?;
    match set.is_empty() {
        true => restart_istiod()?,
        false => set_istiod_env(&set.iter().map(String::as_str).collect::<Vec<_>>())?,
    }
    let gateway = ["deployment/istio-ingressgateway", "--namespace"];
    kubectl(&[&["rollout", "restart"][..], &gateway, &["istio-system"]].concat())?;
    let timeout = ["istio-system", "--timeout=120s"];
    kubectl(&[&["rollout", "status"][..], &gateway, &timeout].concat()).map(drop)
}
