//! The pages about rotation, and the metrics that they and the rules use.

use std::collections::BTreeSet;
use std::fs;

use crate::project;
use mtls_watch_core::config::Config;
use mtls_watch_core::metrics::CATALOGUE;
use serde_json::Value;

use crate::metrics::{NEW_ROOT, OLD, OLD_ROOT, Sidecar};
use crate::run::{self, json};

fn page(file: &str) -> String {
    fs::read_to_string(project(file)).unwrap()
}

/// The blocks of a page in a language.
fn blocks<'a>(page: &'a str, language: &str) -> Vec<&'a str> {
    let begin = format!("```{language}\n");
    let mut parts: Vec<&str> = page.split("```").collect();
    let _ = parts.remove(0);
    let inner = parts.into_iter().step_by(2);
    inner
        .filter_map(|part| part.strip_prefix(begin.trim_start_matches('`')))
        .collect()
}

#[test]
fn the_json_of_the_pages_is_what_the_command_and_the_module_know() {
    let text = page("docs/hierarchy.md");
    for block in blocks(&text, "json") {
        Config::parse(block.as_bytes()).unwrap();
    }
    let text = page("docs/rotation-status.md");
    let documented: Value = serde_json::from_str(blocks(&text, "json")[0]).unwrap();
    let sidecar = Sidecar::trusting(&[OLD_ROOT])
        .signed_under(OLD, OLD_ROOT)
        .seen(OLD, 40);
    let (_, report) = json(
        &["--old", OLD_ROOT, "--new", NEW_ROOT],
        &[("cart", &sidecar)],
    );
    assert_eq!(keys(&documented), keys(&report));
}

/// The paths of all keys in a value.
fn keys(value: &Value) -> BTreeSet<String> {
    match value {
        Value::Object(fields) => fields
            .iter()
            .flat_map(|(key, value)| {
                let below = keys(value)
                    .into_iter()
                    .map(move |path| format!("{key}.{path}"));
                std::iter::once(key.clone()).chain(below)
            })
            .collect(),
        Value::Array(items) => items.iter().flat_map(keys).collect(),
        _ => BTreeSet::new(),
    }
}

#[test]
fn the_commands_of_the_pages_are_understood() {
    let text = page("docs/ca-rotation.md");
    let commands = blocks(&text, "console").into_iter();
    let commands: Vec<String> = commands.map(|block| block.replace("\\\n", " ")).collect();
    for command in &commands {
        let (_, arguments) = command
            .split_once("rotation-status ")
            .expect("a command of ours");
        let arguments = arguments.split(" && ").next().unwrap();
        let arguments: Vec<&str> = arguments.split_whitespace().collect();
        // Neither files nor proxies are there: that is what it complains of, not of the usage.
        let run = run::command(&arguments, b"");
        assert!(
            run.stderr.contains("cas.pem: No such file"),
            "{command}: {}",
            run.stderr
        );
    }
    assert!(commands.len() > 3);
}

/// The names of metrics in a text that begin with a prefix.
fn names<'a>(text: &'a str, prefix: &'a str) -> impl Iterator<Item = &'a str> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    text.split(move |c| !is_part(c))
        .filter(move |word| word.starts_with(prefix))
}

#[test]
fn the_rules_and_the_runbook_use_metrics_that_exist() {
    let read = |file| fs::read_to_string(project(file)).unwrap();
    let rules = read("envoy-config/prometheus/rotation.rules.yaml");
    let recorded: Vec<&str> = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- record: "))
        .collect();
    let is_known = |name: &str| {
        ["mtls_rotation_ca", "mtls_rotation_bundle"].contains(&name)
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
            "instance_secret:",
            "instance_secret_ca:",
            "ca:mtls",
            "ca_anchor:",
        ];
        for prefix in [&["mtls_"][..], &rules].concat() {
            for name in names(&text, prefix).filter(|name| name.contains("mtls_")) {
                assert!(is_known(name), "{file}: {name}");
            }
        }
    }
}
