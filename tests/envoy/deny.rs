//! `deny`: what it refuses, and what it cannot stop (docs/configuration.md), each with what does stop it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use testbed::pki::{ExtendedKeyUsage, HOUR, LeafBuilder, Lifetime};
use testbed::servers::{ServerTls, Step};
use testbed::stats::{DEADLINE, eventually};
use testbed::{Client, Envoy, Sample, Server};

use crate::setup::{CONNECTIONS, INBOUND, OUTBOUND, Pki, Proxy, REQUESTS};
use crate::variants::Variant;

const DENY: &str = r#"{"deny": ["server_auth_missing", "client_auth_missing", "expired"]}"#;

fn client(leaf: LeafBuilder) -> Result<Client> {
    Ok(Client::mtls(&leaf.issue()?))
}

/// A client that Envoy takes and `deny` does not.
fn denied(pki: &Pki) -> Result<Client> {
    client(
        pki.pay()
            .extended_key_usages(&[ExtendedKeyUsage::ClientAuth]),
    )
}

/// A server that Envoy takes and `deny` does not.
fn denied_server(pki: &Pki) -> Result<ServerTls> {
    let leaf = pki
        .pay()
        .extended_key_usages(&[ExtendedKeyUsage::ServerAuth]);
    Ok(ServerTls::new(&leaf.issue()?))
}

/// What the servers of a cluster have been sent.
fn sent_to(envoy: &Envoy, cluster: &str) -> Result<f64> {
    let labels = [("envoy_cluster_name", cluster)];
    Ok(envoy
        .stats()?
        .sum("envoy_cluster_upstream_cx_tx_bytes_total", &labels))
}

/// 403, and the server never sees the request; it is counted all the same. Others pass.
#[test]
fn refuses_requests() -> Result<()> {
    let pki = Pki::new()?;
    let proxy = Proxy::http(pki.sample("http.yaml")?.configuration(DENY))?;
    for _ in 0..2 {
        let response = denied(&pki)?.get(proxy.port, "/", &[])?;
        assert_eq!(response.status, 403);
    }
    let stats = proxy.stats()?;
    assert_eq!(
        stats.value(REQUESTS, &[INBOUND, ("status", "critical")]),
        Some(2.0)
    );
    assert_eq!(stats.sum("envoy_cluster_upstream_rq_total", &[]), 0.0);
    proxy.get(&pki.client()?)?;
    // Critical as well, but for another reason.
    proxy.get(&client(pki.pay().ca_flag())?)?;
    Ok(())
}

/// The connection is closed, and nothing of it reaches the server. Others pass.
#[test]
fn refuses_connections() -> Result<()> {
    let pki = Pki::new()?;
    let proxy = Proxy::tcp(pki.sample("network.yaml")?.configuration(DENY))?;
    let mut connection = denied(&pki)?.tcp(proxy.port)?;
    connection.send(b"hello")?;
    assert_eq!(connection.closed_by_peer()?, b"");
    let stats = proxy.wait_until_closed(1)?;
    assert_eq!(
        stats.value(CONNECTIONS, &[INBOUND, ("security", "mtls")]),
        Some(1.0)
    );
    assert_eq!(
        stats.sum("envoy_cluster_upstream_cx_tx_bytes_total", &[]),
        0.0
    );
    proxy.echo(&pki.client()?)?;
    proxy.echo(&client(pki.pay().ca_flag())?)?;
    Ok(())
}

/// A server that speaks first is not heard by a client that is refused.
#[test]
fn refuses_connections_where_the_server_speaks_first() -> Result<()> {
    let pki = Pki::new()?;
    let server = Server::server_first(b"220 ready", None)?;
    let sample = pki.sample("network.yaml")?.configuration(DENY);
    let proxy = Proxy::start(sample, ("inbound", "app"), server, 1)?;
    let mut connection = denied(&pki)?.tcp(proxy.port)?;
    connection.send(b"EHLO")?;
    connection.closed_by_peer()?;
    assert_eq!(pki.client()?.tcp(proxy.port)?.receive(9)?, b"220 ready");
    Ok(())
}

/// The client listens, and never says a word.
#[test]
fn refuses_clients_that_only_listen() -> Result<()> {
    let pki = Pki::new()?;
    let server = Server::server_first(b"220 ready", None)?;
    let sample = pki.sample("network.yaml")?.configuration(DENY);
    let proxy = Proxy::start(sample, ("inbound", "app"), server, 1)?;
    let mut sound = pki.client()?.tcp(proxy.port)?;
    let mut listener = denied(&pki)?.tcp(proxy.port)?;
    // Within ten seconds.
    listener.closed_by_peer()?;
    assert_eq!(sound.receive(9)?, b"220 ready");
    sound.echo(b"EHLO")?;
    Ok(())
}

