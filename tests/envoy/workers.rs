//! Four worker threads, each with a VM of its own: what they say together.

use std::collections::BTreeSet;

use anyhow::Result;
use testbed::pki::{DAY, Lifetime};
use testbed::{Client, Server, Stats};

use crate::setup::{
    BY_ISSUER, CONNECTIONS, INBOUND, NOT_AFTER, NOT_BEFORE, PAY, Pki, Proxy, REMAINING, REQUESTS,
    ca_label, gauge,
};

const WORKERS: u32 = 4;

fn start(pki: &Pki) -> Result<Proxy> {
    let server = Server::http_echo(None)?;
    Proxy::start(
        pki.sample("both.yaml")?,
        ("inbound", "app"),
        server,
        WORKERS,
    )
}

/// How many workers have taken connections: the system spreads them.
fn busy_workers(stats: &Stats) -> usize {
    let connections = stats.series("envoy_listener_worker_downstream_cx_total");
    let busy = connections.iter().filter(|series| series.value > 0.0);
    busy.map(|series| series.label("envoy_worker_id"))
        .collect::<BTreeSet<_>>()
        .len()
}

/// Replicas of two identities, whose certificates end at different times. Counters add up to the
/// connection; the gauges hold the earliest, whichever worker saw it, and keep it.
#[test]
fn agree_on_the_earliest_and_lose_no_count() -> Result<()> {
    const ROUNDS: u32 = 20;
    let pki = Pki::new()?;
    let proxy = start(&pki)?;
    let other = "spiffe://cluster.local/ns/shop/sa/cart";
    let mut earliest = Vec::new();
    let mut clients = Vec::new();
    for (identity, days) in [(PAY, [30, 50, 40]), (other, [90, 70, 80])] {
        let lifetimes = days.map(|days: i64| Lifetime::from_now(-days * DAY, days * DAY));
        for lifetime in lifetimes {
            let leaf = pki.cas.leaf().uri(identity).lifetime(lifetime);
            clients.push(Client::mtls(&leaf.issue()?));
        }
        let first = lifetimes
            .into_iter()
            .min_by_key(|lifetime| lifetime.not_after);
        earliest.extend(first.map(|lifetime| (identity, lifetime)));
    }
    for _ in 0..ROUNDS {
        for client in &clients {
            let mut connection = proxy.open(client)?;
            connection.get("/", &[])?;
            connection.get("/", &[])?;
        }
    }
    let connections = f64::from(ROUNDS) * clients.len() as f64;
    proxy.wait_for(&format!("{REMAINING}_count"), &[INBOUND], connections)?;
    let stats = proxy.stats()?;
    assert_eq!(busy_workers(&stats), WORKERS as usize);
    assert_eq!(
        stats.value(CONNECTIONS, &[INBOUND, ("security", "mtls")]),
        Some(connections)
    );
    let requests = stats.value(REQUESTS, &[INBOUND, ("status", "ok")]);
    assert_eq!(requests, Some(2.0 * connections));
    let issuer = ca_label("Issuing CA", &pki.cas.issuing);
    assert_eq!(
        stats.value(BY_ISSUER, &[INBOUND, ("issuer", &issuer)]),
        Some(connections)
    );
    for (identity, earliest) in earliest {
        let labels = gauge(INBOUND, "workload", identity);
        assert_eq!(
            stats.value(NOT_AFTER, &labels),
            Some(earliest.not_after as f64)
        );
        assert_eq!(
            stats.value(NOT_BEFORE, &labels),
            Some(earliest.not_before as f64)
        );
    }
    Ok(())
}

/// The limit is one for all workers, and they agree on who has a series of its own.
#[test]
fn share_the_limit_of_identities() -> Result<()> {
    let pki = Pki::new()?;
    let proxy = start(&pki)?;
    let name = |number| format!("spiffe://cluster.local/ns/shop/sa/{number}");
    for number in 0..120 {
        let client = Client::mtls(&pki.cas.leaf().uri(&name(number)).issue()?);
        proxy.get(&client)?;
        proxy.get(&client)?;
    }
    let stats = proxy.stats()?;
    let gauges = stats.series(NOT_AFTER).into_iter();
    let identities: BTreeSet<_> = gauges
        .map(|gauge| gauge.label("identity").to_owned())
        .collect();
    let mut expected: BTreeSet<String> = (0..100).map(name).collect();
    expected.insert("other".to_owned());
    assert_eq!(identities, expected);
    assert!(busy_workers(&stats) > 1);
    Ok(())
}
