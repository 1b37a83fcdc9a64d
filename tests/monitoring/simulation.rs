//! A simulated week of each common issuer (`make soak-alerts`; two of them, for two days, in `make test`), in which no alert may fire: daily deploys, failed scrapes, an outage of
//! Prometheus, a drained node, addresses that are used again. Then its rotation stops, and that must be told well before
//! the end.

use std::fmt::Write as _;
use std::fs;

use serde_json::{Value, json};
use testbed::is_full;
use testbed::prometheus::promtool;

use crate::files::{PROMETHEUS, RULES, yaml};

const MINUTE: i64 = 60;
const HOUR: i64 = 3600;
const DAY: i64 = 86_400;
const WEEK: i64 = 7 * DAY;
/// In which a counter that is there from the beginning is no news any more.
const SETTLED: i64 = 2 * HOUR;
const STRICT_NAMES: &str = "strict-names.example.yaml";
/// Of a rotation whose CAs are named: none is here, and to look back seven days at every step takes minutes.
const OF_NAMED_CAS: &str = "mtls-watch-rotation";
/// Groups in the order in which one reads what the other has recorded.
const ORDER: [&str; 10] = [
    "mtls-watch-strict-names",
    "mtls-watch-certificates",
    "mtls-watch-expiry",
    "mtls-watch-findings",
    "mtls-watch-handshakes",
    "mtls-watch-hierarchy",
    "mtls-watch-cardinal-rule",
    "mtls-watch-old-ca",
    "mtls-watch-blind-spots",
    "mtls-watch-health",
];
const IDENTITY: &str = "spiffe://cluster.local/ns/shop/sa/web";

/// How a certificate comes and goes.
struct Issuer {
    name: &'static str,
    lifetime: i64,
    /// Renewed when between these shares of the lifetime have passed, in percent.
    renews: [i64; 2],
    /// Of the lifetime that has passed when the week begins, in percent.
    begins_at: i64,
}

const fn issuer(name: &'static str, lifetime: i64, renews: [i64; 2]) -> Issuer {
    Issuer {
        name,
        lifetime,
        renews,
        begins_at: 0,
    }
}

const ISSUERS: [Issuer; 8] = [
    issuer("istio", DAY, [50, 50]),
    issuer("spire", HOUR, [50, 50]),
    issuer("step-ca", DAY, [66, 67]),
    issuer("cert-manager", HOUR, [66, 67]),
    issuer("linkerd", DAY, [70, 70]),
    issuer("kuma", DAY, [80, 80]),
    issuer("consul", 3 * DAY, [60, 90]),
    // As cert-manager does it by default. The week in which it is renewed.
    Issuer {
        begins_at: 64,
        ..issuer("cert-manager-90d", 90 * DAY, [66, 67])
    },
];

impl Issuer {
    /// All is well. A sample stands for those of many scrapes: what is looked back to is longer than that.
    fn healthy(&self, days: i64) -> Run<'_> {
        Run {
            issuer: self,
            step: if self.lifetime < DAY {
                5 * MINUTE
            } else {
                10 * MINUTE
            },
            stops: i64::MAX,
            ends: days * DAY,
            days,
        }
    }

    /// After some renewals there are no more. `None` for what lives for months, which is not waited for.
    fn stopped(&self) -> Option<Run<'_>> {
        let stops = 3 * self.lifetime;
        (self.lifetime < WEEK).then(|| Run {
            issuer: self,
            step: self.lifetime / 120,
            stops,
            ends: stops + self.lifetime,
            days: 7,
        })
    }
}

/// What is simulated of an issuer.
#[derive(Clone, Copy)]
struct Run<'a> {
    issuer: &'a Issuer,
    /// Between two scrapes, and two evaluations.
    step: i64,
    /// When rotation stops.
    stops: i64,
    ends: i64,
    /// In which everything happens that happens in a week.
    days: i64,
}

impl Run<'_> {
    /// When two sevenths of the days are over, and so on.
    fn after(self, sevenths: i64) -> i64 {
        self.days * DAY / 7 * sevenths / MINUTE * MINUTE
    }

    /// Prometheus is away.
    fn outage(self) -> std::ops::Range<i64> {
        self.after(2)..self.after(2) + 20 * MINUTE
    }

    /// A container restarts: its counters begin again.
    fn restart(self) -> i64 {
        self.after(3) + 7 * HOUR
    }

    fn times(self) -> impl Iterator<Item = i64> {
        (0..=self.ends).step_by(usize::try_from(self.step).unwrap())
    }
}

/// The same numbers at every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: i64) -> i64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        i64::try_from(self.0 >> 33)
            .unwrap()
            .rem_euclid(bound.max(1))
    }
}

