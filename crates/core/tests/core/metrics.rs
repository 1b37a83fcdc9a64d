//! The catalogue of metrics, and what of it exists when.

use std::collections::BTreeSet;

use mtls_watch_core::VERSION;
use mtls_watch_core::host::MetricKind::{self, Counter, Gauge, Histogram};
use mtls_watch_core::metrics::{CATALOGUE, Label};
use pki::ExtendedKeyUsage;
use serde_json::json;

use crate::fake_host::{FakeHost, Proxy};
use crate::worker::Worker;
use pki::fixtures::workload;

/// The promise, row by row: name, type, labels in their order. Without the proxy's own
/// certificates, which this version does not read.
const PROMISED: [(&str, MetricKind, &[&str]); 16] = [
    (
        "mtls_connections_total",
        Counter,
        &["direction", "security"],
    ),
    ("mtls_requests_total", Counter, &["direction", "status"]),
    (
        "mtls_connection_findings_total",
        Counter,
        &["direction", "layer", "finding"],
    ),
    (
        "mtls_request_findings_total",
        Counter,
        &["direction", "layer", "finding"],
    ),
    (
        "mtls_handshake_failures_total",
        Counter,
        &["direction", "layer", "holder", "reason"],
    ),
    (
        "mtls_connections_by_issuer_total",
        Counter,
        &["direction", "issuer"],
    ),
    (
        "mtls_connections_by_trust_domain_total",
        Counter,
        &["direction", "trust_domain"],
    ),
    (
        "mtls_watch_ignored_findings_total",
        Counter,
        &["direction", "layer", "finding"],
    ),
    (
        "mtls_issuer_last_seen_timestamp_seconds",
        Gauge,
        &["direction", "issuer"],
    ),
    (
        "mtls_peer_certificate_not_after_timestamp_seconds",
        Gauge,
        &["direction", "layer", "identity"],
    ),
    (
        "mtls_peer_certificate_not_before_timestamp_seconds",
        Gauge,
        &["direction", "layer", "identity"],
    ),
    (
        "mtls_peer_certificate_remaining_seconds",
        Histogram,
        &["direction"],
    ),
    ("mtls_watch_info", Gauge, &["version"]),
    (
        "mtls_watch_inspections_total",
        Counter,
        &["source", "result"],
    ),
    ("mtls_watch_hierarchy_polls_total", Counter, &["result"]),
    ("mtls_watch_series_overflow_total", Counter, &[]),
];

#[test]
fn every_promised_metric_is_in_the_catalogue_as_promised() {
    for (name, kind, labels) in PROMISED {
        let metric = CATALOGUE.iter().find(|metric| metric.name == name).unwrap();
        assert_eq!(metric.kind, kind, "{name}");
        let keys: Vec<_> = metric.labels.iter().map(|label| label.as_str()).collect();
        assert_eq!(keys, labels, "{name}");
    }
}

#[test]
fn every_label_of_the_promise_has_a_tag() {
    let of_own_certificates = ["secret", "ca", "certificate"];
    let promised = PROMISED.iter().flat_map(|(_, _, labels)| *labels).copied();
    let promised: BTreeSet<_> = promised.chain(of_own_certificates).collect();
    let tagged: BTreeSet<_> = Label::ALL.iter().map(|label| label.as_str()).collect();
    assert_eq!(tagged, promised);
}

/// The series of a metric by the values of its two labels.
fn by_two(metric: &str, keys: [&str; 2], values: [&[&str]; 2]) -> Vec<String> {
    let series = |first: &&str, second: &&str| {
        format!("{}=.={first};.;{}=.={second};.;{metric}", keys[0], keys[1])
    };
    let of_first = |first| values[1].iter().map(move |second| series(first, second));
    values[0].iter().flat_map(of_first).collect()
}

