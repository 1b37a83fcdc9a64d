//! A sidecar that polls its own hierarchy, and what it says of it.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::fs;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use testbed::sample::yaml;
use testbed::stats::{Series, eventually};
use testbed::{Ca, Envoy, Sample, Server, Stats, TrustBundle};

use crate::setup::{Pki, Proxy};

/// Polls at every tick.
pub const POLLING: &str =
    r#"{"hierarchy": {"admin_cluster": "prometheus_stats", "interval": "5s"}, "log_repeat": "0s"}"#;

/// The identity of the sidecar.
pub const PROXY: &str = "spiffe://cluster.local/ns/shop/sa/proxy";

pub const NOT_AFTER: &str = "mtls_own_certificate_not_after_timestamp_seconds";
pub const NOT_BEFORE: &str = "mtls_own_certificate_not_before_timestamp_seconds";
pub const PRESENT: &str = "mtls_own_certificate_present";
pub const FINDINGS: &str = "mtls_own_findings";
pub const TRUSTED: &str = "mtls_trust_bundle_ca";
pub const POLLS: &str = "mtls_watch_hierarchy_polls_total";

/// Several ticks, on a machine that is busy with other tests.
const DEADLINE: Duration = Duration::from_secs(40);

/// Tries until it succeeds.
pub fn soon<T>(attempt: impl FnMut() -> Result<T>) -> Result<T> {
    eventually(DEADLINE, attempt)
}

/// The sidecar of the samples, which polls.
pub fn polling(pki: &Pki) -> Result<Sample> {
    Ok(pki.sample("sidecar.yaml")?.configuration(POLLING))
}

/// A sidecar whose listener `inbound_tcp` waits for an own certificate of this name, which nobody supplies.
pub fn waiting_for(pki: &Pki, secret: &str) -> Result<Sample> {
    let empty = pki.directory().join("never.yaml");
    fs::write(&empty, "resources: []\n")?;
    let context = yaml(json!([{
        "name": secret,
        "sds_config": {"path_config_source": {"path": empty}, "initial_fetch_timeout": "1s"},
    }]));
    Ok(polling(pki)?.edit(|node| {
        if node.get("filter_chains").is_some() && node["name"] == "inbound_tcp" {
            let socket = &mut node["filter_chains"][0]["transport_socket"];
            socket["typed_config"]["common_tls_context"]["tls_certificate_sds_secret_configs"] =
                context.clone();
        }
    }))
}

/// Starts a sidecar before an HTTP service.
pub fn start(sample: Sample, workers: u32) -> Result<Proxy> {
    let app = ("inbound_http", "app_http");
    Proxy::start(sample, app, Server::http_echo(None)?, workers)
}

/// Replaces the trust bundle.
pub fn trust<'a>(pki: &Pki, cas: impl IntoIterator<Item = &'a Ca>) -> Result<()> {
    TrustBundle::of(cas).write_to(pki.directory()).map(drop)
}

/// Values of a metric, by its other labels joined with a space.
pub type Rows = BTreeMap<String, f64>;

/// All series of a metric; labels in the order given.
pub fn rows(stats: &Stats, name: &str, labels: &[&str]) -> Rows {
    let key = |series: &Series| {
        let values: Vec<&str> = labels.iter().map(|label| series.label(label)).collect();
        values.join(" ")
    };
    let series = stats.series(name).into_iter();
    series.map(|series| (key(series), series.value)).collect()
}

/// All series of a metric of own certificates.
pub fn certificates(stats: &Stats, name: &str) -> Rows {
    rows(stats, name, &["layer", "secret", "identity"])
}

/// What is wrong with own certificates, zeroes left out.
pub fn findings(stats: &Stats) -> Rows {
    let mut findings = rows(stats, FINDINGS, &["layer", "secret", "finding"]);
    findings.retain(|_, value| *value != 0.0);
    findings
}

/// Waits until `look` sees this.
pub fn wait_until<T: PartialEq + Debug>(
    envoy: &Envoy,
    expected: &T,
    look: impl Fn(&Stats) -> T,
) -> Result<Stats> {
    soon(|| {
        let stats = envoy.stats()?;
        let seen = look(&stats);
        ensure!(seen == *expected, "{seen:#?}, not {expected:#?}");
        Ok(stats)
    })
}

/// How many polls came to this.
pub fn polls(stats: &Stats, result: &str) -> f64 {
    stats.sum(POLLS, &[("result", result)])
}

/// Waits for so many more polls to succeed.
pub fn wait_for_polls(envoy: &Envoy, more: f64) -> Result<Stats> {
    let before = polls(&envoy.stats()?, "ok");
    soon(|| {
        let stats = envoy.stats()?;
        let ok = polls(&stats, "ok");
        ensure!(ok >= before + more, "{ok} polls");
        Ok(stats)
    })
}

/// Runs each case in a thread of its own: what takes time is waiting for ticks.
pub fn each<T: Sync>(cases: &[(&str, T)], test: impl Fn(&T) -> Result<()> + Sync) -> Result<()> {
    thread::scope(|scope| {
        let test = &test;
        let threads: Vec<_> = cases
            .iter()
            .map(|(name, case)| (name, scope.spawn(move || test(case))))
            .collect();
        let mut results = threads.into_iter().map(|(name, thread)| {
            let result = thread.join().expect("no panic");
            result.with_context(|| (*name).to_owned())
        });
        results.try_for_each(|result| result)
    })
}