/// Envoy connects to the server with the first data, and the client alone has something to say.
#[test]
fn refuses_servers_that_come_with_the_data() -> Result<()> {
    let pki = Pki::new()?;
    let server = Server::script(&[Step::ReceiveAll], Some(denied_server(&pki)?))?;
    let sample = pki.sample("upstream.yaml")?.configuration(DENY);
    let sample = sample
        .set("TcpProxy", "upstream_connect_mode", "ON_DOWNSTREAM_DATA")
        .set("TcpProxy", "max_early_data_bytes", 65_536);
    let proxy = Proxy::start(sample, ("outbound_tcp", "peer_tcp"), server, 1)?;
    let mut connection = Client::plaintext().tcp(proxy.port)?;
    eventually(Duration::from_secs(10), || {
        ensure!(connection.send(b"a line\n").is_err(), "still open");
        Ok(())
    })
}

/// What was fine at the start of a connection is refused from the moment on at which it is not.
#[test]
fn refuses_what_expires_on_an_open_connection() -> Result<()> {
    let pki = Pki::new()?;
    let http = Proxy::http(pki.sample("http.yaml")?.configuration(DENY))?;
    let tcp = Proxy::tcp(pki.sample("network.yaml")?.configuration(DENY))?;
    let leaf = pki.pay().lifetime(Lifetime::from_now(-HOUR, 4)).issue()?;
    let mut requests = Client::mtls(&leaf).http(http.port)?;
    let mut bytes = Client::mtls(&leaf).tcp(tcp.port)?;
    assert_eq!(requests.get("/", &[])?.status, 200);
    bytes.echo(b"hello")?;
    eventually(Duration::from_secs(20), || {
        let status = requests.get("/", &[])?.status;
        ensure!(status == 403, "{status}");
        Ok(())
    })?;
    eventually(Duration::from_secs(20), || {
        ensure!(bytes.echo(b"hello").is_err(), "still open");
        Ok(())
    })
}

/// Towards servers: the response is replaced, the connection closed.
#[test]
fn refuses_servers() -> Result<()> {
    let pki = Pki::new()?;
    let tls = denied_server(&pki)?;
    let http = Server::http_echo(Some(tls.clone()))?;
    let tcp = Server::tcp_echo(Some(tls))?;
    let envoy = pki
        .sample("upstream.yaml")?
        .configuration(DENY)
        .upstream("peer_http", http.port())
        .upstream("peer_tcp", tcp.port())
        .start(1)?;
    let port = |listener| envoy.listener_port(listener);
    let response = Client::plaintext().get(port("outbound_http")?, "/", &[])?;
    assert_eq!(response.status, 403);
    let mut connection = Client::plaintext().tcp(port("outbound_tcp")?)?;
    connection.send(b"hello")?;
    assert_eq!(connection.closed_by_peer()?, b"");
    assert_eq!(sent_to(&envoy, "peer_tcp")?, 0.0);
    let stats = envoy.stats()?;
    assert_eq!(
        stats.value(REQUESTS, &[OUTBOUND, ("status", "critical")]),
        Some(1.0)
    );
    assert_eq!(
        stats.value(CONNECTIONS, &[OUTBOUND, ("security", "mtls")]),
        Some(1.0)
    );
    Ok(())
}

/// No certificate has no finding.
#[test]
fn does_not_stop_clients_without_a_certificate() -> Result<()> {
    let pki = Pki::new()?;
    let sample = || Ok::<_, anyhow::Error>(pki.sample("http.yaml")?.configuration(DENY));
    let permissive = || Ok::<_, anyhow::Error>(sample()?.accepting_anonymous());
    let plaintext = || Ok::<_, anyhow::Error>(sample()?.plaintext("inbound"));
    Proxy::http(permissive()?)?.get(&Client::tls())?;
    Proxy::http(plaintext()?)?.get(&Client::plaintext())?;

    let strict = Proxy::http(sample()?)?;
    ensure!(strict.get(&Client::tls()).is_err(), "let in");
    strict.get(&pki.client()?)?;
    let guarded = Proxy::http(allowing_identities(permissive()?))?;
    assert_eq!(Client::tls().get(guarded.port, "/", &[])?.status, 403);
    guarded.get(&pki.client()?)?;
    let guarded = Proxy::http(allowing_identities(plaintext()?))?;
    assert_eq!(Client::plaintext().get(guarded.port, "/", &[])?.status, 403);
    Ok(())
}

/// Envoy's RBAC filter in front of the router, which lets in whoever has a certificate of the trust domain.
fn allowing_identities(sample: Sample) -> Sample {
    let principal = json!({ "authenticated": {
        "principal_name": { "prefix": "spiffe://cluster.local/" },
    }});
    let filter = testbed::sample::yaml(json!({
        "name": "envoy.filters.http.rbac",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC",
            "rules": { "policies": { "mesh": {
                "permissions": [{ "any": true }],
                "principals": [principal],
            }}},
        },
    }));
    sample.edit(|node| {
        let filters = node.get_mut("http_filters");
        if let Some(filters) = filters.and_then(|filters| filters.as_sequence_mut()) {
            filters.insert(filters.len() - 1, filter.clone());
        }
    })
}

/// More than a packet.
const BANNER: [u8; 12_000] = [b'x'; 12_000];

