//! Which sides of a listener are inspected: where TLS ends the client, where TLS begins the server. At an
//! inbound listener it is the client only.

use anyhow::Result;
use testbed::pki::{HOUR, Lifetime};
use testbed::servers::ServerTls;
use testbed::{Client, Sample, Server, Stats};

use crate::setup::{CONNECTIONS, FAILURES, INBOUND, OUTBOUND, Pki, Proxy, REQUESTS};
use crate::variants::Variant;

/// One request through a proxy for HTTP, one connection through one for TCP, and their scrapes.
fn exchange(
    pki: &Pki,
    variant: impl Fn(Sample) -> Sample,
    tls: Option<ServerTls>,
) -> Result<(Stats, Stats)> {
    let way = ("inbound", "app");
    let server = Server::http_echo(tls.clone())?;
    let http = Proxy::start(variant(pki.sample("http.yaml")?), way, server, 1)?;
    http.get(&pki.client()?)?;
    let server = Server::tcp_echo(tls)?;
    let tcp = Proxy::start(variant(pki.sample("network.yaml")?), way, server, 1)?;
    tcp.echo(&pki.client()?)?;
    Ok((http.stats()?, tcp.stats()?))
}

/// mTLS on both sides: an inbound listener counts the client, all others both. Over HTTP no filter sees the
/// connections to servers.
#[test]
fn decides_whose_certificate_is_inspected() -> Result<()> {
    let pki = Pki::new()?;
    for (direction, inbound, outbound) in [
        ("INBOUND", 1.0, 0.0),
        ("OUTBOUND", 1.0, 1.0),
        ("UNSPECIFIED", 1.0, 1.0),
    ] {
        let variant = |sample: Sample| {
            sample
                .mtls_to("app", &pki)
                .replace("traffic_direction", direction)
        };
        let (requests, connections) = exchange(&pki, variant, Some(pki.server_tls()?))?;
        for (side, count) in [(INBOUND, inbound), (OUTBOUND, outbound)] {
            let ok = requests.value(REQUESTS, &[side, ("status", "ok")]);
            assert_eq!(ok, Some(count), "{direction} {side:?}");
            assert_eq!(
                requests.sum(REQUESTS, &[side]),
                count,
                "{direction} {side:?}"
            );
            let mtls = connections.value(CONNECTIONS, &[side, ("security", "mtls")]);
            assert_eq!(mtls, Some(count), "{direction} {side:?}");
            assert_eq!(
                connections.sum(CONNECTIONS, &[side]),
                count,
                "{direction} {side:?}"
            );
        }
    }
    Ok(())
}

/// A server without TLS is what a plain Envoy may have behind it, and what no sidecar should have: the one does
/// not count it, the other does. So does a gateway of Istio's, whose listeners are outbound.
#[test]
fn decides_whether_a_server_without_tls_counts() -> Result<()> {
    let pki = Pki::new()?;
    for (direction, outbound) in [("UNSPECIFIED", 0.0), ("OUTBOUND", 1.0)] {
        let variant = |sample: Sample| sample.replace("traffic_direction", direction);
        let (requests, connections) = exchange(&pki, variant, None)?;
        let labels = [OUTBOUND, ("status", "no_certificate")];
        assert_eq!(
            requests.value(REQUESTS, &labels),
            Some(outbound),
            "{direction}"
        );
        assert_eq!(requests.sum(REQUESTS, &[OUTBOUND]), outbound, "{direction}");
        let labels = [OUTBOUND, ("security", "plaintext")];
        assert_eq!(
            connections.value(CONNECTIONS, &labels),
            Some(outbound),
            "{direction}"
        );
        assert_eq!(
            connections.sum(CONNECTIONS, &[OUTBOUND]),
            outbound,
            "{direction}"
        );
    }
    Ok(())
}

