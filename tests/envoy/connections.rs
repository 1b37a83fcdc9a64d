//! `mtls_connections_total` and `mtls_connections_by_issuer_total`: each connection once, whatever
//! goes over it.

use std::time::Duration;

use anyhow::{Result, ensure};
use testbed::pki::{ExtendedKeyUsage, HOUR, Lifetime};
use testbed::servers::ServerTls;
use testbed::stats::eventually;
use testbed::{Client, Server, TlsVersion};

use crate::setup::{
    BY_ISSUER, CONNECTION_FINDINGS, CONNECTIONS, Counted, INBOUND, INSPECTIONS, NOT_AFTER,
    OUTBOUND, PAY, Pki, Proxy, REQUESTS, ca_label, gauge,
};
use crate::variants::Variant;

/// Both filters in one proxy: each connection is counted once, by the one, and each request once,
/// by the other.
#[test]
fn count_by_security_and_their_requests_by_status() -> Result<()> {
    let pki = Pki::new()?;
    let sample = || pki.sample("both.yaml");
    let tls = Proxy::http(sample()?.accepting_anonymous())?;
    let plaintext = Proxy::http(sample()?.remove("transport_socket"))?;
    let hbone = sample()?.remove("transport_socket").filter_state(
        "on_new_connection",
        "io.istio.peer_principal",
        PAY,
    );
    let hbone = Proxy::http(hbone)?;
    for (proxy, client, security, status) in [
        (&tls, pki.client()?, "mtls", "ok"),
        (&tls, Client::tls(), "tls", "no_certificate"),
        (
            &plaintext,
            Client::plaintext(),
            "plaintext",
            "no_certificate",
        ),
        (&hbone, Client::plaintext(), "hbone", "hbone"),
    ] {
        let counted = Counted::by(&proxy.envoy, || {
            let mut connection = proxy.open(&client)?;
            connection.get("/", &[])?;
            connection.get("/", &[])?;
            Ok(())
        })?;
        let connections = [INBOUND, ("security", security)];
        assert_eq!(counted.sum(CONNECTIONS, &connections), 1.0, "{security}");
        assert_eq!(counted.sum(CONNECTIONS, &[]), 1.0, "{security}");
        let requests = [INBOUND, ("status", status)];
        assert_eq!(counted.sum(REQUESTS, &requests), 2.0, "{security}");
        assert_eq!(counted.sum(REQUESTS, &[]), 2.0, "{security}");
    }
    Ok(())
}

/// TCP, from the first byte of the client on; and a session that is resumed, in whose handshake
/// no certificate is sent, has the certificate of the first.
#[test]
fn count_once_however_much_goes_over_them() -> Result<()> {
    let pki = Pki::new()?;
    let proxy = Proxy::tcp(pki.sample("network.yaml")?)?;
    let client = pki.client()?.resuming()?;
    let mut first = proxy.echo(&client)?;
    first.echo(b"again")?;
    let mut resumed = proxy.echo(&client)?;
    resumed.echo(b"again")?;
    ensure!(
        !first.resumed() && resumed.resumed(),
        "no session was resumed"
    );
    let stats = proxy.stats()?;
    assert_eq!(
        stats.value(CONNECTIONS, &[INBOUND, ("security", "mtls")]),
        Some(2.0)
    );
    assert_eq!(stats.sum(CONNECTIONS, &[]), 2.0);
    let issuer = ca_label("Issuing CA", &pki.cas.issuing);
    assert_eq!(
        stats.value(BY_ISSUER, &[INBOUND, ("issuer", &issuer)]),
        Some(2.0)
    );
    let labels = gauge(INBOUND, "workload", PAY);
    assert!(stats.value(NOT_AFTER, &labels).is_some());
    Ok(())
}