/// Envoy connects to the server at once, and sends its data on when the client's handshake is over. No filter is
/// asked between the two.
#[test]
fn does_not_stop_servers_that_speak_in_the_clients_handshake() -> Result<()> {
    let pki = Pki::new()?;
    let sample = pki.sample("network.yaml")?.configuration(DENY);
    let server = Server::server_first(&BANNER, None)?;
    let proxy = Proxy::start(sample, ("inbound", "app"), server, 1)?;
    let client = denied(&pki)?;
    eventually(DEADLINE, || {
        let heard = client.tcp(proxy.port)?.closed_by_peer()?;
        ensure!(!heard.is_empty(), "nothing was heard");
        Ok(())
    })
}

/// Envoy connects to the server when the client's handshake is over: then the client is known before the server is.
#[test]
fn stops_servers_that_are_called_after_the_clients_handshake() -> Result<()> {
    let pki = Pki::new()?;
    let sample = pki.sample("network.yaml")?.configuration(DENY);
    let sample = sample
        .set(
            "TcpProxy",
            "upstream_connect_mode",
            "ON_DOWNSTREAM_TLS_HANDSHAKE",
        )
        .set("TcpProxy", "max_early_data_bytes", 0);
    let server = Server::server_first(&BANNER, None)?;
    let proxy = Proxy::start(sample, ("inbound", "app"), server, 1)?;
    let client = denied(&pki)?;
    for _ in 0..20 {
        assert_eq!(client.tcp(proxy.port)?.closed_by_peer()?, b"");
    }
    let mut sound = pki.client()?.tcp(proxy.port)?;
    assert_eq!(sound.receive(BANNER.len())?, BANNER);
    sound.echo(b"EHLO")
}

/// Envoy's own verification, by a name that this client does not have.
#[test]
fn envoys_verification_stops_servers_that_speak_first() -> Result<()> {
    let pki = Pki::new()?;
    let sample = pki.sample("network.yaml")?.insert(
        "validation_context",
        "match_typed_subject_alt_names",
        json!([{ "san_type": "URI", "matcher": { "exact": "spiffe://cluster.local/ns/shop/sa/web" } }]),
    );
    let server = Server::server_first(&BANNER, None)?;
    let proxy = Proxy::start(sample, ("inbound", "app"), server, 1)?;
    for _ in 0..20 {
        assert_eq!(pki.client()?.tcp(proxy.port)?.closed_by_peer()?, b"");
    }
    Ok(())
}

/// The server of a request is known with its response.
#[test]
fn does_not_keep_requests_from_servers() -> Result<()> {
    let pki = Pki::new()?;
    let server = Server::http_echo(Some(denied_server(&pki)?))?;
    let sample = || {
        let sample = pki.sample("upstream.yaml")?.configuration(DENY);
        Ok::<_, anyhow::Error>(sample.upstream("peer_http", server.port()))
    };
    let open = sample()?.start(1)?;
    let get = |envoy: &Envoy| {
        let port = envoy.listener_port("outbound_http")?;
        Client::plaintext().get(port, "/", &[])
    };
    assert_eq!(get(&open)?.status, 403);
    ensure!(sent_to(&open, "peer_http")? > 0.0, "nothing was sent");

    let strict = expecting_another_name(sample()?).start(1)?;
    assert_eq!(get(&strict)?.status, 503);
    assert_eq!(sent_to(&strict, "peer_http")?, 0.0);
    Ok(())
}

/// Envoy has to see data before it connects, and then the server has it.
#[test]
fn does_not_keep_the_first_data_from_servers_that_come_with_it() -> Result<()> {
    let pki = Pki::new()?;
    let server = Server::script(&[Step::ReceiveAll], Some(denied_server(&pki)?))?;
    let at_once = || {
        let sample = pki.sample("upstream.yaml")?.configuration(DENY);
        Ok::<_, anyhow::Error>(sample.upstream("peer_tcp", server.port()))
    };
    let with_data = || {
        let sample = at_once()?.set("TcpProxy", "upstream_connect_mode", "ON_DOWNSTREAM_DATA");
        Ok::<_, anyhow::Error>(sample.set("TcpProxy", "max_early_data_bytes", 65_536))
    };
    let send = |envoy: &Envoy| {
        let mut connection = Client::plaintext().tcp(envoy.listener_port("outbound_tcp")?)?;
        connection.send(b"a line")?;
        Ok::<_, anyhow::Error>(connection)
    };
    let late = with_data()?.start(1)?;
    let _open = send(&late)?;
    eventually(DEADLINE, || {
        ensure!(sent_to(&late, "peer_tcp")? == 6.0, "nothing was sent");
        Ok(())
    })?;
    for stopped in [at_once()?, expecting_another_name(with_data()?)] {
        let envoy = stopped.start(1)?;
        send(&envoy)?.closed_by_peer().context("still open")?;
        assert_eq!(sent_to(&envoy, "peer_tcp")?, 0.0);
    }
    Ok(())
}

/// Clusters that verify that the server is another one.
fn expecting_another_name(sample: Sample) -> Sample {
    sample.insert(
        "validation_context",
        "match_typed_subject_alt_names",
        json!([{ "san_type": "URI", "matcher": { "exact": "spiffe://cluster.local/ns/shop/sa/db" } }]),
    )
}
