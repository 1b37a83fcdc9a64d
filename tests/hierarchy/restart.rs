//! A hot restart: for up to 15 minutes a second process has taken over, and Envoy adds the gauges of both.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use testbed::envoy::RESTARTABLE;
use testbed::{Ca, Envoy, Lifetime};

use crate::setup::{Pki, ca_label};
use crate::sidecar::{NOT_AFTER, PRESENT, PROXY, polling, soon, trust};

/// How long both processes run: some polls.
const BOTH: Duration = Duration::from_secs(25);

/// The answers at the five gates of a rotation from one root to another.
fn gates(pki: &Pki, envoy: &Envoy, [old, new]: [&str; 2]) -> Result<Vec<String>> {
    let scrape = pki.directory().join("scrape");
    fs::write(&scrape, envoy.admin_get("/stats/prometheus")?)?;
    let output = mtls_watch_cli::execute([
        "mtls-watch",
        "rotation-status",
        "--format",
        "json",
        "--old",
        old,
        "--new",
        new,
        &scrape.to_string_lossy(),
    ]);
    ensure!(output.code < 2, "{}", output.complaint);
    let report: Value = serde_json::from_str(&output.text)?;
    let gates = report["gates"].as_array().context("gates")?.iter();
    Ok(gates.map(|gate| gate["verdict"].to_string()).collect())
}

/// Dates are doubled, what is there is there twice, and `rotation-status` says the same as before and after.
#[test]
fn doubles_the_gauges_and_changes_no_gate() -> Result<()> {
    let pki = Pki::new()?;
    let (a, b, c) = (
        Ca::root("Root A").issue()?,
        Ca::root("Root B").issue()?,
        Ca::root("Root C").issue()?,
    );
    let lifetime = Lifetime::days(1);
    let leaf = a.leaf().uri(PROXY).lifetime(lifetime).issue()?;
    leaf.write_to(pki.directory())?;
    trust(&pki, [&a, &b])?;
    let bootstrap = polling(&pki)?.remove("stats_flush_on_admin").yaml()?;
    let parent = Envoy::start_with(&bootstrap, 1, &[RESTARTABLE])?;
    let workload = [
        ("layer", "workload"),
        ("secret", "default"),
        ("identity", PROXY),
    ];
    let wait_for = |envoy: &Envoy, present: f64| {
        soon(|| {
            let stats = envoy.stats()?;
            let seen = stats.value(PRESENT, &workload);
            ensure!(seen == Some(present), "{seen:?}");
            let end = stats.value(NOT_AFTER, &workload);
            let expected = lifetime.not_after as f64 * present;
            ensure!(end == Some(expected), "{end:?}, not {expected}");
            Ok(())
        })
    };
    let [a, b, c] =
        [("Root A", &a), ("Root B", &b), ("Root C", &c)].map(|(name, ca)| ca_label(name, ca));
    let asked = |envoy: &Envoy| -> Result<[Vec<String>; 2]> {
        Ok([gates(&pki, envoy, [&a, &b])?, gates(&pki, envoy, [&a, &c])?])
    };
    wait_for(&parent, 1.0)?;
    let before = asked(&parent)?;
    let [trusted, absent] = before.each_ref().map(|gates| gates[0].as_str());
    assert_eq!([trusted, absent], ["\"open\"", "\"unknown\""]);

    let child = parent.restart(&bootstrap, 1, BOTH)?;
    wait_for(&child, 2.0)?;
    assert_eq!(asked(&child)?, before, "while both run");
    wait_for(&child, 1.0)?;
    assert_eq!(asked(&child)?, before, "when one is gone");
    Ok(())
}
