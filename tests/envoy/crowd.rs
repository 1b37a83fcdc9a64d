//! A crowd of clients from a trusted CA, each with a certificate and an identity of its own: what it
//! leaves behind is bounded, and nobody else notices.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use testbed::pki::{Key, KeyKind};
use testbed::stats::{DEADLINE, eventually};
use testbed::{Client, Server, load};

use crate::setup::{CONNECTIONS, INBOUND, OVERFLOW, Pki, Proxy, REQUESTS};

/// Threads with a VM each.
const WORKERS: u32 = 2;
/// So many fill the caches of every worker: twice 512 peers, and twice 1024 connections.
const CACHED: u32 = 5000;
/// What Envoy's memory may grow by once the caches are full, in bytes. Without a bound, those of
/// `make hostile` would take 28 MB, by what 2,000 took; tests/module/memory.rs is closer.
const GROWTH: u64 = 2 * 1024 * 1024;
/// Identities with series of their own, by default.
const NAMED: u32 = 100;

/// 6,000 connections; with `FULL=1` 50,000.
#[test]
fn of_trusted_clients_is_bounded_and_harms_nobody() -> Result<()> {
    let full = testbed::is_full();
    let all = if full { 50_000 } else { CACHED + 1000 };
    let pki = Pki::new()?;
    let proxy = Proxy::start(
        pki.sample("both.yaml")?,
        ("inbound", "app"),
        Server::http_echo(None)?,
        WORKERS,
    )?;
    // Before the crowd, so that it is one of the hundred.
    let bystander = pki.client()?;
    let alone = latency(&proxy, &bystander)?;
    let done = AtomicBool::new(false);
    let (before, after, served) = thread::scope(|scope| {
        let bystanding = scope.spawn(|| stand_by(&proxy, &bystander, &done));
        let come = || {
            come(&pki, &proxy, 0..CACHED)?;
            let before = State::of(&proxy, CACHED)?;
            come(&pki, &proxy, CACHED..all)?;
            anyhow::Ok((before, State::of(&proxy, all)?))
        };
        let states = come();
        done.store(true, Ordering::Relaxed);
        let served = bystanding.join().expect("no panic");
        states.and_then(|(before, after)| Ok((before, after, served?)))
    })?;
    let again = latency(&proxy, &bystander)?;
    println!("after {CACHED} certificates: {before:?}");
    println!("after {all} certificates: {after:?}");
    println!(
        "a bystander: {served} requests meanwhile, none failed; median {alone:?} before, {again:?} after"
    );
    assert!(served > 0);
    assert_eq!(after.series, before.series);
    for (memory, before, after) in [
        ("allocated", before.allocated, after.allocated),
        ("resident", before.resident, after.resident),
    ] {
        let growth = after.saturating_sub(before);
        assert!(growth < GROWTH, "{memory}: {before}, then {after}");
    }
    Ok(())
}

/// Clients with these numbers connect, and send a request each.
fn come(pki: &Pki, proxy: &Proxy, numbers: Range<u32>) -> Result<()> {
    let key = Key::generate(KeyKind::P256)?;
    load::crowd(&numbers, |number| {
        let identity = format!("spiffe://cluster.local/ns/crowd/sa/{number}");
        let leaf = pki.cas.leaf().uri(&identity).key(&key).issue()?;
        proxy.get(&Client::mtls(&leaf)).with_context(|| identity)?;
        Ok(())
    })
}

/// Sends requests on one connection until it is over; says how many were answered, which all must be.
fn stand_by(proxy: &Proxy, client: &Client, done: &AtomicBool) -> Result<u32> {
    let mut connection = proxy.open(client)?;
    let mut served = 0;
    while !done.load(Ordering::Relaxed) {
        let status = connection.get("/", &[])?.status;
        ensure!(status == 200, "{status} after {served} requests");
        served += 1;
        thread::sleep(Duration::from_millis(20));
    }
    Ok(served)
}

/// The median of 500 requests.
fn latency(proxy: &Proxy, client: &Client) -> Result<Duration> {
    let mut connection = proxy.open(client)?;
    let mut times = Vec::new();
    for _ in 0..500 {
        let start = Instant::now();
        connection.get("/", &[])?;
        times.push(start.elapsed());
    }
    times.sort();
    Ok(times[times.len() / 2])
}

/// What the proxy has come to; memory in bytes.
#[derive(Debug)]
struct State {
    series: usize,
    allocated: u64,
    resident: u64,
}

impl State {
    /// Once a crowd of this size has come and gone, every one of which is counted.
    fn of(proxy: &Proxy, crowd: u32) -> Result<Self> {
        eventually(DEADLINE, || {
            let stats = proxy.stats()?;
            let open = stats.sum("envoy_listener_downstream_cx_active", &[]);
            ensure!(open <= 1.0, "{open} open beside the bystander's");
            let total = stats.sum("envoy_listener_downstream_cx_total", &[]);
            let mtls = stats.value(CONNECTIONS, &[INBOUND, ("security", "mtls")]);
            ensure!(mtls == Some(total), "{mtls:?} of {total} connections");
            ensure!(stats.sum(CONNECTIONS, &[]) == total);
            let requests = stats.value(REQUESTS, &[INBOUND, ("status", "ok")]);
            ensure!(
                requests == Some(stats.sum(REQUESTS, &[])),
                "{requests:?} are ok"
            );
            // The bystander is one of those with a name.
            let overflow = stats.value(OVERFLOW, &[]).context("not there")?;
            ensure!(
                overflow >= f64::from(crowd - NAMED),
                "{overflow} without a name"
            );
            let series = stats.with_prefix("mtls_").into_iter();
            let identities = series.filter(|series| !series.label("identity").is_empty());
            let mut identities: Vec<_> =
                identities.map(|series| series.label("identity")).collect();
            identities.sort_unstable();
            identities.dedup();
            // And `other`, and the name of the CA that is in the leaves only.
            ensure!(
                identities.len() <= NAMED as usize + 2,
                "{} identities",
                identities.len()
            );
            let allocated = stats.value("envoy_server_memory_allocated", &[]);
            Ok(Self {
                series: stats.count("mtls_"),
                allocated: allocated.context("not there")? as u64,
                resident: proxy.envoy.resident_memory()?,
            })
        })
    }
}