/// An outbound listener's client without TLS is the application of this machine, and no peer.
#[test]
fn outbound_listeners_do_not_look_at_clients_without_tls() -> Result<()> {
    let pki = Pki::new()?;
    let sample = pki.sample("both.yaml")?.plaintext("inbound");
    let proxy = Proxy::http(sample.replace("traffic_direction", "OUTBOUND"))?;
    proxy.get(&Client::plaintext())?;
    let stats = proxy.wait_until_closed(1)?;
    assert_eq!(stats.sum(REQUESTS, &[INBOUND]), 0.0);
    assert_eq!(stats.sum(CONNECTIONS, &[INBOUND]), 0.0);
    assert_eq!(stats.sum(FAILURES, &[]), 0.0);
    Ok(())
}

/// A gateway as istiod configures it, with a server that is ready before the client's handshake is over: it
/// sees good clients and refused ones, and no server of those that were refused.
#[test]
fn a_gateway_sees_its_clients_though_its_listener_is_outbound() -> Result<()> {
    let pki = Pki::new()?;
    let foreign = Pki::new()?;
    let past = Lifetime::from_now(-2 * HOUR, -HOUR);
    let refused = [
        ("expired", Client::mtls(&pki.pay().lifetime(past).issue()?)),
        ("unknown_ca", Client::mtls(&foreign.pay().issue()?)),
        ("no_certificate", Client::tls()),
    ];
    for (file, servers) in [("both.yaml", 0.0), ("network.yaml", 1.0)] {
        let tls = Some(pki.server_tls()?);
        let server = match file {
            "network.yaml" => Server::tcp_echo(tls)?,
            _ => Server::http_echo(tls)?,
        };
        let sample = pki.sample(file)?.mtls_to("app", &pki);
        let sample = sample.replace("traffic_direction", "OUTBOUND");
        let proxy = Proxy::start(sample, ("inbound", "app"), server, 1)?;
        match file {
            "network.yaml" => drop(proxy.echo(&pki.client()?)?),
            _ => drop(proxy.get(&pki.client()?)?),
        }
        for (_, client) in &refused {
            let answer = client
                .tcp(proxy.port)
                .and_then(|mut tcp| tcp.echo(b"hello"));
            assert!(answer.is_err(), "{file}: an answer to a client to refuse");
        }
        let stats = proxy.wait_until_closed(4)?;
        let mtls = |side| stats.sum(CONNECTIONS, &[side, ("security", "mtls")]);
        assert_eq!(mtls(INBOUND), 1.0, "{file}");
        assert_eq!(mtls(OUTBOUND), servers, "{file}");
        assert_eq!(stats.sum(CONNECTIONS, &[]), 1.0 + servers, "{file}");
        for (reason, _) in &refused {
            let labels = [INBOUND, ("reason", reason)];
            assert_eq!(stats.sum(FAILURES, &labels), 1.0, "{file} {reason}");
        }
        assert_eq!(stats.sum(FAILURES, &[]), 3.0, "{file}");
        let ok = |side| stats.sum(REQUESTS, &[side, ("status", "ok")]);
        assert_eq!(
            (ok(INBOUND), ok(OUTBOUND)),
            (1.0 - servers, 1.0 - servers),
            "{file}"
        );
    }
    Ok(())
}

/// Clients that a gateway lets in, for it does not verify them or wants no certificate.
#[test]
fn a_gateway_judges_the_clients_that_it_lets_in() -> Result<()> {
    let pki = Pki::new()?;
    let past = Lifetime::from_now(-2 * HOUR, -HOUR);
    let expired = Client::mtls(&pki.pay().lifetime(past).issue()?);
    let sample = pki.sample("http.yaml")?.accepting_untrusted();
    let sample = sample.accepting_anonymous();
    let proxy = Proxy::http(sample.replace("traffic_direction", "OUTBOUND"))?;
    proxy.get(&expired)?;
    proxy.get(&Client::tls())?;
    let stats = proxy.wait_until_closed(2)?;
    for status in ["expired", "no_certificate"] {
        let labels = [INBOUND, ("status", status)];
        assert_eq!(stats.sum(REQUESTS, &labels), 1.0, "{status}");
    }
    Ok(())
}
