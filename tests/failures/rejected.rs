//! The other side refuses this proxy's certificate: it knows why, and this proxy is told little.

use std::thread;
use std::time::Duration;

use anyhow::Result;
use serde_json::json;
use testbed::pki::{ExtendedKeyUsage, HOUR, LeafBuilder, Lifetime};
use testbed::servers::{ServerTls, Step};
use testbed::{Ca, Client, Hierarchy, Server, TlsVersion, TrustBundle};

use crate::outbound::Outbound;
use crate::setup::{Pki, Proxy, REQUESTS};
use crate::watch::{Failure, Watch, be_refused};

/// How soon an operator sees it.
const SOON: Duration = Duration::from_secs(1);

/// All that the proxy sees is a server that hangs up after a complete handshake.
#[test]
fn by_a_server_in_tls_1_3_is_counted_within_a_second() -> Result<()> {
    let pki = Pki::new()?;
    let strangers = Hierarchy::new()?.trust_bundle();
    let tls = ServerTls::new(&pki.pay().issue()?).requiring_client_certificate(&strangers);
    let server = Server::http_echo(Some(tls.version(TlsVersion::V1_3)))?;
    let proxy = Outbound::start(pki.sample("upstream.yaml")?, server)?;
    let mut watch = Watch::new(&proxy.envoy);
    let talk = |proxy: &Outbound| -> Result<()> {
        let mut connection = Client::plaintext().tcp(proxy.tcp)?;
        // It may be too late for it.
        let _ = connection.send(b"hello");
        connection.closed_by_peer().map(drop)
    };
    for attempt in [Outbound::request_in_vain, Outbound::connect_in_vain, talk] {
        for _ in 0..3 {
            attempt(&proxy)?;
            watch.expect_within(SOON, &by_server("check this proxy's own certificate"))?;
        }
    }
    watch.nothing_else()
}

/// The usual mistake of egress: the server wants a certificate, and the cluster has none.
#[test]
fn by_a_server_that_wants_a_certificate_where_there_is_none() -> Result<()> {
    let pki = Pki::new()?;
    let server = Server::http_echo(Some(pki.server_tls()?.version(TlsVersion::V1_3)))?;
    let sample = pki.sample("upstream.yaml")?.remove("tls_certificates");
    let proxy = Outbound::start(sample, server)?;
    let mut watch = Watch::new(&proxy.envoy);
    let required = Failure::new("outbound none certificate_required").hint(&["certificate"]);
    for _ in 0..3 {
        for attempt in Outbound::IN_VAIN {
            attempt(&proxy)?;
            watch.expect_within(SOON, &required)?;
        }
    }
    let stats = proxy.envoy.stats()?;
    assert_eq!(stats.sum(REQUESTS, &[("status", "refused")]), 3.0);
    assert_eq!(stats.sum(REQUESTS, &[]), 3.0);
    watch.nothing_else()
}

/// Where that is taken for a refusal and is none: a server that dies on the first request of a
/// connection. One that has answered before is not, not even at Envoy's limit of connections, where a request waits for
/// a connection that is there.
#[test]
fn cannot_be_told_from_a_server_that_dies_at_once() -> Result<()> {
    const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    let one_connection = json!({"thresholds": [{"max_connections": 1}]});
    let slowly = Step::Wait(Duration::from_millis(300));
    let pki = Pki::new()?;
    for (steps, statuses, taken) in [
        (&[Step::Receive][..], &[503][..], true),
        (
            &[Step::Receive, slowly, Step::Send(ANSWER), Step::Receive],
            &[200, 503],
            false,
        ),
    ] {
        let tls = pki.server_tls()?.version(TlsVersion::V1_3);
        let sample = pki.sample("upstream.yaml")?;
        let sample = sample.set_in_clusters("circuit_breakers", one_connection.clone());
        let proxy = Outbound::start(sample, Server::script(steps, Some(tls))?)?;
        let mut got = thread::scope(|scope| {
            let request = || proxy.get().map(|response| response.status);
            let requests: Vec<_> = statuses.iter().map(|_| scope.spawn(request)).collect();
            let got = requests.into_iter().map(|request| request.join());
            got.map(|status| status.expect("no panic"))
                .collect::<Result<Vec<_>>>()
        })?;
        got.sort_unstable();
        assert_eq!(got, statuses);
        let mut watch = Watch::new(&proxy.envoy);
        if taken {
            watch.expect(&by_server("look at the other side's log"))?;
        }
        watch.nothing_else()?;
    }
    Ok(())
}