#[test]
fn a_proxy_at_rest_has_these_series_and_no_more() {
    let proxy = Proxy::new();
    Worker::new(&proxy);
    let directions: &[&str] = &["inbound", "outbound"];
    let securities: &[&str] = &["mtls", "tls", "plaintext", "hbone"];
    let statuses: &[&str] = &[
        "ok",
        "warning",
        "critical",
        "expired",
        "not_yet_valid",
        "no_certificate",
        "hbone",
        "unreadable",
    ];
    let sources: &[&str] = &["attribute", "filter_state", "xfcc", "hierarchy"];
    let expected = [
        by_two(
            "mtls_connections_total",
            ["direction", "security"],
            [directions, securities],
        ),
        by_two(
            "mtls_requests_total",
            ["direction", "status"],
            [directions, statuses],
        ),
        by_two(
            "mtls_watch_inspections_total",
            ["source", "result"],
            [sources, &["ok", "unreadable"]],
        ),
        vec![
            "direction=.=outbound;.;status=.=refused;.;mtls_requests_total".to_owned(),
            "result=.=ok;.;mtls_watch_hierarchy_polls_total".to_owned(),
            "result=.=error;.;mtls_watch_hierarchy_polls_total".to_owned(),
            "mtls_watch_series_overflow_total".to_owned(),
            "mtls_watch_configuration_errors".to_owned(),
            format!("version=.={VERSION};.;mtls_watch_info"),
        ],
    ];
    let expected: BTreeSet<String> = expected.concat().into_iter().collect();
    assert!(expected.len() <= 60);
    assert_eq!(BTreeSet::from_iter(proxy.series()), expected);
    for metric in CATALOGUE.iter().filter(|metric| metric.kind == Counter) {
        assert_eq!(proxy.total(metric.name), 0, "{}", metric.name);
    }
    assert_eq!(
        proxy.value("mtls_watch_info", &[("version", VERSION)]),
        Some(1)
    );
}

#[test]
fn every_series_is_named_as_promised() {
    let proxy = Proxy::new();
    let worker = Worker::new(&proxy);
    let peer = workload().extended_key_usages(&[ExtendedKeyUsage::ServerAuth]);
    let peer = peer.issue().unwrap();
    let host = FakeHost::new(&proxy).client_with_chain(&peer).server(&peer);
    worker.request(&host);
    worker.connection(&host);
    worker.tick();
    for series in proxy.series() {
        let mut parts: Vec<_> = series.split(";.;").collect();
        let name = parts.pop().unwrap();
        let keys: Vec<_> = parts
            .iter()
            .map(|part| part.split("=.=").next().unwrap())
            .collect();
        let metric = CATALOGUE
            .iter()
            .find(|metric| metric.name == name)
            .expect(&series);
        let labels: Vec<_> = metric.labels.iter().map(|label| label.as_str()).collect();
        assert_eq!(keys, labels, "{series}");
    }
}

#[test]
fn no_metric_is_defined_twice_however_often_the_plugin_is_configured() {
    let proxy = Proxy::new();
    let mut worker = Worker::new(&proxy);
    let peer = workload().extended_key_usages(&[]).issue().unwrap();
    for repeat in ["1m", "2m", "3m"] {
        worker.configure_again(json!({"log_repeat": repeat}));
        for _ in 0..3 {
            worker.request(&FakeHost::new(&proxy).client_with_chain(&peer));
            worker.connection(&FakeHost::new(&proxy).client(&peer));
            worker.tick();
        }
    }
    assert_eq!(proxy.most_definitions(), 1);
}

#[test]
fn a_metric_that_the_proxy_refuses_is_not_asked_for_again_and_again() {
    let proxy = Proxy::new();
    proxy.refuse_metrics();
    let worker = Worker::new(&proxy);
    let host = FakeHost::new(&proxy);
    worker.request(&host);
    let asked = proxy.definitions_asked();
    for _ in 0..10 {
        worker.request(&host);
    }
    assert_eq!(proxy.definitions_asked(), asked);
}
