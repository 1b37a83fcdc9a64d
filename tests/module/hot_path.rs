//! What a request costs, and that a status keeps up with the clock.

use std::time::Duration;

use wasmtime::Result;

use crate::attributes::Attributes;
use crate::host::{Proxy, START};
use crate::metrics::series;
use crate::pki::{Certificate, DAY, Leaf};

const PAY: &str = "spiffe://cluster.local/ns/shop/sa/pay";

/// Host calls of one HTTP exchange on a connection whose peer is known. Each is a round trip
/// through the VM's boundary.
const INBOUND_BUDGET: u64 = 4;
/// The server may be another at every request, and may have hung up.
const OUTBOUND_BUDGET: u64 = 6;

fn requests(proxy: &Proxy, status: &str) -> u64 {
    let labels = [("direction", "inbound"), ("status", status)];
    proxy.counter(&series(&labels, "mtls_requests_total"))
}

#[test]
fn the_second_request_of_a_connection_is_cheap() -> Result<()> {
    let proxy = Proxy::new();
    let mut worker = proxy.worker("")?;
    let peer = Certificate::workload(PAY);
    for (budget, attributes) in [
        (INBOUND_BUDGET, Attributes::http().client(&peer)),
        (OUTBOUND_BUDGET, Attributes::http().server(&peer)),
    ] {
        worker.exchange(&attributes)?;
        worker.take_calls();
        worker.exchange(&attributes)?;
        let calls = worker.take_calls();
        let total: u64 = calls.values().sum();
        assert!(total <= budget, "{total} calls, not {budget}: {calls:?}");
    }
    assert_eq!(proxy.total("mtls_requests_total"), 4);
    Ok(())
}

/// A connection's data may come in a thousand pieces.
#[test]
fn data_costs_nothing_once_the_peer_is_known() -> Result<()> {
    let mut worker = Proxy::new().worker("")?;
    let peer = Certificate::workload(PAY);
    let attributes = Attributes::network().client(&peer).server(&peer);
    let connection = worker.open(&attributes.direction(0))?;
    worker.downstream_data(connection)?;
    worker.upstream_data(connection)?;
    worker.take_calls();
    for _ in 0..10 {
        worker.downstream_data(connection)?;
        worker.upstream_data(connection)?;
    }
    assert!(worker.take_calls().is_empty());
    Ok(())
}

#[test]
fn a_certificate_is_parsed_once() -> Result<()> {
    let mut worker = Proxy::new().worker("")?;
    let attributes = Attributes::http().client(&Certificate::workload(PAY));
    for _ in 0..10 {
        worker.exchange(&attributes.clone().reconnected())?;
    }
    let reads = worker.host().reads.get("connection.peer_certificate");
    assert_eq!(reads, Some(&1));
    Ok(())
}

#[test]
fn the_status_moves_with_the_clock_without_another_look_at_the_certificate() -> Result<()> {
    let proxy = Proxy::new();
    let mut worker = proxy.worker("")?;
    // The defaults for a certificate of 90 days: a warning from 21 days on, critical from 7.
    let peer = Leaf::new(PAY).valid(-60 * DAY, 30 * DAY).sign();
    let attributes = Attributes::http().client(&peer);
    for (days, status) in [
        (0, "ok"),
        (8, "ok"),
        (10, "warning"),
        (22, "warning"),
        (24, "critical"),
        (29, "critical"),
        (31, "expired"),
    ] {
        let elapsed = Duration::from_secs(proxy.now() - START);
        let day = Duration::from_secs(days * DAY.unsigned_abs());
        proxy.advance(day - elapsed);
        let before = requests(&proxy, status);
        worker.exchange(&attributes)?;
        assert_eq!(requests(&proxy, status) - before, 1, "on day {days}");
    }
    assert_eq!(proxy.total("mtls_requests_total"), 7);
    let reads = worker.host().reads.get("connection.peer_certificate");
    assert_eq!(reads, Some(&1));
    Ok(())
}

#[test]
fn a_certificate_becomes_valid_in_mid_connection() -> Result<()> {
    let proxy = Proxy::new();
    let mut worker = proxy.worker("")?;
    let peer = Leaf::new(PAY).valid(60, 90 * DAY).sign();
    let attributes = Attributes::http().client(&peer);
    worker.exchange(&attributes)?;
    assert_eq!(requests(&proxy, "not_yet_valid"), 1);
    proxy.advance(Duration::from_secs(61));
    worker.exchange(&attributes)?;
    assert_eq!(requests(&proxy, "ok"), 1);
    Ok(())
}

/// Whatever the peer is remembered by, it is not the lack of it.
#[test]
fn peers_are_told_apart_by_what_there_is() -> Result<()> {
    let healthy = Certificate::workload(PAY);
    let expired = Leaf::new("spiffe://d/other").valid(-DAY, -1).sign();
    for missing in [
        "connection.id",
        "connection.sha256_peer_certificate_digest",
        "nothing",
    ] {
        let proxy = Proxy::new();
        let mut worker = proxy.worker("")?;
        for peer in [&healthy, &expired, &healthy] {
            worker.exchange(&Attributes::http().client(peer).without(missing))?;
        }
        assert_eq!(requests(&proxy, "ok"), 2, "without {missing}");
        assert_eq!(requests(&proxy, "expired"), 1, "without {missing}");
    }
    Ok(())
}