/// What Prometheus has of a series at the time of a scrape.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sample {
    Value(i64),
    /// The marker that it writes when a scrape fails, or a target is gone.
    Stale,
    /// Not even that: it was not there.
    Missing,
}

/// The samples in promtool's notation.
fn notation(samples: &[Sample]) -> String {
    let mut text = String::new();
    for run in samples.chunk_by(|a, b| a == b) {
        // Writing to a String cannot fail.
        let _ = match run[0] {
            Sample::Value(value) => write!(text, "{value}x{} ", run.len() - 1),
            Sample::Stale => write!(text, "{}", "stale ".repeat(run.len())),
            Sample::Missing => write!(text, "_x{} ", run.len()),
        };
    }
    text
}

/// A pod: a workload's replica with its proxy, which has the module.
struct Pod {
    name: String,
    address: &'static str,
    lives: [i64; 2],
}

/// Two replicas that live all the time, one of them drained at five sevenths, after which it is elsewhere; and one that is
/// deployed anew every day, at the address that the one before had.
fn pods(run: Run<'_>) -> Vec<Pod> {
    let (ends, drained) = (run.ends, run.after(5));
    let pod = |name: &str, address, from, to| Pod {
        name: name.to_owned(),
        address,
        lives: [from, to],
    };
    let mut pods = vec![
        pod("web-6c5d7b9f4x-bqk2m", "10.0.0.1", 0, ends + 1),
        pod("web-6c5d7b9f4x-c9lz7", "10.0.0.2", 0, drained),
        pod("web-6c5d7b9f4x-d4wvn", "10.0.1.2", drained, ends + 1),
    ];
    pods.extend((0..run.days).map(|day| {
        let name = format!("web-7f8d9c6b5{day}-x2k4p");
        pod(&name, "10.0.0.3", day * DAY, (day + 1) * DAY)
    }));
    pods
}

/// When each leaf of a pod begins, until rotation stops.
fn leaves(issuer: &Issuer, lives: [i64; 2], stops: i64, dice: &mut Dice) -> Vec<i64> {
    let mut begins = vec![lives[0] - issuer.lifetime * issuer.begins_at / 100];
    loop {
        let [from, to] = issuer.renews.map(|share| issuer.lifetime * share / 100);
        // A minute or so of jitter: agents retry, pods start late.
        let next = begins[begins.len() - 1] + from + dice.below(to - from) + dice.below(MINUTE);
        if next >= lives[1].min(stops) {
            return begins;
        }
        begins.push(next);
    }
}

/// What is scraped at one address, with the labels that tell it from others.
struct Target<'a> {
    run: Run<'a>,
    labels: String,
    lives: [i64; 2],
    /// The scrapes that fail.
    failed: Vec<i64>,
}

impl<'a> Target<'a> {
    fn new(run: Run<'a>, labels: String, lives: [i64; 2], dice: &mut Dice) -> Self {
        let failed = run.times().filter(|_| dice.below(200) == 0).collect();
        Self {
            run,
            labels,
            lives,
            failed,
        }
    }

    /// A series: `name{labels}`, or `name`, and its value while the target is up.
    fn series(&self, name: &str, value: impl Fn(i64) -> i64) -> Value {
        let mut samples: Vec<Sample> = Vec::new();
        for time in self.run.times() {
            let is_up = (self.lives[0]..self.lives[1]).contains(&time);
            let was_up = matches!(samples.last(), Some(Sample::Value(_)));
            samples.push(if self.run.outage().contains(&time) {
                Sample::Missing
            } else if is_up && !self.failed.contains(&time) {
                Sample::Value(value(time))
            } else if was_up {
                Sample::Stale
            } else {
                Sample::Missing
            });
        }
        let (metric, labels) = name.split_once('{').unwrap_or((name, "}"));
        let separator = if labels == "}" { "" } else { ", " };
        let series = format!("{metric}{{{}{separator}{labels}", self.labels);
        json!({"series": series, "values": notation(&samples)})
    }

