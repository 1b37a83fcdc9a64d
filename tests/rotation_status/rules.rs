//! The rules of envoy-config/prometheus, through Prometheus' own promtool.

use std::fs;
use std::process::Command;

use mtls_watch::metrics::CATALOGUE;
use testbed::workspace_root;

const MISSING: &str = "promtool is missing: apt-get install -y prometheus";

fn promtool(arguments: &[&str]) {
    let mut command = Command::new("promtool");
    command
        .args(arguments)
        .current_dir(workspace_root().join("envoy-config/prometheus"));
    let output = command.output().expect(MISSING);
    let say = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "promtool {arguments:?}\n{}{}",
        say(&output.stdout),
        say(&output.stderr)
    );
}

#[test]
fn the_rules_are_valid() {
    promtool(&[
        "check",
        "rules",
        "rotation.rules.yaml",
        "rotation-names.example.yaml",
    ]);
}

#[test]
fn the_rules_say_what_their_tests_expect() {
    promtool(&["test", "rules", "tests/rotation.test.yaml"]);
}

/// The names of metrics in a text that begin with a prefix.
fn names<'a>(text: &'a str, prefix: &'a str) -> impl Iterator<Item = &'a str> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    text.split(move |c| !is_part(c))
        .filter(move |word| word.starts_with(prefix))
}

#[test]
fn the_rules_and_the_runbook_use_metrics_that_exist() {
    let read = |file| fs::read_to_string(workspace_root().join(file)).unwrap();
    let rules = read("envoy-config/prometheus/rotation.rules.yaml");
    let recorded: Vec<&str> = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- record: "))
        .collect();
    let is_known = |name: &str| {
        name == "mtls_rotation_ca"
            || recorded.contains(&name)
            || CATALOGUE.iter().any(|metric| metric.name == name)
    };
    for file in [
        "envoy-config/prometheus/rotation.rules.yaml",
        "docs/ca-rotation.md",
        "docs/hierarchy.md",
    ] {
        let text = read(file);
        let rules = [
            "instance:",
            "instance_ca:",
            "instance_secret_ca:",
            "ca:mtls",
        ];
        for prefix in [&["mtls_"][..], &rules].concat() {
            for name in names(&text, prefix).filter(|name| name.contains("mtls_")) {
                assert!(is_known(name), "{file}: {name}");
            }
        }
    }
}
