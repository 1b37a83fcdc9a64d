//! The schema of the configuration says what the parser says.

use std::fs;
use std::sync::LazyLock;

use jsonschema::Validator;
use mtls_watch_core::config::{Config, ConfigError, ConfigErrors, Problem};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};
use testbed::workspace_root;

static SCHEMA: LazyLock<Validator> = LazyLock::new(|| {
    let path = workspace_root().join("docs/configuration.schema.json");
    let schema: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    jsonschema::meta::validate(&schema).unwrap();
    jsonschema::validator_for(&schema).unwrap()
});

/// What the parser says, but for the one rule that a schema cannot express.
fn parser_accepts(configuration: &Value) -> Option<bool> {
    match Config::parse(configuration.to_string().as_bytes()) {
        Ok(_) => Some(true),
        Err(ConfigErrors(errors)) => {
            let inexpressible =
                |error: &ConfigError| error.problem == Problem::CriticalExceedsWarning;
            (!errors.iter().all(inexpressible)).then_some(false)
        }
    }
}

fn agree(configuration: &Value) -> Result<(), String> {
    let schema = SCHEMA.is_valid(configuration);
    match parser_accepts(configuration) {
        Some(accepted) if accepted != schema => Err(format!(
            "schema {schema}, parser {accepted}: {configuration}"
        )),
        _ => Ok(()),
    }
}

const KEYS: [&str; 13] = [
    "thresholds",
    "identity_series",
    "certificate_sources",
    "filter_state_key",
    "strip_xfcc_certificates",
    "hierarchy",
    "identity",
    "certificate_addresses",
    "ignore",
    "flag",
    "deny",
    "log_repeat",
    "no_such_key",
];

/// Values as they are written, and as they are written wrongly.
fn scalar() -> BoxedStrategy<Value> {
    let texts = [
        "",
        "21d",
        "0s",
        "00s",
        "1s",
        "4s",
        "5s",
        "007s",
        "60s",
        "007h",
        "90",
        "d",
        "-1s",
        "+1s",
        "1.5h",
        "1w",
        "21D",
        " 1s",
        "25%",
        "12.5%",
        "0%",
        "100%",
        "100.00%",
        "100.01%",
        "101%",
        "0099.9%",
        "5.%",
        ".5%",
        "1.234%",
        "%",
        "1%s",
        "attribute",
        "filter_state",
        "xfcc",
        "hierarchy",
        "full",
        "hashed",
        "off",
        "workload",
        "expired",
        "weak_key",
        "Expired",
        "prometheus_stats",
        "x-peer",
        "x peer",
        "X-Peer_~|",
        "x:peer",
        "host",
        "hosts",
        "Content-Length",
        "te",
        "é",
    ];
    prop_oneof![
        6 => select(texts.to_vec()).prop_map(Value::from),
        1 => "[0-9]{1,13}[smhdw%.]{1,2}".prop_map(Value::from),
        1 => "\\PC{0,8}".prop_map(Value::from),
        1 => select(vec![json!(0), json!(100), json!(100_000), json!(100_001), json!(-1), json!(1.5), json!(7.0)]),
        1 => select(vec![json!(true), json!(false), Value::Null]),
    ]
    .boxed()
}

fn value() -> impl Strategy<Value = Value> {
    let list = vec(scalar(), 0..4).prop_map(Value::from);
    let threshold = (scalar(), vec(scalar(), 0..3))
        .prop_map(|(warning, critical)| json!({"warning": warning, "critical": critical}));
    let keys = [
        "workload",
        "root_ca",
        "leaf",
        "admin_cluster",
        "interval",
        "request_header",
        "response_header",
        "warning",
    ];
    let inner = prop_oneof![3 => threshold, 2 => scalar(), 1 => list.clone()];
    let object = vec((select(keys.to_vec()), inner), 0..3);
    let object = object.prop_map(|entries| {
        entries
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value))
            .collect()
    });
    prop_oneof![3 => scalar(), 3 => list, 3 => object]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn schema_and_parser_agree(key in select(&KEYS[..]), value in value()) {
        prop_assert_eq!(agree(&json!({key: value})), Ok(()));
    }

    #[test]
    fn on_thresholds(layer in select(vec!["workload", "issuing_ca", "intermediate_ca", "root_ca"]), bounds in value()) {
        prop_assert_eq!(agree(&json!({"thresholds": {layer: {"warning": bounds}}})), Ok(()));
    }

    #[test]
    fn on_the_inner_keys(key in select(vec![("hierarchy", "interval"), ("hierarchy", "admin_cluster"), ("flag", "request_header"), ("flag", "response_header")]), value in scalar()) {
        prop_assert_eq!(agree(&json!({key.0: {key.1: value}})), Ok(()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn on_what_is_ignored(
        finding in scalar(),
        more in proptest::option::of((select(vec!["identity_prefix", "layer", "finding", "nonsense"]), scalar())),
    ) {
        let mut item = json!({"finding": finding});
        if let Some((key, value)) = more {
            item[key] = value;
        }
        prop_assert_eq!(agree(&json!({"ignore": [{"finding": "expired"}, item]})), Ok(()));
    }
}

/// Those that the schema must accept: what docs/configuration.md shows, and the least one can write.
#[test]
fn both_accept_what_is_documented() {
    let page = fs::read_to_string(workspace_root().join("docs/configuration.md")).unwrap();
    let (_, shown) = page
        .split_once("<!-- configuration:begin -->\n```json\n")
        .unwrap();
    let (shown, _) = shown.split_once("```").unwrap();
    let shown: Value = serde_json::from_str(shown).unwrap();
    for configuration in [
        shown,
        json!({}),
        json!({"hierarchy": {}}),
        json!({"ignore": [{"finding": "spiffe_id_invalid", "identity_prefix": "kuma://", "layer": "workload"}]}),
        json!({"hierarchy": null}),
        json!({"thresholds": {"workload": {"warning": "25%"}}}),
        json!({"deny": mtls_watch_core::terms::Finding::ALL.iter().map(|finding| finding.as_str()).collect::<Vec<_>>()}),
    ] {
        assert!(SCHEMA.is_valid(&configuration), "{configuration}");
        assert_eq!(
            parser_accepts(&configuration),
            Some(true),
            "{configuration}"
        );
    }
    for configuration in [json!([]), json!(null), json!("text"), json!(7)] {
        assert_eq!(agree(&configuration), Ok(()));
        assert!(!SCHEMA.is_valid(&configuration));
    }
}