    /// What every proxy with the module has; with a past: counters that have moved, before the week began.
    fn health(&self, past: i64) -> Vec<Value> {
        let restart = self.run.restart();
        let began = |time: i64| {
            if time < restart {
                self.lives[0]
            } else {
                self.lives[0].max(restart)
            }
        };
        let passed = |time: i64| time - began(time);
        let past = |time: i64| if time < restart { past } else { 0 };
        let mut all = vec![
            self.series("mtls_watch_last_tick_timestamp_seconds", |time| time - 3),
            self.series("mtls_watch_hierarchy_poll_age_seconds", |_| 30),
            self.series(r#"mtls_watch_hierarchy_polls_total{result="ok"}"#, |time| {
                1 + passed(time) / MINUTE
            }),
            self.series(
                r#"mtls_connections_total{direction="inbound", security="mtls"}"#,
                |time| passed(time) / 10,
            ),
            self.series(
                r#"mtls_requests_total{direction="inbound", status="ok"}"#,
                passed,
            ),
        ];
        for (name, value) in [
            ("up", 1),
            ("envoy_server_live", 1),
            ("envoy_server_concurrency", 2),
            (r#"mtls_watch_info{version="0.2.0"}"#, 1),
            ("mtls_watch_workers", 2),
            ("mtls_watch_configuration_errors", 0),
        ] {
            all.push(self.series(name, |_| value));
        }
        for name in [
            r#"mtls_watch_hierarchy_polls_total{result="error"}"#,
            r#"mtls_connections_total{direction="inbound", security="plaintext"}"#,
            r#"mtls_requests_total{direction="inbound", status="no_certificate"}"#,
            r#"mtls_requests_total{direction="inbound", status="hbone"}"#,
            "mtls_watch_series_overflow_total",
            r#"envoy_listener_no_filter_chain_match{listener_address="0.0.0.0_15006"}"#,
            r#"istio_agent_wasm_remote_fetch_count{result="fetch_failure"}"#,
        ] {
            all.push(self.series(name, past));
        }
        if past(self.lives[0]) > 0 {
            for name in [
                r#"mtls_connection_findings_total{direction="inbound", layer="workload", finding="weak_key"}"#,
                r#"mtls_request_findings_total{direction="inbound", layer="workload", finding="client_auth_missing"}"#,
                r#"mtls_handshake_failures_total{direction="inbound", layer="workload", holder="peer", reason="expired"}"#,
                r#"mtls_handshake_failures_total{direction="inbound", layer="issuing_ca", holder="own", reason="unknown_ca"}"#,
            ] {
                all.push(self.series(name, past));
            }
        }
        all
    }

    /// This proxy's own leaf, its issuer's certificate and the trust bundle.
    fn own(&self, begins: &[i64]) -> Vec<Value> {
        let lifetime = self.run.issuer.lifetime;
        let renewed = |time: i64| begins.iter().filter(move |begin| **begin <= time);
        let begin = |time: i64| *renewed(time).next_back().unwrap_or(&begins[0]);
        let margin = |time: i64| -> i64 {
            let pairs = begins.windows(2).filter(|pair| pair[1] <= time);
            pairs.map(|pair| pair[0] + lifetime - pair[1]).sum()
        };
        let mut all = Vec::new();
        for (layer, identity, from, to) in [
            ("workload", IDENTITY, 0, 0),
            ("issuing_ca", "Issuing_CA:0b0b0b0b", -90 * DAY, 900 * DAY),
            ("root_ca", "Root_CA:0a0a0a0a", -900 * DAY, 2700 * DAY),
        ] {
            let of = |what| {
                format!(
                    r#"mtls_own_certificate_{what}{{secret="default", layer="{layer}", identity="{identity}"}}"#
                )
            };
            let is_leaf = layer == "workload";
            all.push(self.series(&of("present"), |_| 1));
            all.push(self.series(&of("not_before_timestamp_seconds"), |time| {
                if is_leaf { begin(time) } else { from }
            }));
            all.push(self.series(&of("not_after_timestamp_seconds"), |time| {
                if is_leaf { begin(time) + lifetime } else { to }
            }));
        }
        all.push(self.series(
            r#"mtls_own_issuer{secret="default", ca="Issuing_CA:0b0b0b0b"}"#,
            |_| 1,
        ));
        all.push(self.series(
            r#"mtls_own_trust_anchor{secret="default", ca="Root_CA:0a0a0a0a"}"#,
            |_| 1,
        ));
        all.push(self.series(
            r#"mtls_trust_bundle_ca{secret="ROOTCA", ca="Root_CA:0a0a0a0a"}"#,
            |_| 1,
        ));
        let count = |time| renewed(time).count() as i64 - 1;
        all.push(self.series(
            r#"mtls_own_rotation_margin_seconds_count{secret="default"}"#,
            count,
        ));
        all.push(self.series(
            r#"mtls_own_rotation_margin_seconds_sum{secret="default"}"#,
            margin,
        ));
        all
    }

    /// A peer that has no module itself, as this proxy sees it. What it saw last it goes on showing.
    fn peer(&self, begins: &[i64], pod: &Pod) -> Vec<Value> {
        let lifetime = self.run.issuer.lifetime;
        let seen = |time: i64| time.min(pod.lives[1] - 1);
        let begin = |time: i64| {
            let before = begins.iter().rfind(|begin| **begin <= seen(time));
            *before.unwrap_or(&begins[0])
        };
        let of = |what| {
            format!(
                r#"mtls_peer_certificate_{what}_timestamp_seconds{{direction="inbound", layer="workload", identity="{IDENTITY}-{}"}}"#,
                pod.name
            )
        };
        vec![
            self.series(&of("not_before"), begin),
            self.series(&of("not_after"), |time| begin(time) + lifetime),
            self.series(&of("last_seen"), seen),
        ]
    }
}

