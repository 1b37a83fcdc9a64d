//! docs/metrics.md and docs/configuration.md: from the catalogue of metrics, and from the schema of the
//! configuration, whose agreement with the parser is tested in tests/deploy.

use std::fs;

use mtls_watch_core::config::{Config, Hierarchy};
use mtls_watch_core::handshake::{Holder, NO_LAYER, Reason};
use mtls_watch_core::metrics::{CATALOGUE, Description, HANDSHAKE_FAILURES, Label};
use mtls_watch_core::terms::Security;
use mtls_watch_core::terms::Source;
use mtls_watch_core::terms::{Direction, Finding, Status};
use mtls_watch_x509::chain::Layer;
use serde_json::{Value, json};

use crate::{check_generated, project};

const METRICS: &str = "docs/metrics.md";
const CONFIGURATION: &str = "docs/configuration.md";
const SCHEMA: &str = "docs/configuration.schema.json";

/// The values of a label, where they are a closed set.
fn values(label: Label) -> Option<Vec<&'static str>> {
    Some(match label {
        Label::Direction => Direction::ALL.iter().map(|it| it.as_str()).collect(),
        Label::Layer => Layer::ALL.iter().copied().map(Layer::as_str).collect(),
        Label::Security => Security::ALL.iter().map(|it| it.as_str()).collect(),
        Label::Status => Status::ALL.iter().copied().map(Status::as_str).collect(),
        Label::Finding => Finding::ALL.iter().copied().map(Finding::as_str).collect(),
        Label::Holder => Holder::ALL.iter().copied().map(Holder::as_str).collect(),
        Label::Reason => Reason::ALL.iter().copied().map(Reason::as_str).collect(),
        Label::Source => Source::ALL.iter().copied().map(Source::as_str).collect(),
        // The second is the word of inspections, the third that of polls.
        Label::Result => vec!["ok", "unreadable", "error"],
        Label::Issuer
        | Label::Identity
        | Label::Secret
        | Label::Ca
        | Label::Certificate
        | Label::TrustDomain
        | Label::Version => return None,
    })
}

#[test]
fn the_labels() {
    let rows = Label::ALL.iter().copied().filter_map(|label| {
        let values = values(label)?;
        assert!(label.is_closed());
        Some(format!("| `{}` | {} |\n", label.as_str(), words(&values)))
    });
    let table = format!(
        "| label | values |\n|---|---|\n{}",
        rows.collect::<String>()
    );
    check_generated(METRICS, "labels", &table);
}

/// How many series a proxy can have, where that follows from closed sets.
fn most(metric: &Description) -> Option<usize> {
    let sizes = metric.labels.iter().map(|label| match label {
        // Of each of the two metrics with this label.
        Label::Result => Some(2),
        Label::Layer if *metric == HANDSHAKE_FAILURES.description => {
            Some(Layer::ALL.len() + [NO_LAYER].len())
        }
        label => values(*label).map(|values| values.len()),
    });
    sizes.product()
}

#[test]
fn the_number_of_series() {
    let rows = CATALOGUE.iter().map(|metric| {
        let labels: Vec<&str> = metric.labels.iter().map(|label| label.as_str()).collect();
        let labels = if labels.is_empty() {
            String::new()
        } else {
            words(&labels)
        };
        let most = most(metric).map_or("by its open labels".to_owned(), |most| most.to_string());
        format!("| `{}` | {labels} | {most} |\n", metric.name)
    });
    let table = format!(
        "| metric | labels | most series |\n|---|---|---|\n{}",
        rows.collect::<String>()
    );
    check_generated(METRICS, "series", &table);
}

fn words(values: &[&str]) -> String {
    let words: Vec<String> = values.iter().map(|value| format!("`{value}`")).collect();
    words.join(", ")
}

