//! The rules as `tools/mixin` renders them: those of the repository, and those of a fleet with values of its own.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};
use testbed::prometheus::promtool;
use testbed::workspace_root;

use crate::files::{PROMETHEUS, RULES, read};

fn rendered(folder: &Path, values: Option<&Value>) -> Output {
    let mut mixin = Command::new("python3");
    mixin.arg(workspace_root().join("tools/mixin"));
    if let Some(values) = values {
        let file = folder.join("values.json");
        fs::write(&file, values.to_string()).unwrap();
        mixin.arg("--values").arg(file);
    }
    mixin.arg(folder).output().unwrap()
}

#[test]
fn the_rules_are_the_mixins() {
    let folder = tempfile::tempdir().unwrap();
    let output = rendered(folder.path(), None);
    assert!(output.status.success(), "{output:?}");
    for file in RULES {
        let expected = fs::read_to_string(folder.path().join(file)).unwrap();
        let fresh = read(format!("{PROMETHEUS}/{file}")) == expected;
        assert!(fresh, "{PROMETHEUS}/{file} is stale: run `make docs`");
    }
}

/// Another label for clusters, another place of the runbooks, a matcher and a threshold: an alert that is due by these
/// values alone, and none about a proxy of another job.
#[test]
fn a_fleet_has_values_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let values = json!({
        "runbooks": "https://wiki.example.com/mtls/",
        "cluster": "region",
        "selector": "job=\"edge\"",
        "leaf_critical_share": 0.2,
    });
    let output = rendered(folder.path(), Some(&values));
    assert!(output.status.success(), "{output:?}");
    let root = folder.path().to_str().unwrap();
    promtool(root, &[&["check", "rules"], &RULES[..]].concat()).unwrap();
    let leaf = |job: &str, what: &str, value: &str| {
        let series = format!(
            r#"mtls_own_certificate_{what}{{job="{job}", region="eu", instance="{job}", layer="workload", secret="default", identity="{job}"}}"#
        );
        json!({"series": series, "values": value})
    };
    let leaves = ["edge", "other"].map(|job| {
        [
            leaf(job, "not_before_timestamp_seconds", "0x60"),
            leaf(job, "not_after_timestamp_seconds", "3600x60"),
            leaf(job, "present", "1x60"),
        ]
    });
    let expected = json!([{
        "exp_labels": {"region": "eu", "identity": "edge", "holder": "own", "layer": "workload", "severity": "critical"},
        "exp_annotations": {
            "summary": "The certificate of edge has 16.67% of its lifetime left: renew it, and find out why its rotation did not run",
            "description": "It is the own certificate of its proxy; which, is in the runbook's first query. Once it has expired, every new mTLS connection with it is refused.",
            "runbook_url": "https://wiki.example.com/mtls/MtlsWorkloadCertificateExpiring.md",
        },
    }]);
    let test = json!({
        "rule_files": ["certificates.rules.yaml"],
        "evaluation_interval": "1m",
        "tests": [{
            "interval": "1m",
            "input_series": leaves.concat(),
            "alert_rule_test": [
                {"eval_time": "45m", "alertname": "MtlsWorkloadCertificateExpiring", "exp_alerts": []},
                {"eval_time": "50m", "alertname": "MtlsWorkloadCertificateExpiring", "exp_alerts": expected},
            ],
        }],
    });
    fs::write(folder.path().join("test.json"), test.to_string()).unwrap();
    promtool(root, &["test", "rules", "test.json"]).unwrap();
}

/// Names that operators write have no labels of a scrape: a matcher would leave nothing of them.
#[test]
fn names_of_operators_have_no_matcher() {
    let folder = tempfile::tempdir().unwrap();
    let output = rendered(folder.path(), Some(&json!({"selector": "job=\"edge\""})));
    assert!(output.status.success(), "{output:?}");
    for file in RULES {
        let text = fs::read_to_string(folder.path().join(file)).unwrap();
        for name in [
            "mtls_strict{job",
            "mtls_rotation_ca{job",
            "mtls_rotation_bundle{job",
        ] {
            assert!(!text.contains(name), "{file}: {name}");
        }
        assert!(text.contains("{job=\"edge\""), "{file}");
    }
}

#[test]
fn a_value_that_nothing_has_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let output = rendered(folder.path(), Some(&json!({"leaf_critical_day": 3})));
    assert!(!output.status.success());
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(complaint.contains("leaf_critical_day"), "{complaint}");
}
