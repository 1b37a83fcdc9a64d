//! `mtls_requests_total`: each request once, by how its peer stands at that moment.

use std::time::Duration;

use anyhow::{Result, ensure};
use testbed::Client;
use testbed::pki::{DAY, HOUR, Lifetime};
use testbed::stats::eventually;

use crate::setup::{
    CONNECTIONS, Counted, INBOUND, INSPECTIONS, OUTBOUND, PAY, Pki, Proxy, REQUEST_FINDINGS,
    REQUESTS,
};
use crate::variants::Variant;

/// Each status that a certificate's age can give, besides the one without a certificate. Envoy
/// refuses the certificates of two of them, unless told not to verify.
#[test]
fn count_by_the_status_of_the_client() -> Result<()> {
    let pki = Pki::new()?;
    let sample = pki.sample("http.yaml")?;
    let proxy = Proxy::http(sample.accepting_untrusted().accepting_anonymous())?;
    let aged = |from, to| {
        let leaf = pki.pay().lifetime(Lifetime::from_now(from * DAY, to * DAY));
        leaf.issue().map(|leaf| Client::mtls(&leaf))
    };
    for (status, client) in [
        ("ok", aged(-60, 30)?),
        ("warning", aged(-70, 20)?),
        ("critical", aged(-84, 6)?),
        ("expired", aged(-90, -1)?),
        ("not_yet_valid", aged(1, 90)?),
        ("no_certificate", Client::tls()),
    ] {
        let counted = Counted::by(&proxy.envoy, || {
            let mut connection = proxy.open(&client)?;
            connection.get("/", &[])?;
            connection.get("/", &[])?;
            Ok(())
        })?;
        let labels = [INBOUND, ("status", status)];
        assert_eq!(counted.sum(REQUESTS, &labels), 2.0, "{status}");
        assert_eq!(counted.sum(REQUESTS, &[]), 2.0, "{status}");
    }
    // There is no network filter here to see the connections.
    assert_eq!(proxy.stats()?.sum(CONNECTIONS, &[]), 0.0);
    Ok(())
}

/// The same connection, request after request, as its certificate comes of age and expires; the
/// certificate is read but once.
#[test]
fn follow_a_certificate_that_expires_on_an_open_connection() -> Result<()> {
    let pki = Pki::new()?;
    let sample = pki
        .sample("http.yaml")?
        .configuration(r#"{"thresholds": {"workload": {"warning": "6s", "critical": "3s"}}}"#);
    let proxy = Proxy::http(sample)?;
    let leaf = pki.pay().lifetime(Lifetime::from_now(-HOUR, 9)).issue()?;
    let mut connection = proxy.open(&Client::mtls(&leaf))?;
    let stats = eventually(Duration::from_secs(30), || {
        let response = connection.get("/", &[])?;
        ensure!(response.status == 200, "{}", response.status);
        let stats = proxy.stats()?;
        let expired = stats.value(REQUESTS, &[INBOUND, ("status", "expired")]);
        ensure!(expired > Some(0.0), "has not expired");
        Ok(stats)
    })?;
    for (status, finding) in [
        ("warning", "expires_warning"),
        ("critical", "expires_critical"),
        ("expired", "expired"),
    ] {
        let requests = stats.value(REQUESTS, &[INBOUND, ("status", status)]);
        let labels = [INBOUND, ("layer", "workload"), ("finding", finding)];
        assert!(requests > Some(0.0), "{status}");
        assert_eq!(stats.value(REQUEST_FINDINGS, &labels), requests, "{status}");
    }
    assert!(stats.value(REQUESTS, &[INBOUND, ("status", "ok")]) > Some(0.0));
    assert_eq!(stats.sum(INSPECTIONS, &[]), 1.0);
    assert_eq!(stats.sum("envoy_listener_downstream_cx_total", &[]), 1.0);
    Ok(())
}

/// A certificate is there, but no source gives it: neither a guess nor silence.
#[test]
fn count_a_certificate_that_no_source_gives_as_unreadable() -> Result<()> {
    for source in ["filter_state", "xfcc"] {
        let pki = Pki::new()?;
        let sample = pki.sample("http.yaml")?;
        let sources = format!(r#"{{"certificate_sources": ["{source}"]}}"#);
        let proxy = Proxy::http(sample.configuration(&sources))?;
        proxy.get(&pki.client()?)?;
        let stats = proxy.stats()?;
        let layer = ("layer", "workload");
        for (name, labels) in [
            (REQUESTS, vec![INBOUND, ("status", "unreadable")]),
            (
                REQUEST_FINDINGS,
                vec![INBOUND, layer, ("finding", "unreadable")],
            ),
            (
                INSPECTIONS,
                vec![("source", source), ("result", "unreadable")],
            ),
        ] {
            assert_eq!(stats.value(name, &labels), Some(1.0), "{source} {name}");
            assert_eq!(stats.sum(name, &[]), 1.0, "{source} {name}");
        }
    }
    Ok(())
}

/// The server's certificate, requests to it: the other direction. One connection to the server
/// carries all of them.
#[test]
fn count_by_the_status_of_the_server() -> Result<()> {
    let pki = Pki::new()?;
    let proxy = Proxy::start(
        pki.sample("upstream.yaml")?,
        ("outbound_http", "peer_http"),
        testbed::Server::http_echo(Some(pki.server_tls()?))?,
        1,
    )?;
    for _ in 0..3 {
        proxy.get(&Client::plaintext())?;
    }
    let stats = proxy.stats()?;
    assert_eq!(
        stats.value(REQUESTS, &[OUTBOUND, ("status", "ok")]),
        Some(3.0)
    );
    assert_eq!(stats.sum(REQUESTS, &[]), 3.0);
    let identity = [OUTBOUND, ("identity", PAY)];
    assert!(stats.value(crate::setup::NOT_AFTER, &identity).is_some());
    Ok(())
}