fn schema() -> Value {
    let text = fs::read_to_string(project(SCHEMA)).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn properties(schema: &Value) -> impl Iterator<Item = (&String, &Value)> {
    schema["properties"].as_object().into_iter().flatten()
}

/// The keys in the order of the schema's text, which a parsed object does not keep.
fn in_order(keys: impl Iterator<Item = String>) -> Vec<String> {
    let text = fs::read_to_string(project(SCHEMA)).unwrap();
    let mut keys: Vec<String> = keys.collect();
    keys.sort_by_key(|key| text.find(&format!("\"{key}\": {{")));
    keys
}

fn description(schema: &Value) -> &str {
    schema["description"].as_str().unwrap()
}

/// What a value must be, in words.
fn form(schema: &Value) -> String {
    let reference = schema["$ref"]
        .as_str()
        .and_then(|path| path.rsplit('/').next());
    let items = schema["items"]["enum"].as_array();
    let items = items.map(|items| items.iter().filter_map(Value::as_str).collect::<Vec<_>>());
    match (reference, items, &schema["type"]) {
        (Some("threshold"), ..) => {
            "`warning` and `critical`, each a duration, a share or a list".to_owned()
        }
        (Some("header"), ..) => "header name, or empty".to_owned(),
        (Some(name), ..) => name.to_owned(),
        (_, Some(items), _) => format!("list of {}", words(&items)),
        (.., kind) if kind == "integer" => format!(
            "whole number, {} to {}",
            schema["minimum"], schema["maximum"]
        ),
        _ if schema["items"]["properties"].is_object() => {
            "list of objects with `finding`, and optionally `identity_prefix` and `layer`"
                .to_owned()
        }
        _ if schema["enum"].is_array() => {
            let values = schema["enum"].as_array().into_iter().flatten();
            words(&values.filter_map(Value::as_str).collect::<Vec<_>>())
        }
        (.., kind) if kind == "boolean" => "`true`, `false`".to_owned(),
        _ if schema.get("pattern").is_some() => "duration".to_owned(),
        _ => "name".to_owned(),
    }
}

#[test]
fn the_configuration() {
    let schema = schema();
    let mut rows = String::new();
    for key in in_order(properties(&schema).map(|(key, _)| key.clone())) {
        let property = &schema["properties"][&key];
        if property.get("properties").is_none() {
            rows += &row(&key, property);
        }
        for inner in in_order(properties(property).map(|(key, _)| key.clone())) {
            rows += &row(&format!("{key}.{inner}"), &property["properties"][&inner]);
        }
    }
    let table = format!("| key | value | default | meaning |\n|---|---|---|---|\n{rows}");
    check_generated(CONFIGURATION, "keys", &table);
}

fn row(path: &str, schema: &Value) -> String {
    format!(
        "| `{path}` | {} | {} | {} |\n",
        form(schema),
        default(&schema["default"]),
        description(schema)
    )
}

fn default(value: &Value) -> String {
    match value {
        Value::Object(threshold) => {
            let bounds = ["warning", "critical"].map(|key| format!("{key} `{}`", threshold[key]));
            bounds.join(", ")
        }
        Value::Null => "off".to_owned(),
        other => format!("`{other}`"),
    }
}

/// The defaults of a schema's properties, as one would write them.
fn defaults(schema: &Value) -> Value {
    let defaults = properties(schema).map(|(key, property)| {
        let value = property.get("default").cloned();
        (key.clone(), value.unwrap_or_else(|| defaults(property)))
    });
    Value::Object(defaults.collect())
}

#[test]
fn the_schema_s_defaults_are_the_parser_s() {
    let schema = schema();
    let parse = |value: Value| Config::parse(value.to_string().as_bytes()).unwrap();
    assert_eq!(parse(defaults(&schema)), Config::default());
    let hierarchy = defaults(&schema["properties"]["hierarchy"]);
    let on = parse(json!({"hierarchy": hierarchy})).hierarchy;
    assert_eq!(on, Some(Hierarchy::default()));
}
