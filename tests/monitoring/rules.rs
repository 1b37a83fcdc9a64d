//! The rules: what each alert must have, its tests, and the PrometheusRule made of them.

use std::collections::BTreeSet;
use std::fs;

use mtls_watch_core::config::Config;
use mtls_watch_core::metrics::CATALOGUE;
use mtls_watch_core::terms::Finding;
use mtls_watch_x509::chain::Layer;
use serde_json::{Value, json};
use testbed::prometheus::promtool;
use testbed::workspace_root;

use crate::files::{EXAMPLES, PROMETHEUS, RULES, alerts, files, read, rules, yaml};

/// Where the runbooks of the made-up repository are. `docs/runbooks/README.md` says how to replace it.
pub const RUNBOOKS: &str = "https://github.com/mtls-watch/mtls-watch/blob/main/docs/runbooks/";
const PROMETHEUS_RULE: &str = "envoy-config/prometheus/prometheus-rule.yaml";

#[test]
fn promtool_accepts_the_rules() {
    let arguments = [&["check", "rules"], &RULES[..], &EXAMPLES[..]].concat();
    promtool(PROMETHEUS, &arguments).unwrap();
    let found: Vec<String> = files(PROMETHEUS, ".rules.yaml")
        .iter()
        .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
        .collect();
    assert_eq!(found, RULES, "a file that nobody tests");
}

#[test]
fn the_rules_say_what_their_tests_expect() {
    let tests = files(PROMETHEUS, "rules.yaml").len();
    let files = files("envoy-config/prometheus/tests", ".test.yaml");
    assert!(files.len() >= tests);
    let files: Vec<&str> = files.iter().map(|path| path.to_str().unwrap()).collect();
    promtool(PROMETHEUS, &[&["test", "rules"], &files[..]].concat()).unwrap();
}

/// An alert that is never seen to fire may be unable to; one that is never seen silent may be unable
/// to end.
#[test]
fn every_alert_is_tested_firing_and_not_firing() {
    let (mut fires, mut silent) = (BTreeSet::new(), BTreeSet::new());
    for file in files("envoy-config/prometheus/tests", ".test.yaml") {
        let text = yaml(file);
        for test in text["tests"].as_array().unwrap() {
            for case in test["alert_rule_test"].as_array().into_iter().flatten() {
                let name = case["alertname"].as_str().unwrap();
                let expected = case["exp_alerts"].as_array().unwrap();
                for alert in expected {
                    let severity = alert["exp_labels"]["severity"].as_str().unwrap();
                    fires.insert(format!("{name} {severity}"));
                }
                if expected.is_empty() {
                    silent.insert(name.to_owned());
                }
            }
        }
    }
    let with_severity = alerts()
        .iter()
        .map(|rule| format!("{} {}", rule.alert().unwrap(), rule.severity()))
        .collect::<BTreeSet<String>>();
    assert_eq!(fires, with_severity);
    let names: BTreeSet<String> = alerts()
        .iter()
        .map(|rule| rule.alert().unwrap().to_owned())
        .collect();
    assert_eq!(silent, names);
}

#[test]
fn every_alert_says_who_what_to_do_and_where_to_read_on() {
    for rule in alerts() {
        let name = rule.alert().unwrap();
        assert!(
            ["info", "warning", "critical"].contains(&rule.severity()),
            "{name}"
        );
        assert!(rule.body["for"].is_string(), "{name}");
        let summary = rule.annotation("summary");
        assert!(summary.contains("$labels."), "{name}: {summary}");
        assert!(
            summary.contains(": ") || summary.contains("; "),
            "{name}: {summary}"
        );
        assert!(!rule.annotation("description").is_empty(), "{name}");
        assert_eq!(
            rule.annotation("runbook_url"),
            format!("{RUNBOOKS}{name}.md")
        );
        assert!(
            workspace_root()
                .join(format!("docs/runbooks/{name}.md"))
                .is_file(),
            "{name}"
        );
    }
}

