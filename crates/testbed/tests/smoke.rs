//! The testbed itself, against a real Envoy: if one of these fails, look at no other test.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tempfile::TempDir;
use testbed::envoy::free_port;
use testbed::pki::{HOUR, KeyKind};
use testbed::servers::ServerTls;
use testbed::stats::{self, eventually};
use testbed::{
    Client, Envoy, Hierarchy, Identity, Lifetime, Sample, Server, TlsVersion, TrustBundle,
};

const SAMPLES: [&str; 7] = [
    "http.yaml",
    "network.yaml",
    "both.yaml",
    "upstream.yaml",
    "xfcc.yaml",
    "filter-state.yaml",
    "sidecar.yaml",
];

const SPIFFE_ID: &str = "spiffe://cluster.local/ns/shop/sa/pay";

/// A PKI and the certificate directory of a proxy in it.
struct Mesh {
    hierarchy: Hierarchy,
    certificates: TempDir,
}

impl Mesh {
    fn new() -> Result<Self> {
        let mesh = Self {
            hierarchy: Hierarchy::new()?,
            certificates: TempDir::new()?,
        };
        mesh.workload()?.write_to(mesh.directory())?;
        mesh.hierarchy.trust_bundle().write_to(mesh.directory())?;
        Ok(mesh)
    }

    fn directory(&self) -> &Path {
        self.certificates.path()
    }

    fn workload(&self) -> Result<Identity> {
        self.hierarchy.leaf().uri(SPIFFE_ID).issue()
    }

    fn sample(&self, file: &str) -> Result<Sample> {
        Sample::local_without_module(file, self.directory())
    }

    fn server_tls(&self) -> Result<ServerTls> {
        let tls = ServerTls::new(&self.workload()?);
        Ok(tls.requiring_client_certificate(&self.hierarchy.trust_bundle()))
    }
}

#[test]
fn http_over_mtls_in_both_tls_versions() -> Result<()> {
    let mesh = Mesh::new()?;
    let app = Server::http_echo(None)?;
    let envoy = mesh
        .sample("http.yaml")?
        .upstream("app", app.port())
        .start(1)?;
    let port = envoy.listener_port("inbound")?;
    let client = Client::mtls(&mesh.workload()?);

    for version in [TlsVersion::V1_2, TlsVersion::V1_3] {
        let response = client
            .clone()
            .version(version)
            .get(port, "/", &[("x-trace", "7")])?;
        assert_eq!(response.status, 200);
        assert_eq!(response.json()?["headers"]["x-trace"], "7");
    }
    let mut connection = client.http(port)?;
    for _ in 0..3 {
        assert_eq!(connection.get("/", &[])?.status, 200);
    }

    let requests = "envoy_http_downstream_rq_total";
    let inbound = [("envoy_http_conn_manager_prefix", "inbound")];
    stats::wait_for(&envoy, requests, &inbound, |value| value == 5.0)?;
    assert_eq!(envoy.stats()?.kind(requests), Some("counter"));
    Ok(())
}

#[test]
fn keys_of_every_kind_that_envoy_accepts() -> Result<()> {
    let mesh = Mesh::new()?;
    let app = Server::http_echo(None)?;
    let envoy = mesh
        .sample("http.yaml")?
        .upstream("app", app.port())
        .start(1)?;
    let port = envoy.listener_port("inbound")?;

    for kind in [KeyKind::P384, KeyKind::Rsa1024, KeyKind::Rsa2048] {
        let client = Client::mtls(&mesh.hierarchy.leaf().key_kind(kind).issue()?);
        for version in [TlsVersion::V1_2, TlsVersion::V1_3] {
            let response = client.clone().version(version).get(port, "/", &[]);
            let response = response.with_context(|| format!("{kind:?} {version:?}"))?;
            assert_eq!(response.status, 200);
        }
    }
    Ok(())
}

#[test]
fn sha1_signatures_are_valid_ones() -> Result<()> {
    let mesh = Mesh::new()?;
    let app = Server::http_echo(None)?;
    let envoy = mesh
        .sample("http.yaml")?
        .upstream("app", app.port())
        .start(1)?;

    let old = mesh.hierarchy.intermediate.subordinate("Old CA");
    let old = old.key_kind(KeyKind::Rsa2048).issue()?;
    let client = Client::mtls(&old.leaf().sha1_signature().issue()?);
    assert_eq!(
        client
            .get(envoy.listener_port("inbound")?, "/", &[])?
            .status,
        200
    );
    Ok(())
}

