//! Several worker threads of one proxy, each with a VM of its own, agreeing on one gauge.

use std::time::Duration;

use wasmtime::Result;

use crate::attributes::Attributes;
use crate::host::Proxy;
use crate::metrics::not_after;
use crate::pki::{Certificate, DAY, Leaf};

const PAY: &str = "spiffe://cluster.local/ns/shop/sa/pay";
const MINUTE: Duration = Duration::from_secs(60);

/// Certificates of one identity: an old one that ends soon, and the one that replaces it.
fn generations() -> (Certificate, Certificate) {
    let old = Leaf::new(PAY).valid(-60 * DAY, 30 * DAY).sign();
    let new = Leaf::new(PAY).valid(-DAY, 89 * DAY).sign();
    (old, new)
}

fn shown_by(certificate: &Certificate) -> Attributes {
    Attributes::network().client(certificate)
}

fn gauge(proxy: &Proxy) -> Option<u64> {
    proxy.gauge(&not_after("inbound", PAY))
}

#[test]
fn the_gauge_is_the_earliest_over_all_workers_whoever_writes_last() -> Result<()> {
    let (old, new) = generations();
    for order in [[&old, &new], [&new, &old]] {
        let proxy = Proxy::new();
        let mut workers = [proxy.worker("")?, proxy.worker("")?];
        for (worker, certificate) in workers.iter_mut().zip(order) {
            worker.connection(&shown_by(certificate))?;
        }
        for writer in [0, 1, 0] {
            workers[writer].tick()?;
            assert_eq!(gauge(&proxy), Some(old.not_after));
        }
    }
    Ok(())
}

#[test]
fn the_gauge_recovers_when_the_old_certificate_is_no_longer_seen() -> Result<()> {
    let (old, new) = generations();
    let proxy = Proxy::new();
    let mut workers = [proxy.worker("")?, proxy.worker("")?];
    workers[0].connection(&shown_by(&old))?;
    for minute in 0..40 {
        workers[1].connection(&shown_by(&new))?;
        for worker in &mut workers {
            worker.tick()?;
        }
        let expected = match minute {
            0..14 => Some(old.not_after),
            17.. => Some(new.not_after),
            // When exactly a quarter of an hour is over is the module's own business.
            _ => gauge(&proxy),
        };
        assert_eq!(gauge(&proxy), expected, "after {minute} minutes");
        proxy.advance(MINUTE);
    }
    Ok(())
}

/// Both still in use, one on each worker: the old one must not drop out.
#[test]
fn the_gauge_stays_with_an_old_certificate_that_is_still_seen() -> Result<()> {
    let (old, new) = generations();
    let proxy = Proxy::new();
    let mut workers = [proxy.worker("")?, proxy.worker("")?];
    for _ in 0..40 {
        workers[0].connection(&shown_by(&old))?;
        workers[1].connection(&shown_by(&new))?;
        for worker in &mut workers {
            worker.tick()?;
        }
        assert_eq!(gauge(&proxy), Some(old.not_after));
        proxy.advance(MINUTE);
    }
    Ok(())
}

#[test]
fn counters_of_all_workers_add_up() -> Result<()> {
    let (old, new) = generations();
    let proxy = Proxy::new();
    let mut workers = [proxy.worker("")?, proxy.worker("")?];
    for worker in &mut workers {
        worker.connection(&shown_by(&old))?;
        worker.connection(&shown_by(&new))?;
    }
    assert_eq!(proxy.total("mtls_connections_total"), 4);
    Ok(())
}

/// A worker may die with the lease on what workers take turns at.
#[test]
fn a_dead_worker_leaves_nothing_undone() -> Result<()> {
    let (old, new) = generations();
    let proxy = Proxy::new();
    let mut survivor = proxy.worker("")?;
    let mut doomed = proxy.worker("")?;
    doomed.connection(&shown_by(&old))?;
    doomed.tick()?;
    drop(doomed);
    for _ in 0..40 {
        survivor.connection(&shown_by(&new))?;
        survivor.tick()?;
        proxy.advance(MINUTE);
    }
    assert_eq!(gauge(&proxy), Some(new.not_after));
    Ok(())
}

/// Somebody else's garbage under our keys, or a key written by another version.
#[test]
fn garbage_in_shared_data_does_no_harm() -> Result<()> {
    let (old, new) = generations();
    for garbage in [&b""[..], b"\xff", b"{}", &[0xff; 24], &[b'9'; 65_536]] {
        let proxy = Proxy::new();
        let mut worker = proxy.worker("")?;
        worker.connection(&shown_by(&old))?;
        worker.tick()?;
        proxy.overwrite_shared_data(garbage);
        worker.connection(&shown_by(&new))?;
        worker.tick()?;
        let gauge = gauge(&proxy);
        assert!(
            gauge == Some(old.not_after) || gauge == Some(new.not_after),
            "{gauge:?}"
        );
    }
    Ok(())
}
