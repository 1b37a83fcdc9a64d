//! Old connections: a leaf that its workload has replaced, and a replica whose rotation has stalled.

use std::time::Duration;

use anyhow::{Result, ensure};
use testbed::pki::{DAY, HOUR, Lifetime, now};
use testbed::stats::eventually;
use testbed::{Client, Server};

use crate::setup::{INBOUND, NOT_AFTER, PAY, Pki, Proxy, REQUEST_FINDINGS, REQUESTS, gauge};

/// Ticks of several workers.
const DEADLINE: Duration = Duration::from_secs(30);

/// A leaf of the one workload, with so much left.
fn with_left(pki: &Pki, seconds: i64) -> Result<Client> {
    let lifetime = Lifetime::from_now(-DAY, seconds);
    Ok(Client::mtls(&pki.pay().lifetime(lifetime).issue()?))
}

fn wait_for_left(
    proxy: &Proxy,
    seconds: i64,
    meanwhile: &mut dyn FnMut() -> Result<()>,
) -> Result<()> {
    eventually(DEADLINE, || {
        meanwhile()?;
        let labels = gauge(INBOUND, "workload", PAY);
        let left = proxy.stats()?.value(NOT_AFTER, &labels).unwrap_or(0.0) as i64 - now();
        ensure!(
            (seconds - 60..=seconds).contains(&left),
            "{left} s, not {seconds}"
        );
        Ok(())
    })
}

/// Three replicas behind one identity; with the samples of one filter and of both.
#[test]
fn a_replaced_leaf_leaves_the_gauge_and_a_stalled_replica_stays_in_it() -> Result<()> {
    for sample in ["http.yaml", "both.yaml"] {
        let pki = Pki::new()?;
        let server = Server::http_echo(None)?;
        let proxy = Proxy::start(pki.sample(sample)?, ("inbound", "app"), server, 2)?;
        // The first keeps a connection with its old leaf, which is critical, and has a new one.
        let mut old = proxy.open(&with_left(&pki, 2 * HOUR)?.replica(2))?;
        old.get("/", &[])?;
        wait_for_left(&proxy, 2 * HOUR, &mut || old.get("/", &[]).map(drop))?;
        let renewed = with_left(&pki, 24 * HOUR)?.replica(2);
        proxy.get(&renewed)?;
        proxy.get(&with_left(&pki, 20 * HOUR)?.replica(3))?;
        wait_for_left(&proxy, 20 * HOUR, &mut || old.get("/", &[]).map(drop))?;
        // Its requests keep their status, and the log says that there is nothing to renew.
        let of = |status| [INBOUND, ("status", status)];
        let finding = [INBOUND, ("finding", "connection_outlives_certificate")];
        eventually(DEADLINE, || {
            let before = proxy.stats()?;
            old.get("/", &[])?;
            let stats = proxy.stats()?;
            let grown = |name, labels: &[_]| stats.sum(name, labels) - before.sum(name, labels);
            assert_eq!(grown(REQUESTS, &of("critical")), 1.0);
            ensure!(grown(REQUEST_FINDINGS, &finding) == 1.0, "not known yet");
            Ok(())
        })?;
        let line = proxy
            .envoy
            .wait_for_log("finding=connection_outlives_certificate")?;
        assert!(line.contains(" connection_age="), "{line}");
        // A fourth replica has one connection, begun with a leaf that it does not renew.
        let mut stalled = proxy.open(&with_left(&pki, HOUR)?.replica(4))?;
        stalled.get("/", &[])?;
        proxy.get(&renewed)?;
        wait_for_left(&proxy, HOUR, &mut || {
            old.get("/", &[])?;
            stalled.get("/", &[]).map(drop)
        })?;
    }
    Ok(())
}
