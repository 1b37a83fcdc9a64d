//! The relabelling rules against every metric of the catalogue, with values as peers choose them.

use std::collections::BTreeMap;
use std::fs;
use std::sync::LazyLock;

use crate::project;
use mtls_watch_core::host::MetricKind;
use mtls_watch_core::metrics::name::label_value;
use mtls_watch_core::metrics::{CATALOGUE, Description, Label, write_label};
use proptest::prelude::*;
use regex::Regex;
use serde_yaml_ng::Value;

use crate::cli::stats_tags;

struct Rule {
    sources: Vec<String>,
    regex: Regex,
    target: String,
    replacement: String,
}

/// The rules as Prometheus reads them: anchored at both ends.
static RULES: LazyLock<Vec<Rule>> = LazyLock::new(|| {
    let document: Value = serde_yaml_ng::from_str(&stats_tags("prometheus-relabel")).unwrap();
    let rules = document["metric_relabel_configs"].as_sequence().unwrap();
    rules.iter().map(rule).collect()
});

fn rule(rule: &Value) -> Rule {
    let text = |key: &str| rule[key].as_str().unwrap().to_owned();
    let sources = rule["source_labels"].as_sequence().unwrap().iter();
    Rule {
        sources: sources
            .map(|key| key.as_str().unwrap().to_owned())
            .collect(),
        regex: Regex::new(&format!("^(?s:{})$", text("regex"))).unwrap(),
        target: text("target_label"),
        replacement: text("replacement"),
    }
}

type Labels = BTreeMap<String, String>;

/// What Prometheus makes of a series (action `replace`).
fn relabelled(mut labels: Labels) -> Labels {
    for rule in RULES.iter() {
        let values = rule
            .sources
            .iter()
            .map(|key| labels.get(key).cloned().unwrap_or_default());
        let joined = values.collect::<Vec<_>>().join(";");
        if let Some(captures) = rule.regex.captures(&joined) {
            let (mut target, mut value) = (String::new(), String::new());
            captures.expand(&rule.target, &mut target);
            captures.expand(&rule.replacement, &mut value);
            labels.insert(target, value);
            labels.retain(|_, value| !value.is_empty());
        }
    }
    labels
}

fn named(name: &str) -> Labels {
    Labels::from([("__name__".to_owned(), name.to_owned())])
}

/// What Envoy's Prometheus endpoint does to a name.
fn flattened(text: &str) -> String {
    text.replace(|c: char| !c.is_ascii_alphanumeric() && c != '_', "_")
}

/// A value for a label, and what of it must come back.
fn value(label: Label) -> BoxedStrategy<(String, String)> {
    let ca = ("\\PC{0,30}", "[0-9a-f]{8}").prop_map(|(name, digits)| {
        let back = format!("{}:{digits}", flattened(&label_value(&format!("ca{name}"))));
        (format!("ca{name}:{digits}"), back)
    });
    let open = "\\PC{0,40}|[a-z_]{0,9}(:::|___)(mtls|identity|direction)(___|=.=)[a-z]{0,9}";
    let open = open.prop_map(|text| (text.clone(), flattened(&label_value(&text))));
    match label {
        Label::Issuer | Label::Ca => ca.boxed(),
        // The names are the operator's own, not a peer's.
        Label::Secret => "[a-zA-Z:/.-]{1,20}"
            .prop_map(|text| (text.clone(), flattened(&text)))
            .boxed(),
        Label::Version => "[0-9]{1,2}\\.[0-9]\\.[0-9]"
            .prop_map(|text| (text.clone(), text))
            .boxed(),
        // Leaves have none.
        Label::Certificate => "([0-9a-f]{8})?"
            .prop_map(|text| (text.clone(), text))
            .boxed(),
        Label::Identity => open.boxed(),
        Label::Layer => "workload".prop_map(|text| (text.clone(), text)).boxed(),
        _ => "[a-z]{1,6}(_[a-z]{1,5}){0,2}"
            .prop_map(|text| (text.clone(), text))
            .boxed(),
    }
}

/// The name of a series with these values.
fn encoded(metric: &Description, values: &[&str]) -> String {
    let mut series = String::new();
    let labels = metric.labels.iter().zip(values);
    for (label, value) in
        labels.filter(|(label, value)| **label != Label::Certificate || !value.is_empty())
    {
        write_label(*label, value, &mut series);
    }
    series + metric.name
}

fn series() -> impl Strategy<Value = (Description, Vec<(String, String)>)> {
    proptest::sample::select(&CATALOGUE[..]).prop_flat_map(|metric| {
        let values: Vec<_> = metric.labels.iter().map(|label| value(*label)).collect();
        (Just(metric), values)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_label_comes_back((metric, values) in series(), suffix in "_bucket|_sum|_count") {
        let suffix = if metric.kind == MetricKind::Histogram { suffix } else { String::new() };
        let sent: Vec<&str> = values.iter().map(|(sent, _)| sent.as_str()).collect();
        let name = flattened(&encoded(&metric, &sent)) + &suffix;
        let mut expected = named(&format!("{}{suffix}", metric.name));
        for (label, (_, back)) in metric.labels.iter().zip(&values) {
            expected.insert(label.as_str().to_owned(), back.clone());
        }
        expected.retain(|_, value| !value.is_empty());
        prop_assert_eq!(relabelled(named(&name)), expected, "{}", name);
    }

    #[test]
    fn what_has_its_labels_passes_unchanged((metric, values) in series()) {
        let mut labels = named(metric.name);
        for (label, (sent, _)) in metric.labels.iter().zip(&values) {
            labels.insert(label.as_str().to_owned(), label_value(sent).into_owned());
        }
        labels.retain(|_, value| !value.is_empty());
        prop_assert_eq!(relabelled(labels.clone()), labels);
    }
}

#[test]
fn names_of_cas_get_their_colon_back() {
    let name = "direction___inbound___layer___root_ca___identity___Root_CA_010ba27a___mtls_peer_certificate_last_seen_timestamp_seconds";
    assert_eq!(relabelled(named(name))["identity"], "Root_CA:010ba27a");
    // Not a CA, though it ends like one.
    let name = name.replace("root_ca", "workload");
    assert_eq!(relabelled(named(&name))["identity"], "Root_CA_010ba27a");
}

#[test]
fn metrics_of_others_pass_unchanged() {
    for (name, label) in [
        ("istio_requests_total", "issuer"),
        ("layer___a___requests_total", "ca"),
        ("envoy_cluster_ssl_handshake", "identity"),
    ] {
        let mut labels = named(name);
        labels.insert(label.to_owned(), "some_ca_010ba27a".to_owned());
        assert_eq!(relabelled(labels.clone()), labels);
    }
}

/// The same rules under the keys of the Prometheus operator.
#[test]
fn the_operator_s_rules_are_the_same() {
    let operator = stats_tags("pod-monitor")
        .replace("metricRelabelings:", "metric_relabel_configs:")
        .replace("sourceLabels:", "source_labels:")
        .replace("targetLabel:", "target_label:");
    assert_eq!(operator, stats_tags("prometheus-relabel"));
}

/// The manifest that has them written out.
#[test]
fn the_pod_monitor_has_the_rules_that_the_command_prints() {
    let path = project("envoy-config/istio/pod-monitor.yaml");
    let monitor: Value = serde_yaml_ng::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let printed: Value = serde_yaml_ng::from_str(&stats_tags("pod-monitor")).unwrap();
    assert_eq!(
        monitor["spec"]["podMetricsEndpoints"][0]["metricRelabelings"],
        printed["metricRelabelings"]
    );
}
