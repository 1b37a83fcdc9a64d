//! Two plugins of this module in one filter chain, as of a mesh's WasmPlugin beside a namespace's.

use anyhow::{Context, Result};
use testbed::{Sample, Server};

use crate::setup::{
    BY_ISSUER, CONNECTIONS, DUPLICATES, FAILURES, INBOUND, INSPECTIONS, Pki, Proxy, REMAINING,
    REQUESTS,
};

const COUNTED_FOR_TWO_CLIENTS: [(&str, f64); 5] = [
    (CONNECTIONS, 2.0),
    (BY_ISSUER, 2.0),
    (REQUESTS, 6.0),
    (FAILURES, 1.0),
    (INSPECTIONS, 2.0),
];

#[test]
fn count_once_in_one_vm() -> Result<()> {
    check(None)
}

#[test]
fn count_once_in_two_vms() -> Result<()> {
    check(Some("another"))
}

fn check(vm_id: Option<&str>) -> Result<()> {
    let pki = Pki::new()?;
    // Network and HTTP filter in one VM read each client once, whichever of two plugins does.
    let both = pki.sample("both.yaml")?;
    let alone = totals(&pki, both.clone())?;
    assert_eq!(alone, COUNTED_FOR_TWO_CLIENTS.map(|(_, value)| value));
    assert_eq!(totals(&pki, both.beside_another(vm_id))?, alone);
    Ok(())
}

/// What two clients with three requests each, and one that is refused, count.
fn totals(pki: &Pki, sample: Sample) -> Result<[f64; 5]> {
    let is_doubled = sample.yaml()?.contains("another");
    let proxy = Proxy::start(sample, ("inbound", "app"), Server::http_echo(None)?, 1)?;
    for _ in 0..2 {
        let mut connection = proxy.open(&pki.client()?)?;
        for _ in 0..3 {
            assert_eq!(connection.get("/", &[])?.status, 200);
        }
    }
    let stranger = Pki::new()?;
    assert!(stranger.client()?.get(proxy.port, "/", &[]).is_err());
    let stats = proxy.wait_until_closed(3)?;
    let count = format!("{REMAINING}_count");
    proxy.wait_for(&count, &[INBOUND], 2.0)?;
    match is_doubled {
        true => proxy.wait_for(DUPLICATES, &[], 1.0)?,
        false => assert_eq!(stats.value(DUPLICATES, &[]), None),
    }
    let totals = COUNTED_FOR_TWO_CLIENTS.map(|(metric, _)| stats.sum(metric, &[]));
    proxy.envoy.stop().context("stop")?;
    Ok(totals)
}