/// The test file of a run.
fn simulated(run: Run<'_>) -> Value {
    let Run {
        issuer,
        step,
        stops,
        ends,
        ..
    } = run;
    let mut dice = Dice(issuer.lifetime.unsigned_abs());
    let mut series = Vec::new();
    let mut first_end = i64::MAX;
    for pod in pods(run) {
        let begins = leaves(issuer, pod.lives, stops, &mut dice);
        let labels = format!(
            r#"job="mesh", cluster="one", namespace="shop", pod="{}", instance="{}:15090""#,
            pod.name, pod.address
        );
        let proxy = Target::new(run, labels, pod.lives, &mut dice);
        let is_new = pod.lives[0] > 0;
        series.extend(proxy.health(if is_new { 0 } else { 3 }));
        series.extend(proxy.own(&begins));
        // Seen by a proxy of its own, which nothing happens to.
        let seer = format!(
            r#"job="mesh", cluster="one", namespace="edge", pod="gate-{0}", instance="gate-{0}:15090""#,
            pod.name
        );
        let seer = Target::new(run, seer, [pod.lives[0], ends + 1], &mut dice);
        series.extend(seer.peer(&begins, &pod));
        if pod.lives[1] > ends {
            first_end = first_end.min(begins[begins.len() - 1] + issuer.lifetime);
        }
    }
    let expected = if stops > ends {
        vec![nothing_has_fired(ends)]
    } else {
        // Of the lifetime, in permille: by the habit that a proxy knows of its own leaf; and by what no issuer reaches.
        let due = |share| (first_end - issuer.lifetime * share / 1000) / step * step;
        vec![is_told("own", due(50)), is_told("peer", due(25))]
    };
    let rule_files = [&RULES[..], &[STRICT_NAMES]].concat();
    json!({
        "rule_files": rule_files,
        "group_eval_order": ORDER,
        "evaluation_interval": format!("{step}s"),
        "tests": [{
            "interval": format!("{step}s"),
            "input_series": series,
            "promql_expr_test": expected,
        }],
    })
}

fn nothing_has_fired(ends: i64) -> Value {
    let range = ends - SETTLED;
    json!({
        "expr": format!(
            "count by (alertname, severity, namespace, identity) (count_over_time(ALERTS{{alertstate=\"firing\"}}[{range}s]))"
        ),
        "eval_time": format!("{ends}s"),
        "exp_samples": [],
    })
}

/// That rotation has stopped.
fn is_told(holder: &str, time: i64) -> Value {
    let alert = format!(
        r#"ALERTS{{alertname="MtlsRotationStalled", alertstate="firing", holder="{holder}"}}"#
    );
    json!({
        "expr": format!("count({alert}) > bool 0"),
        "eval_time": format!("{time}s"),
        "exp_samples": [{"labels": "{}", "value": 1}],
    })
}

fn simulate<'a>(runs: impl Iterator<Item = Run<'a>>) {
    let folder = tempfile::tempdir().unwrap();
    for file in RULES.into_iter().chain([STRICT_NAMES]) {
        let mut rules = yaml(format!("{PROMETHEUS}/{file}"));
        let groups = rules["groups"].as_array_mut().unwrap();
        groups.retain(|group| group["name"] != OF_NAMED_CAS);
        fs::write(folder.path().join(file), rules.to_string()).unwrap();
    }
    for run in runs {
        let name = run.issuer.name;
        let file = folder.path().join(format!("{name}.json"));
        fs::write(&file, simulated(run).to_string()).unwrap();
        promtool(PROMETHEUS, &["test", "rules", file.to_str().unwrap()])
            .unwrap_or_else(|error| panic!("{name}: {error:#}"));
    }
}

/// The one that renews latest, and one of short leaves; with `FULL=1` all, and whole weeks: five minutes of CPU.
fn issuers() -> impl Iterator<Item = &'static Issuer> {
    ISSUERS
        .iter()
        .filter(|issuer| is_full() || ["kuma", "cert-manager"].contains(&issuer.name))
}

#[test]
fn no_alert_fires_in_health() {
    let days = if is_full() { 7 } else { 2 };
    simulate(issuers().map(|issuer| issuer.healthy(days)));
}

#[test]
fn a_rotation_that_stops_is_told_well_before_the_end() {
    simulate(issuers().filter_map(Issuer::stopped));
}
