//! Whoever is refused makes no series, fills no log and takes no memory, however many come.

use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use testbed::pki::{HOUR, Key, KeyKind, LeafBuilder, Lifetime};
use testbed::stats::{DEADLINE, eventually};
use testbed::{Ca, Client, Identity, Server, load};

use crate::setup::{Pki, Proxy};
use crate::watch::{Counts, Failure, be_refused, counts, lines};

/// Threads with a VM each.
const WORKERS: u32 = 2;
/// Lines that each worker may log in a minute.
const LINES: u32 = 60;
/// What Envoy's memory may grow by, in bytes, once a tenth of the strangers have come. The certificates
/// of 10,000 would take several times as much.
const GROWTH: f64 = 1024.0 * 1024.0;

/// Some that sign themselves, some of an unknown CA, some whose certificates have expired, each with an
/// identity of its own: 2,100 of them, or 10,500 with `FULL=1`, which also waits for the minute to end in
/// which log lines were left out.
#[test]
fn make_no_series_fill_no_log_and_take_no_memory() -> Result<()> {
    let full = testbed::is_full();
    let (waves, of_each_kind) = (10, if full { 350 } else { 70 });
    let pki = Pki::new()?;
    let server = Server::tcp_echo(None)?;
    let sample = pki.sample("network.yaml")?;
    let proxy = Proxy::start(sample, ("inbound", "app"), server, WORKERS)?;
    let strangers = Strangers::new(&pki)?;
    let began = Instant::now();
    strangers.come(&proxy, 0..of_each_kind)?;
    let before = State::after(&proxy, of_each_kind)?;
    for wave in 1..waves {
        strangers.come(&proxy, wave * of_each_kind..(wave + 1) * of_each_kind)?;
    }
    let after = State::after(&proxy, waves * of_each_kind)?;
    println!("after {} strangers: {before:?}", of_each_kind * KINDS);
    println!(
        "after {} strangers: {after:?}",
        waves * of_each_kind * KINDS
    );
    assert_eq!(after.series, before.series);
    assert_eq!(after.named, 0, "series with a name in them");
    for (memory, before, after) in [
        ("allocated", before.allocated, after.allocated),
        ("resident", before.resident, after.resident),
    ] {
        assert!(after - before < GROWTH, "{memory}: {before}, then {after}");
    }
    let minutes = began.elapsed().as_secs() as u32 / 60 + 1;
    let logged = lines(&proxy.envoy.log()).len() as u32;
    assert!(
        logged <= LINES * WORKERS * minutes,
        "{logged} lines in {minutes} min"
    );
    if full {
        let left_out = waves * of_each_kind * KINDS - logged;
        eventually(Duration::from_secs(90), || {
            let log = proxy.envoy.log();
            ensure!(suppressed(&log)? == left_out, "{:?}", log.lines().last());
            Ok(())
        })?;
    }
    Ok(())
}

/// How many lines the log says were left out.
fn suppressed(log: &str) -> Result<u32> {
    let counts = log
        .lines()
        .filter_map(|line| line.split("log lines suppressed count=").nth(1));
    let counts = counts.map(|count| count.trim().parse::<u32>());
    Ok(counts.sum::<Result<u32, _>>()?)
}

/// How many there are in [`Strangers::of_each_kind`].
const KINDS: u32 = 3;

/// Why each kind is refused.
fn failures() -> [Failure; KINDS as usize] {
    [
        Failure::new("inbound workload unknown_ca"),
        Failure::new("inbound workload expired"),
        Failure::new("inbound workload self_signed")
            .peer("itself")
            .unseen("inbound workload unknown_ca"),
    ]
}

struct Strangers {
    strange: Ca,
    trusted: Ca,
    key: Key,
}

impl Strangers {
    fn new(pki: &Pki) -> Result<Self> {
        Ok(Self {
            strange: Ca::root("Strange CA").issue()?,
            trusted: pki.cas.issuing.clone(),
            key: Key::generate(KeyKind::P256)?,
        })
    }

    fn of_each_kind(&self, number: u32) -> Result<[Identity; KINDS as usize]> {
        let expired = Lifetime::from_now(-2 * HOUR, -HOUR);
        let issue = |leaf: LeafBuilder, kind: &str| {
            let identity = format!("spiffe://{kind}/{number}");
            leaf.uri(&identity).key(&self.key).issue()
        };
        Ok([
            issue(self.strange.leaf(), "strange")?,
            issue(self.trusted.leaf().lifetime(expired), "expired")?,
            issue(LeafBuilder::self_signed(), "itself")?,
        ])
    }

    /// Those with these numbers try to connect, several at a time.
    fn come(&self, proxy: &Proxy, numbers: Range<u32>) -> Result<()> {
        load::crowd(&numbers, |number| {
            for stranger in self.of_each_kind(number)? {
                be_refused(&Client::mtls(&stranger), proxy.port)?;
            }
            Ok(())
        })
    }
}

/// What the proxy has come to; memory in bytes.
#[derive(Debug)]
struct State {
    series: usize,
    named: usize,
    allocated: f64,
    resident: f64,
}

impl State {
    /// Once so many strangers of each kind were refused.
    fn after(proxy: &Proxy, strangers: u32) -> Result<Self> {
        let mut expected = Counts::new();
        for told in failures().iter().filter_map(Failure::told) {
            *expected.entry(told).or_default() += f64::from(strangers);
        }
        eventually(DEADLINE, || {
            let stats = proxy.stats()?;
            let counts = counts(&stats);
            ensure!(counts == expected, "{counts:?}");
            // The series of the heartbeat come with the first tick, whoever connects.
            let heartbeat = stats.value("mtls_watch_workers", &[]);
            ensure!(heartbeat.is_some(), "no tick yet");
            let open = stats.sum("envoy_listener_downstream_cx_active", &[]);
            ensure!(open == 0.0, "{open} open");
            let series = stats.with_prefix("mtls_");
            let named = series.iter().filter(|s| {
                ["identity", "issuer"]
                    .iter()
                    .any(|label| !s.label(label).is_empty())
            });
            let allocated = stats.value("envoy_server_memory_allocated", &[]);
            Ok(Self {
                series: series.len(),
                named: named.count(),
                allocated: allocated.context("not there")?,
                resident: proxy.envoy.resident_memory()? as f64,
            })
        })
    }
}