/// Both versions of TLS, on either side.
#[test]
fn count_in_tls_1_2_as_in_1_3() -> Result<()> {
    let pki = Pki::new()?;
    for version in [TlsVersion::V1_2, TlsVersion::V1_3] {
        let inbound = Proxy::tcp(pki.sample("network.yaml")?)?;
        let client = pki.client()?.version(version);
        inbound.echo(&client)?;
        drop(client.tcp(inbound.port)?);
        let server = Server::tcp_echo(Some(pki.server_tls()?.version(version)))?;
        let sample = pki.sample("upstream.yaml")?;
        let outbound = Proxy::start(sample, ("outbound_tcp", "peer_tcp"), server, 1)?;
        outbound.echo(&Client::plaintext())?;
        for (proxy, direction, connections) in [(inbound, INBOUND, 2), (outbound, OUTBOUND, 1)] {
            let stats = proxy.wait_until_closed(connections)?;
            let counted = stats.value(CONNECTIONS, &[direction, ("security", "mtls")]);
            assert_eq!(counted, Some(f64::from(connections)), "{version:?}");
            let labels = gauge(direction, "workload", PAY);
            assert!(stats.value(NOT_AFTER, &labels).is_some(), "{version:?}");
        }
    }
    Ok(())
}

/// A server's banner is there before the client's handshake is over, when nothing is known of the
/// client yet. It counts with its first byte, or at the end if it never sends one.
#[test]
fn count_where_the_server_speaks_first() -> Result<()> {
    let pki = Pki::new()?;
    let server = Server::server_first(b"220 ready", None)?;
    let proxy = Proxy::start(pki.sample("network.yaml")?, ("inbound", "app"), server, 1)?;
    let mtls = [INBOUND, ("security", "mtls")];
    let mut connection = pki.client()?.tcp(proxy.port)?;
    assert_eq!(connection.receive(9)?, b"220 ready");
    connection.echo(b"EHLO")?;
    assert_eq!(proxy.stats()?.value(CONNECTIONS, &mtls), Some(1.0));
    connection.echo(b"QUIT")?;
    drop(connection);

    let mut silent = pki.client()?.tcp(proxy.port)?;
    assert_eq!(silent.receive(9)?, b"220 ready");
    drop(silent);
    let stats = proxy.wait_until_closed(2)?;
    assert_eq!(stats.value(CONNECTIONS, &mtls), Some(2.0));
    assert_eq!(stats.sum(CONNECTIONS, &[]), 2.0);
    let labels = gauge(INBOUND, "workload", PAY);
    assert!(stats.value(NOT_AFTER, &labels).is_some());
    Ok(())
}

/// A handshake that completed is a connection, though no byte followed. One that was refused is
/// none, and so is a port scan of a plaintext listener.
#[test]
fn count_without_a_byte_if_the_handshake_completed() -> Result<()> {
    let pki = Pki::new()?;
    let proxy = Proxy::tcp(pki.sample("network.yaml")?)?;
    drop(pki.client()?.tcp(proxy.port)?);
    let stats = proxy.wait_until_closed(1)?;
    assert_eq!(
        stats.value(CONNECTIONS, &[INBOUND, ("security", "mtls")]),
        Some(1.0)
    );

    Client::tls().tcp(proxy.port)?.closed_by_peer()?;
    drop(Client::plaintext().tcp(proxy.port)?);
    let stats = proxy.wait_until_closed(3)?;
    assert_eq!(
        stats.sum("envoy_listener_ssl_fail_verify_no_cert", &[]),
        1.0
    );
    assert_eq!(stats.sum(CONNECTIONS, &[]), 1.0);

    let plaintext = pki.sample("network.yaml")?.remove("transport_socket");
    let proxy = Proxy::tcp(plaintext)?;
    drop(Client::plaintext().tcp(proxy.port)?);
    let stats = proxy.wait_until_closed(1)?;
    assert_eq!(stats.sum(CONNECTIONS, &[]), 0.0);
    Ok(())
}

