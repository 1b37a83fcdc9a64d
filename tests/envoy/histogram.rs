//! `mtls_peer_certificate_remaining_seconds`: what a peer's leaf had left, once for each
//! connection, whichever filters see it.
//!
//! Envoy merges the workers' histograms when it is scraped, and shows them at the next scrape: all
//! that was recorded before appears together, so a value that came twice would be seen.

use anyhow::Result;
use testbed::pki::{DAY, Lifetime};
use testbed::{Client, Sample, Server};

use crate::setup::{INBOUND, OUTBOUND, Pki, Proxy, REMAINING};
use crate::variants::Variant;

fn with_days_left(pki: &Pki, days: i64) -> Result<Client> {
    let lifetime = Lifetime::from_now(-9 * DAY, days * DAY + 60);
    Ok(Client::mtls(&pki.pay().lifetime(lifetime).issue()?))
}

/// Waits for so many values in the histogram of a direction.
fn wait_for_count(proxy: &Proxy, direction: (&str, &str), count: f64) -> Result<()> {
    proxy.wait_for(&format!("{REMAINING}_count"), &[direction], count)
}

/// Two connections, of which one carries several requests.
fn two_connections(pki: &Pki, sample: Sample) -> Result<Proxy> {
    let proxy = Proxy::http(sample)?;
    let mut connection = proxy.open(&with_days_left(pki, 5)?)?;
    for _ in 0..3 {
        connection.get("/", &[])?;
    }
    proxy.get(&with_days_left(pki, 10)?)?;
    wait_for_count(&proxy, INBOUND, 2.0)?;
    Ok(proxy)
}

#[test]
fn takes_each_connection_once_whichever_filters_see_it() -> Result<()> {
    let pki = Pki::new()?;
    // Without a network filter, the HTTP filter steps in; network.yaml carries HTTP as bytes.
    for file in ["http.yaml", "network.yaml", "both.yaml"] {
        let proxy = two_connections(&pki, pki.sample(file)?)?;
        let stats = proxy.stats()?;
        let bucket = format!("{REMAINING}_bucket");
        for (le, count) in [("345600", 0.0), ("604800", 1.0), ("1209600", 2.0)] {
            let seen = stats.value(&bucket, &[INBOUND, ("le", le)]);
            assert_eq!(seen, Some(count), "{file} {le}");
        }
        let sum = stats.value(&format!("{REMAINING}_sum"), &[INBOUND]);
        let days = sum.unwrap_or_default() / DAY as f64;
        assert!((days - 15.0).abs() < 1.0, "{file}: {days} days");
        assert_eq!(
            stats.series(&format!("{REMAINING}_count")).len(),
            1,
            "{file}"
        );
    }
    Ok(())
}

/// What has expired has nothing left.
#[test]
fn takes_an_expired_certificate_as_nothing() -> Result<()> {
    let pki = Pki::new()?;
    let proxy = Proxy::tcp(pki.sample("network.yaml")?.accepting_untrusted())?;
    proxy.echo(&with_days_left(&pki, -2)?)?;
    wait_for_count(&proxy, INBOUND, 1.0)?;
    let stats = proxy.stats()?;
    let nothing = [INBOUND, ("le", "1")];
    assert_eq!(
        stats.value(&format!("{REMAINING}_bucket"), &nothing),
        Some(1.0)
    );
    Ok(())
}

/// Servers: at each TCP connection; of requests, which share connections to a server, at each new
/// certificate.
#[test]
fn takes_servers() -> Result<()> {
    let pki = Pki::new()?;
    let tls = || pki.server_tls().map(Some);
    let sample = || pki.sample("upstream.yaml");
    let tcp = Server::tcp_echo(tls()?)?;
    let tcp = Proxy::start(sample()?, ("outbound_tcp", "peer_tcp"), tcp, 1)?;
    let http = Server::http_echo(tls()?)?;
    let http = Proxy::start(sample()?, ("outbound_http", "peer_http"), http, 1)?;
    for _ in 0..2 {
        tcp.echo(&Client::plaintext())?;
        http.get(&Client::plaintext())?;
    }
    wait_for_count(&tcp, OUTBOUND, 2.0)?;
    wait_for_count(&http, OUTBOUND, 1.0)
}