#[test]
fn clients_can_resume_sessions() -> Result<()> {
    let mesh = Mesh::new()?;
    let app = Server::tcp_echo(None)?;
    let envoy = mesh
        .sample("network.yaml")?
        .upstream("app", app.port())
        .start(1)?;

    for version in [TlsVersion::V1_2, TlsVersion::V1_3] {
        let client = Client::mtls(&mesh.workload()?)
            .version(version)
            .resuming()?;
        for resumed in [false, true] {
            let mut connection = client.tcp(envoy.listener_port("inbound")?)?;
            // In TLS 1.3 the ticket comes with the first data.
            connection.echo(b"ping")?;
            assert_eq!(connection.resumed(), resumed, "{version:?}");
        }
    }
    Ok(())
}

#[test]
fn revoked_clients_are_refused() -> Result<()> {
    let mesh = Mesh::new()?;
    let app = Server::http_echo(None)?;
    let (good, revoked) = (mesh.workload()?, mesh.workload()?);
    let list = mesh.hierarchy.issuing.revocation_list(&[&revoked])?;
    let sample = mesh.sample("http.yaml")?.upstream("app", app.port());
    let envoy = sample
        .insert("validation_context", "crl", json!({"inline_string": list}))
        .insert("validation_context", "only_verify_leaf_cert_crl", true)
        .start(1)?;

    let port = envoy.listener_port("inbound")?;
    assert_eq!(Client::mtls(&good).get(port, "/", &[])?.status, 200);
    assert!(Client::mtls(&revoked).get(port, "/", &[]).is_err());
    Ok(())
}

#[test]
fn refused_clients_see_why() -> Result<()> {
    let mesh = Mesh::new()?;
    let app = Server::http_echo(None)?;
    let envoy = mesh
        .sample("http.yaml")?
        .upstream("app", app.port())
        .start(1)?;
    let port = envoy.listener_port("inbound")?;

    let expired = Lifetime::from_now(-2 * HOUR, -HOUR);
    let expired = mesh.hierarchy.leaf().lifetime(expired).issue()?;
    let stranger = Hierarchy::new()?.leaf().issue()?;
    let forged = mesh.workload()?.with_bad_signature();
    for (client, alert) in [
        (Client::mtls(&expired), "CertificateExpired"),
        (Client::mtls(&stranger), "UnknownCA"),
        (Client::mtls(&forged), "alert"),
        (Client::tls(), "HandshakeFailure"),
    ] {
        assert!(client.get(port, "/", &[]).is_err(), "{alert}");
        // Only here the client has nothing else to do than wait for the verdict.
        let client = client.version(TlsVersion::V1_2);
        let error = client.get(port, "/", &[]).err().context("was let in")?;
        let error = format!("{error:#}");
        assert!(error.contains(alert), "{alert}: {error}");
    }
    assert!(Client::plaintext().get(port, "/", &[]).is_err());
    Ok(())
}

#[test]
fn tcp_over_mtls() -> Result<()> {
    let mesh = Mesh::new()?;
    let app = Server::server_first(b"hello", None)?;
    let envoy = mesh
        .sample("network.yaml")?
        .upstream("app", app.port())
        .start(1)?;

    let client = Client::mtls(&mesh.workload()?);
    let mut connection = client.tcp(envoy.listener_port("inbound")?)?;
    assert_eq!(connection.receive(5)?, b"hello");
    connection.echo(b"one")?;
    connection.echo(b"two")?;
    envoy.stop()?;
    connection.closed_by_peer()?;
    Ok(())
}

#[test]
fn outbound_to_mtls_servers() -> Result<()> {
    let mesh = Mesh::new()?;
    let http = Server::http_echo(Some(mesh.server_tls()?))?;
    let tcp = Server::tcp_echo(Some(mesh.server_tls()?.version(TlsVersion::V1_3)))?;
    let sample = mesh.sample("upstream.yaml")?;
    let sample = sample
        .upstream("peer_http", http.port())
        .upstream("peer_tcp", tcp.port());
    let envoy = sample.start(1)?;

    let client = Client::plaintext();
    let response = client.get(envoy.listener_port("outbound_http")?, "/", &[])?;
    assert_eq!(response.status, 200, "{}", response.text());
    client
        .tcp(envoy.listener_port("outbound_tcp")?)?
        .echo(b"ping")?;
    Ok(())
}

