//! Scenario A, servers outside the mesh: an OpenSSL at the node's address, `NAME.outside.test` to the pods.

use std::fs;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use mesh_tests::authority::Authority;
use mesh_tests::kubectl::apply;
use mesh_tests::namespace::{Namespace, Workload};
use mesh_tests::prometheus::{lines, nothing, wait_for};
use mesh_tests::runner::{Scenario, holds};
use mesh_tests::{eventually, istio, scratch};

use crate::overlays::scraped_from_now_on;

/// In the order in which they run.
pub(crate) const SCENARIOS: &[Scenario] = &[
    holds("egress::mutual_names_the_server", mutual_names_the_server),
    holds(
        "egress::simple_shows_no_certificate",
        simple_shows_no_certificate,
    ),
    holds(
        "egress::an_applications_own_tls_passes_unseen",
        an_applications_own_tls_passes_unseen,
    ),
];

const HOST: &str = "bank.outside.test";
/// Where the workload calls it.
const PORT: u16 = 9443;

/// A TLS server with a certificate for [`HOST`], on this port of the node.
struct Bank(Child);

impl Bank {
    /// `arguments`: how it answers, and what it asks of its clients.
    fn start(port: u16, server: &Authority, arguments: &[&str]) -> Result<Self> {
        let folder = scratch("bank");
        fs::create_dir_all(&folder)?;
        let identity = server.server(HOST)?;
        fs::write(folder.join("server.pem"), identity.chain_pem())?;
        fs::write(folder.join("server.key"), identity.key_pem()?)?;
        fs::write(folder.join("ca.pem"), server.pem())?;
        let child = Command::new("openssl")
            .args([
                "s_server",
                "-quiet",
                "-cert",
                "server.pem",
                "-key",
                "server.key",
                "-CAfile",
                "ca.pem",
            ])
            .args(["-accept", &format!("10.99.0.1:{port}")])
            .args(arguments)
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("openssl")?;
        Ok(Self(child))
    }
}

impl Drop for Bank {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// The sidecar of the workload `shop` makes TLS of what is sent to the host.
fn originate(namespace: &str, port: u16, tls: &str) -> Result<()> {
    apply(&format!(
        "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: bank, namespace: {namespace}}}
spec:
  hosts: [{HOST}]
  ports: [{{number: {PORT}, name: tcp, protocol: TCP, targetPort: {port}}}]
  resolution: STATIC
  location: MESH_EXTERNAL
  endpoints: [{{address: 10.99.0.1}}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: bank, namespace: {namespace}}}
spec:
  host: {HOST}
  workloadSelector: {{matchLabels: {{app: shop}}}}
  trafficPolicy: {{tls: {tls}}}
"
    ))
}

/// A client certificate, and what the sidecar trusts, in a secret that the DestinationRule names.
fn credential(namespace: &str, trusted: &Authority, client: Option<&Authority>) -> Result<()> {
    let mut data = serde_json::json!({"ca.crt": trusted.pem()});
    if let Some(client) = client {
        let identity = client.leaf("spiffe://partner.example/shop")?;
        data["tls.crt"] = identity.chain_pem().into();
        data["tls.key"] = identity.key_pem()?.into();
    }
    let secret = serde_json::json!({
        "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
        "metadata": {"name": "bank", "namespace": namespace},
        "stringData": data,
    });
    apply(&secret.to_string())?;
    // The sidecar asks for it in the name of its service account.
    apply(&format!(
        "{{apiVersion: rbac.authorization.k8s.io/v1, kind: Role, metadata: {{name: bank, namespace: {namespace}}}, rules: [{{apiGroups: [''], resources: [secrets], verbs: [get, list, watch]}}]}}
---
{{apiVersion: rbac.authorization.k8s.io/v1, kind: RoleBinding, metadata: {{name: bank, namespace: {namespace}}}, roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: bank}}, subjects: [{{kind: ServiceAccount, name: shop, namespace: {namespace}}}]}}
"
    ))
}

fn start_shop(name: &str) -> Result<Namespace> {
    let shop = Namespace::injected(name)?;
    istio::watch_the_mesh()?;
    shop.start(&[Workload {
        name: "shop",
        ..Workload::default()
    }])?;
    Ok(shop)
}

fn mutual_names_the_server() -> Result<()> {
    let shop = start_shop("egress-mutual")?;
    let root = Authority::root("Bank Root")?;
    let _bank = Bank::start(
        8441,
        &root,
        &["-rev", "-Verify", "1", "-verify_return_error"],
    )?;
    credential(&shop.name, &root, Some(&root))?;
    originate(
        &shop.name,
        8441,
        "{mode: MUTUAL, credentialName: bank, sni: bank.outside.test}",
    )?;
    shop.call_until_ok("shop", &format!("tcp://{HOST}:{PORT}"))?;
    let server = format!("direction=\"outbound\", layer=\"workload\", identity=\"{HOST}\"");
    wait_for(
        &(shop.selector("mtls_peer_certificate_not_after_timestamp_seconds", &server)
            + " > time()"),
    )?;
    wait_for(
        &(shop.selector(
            "mtls_connections_total",
            "direction=\"outbound\", security=\"mtls\"",
        ) + " > 0"),
    )?;
    // And the certificate that is shown to the bank.
    let own = "layer=\"workload\", identity=\"spiffe://partner.example/shop\"";
    wait_for(&shop.selector("mtls_own_certificate_not_after_timestamp_seconds", own)).map(drop)
}

fn simple_shows_no_certificate() -> Result<()> {
    let shop = start_shop("egress-simple")?;
    let root = Authority::root("Bank Root")?;
    let _bank = Bank::start(8442, &root, &["-rev"])?;
    credential(&shop.name, &root, None)?;
    originate(
        &shop.name,
        8442,
        "{mode: SIMPLE, credentialName: bank, sni: bank.outside.test}",
    )?;
    shop.call_until_ok("shop", &format!("tcp://{HOST}:{PORT}"))?;
    let server = format!("direction=\"outbound\", layer=\"workload\", identity=\"{HOST}\"");
    wait_for(&shop.selector("mtls_peer_certificate_not_after_timestamp_seconds", &server))?;
    let counted =
        wait_for(&(shop.selector("mtls_connections_total", "direction=\"outbound\"") + " > 0"))?;
    ensure!(
        counted
            .iter()
            .all(|sample| sample.label("security") == "tls"),
        "no certificate was shown:{}",
        lines(&counted)
    );
    ensure!(shop.calls("failed")? == 0, "calls fail");
    eventually(mesh_tests::DEADLINE, || {
        nothing(&(shop.selector("mtls_handshake_failures_total", "") + " > 0"))
    })
}

/// The sidecar passes it through, in its PassthroughCluster, where istiod puts no plugin.
fn an_applications_own_tls_passes_unseen() -> Result<()> {
    let shop = start_shop("egress-own-tls")?;
    let root = Authority::root("Bank Root")?;
    let _bank = Bank::start(8443, &root, &["-www"])?;
    wait_for(&shop.selector("mtls_watch_info", ""))?;
    let target = "https://10.99.0.1:8443/";
    shop.call_until_ok("shop", target)?;
    (0..5).try_for_each(|_| shop.call("shop", target))?;
    // As Prometheus has it after these calls.
    scraped_from_now_on(&shop.selector("mtls_watch_info", ""))?;
    for metric in ["mtls_connections_total", "mtls_requests_total"] {
        nothing(&(shop.selector(metric, "direction=\"outbound\"") + " > 0"))?;
    }
    nothing(&(shop.selector("mtls_handshake_failures_total", "") + " > 0"))
}
