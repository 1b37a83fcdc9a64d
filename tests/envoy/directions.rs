//! Which sides of a listener are inspected: `xds.listener_direction` tells.

use anyhow::Result;
use testbed::servers::ServerTls;
use testbed::{Client, Sample, Server, Stats};

use crate::setup::{CONNECTIONS, INBOUND, OUTBOUND, Pki, Proxy, REQUESTS};
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

/// mTLS on both sides: each direction counts the side that it is about, an unspecified one (a
/// gateway) both. Over HTTP no filter sees the connections to servers.
#[test]
fn decides_whose_certificate_is_inspected() -> Result<()> {
    let pki = Pki::new()?;
    for (direction, inbound, outbound) in [
        ("INBOUND", 1.0, 0.0),
        ("OUTBOUND", 0.0, 1.0),
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

/// A server without TLS is what a gateway usually has behind it, and what no sidecar should have:
/// the one does not count it, the other does.
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

/// An outbound listener's client is the application of this machine: neither with nor without a
/// certificate is it a peer.
#[test]
fn outbound_listeners_do_not_look_at_their_clients() -> Result<()> {
    let pki = Pki::new()?;
    let sample = pki.sample("both.yaml")?.accepting_anonymous();
    let proxy = Proxy::http(sample.replace("traffic_direction", "OUTBOUND"))?;
    proxy.get(&pki.client()?)?;
    proxy.get(&Client::tls())?;
    let stats = proxy.wait_until_closed(2)?;
    assert_eq!(stats.sum(REQUESTS, &[INBOUND]), 0.0);
    assert_eq!(stats.sum(CONNECTIONS, &[INBOUND]), 0.0);
    Ok(())
}
