//! What no certificate tells by itself, on a real Envoy: one that comes from many addresses, and a serial number that
//! two keys have. (This proxy's own, presented by another: `tests/hierarchy`.)

use std::time::Duration;

use anyhow::{Result, ensure};
use testbed::Client;
use testbed::pki::{DAY, HOUR, LeafBuilder, Lifetime};
use testbed::stats::eventually;

use crate::setup::{CONNECTION_FINDINGS, INBOUND, Pki, Proxy, REQUEST_FINDINGS};

/// Where a peer is, is asked once in five seconds.
const DEADLINE: Duration = Duration::from_secs(60);

const LAST_TICK: &str = "mtls_watch_last_tick_timestamp_seconds";

fn found(finding: &str) -> [(&'static str, &str); 3] {
    [INBOUND, ("layer", "workload"), ("finding", finding)]
}

/// By both filters, once there are more replicas than configured; before that by none.
#[test]
fn replicas_that_share_a_certificate() -> Result<()> {
    let pki = Pki::new()?;
    let sample = pki.sample("both.yaml")?;
    let proxy = Proxy::http(sample.configuration(r#"{"certificate_addresses": 3}"#))?;
    let shared = pki.client()?;
    // As many, each with a certificate of its own.
    let others: Vec<Client> = (1..=4).map(|_| pki.client()).collect::<Result<_>>()?;
    let connect = |number: u8| -> Result<()> {
        proxy.get(&shared.clone().replica(number))?;
        proxy.get(&others[usize::from(number) - 1].clone().replica(number))?;
        Ok(())
    };
    let last_tick = || Ok::<_, anyhow::Error>(proxy.stats()?.sum(LAST_TICK, &[]));
    // The hour in which addresses are counted begins with the first.
    let mut tick = eventually(DEADLINE, || {
        let tick = last_tick()?;
        ensure!(tick > 0.0, "no tick");
        Ok(tick)
    })?;
    for number in 1..=3 {
        // Two ticks: at least five seconds.
        tick = eventually(DEADLINE, || {
            connect(number)?;
            let now = last_tick()?;
            ensure!(now >= tick + 9.0, "{} s", now - tick);
            Ok(now)
        })?;
    }
    for metric in [CONNECTION_FINDINGS, REQUEST_FINDINGS] {
        assert_eq!(proxy.stats()?.sum(metric, &[]), 0.0);
    }
    let stats = eventually(DEADLINE, || {
        connect(4)?;
        let stats = proxy.stats()?;
        for metric in [CONNECTION_FINDINGS, REQUEST_FINDINGS] {
            let sum = stats.sum(metric, &found("certificate_shared"));
            ensure!(sum > 0.0, "{metric}");
        }
        Ok(stats)
    })?;
    let all = stats.sum(CONNECTION_FINDINGS, &[]);
    assert_eq!(
        all,
        stats.sum(CONNECTION_FINDINGS, &found("certificate_shared"))
    );
    Ok(())
}

#[test]
fn two_keys_with_one_serial_number() -> Result<()> {
    let pki = Pki::new()?;
    let proxy = Proxy::http(pki.sample("both.yaml")?)?;
    let of = |leaf: LeafBuilder| Ok::<_, anyhow::Error>(Client::mtls(&leaf.issue()?));
    let month = Lifetime::from_now(-HOUR, 30 * DAY);
    let numbered = |number| of(pki.pay().lifetime(month).serial_number(&[number]));
    // As Linkerd numbers its leaves, after each start anew.
    let counted = |number| of(pki.pay().serial_number(&[number]));
    for client in [counted(5)?, counted(6)?, counted(5)?] {
        proxy.get(&client)?;
    }
    let (one, other, again) = (numbered(1)?, numbered(2)?, numbered(1)?);
    for client in [&one, &other, &one] {
        proxy.get(client)?;
    }
    assert_eq!(proxy.stats()?.sum(REQUEST_FINDINGS, &[]), 0.0);
    for client in [&again, &one, &other] {
        proxy.get(client)?;
    }
    let stats = proxy.stats()?;
    for metric in [CONNECTION_FINDINGS, REQUEST_FINDINGS] {
        assert_eq!(stats.sum(metric, &found("serial_reused")), 2.0, "{metric}");
        assert_eq!(stats.sum(metric, &[]), 2.0, "{metric}");
    }
    Ok(())
}