#[test]
fn clients_can_verify() -> Result<()> {
    let mesh = Mesh::new()?;
    let identity = mesh.hierarchy.leaf().dns("app.example").issue()?;
    let server = Server::tcp_echo(Some(ServerTls::new(&identity)))?;
    let trusting = |bundle: &TrustBundle, name| Client::tls().verifying(bundle, name);

    let bundle = mesh.hierarchy.trust_bundle();
    trusting(&bundle, "app.example")
        .tcp(server.port())?
        .echo(b"ping")?;
    assert!(
        trusting(&bundle, "other.example")
            .tcp(server.port())
            .is_err()
    );
    let foreign = Hierarchy::new()?.trust_bundle();
    assert!(
        trusting(&foreign, "app.example")
            .tcp(server.port())
            .is_err()
    );
    Ok(())
}

#[test]
fn sidecars_reach_each_other_and_take_renewed_certificates() -> Result<()> {
    let mesh = Mesh::new()?;
    let http = Server::http_echo(None)?;
    let tcp = Server::tcp_echo(None)?;
    let server = mesh.sample("sidecar.yaml")?;
    let server = server
        .upstream("app_http", http.port())
        .upstream("app_tcp", tcp.port());
    let (inbound_http, inbound_tcp) = (free_port()?, free_port()?);
    let server = server
        .listen("inbound_http", inbound_http)
        .listen("inbound_tcp", inbound_tcp);
    let _server = server.start(1)?;
    let client = mesh.sample("sidecar.yaml")?;
    let client = client
        .upstream("peer_http", inbound_http)
        .upstream("peer_tcp", inbound_tcp)
        .start(1)?;

    let app = Client::plaintext();
    let response = app.get(client.listener_port("outbound_http")?, "/", &[])?;
    assert_eq!(response.status, 200, "{}", response.text());
    app.tcp(client.listener_port("outbound_tcp")?)?
        .echo(b"ping")?;

    let renewed = mesh.workload()?;
    renewed.write_to(mesh.directory())?;
    let peer = Client::mtls(&renewed);
    eventually(stats::DEADLINE, || {
        let connection = peer.tcp(inbound_tcp)?;
        let presented = connection.peer_certificate();
        ensure!(presented == Some(renewed.der()), "still the old one");
        Ok(())
    })
}

#[test]
fn envoy_that_cannot_start_says_why() {
    let error = Envoy::start("static_resources: { nonsense: 1 }", 1).unwrap_err();
    let error = format!("{error:#}");
    assert!(error.contains("nonsense"), "{error}");
}

#[test]
fn every_sample_is_valid() -> Result<()> {
    let mesh = Mesh::new()?;
    let release = Envoy::release()?;
    for file in SAMPLES {
        // Older ones cannot set filter state after the handshake.
        if file == "filter-state.yaml" && release < (1, 37) {
            continue;
        }
        let sample = Sample::local(file, mesh.directory())?;
        Envoy::validate(&sample.yaml()?).with_context(|| file.to_owned())?;
    }
    Ok(())
}

#[test]
fn samples_agree_with_each_other() -> Result<()> {
    let common = |file| -> Result<_> {
        let mut found = Vec::new();
        Sample::load(file)?.edit(|node| {
            if let Some(admin) = node.get("admin") {
                found.push((admin.clone(), node["stats_config"].clone()));
            }
        });
        Ok(found)
    };
    for file in SAMPLES {
        assert_eq!(common(file)?, common(SAMPLES[0])?, "{file}");
    }
    Ok(())
}

#[test]
fn samples_let_traffic_pass_whatever_happens_to_the_module() -> Result<()> {
    for file in SAMPLES {
        let mut filters = 0;
        Sample::load(file)?.edit(|node| {
            if node.get("vm_config").is_some() {
                assert_eq!(node["failure_policy"], "FAIL_OPEN", "{file}");
                filters += 1;
            }
        });
        assert_ne!(filters, 0, "{file}");
    }
    Ok(())
}