/// A TCP connection that goes on sending is judged again as time passes: each new finding is
/// counted, and none that was there before. The certificate is read but once.
#[test]
fn follow_a_certificate_that_expires_while_they_send() -> Result<()> {
    let pki = Pki::new()?;
    let proxy = Proxy::tcp(pki.sample("network.yaml")?)?;
    let leaf = pki
        .pay()
        .extended_key_usages(&[ExtendedKeyUsage::ClientAuth]);
    let leaf = leaf.lifetime(Lifetime::from_now(-HOUR, 4)).issue()?;
    let mut connection = Client::mtls(&leaf).tcp(proxy.port)?;
    let finding = |name| [INBOUND, ("layer", "workload"), ("finding", name)];
    eventually(Duration::from_secs(30), || {
        connection.echo(b"still here")?;
        let expired = proxy
            .stats()?
            .value(CONNECTION_FINDINGS, &finding("expired"));
        ensure!(expired.is_some(), "has not expired");
        Ok(())
    })?;
    connection.echo(b"still here")?;
    let stats = proxy.stats()?;
    for name in ["server_auth_missing", "expires_critical", "expired"] {
        let counted = stats.value(CONNECTION_FINDINGS, &finding(name));
        assert_eq!(counted, Some(1.0), "{name}");
    }
    assert_eq!(stats.sum(CONNECTION_FINDINGS, &[]), 3.0);
    assert_eq!(stats.sum(CONNECTIONS, &[]), 1.0);
    assert_eq!(stats.sum(INSPECTIONS, &[]), 1.0);
    Ok(())
}

/// Connections to servers. It is `tls` if this proxy has no certificate for the server. `hbone` has no outbound
/// case: Istio's principal is that of a client.
#[test]
fn count_outbound_by_the_security_of_the_server() -> Result<()> {
    let pki = Pki::new()?;
    let proxy = |sample, server| Proxy::start(sample, ("outbound_tcp", "peer_tcp"), server, 1);
    let sample = || pki.sample("upstream.yaml");
    let plaintext = sample()?.remove("transport_socket");
    let public = ServerTls::new(&pki.pay().issue()?);
    for (proxy, security) in [
        (
            proxy(sample()?, Server::tcp_echo(Some(pki.server_tls()?))?)?,
            "mtls",
        ),
        (
            proxy(
                sample()?.remove("tls_certificates"),
                Server::tcp_echo(Some(public))?,
            )?,
            "tls",
        ),
        (proxy(plaintext, Server::tcp_echo(None)?)?, "plaintext"),
    ] {
        let mut connection = proxy.echo(&Client::plaintext())?;
        connection.echo(b"again")?;
        let stats = proxy.stats()?;
        let labels = [OUTBOUND, ("security", security)];
        assert_eq!(stats.value(CONNECTIONS, &labels), Some(1.0), "{security}");
        assert_eq!(stats.sum(CONNECTIONS, &[]), 1.0, "{security}");
    }
    Ok(())
}

/// The server's banner is the first byte of all.
#[test]
fn count_outbound_where_the_server_speaks_first() -> Result<()> {
    let pki = Pki::new()?;
    let server = Server::server_first(b"220 ready", Some(pki.server_tls()?))?;
    let sample = pki.sample("upstream.yaml")?;
    let proxy = Proxy::start(sample, ("outbound_tcp", "peer_tcp"), server, 1)?;
    let mut connection = Client::plaintext().tcp(proxy.port)?;
    assert_eq!(connection.receive(9)?, b"220 ready");
    let stats = proxy.stats()?;
    assert_eq!(
        stats.value(CONNECTIONS, &[OUTBOUND, ("security", "mtls")]),
        Some(1.0)
    );
    assert_eq!(stats.sum(CONNECTIONS, &[]), 1.0);
    Ok(())
}

/// Two CAs with one common name, as in a rotation: told apart by their keys.
#[test]
fn count_by_the_ca_that_signed_the_leaf() -> Result<()> {
    let pki = Pki::new()?;
    let proxy = Proxy::tcp(pki.sample("network.yaml")?)?;
    let old = &pki.cas.issuing;
    let new = pki.cas.intermediate.subordinate("Issuing CA").issue()?;
    for (ca, connections) in [(old, 2), (&new, 3)] {
        let client = Client::mtls(&ca.leaf().uri(PAY).issue()?);
        for _ in 0..connections {
            proxy.echo(&client)?;
        }
    }
    let stats = proxy.stats()?;
    for (ca, connections) in [(old, 2.0), (&new, 3.0)] {
        let issuer = ca_label("Issuing CA", ca);
        let counted = stats.value(BY_ISSUER, &[INBOUND, ("issuer", &issuer)]);
        assert_eq!(counted, Some(connections), "{issuer}");
    }
    assert_eq!(stats.series(BY_ISSUER).len(), 2);
    Ok(())
}