/// Two proxies, as in a mesh: the one that refuses names the other, which learns that it was refused.
#[test]
fn is_told_by_the_proxies_of_both_sides() -> Result<()> {
    let (here, there) = (Pki::new()?, Pki::new()?);
    TrustBundle::of([&here.cas.root, &there.cas.root]).write_to(here.directory())?;
    let server = Proxy::http(there.sample("both.yaml")?)?;
    let envoy = here
        .sample("upstream.yaml")?
        .upstream("peer_http", server.port)
        .start(1)?;
    let response = Client::plaintext().get(envoy.listener_port("outbound_http")?, "/", &[])?;
    assert_eq!(response.status, 503);
    Watch::new(&envoy).expect_within(SOON, &by_server("look at the other side's log"))?;
    let named = r#" identity="spiffe://cluster.local/ns/shop/sa/proxy" issuer="Issuing CA:"#;
    let refused = Failure::new("inbound intermediate_ca unknown_ca").peer(named);
    Watch::new(&server.envoy).expect_within(SOON, &refused)
}

/// During the handshake an alert says more: a server's in TLS 1.2, a client's in any version.
#[test]
fn by_an_alert_is_explained() -> Result<()> {
    let usual = |leaf: LeafBuilder| leaf;
    let expired = |leaf: LeafBuilder| leaf.lifetime(Lifetime::from_now(-2 * HOUR, -HOUR));
    let useless = |leaf: LeafBuilder| leaf.extended_key_usages(&[ExtendedKeyUsage::Any]);
    let pki = Pki::new()?;
    let strange = TrustBundle::of([&Ca::root("Strange Root").issue()?]);
    let own = pki.cas.trust_bundle();
    let app = Server::tcp_echo(None)?;
    let check_usages = "check clientAuth and serverAuth";
    for (certificate, trust, hint) in [
        (usual as fn(_) -> _, strange, "does not trust the CA"),
        (expired, own.clone(), "has expired"),
        (useless, own, check_usages),
    ] {
        let leaf = certificate(pki.cas.leaf().dns("localhost"));
        leaf.issue()?.write_to(pki.directory())?;
        let tls = ServerTls::new(&pki.pay().issue()?).version(TlsVersion::V1_2);
        let server = Server::http_echo(Some(tls.requiring_client_certificate(&trust)))?;
        let sample = pki.sample("sidecar.yaml")?.upstream("app_tcp", app.port());
        let proxy = Outbound::start(sample, server)?;
        let mut watch = Watch::new(&proxy.envoy);
        for attempt in Outbound::IN_VAIN {
            attempt(&proxy)?;
            watch.expect(&by_server(hint))?;
        }
        let client = pki.client()?.verifying(&trust, "localhost");
        for listener in ["inbound_http", "inbound_tcp"] {
            for version in [TlsVersion::V1_2, TlsVersion::V1_3] {
                let port = proxy.envoy.listener_port(listener)?;
                be_refused(&client.clone().version(version), port)?;
                watch.expect(&by_client(hint))?;
            }
        }
        watch.nothing_else()?;
    }
    Ok(())
}

fn by_server(hint: &str) -> Failure {
    Failure::new("outbound none rejected_by_peer").hint(&[hint])
}

fn by_client(hint: &str) -> Failure {
    Failure::new("inbound none rejected_by_peer").hint(&[hint])
}