/// The alerts on CAs that end have the thresholds of the module's defaults. Leaves are alerted on when their renewal is
/// late.
#[test]
fn the_thresholds_of_cas_are_the_defaults_of_the_module() {
    let defaults: Value = serde_json::from_str(DEFAULTS).unwrap();
    assert_eq!(
        Config::parse(DEFAULTS.as_bytes()).unwrap(),
        Config::default()
    );
    let mut compared = 0;
    for layer in [Layer::IssuingCa, Layer::IntermediateCa, Layer::RootCa] {
        for severity in ["warning", "critical"] {
            let bounds = &defaults["thresholds"][layer.as_str()][severity];
            let days: u32 = bounds[0]
                .as_str()
                .unwrap()
                .trim_end_matches('d')
                .parse()
                .unwrap();
            let percent: f64 = bounds[1]
                .as_str()
                .unwrap()
                .trim_end_matches('%')
                .parse()
                .unwrap();
            let expected = [
                format!("< {days} * 86400"),
                format!(") {} *", percent / 100.0),
            ];
            let selector = format!("layer=\"{}\"", layer.as_str());
            let rule = alerts().into_iter().find(|rule| {
                rule.alert().unwrap().ends_with("Expiring")
                    && rule.severity() == severity
                    && rule.text("expr").contains(&selector)
            });
            let rule = rule.unwrap_or_else(|| panic!("{selector} {severity}"));
            for text in expected {
                assert!(
                    rule.text("expr").contains(&text),
                    "{selector} {severity}: {text}"
                );
                compared += 1;
            }
        }
    }
    assert_eq!(compared, 12);
}

const DEFAULTS: &str = r#"{"thresholds": {
    "workload":        {"warning": ["21d", "25%"],   "critical": ["7d", "12.5%"]},
    "issuing_ca":      {"warning": ["30d", "16%"],   "critical": ["7d", "8%"]},
    "intermediate_ca": {"warning": ["60d", "16%"],   "critical": ["30d", "8%"]},
    "root_ca":         {"warning": ["180d", "16%"],  "critical": ["90d", "8%"]}
}}"#;

#[test]
fn every_finding_has_its_alert() {
    let expressions: String = alerts()
        .iter()
        .map(|rule| rule.text("expr").to_owned())
        .collect();
    for &finding in Finding::ALL {
        // The end of a certificate is told by its date; the last ones are no faults.
        let elsewhere = [
            Finding::Expired,
            Finding::ExpiresCritical,
            Finding::ExpiresWarning,
            Finding::ExtendedKeyUsageAbsent,
            Finding::ConnectionOutlivesCertificate,
        ];
        assert_eq!(
            expressions.contains(finding.as_str()),
            !elsewhere.contains(&finding),
            "{}",
            finding.as_str()
        );
    }
}

/// The names of metrics in a text that begin with `mtls_`.
pub fn metrics(text: &str) -> BTreeSet<&str> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    text.split(move |c| !is_part(c))
        .filter(|word| word.starts_with("mtls_") || word.contains(":mtls_"))
        .collect()
}

/// Whether the module, or a rule, makes a metric of this name.
pub fn is_metric(name: &str) -> bool {
    let base = |suffix| name.strip_suffix(suffix).unwrap_or(name);
    let made = ["_bucket", "_sum", "_count"].map(base);
    let by_the_module = CATALOGUE
        .iter()
        .any(|metric| metric.name == name || made.contains(&metric.name));
    let recorded = rules().iter().any(|rule| rule.text("record") == name);
    let by_the_operator = EXAMPLES
        .iter()
        .any(|file| read(format!("{PROMETHEUS}/{file}")).contains(&format!("record: {name}\n")));
    by_the_module || recorded || by_the_operator
}

#[test]
fn the_rules_use_metrics_that_exist() {
    for rule in rules() {
        for name in metrics(rule.text("expr")) {
            assert!(is_metric(name), "{}: {name}", rule.file);
        }
    }
}

/// The rules as an object for Prometheus' operator: the same, comments and anchors aside.
#[test]
fn the_prometheus_rule_is_the_rules() {
    let groups: Vec<Value> = RULES
        .iter()
        .flat_map(|file| {
            let text = yaml(format!("{PROMETHEUS}/{file}"));
            text["groups"].as_array().unwrap().clone()
        })
        .collect();
    let object = json!({
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": { "name": "mtls-watch", "labels": { "app.kubernetes.io/name": "mtls-watch" } },
        "spec": { "groups": groups },
    });
    let body = serde_yaml_ng::to_string(&object).unwrap();
    let expected = format!("{PROMETHEUS_RULE_HEAD}{body}");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(workspace_root().join(PROMETHEUS_RULE), &expected).unwrap();
    }
    let fresh = read(PROMETHEUS_RULE) == expected;
    assert!(fresh, "{PROMETHEUS_RULE} is stale: run `make docs`");
    // What the operator hands to Prometheus.
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), yaml(PROMETHEUS_RULE)["spec"].to_string()).unwrap();
    promtool(
        PROMETHEUS,
        &["check", "rules", file.path().to_str().unwrap()],
    )
    .unwrap();
}

const PROMETHEUS_RULE_HEAD: &str = "\
# Generated from the *.rules.yaml beside it, where the comments are: change those and run `make docs`.
# `kubectl apply -n monitoring -f prometheus-rule.yaml`; give it the label that your Prometheus selects
# rules by (`kubectl get prometheus -A -o jsonpath='{..ruleSelector}'`).
";
