//! How many time series peers can make.

use std::collections::BTreeSet;

use wasmtime::Result;

use crate::attributes::Attributes;
use crate::host::{Proxy, Worker};
use crate::metrics::not_after;
use crate::pki::{Certificate, issuer_key};

const OVERFLOW: &str = "mtls_watch_series_overflow_total";

/// The identities that have a series of their own, `other` among them.
fn identities(proxy: &Proxy) -> BTreeSet<String> {
    let metrics = proxy.metrics();
    let names = metrics
        .keys()
        .filter(|name| name.contains("layer=.=workload;.;identity="));
    names
        .filter_map(|name| {
            Some(
                name.split_once("identity=.=")?
                    .1
                    .split_once(";.;")?
                    .0
                    .to_owned(),
            )
        })
        .collect()
}

fn meet(worker: &mut Worker, numbers: std::ops::Range<u32>) -> Result<()> {
    for number in numbers {
        let peer = Certificate::workload(&format!("spiffe://d/sa/{number:03}"));
        worker.exchange(&Attributes::http().client(&peer))?;
    }
    worker.tick()
}

#[test]
fn the_identity_beyond_the_cap_shares_a_series() -> Result<()> {
    let proxy = Proxy::new();
    let mut worker = proxy.worker("")?;
    meet(&mut worker, 0..100)?;
    assert_eq!(identities(&proxy).len(), 100);
    assert!(!identities(&proxy).contains("other"));
    assert_eq!(proxy.counter(OVERFLOW), 0);

    meet(&mut worker, 100..101)?;
    assert_eq!(identities(&proxy).len(), 101);
    assert!(proxy.gauge(&not_after("inbound", "other")).is_some());
    assert_eq!(proxy.counter(OVERFLOW), 1);

    meet(&mut worker, 101..120)?;
    assert_eq!(identities(&proxy).len(), 101);
    assert!(proxy.counter(OVERFLOW) > 1);
    Ok(())
}

#[test]
fn the_cap_is_configurable_and_holds_over_all_workers() -> Result<()> {
    let proxy = Proxy::new();
    let mut workers = [
        proxy.worker(r#"{"identity_series": 10}"#)?,
        proxy.worker(r#"{"identity_series": 10}"#)?,
    ];
    meet(&mut workers[0], 0..8)?;
    meet(&mut workers[1], 8..16)?;
    meet(&mut workers[0], 16..20)?;
    let identities = identities(&proxy);
    assert!(identities.contains("other"), "{identities:?}");
    assert!(identities.len() <= 11, "{identities:?}");
    Ok(())
}

#[test]
fn no_identity_shows_when_the_cap_is_0() -> Result<()> {
    let proxy = Proxy::new();
    let mut worker = proxy.worker(r#"{"identity_series": 0}"#)?;
    meet(&mut worker, 0..3)?;
    let metrics = proxy.metrics();
    let named = metrics.keys().find(|name| name.contains("spiffe"));
    assert_eq!(named, None);
    assert_eq!(proxy.total("mtls_requests_total"), 3);
    Ok(())
}

/// A verified peer can still bring a new CA every day.
#[test]
fn issuers_are_capped_as_well() -> Result<()> {
    let proxy = Proxy::new();
    let mut worker = proxy.worker("")?;
    let template = Certificate::workload("spiffe://d/x");
    let key = issuer_key();
    for number in 0..150_u8 {
        let mut other = key.clone();
        other[0] = number;
        let peer = template.patched(&key, &other);
        worker.connection(&Attributes::network().client(&peer))?;
    }
    worker.tick()?;
    let metrics = proxy.metrics();
    let by_issuer = |name: &&String| name.ends_with("mtls_connections_by_issuer_total");
    let issuers = metrics.keys().filter(by_issuer).count();
    assert!((2..=101).contains(&issuers), "{issuers} issuers");
    assert_eq!(proxy.total("mtls_connections_by_issuer_total"), 150);
    assert!(proxy.counter(OVERFLOW) > 0);
    Ok(())
}

/// The cap is on names, not on counting: the stranger's requests are seen as any others.
#[test]
fn a_certificate_of_a_known_identity_is_no_overflow() -> Result<()> {
    let proxy = Proxy::new();
    let mut worker = proxy.worker("")?;
    for _ in 0..3 {
        meet(&mut worker, 0..100)?;
    }
    assert_eq!(proxy.counter(OVERFLOW), 0);
    assert_eq!(identities(&proxy).len(), 100);
    Ok(())
}
