//! The plugin configuration: what it means, what is said of a mistake, and what applies in its place.

use mtls_watch_core::config::{Config, ConfigError, Flag, Hierarchy, MAX_ERRORS, Problem};
use mtls_watch_core::terms::Source;
use mtls_watch_core::terms::{Acceptance, Finding, Findings, IdentityForm, Threshold};
use mtls_watch_x509::chain::Layer;
use mtls_watch_x509::time::Seconds;
use pki::{DAY, HOUR, MINUTE};
use serde_json::{Value, json};

/// The block of the reference, word for word: the defaults, and `hierarchy`, which is off by
/// default.
pub const REFERENCE: &str = include_str!("reference.json");

fn read(json: &Value) -> Config {
    Config::parse(json.to_string().as_bytes()).unwrap()
}

/// What is said of a configuration that has one mistake.
fn complaint(json: &[u8]) -> String {
    let (_, errors) = Config::read(json);
    let [error] = &errors[..] else {
        panic!("{}: {errors:?}", String::from_utf8_lossy(json));
    };
    error.to_string()
}

/// Warning and critical threshold of a leaf, in seconds.
fn workload(threshold: &Value, lifetime: i64) -> (i64, i64) {
    let config = read(&json!({"thresholds": {"workload": threshold}}));
    seconds(config.thresholds.of(Layer::Workload), lifetime)
}

fn seconds(threshold: &Threshold, lifetime: i64) -> (i64, i64) {
    let (warning, critical) = threshold.of_lifetime(Seconds(lifetime));
    (warning.0, critical.0)
}

#[test]
fn the_defaults_are_those_of_the_reference() {
    let mut reference: Value = serde_json::from_str(REFERENCE).unwrap();
    let hierarchy = reference.as_object_mut().unwrap().remove("hierarchy");
    assert_eq!(read(&reference), Config::default());
    let hierarchy = read(&json!({"hierarchy": hierarchy})).hierarchy;
    assert_eq!(hierarchy, Some(Hierarchy::default()));
    assert_eq!(Config::default().hierarchy, None);
}

#[test]
fn the_defaults_are_these_values() {
    let defaults = Config::default();
    assert_eq!(defaults.identity_series, 100);
    assert_eq!(defaults.certificate_addresses, 256);
    assert_eq!(
        defaults.certificate_sources,
        [Source::Attribute, Source::FilterState, Source::Xfcc]
    );
    assert_eq!(defaults.filter_state_key, "mtls_watch.peer_certificate");
    assert!(defaults.strip_xfcc_certificates);
    assert_eq!(defaults.flag, Flag::default());
    assert_eq!(defaults.deny, Findings::empty());
    assert_eq!(defaults.log_repeat, Seconds(HOUR));
    let hierarchy = Hierarchy::default();
    assert_eq!(hierarchy.admin_cluster, "prometheus_stats");
    assert_eq!(hierarchy.interval, Seconds(MINUTE));
    for (layer, warning, critical, day_warning, day_critical) in [
        (Layer::Workload, 21, 7, 0.25, 0.125),
        (Layer::IssuingCa, 30, 7, 0.16, 0.08),
        (Layer::IntermediateCa, 60, 30, 0.16, 0.08),
        (Layer::RootCa, 180, 90, 0.16, 0.08),
    ] {
        let threshold = defaults.thresholds.of(layer);
        assert_eq!(
            seconds(threshold, 10_000 * DAY),
            (warning * DAY, critical * DAY)
        );
        let share = |share: f64| (DAY as f64 * share) as i64;
        assert_eq!(
            seconds(threshold, DAY),
            (share(day_warning), share(day_critical))
        );
    }
}

#[test]
fn no_configuration_means_the_defaults() {
    for empty in ["", " \n\t", "{}", " {} "] {
        assert_eq!(Config::parse(empty.as_bytes()), Ok(Config::default()));
    }
}

#[test]
fn what_is_not_given_keeps_its_default() {
    let config = read(&json!({"thresholds": {"root_ca": {"critical": "1d"}}, "deny": ["expired"]}));
    let root = config.thresholds.of(Layer::RootCa);
    assert_eq!(seconds(root, 10_000 * DAY), (180 * DAY, DAY));
    let defaults = Config::default();
    for layer in [Layer::Workload, Layer::IssuingCa, Layer::IntermediateCa] {
        assert_eq!(config.thresholds.of(layer), defaults.thresholds.of(layer));
    }
    let expected = Config {
        thresholds: config.thresholds.clone(),
        deny: Findings::only(Finding::Expired),
        ..defaults
    };
    assert_eq!(config, expected);
}

#[test]
fn every_setting_can_be_set() {
    let config = read(&json!({
        "identity_series": 7,
        "certificate_sources": ["xfcc"],
        "filter_state_key": "k",
        "strip_xfcc_certificates": false,
        "hierarchy": {"admin_cluster": "admin", "interval": "5m"},
        "identity": "hashed",
        "certificate_addresses": 3,
        "ignore": [
            {"finding": "expired"},
            {"finding": "weak_key", "identity_prefix": "kuma://", "layer": "root_ca"},
        ],
        "flag": {"request_header": "X-Peer-Status", "response_header": "x-server"},
        "deny": Finding::ALL.iter().map(|finding| finding.as_str()).collect::<Vec<_>>(),
        "log_repeat": "90s",
    }));
    let expected = Config {
        thresholds: Config::default().thresholds,
        identity_series: 7,
        certificate_sources: vec![Source::Xfcc],
        filter_state_key: "k".to_owned(),
        strip_xfcc_certificates: false,
        hierarchy: Some(Hierarchy {
            admin_cluster: "admin".to_owned(),
            interval: Seconds(5 * MINUTE),
        }),
        identity: IdentityForm::Hashed,
        certificate_addresses: 3,
        ignore: vec![
            Acceptance {
                finding: Finding::Expired,
                identity_prefix: String::new(),
                layer: None,
            },
            Acceptance {
                finding: Finding::WeakKey,
                identity_prefix: "kuma://".to_owned(),
                layer: Some(Layer::RootCa),
            },
        ],
        // Header names are compared without regard to case; HTTP/2 has them in lower case.
        flag: Flag {
            request_header: Some("x-peer-status".to_owned()),
            response_header: Some("x-server".to_owned()),
        },
        deny: Finding::ALL.iter().copied().collect(),
        log_repeat: Seconds(90),
    };
    assert_eq!(config, expected);
}

#[test]
fn a_threshold_is_one_bound_or_a_list_of_which_the_smallest_counts() {
    let hour = 3600;
    for (threshold, expected) in [
        (json!({"warning": "90s", "critical": "30s"}), (90, 30)),
        (
            json!({"warning": "30m", "critical": ["10m"]}),
            (30 * 60, 10 * 60),
        ),
        (
            json!({"warning": ["36h"], "critical": "1h"}),
            (36 * hour, hour),
        ),
        (
            json!({"warning": "50%", "critical": "0.01%"}),
            (50_000 * 10, 100),
        ),
        (
            json!({"warning": "100%", "critical": "0.5%"}),
            (1_000_000, 5000),
        ),
        (
            json!({"warning": ["2d", "3d", "90%", "20%", "1d"], "critical": "1s"}),
            (86_400, 1),
        ),
        (
            json!({"warning": ["21d", "2%"], "critical": ["1d", "1%"]}),
            (20_000, 10_000),
        ),
        (json!({"warning": "0s", "critical": "0%"}), (0, 0)),
    ] {
        assert_eq!(workload(&threshold, 1_000_000), expected, "{threshold}");
    }
}

#[test]
fn critical_is_never_above_warning_though_their_bounds_are_of_different_kinds() {
    let threshold = json!({"warning": "1h", "critical": "50%"});
    assert_eq!(workload(&threshold, 1000), (3600, 500));
    assert_eq!(workload(&threshold, 1_000_000), (3600, 3600));
}

#[test]
fn numbers_may_come_as_the_doubles_of_a_protobuf_struct() {
    for (number, expected) in [
        ("100.0", 100),
        ("0.0", 0),
        ("1e2", 100),
        ("25", 25),
        ("0", 0),
    ] {
        let json = format!(r#"{{"identity_series": {number}}}"#);
        let config = Config::parse(json.as_bytes()).unwrap();
        assert_eq!(config.identity_series, expected, "{number}");
    }
}

#[test]
fn a_complaint_names_the_path_and_the_value() {
    for (json, start) in [
        // The reference's own example.
        (
            json!({"thresholds": {"issuing_ca": {"warning": ["30d", "16 %"]}}}),
            r#"thresholds.issuing_ca.warning[1]: "16 %": "#,
        ),
        (json!({"threshold": {}}), "threshold: {}: "),
        (json!({"thresholds": {"leaf": 1}}), "thresholds.leaf: 1: "),
        (json!({"thresholds": []}), "thresholds: []: "),
        (
            json!({"thresholds": {"workload": "21d"}}),
            r#"thresholds.workload: "21d": "#,
        ),
        (
            json!({"thresholds": {"workload": {"info": "21d"}}}),
            r#"thresholds.workload.info: "21d": "#,
        ),
        (
            json!({"thresholds": {"workload": {"warning": []}}}),
            "thresholds.workload.warning: []: ",
        ),
        (
            json!({"thresholds": {"workload": {"warning": ["21d", ["1d"]]}}}),
            r#"thresholds.workload.warning[1]: ["1d"]: "#,
        ),
        (
            json!({"identity_series": "100"}),
            r#"identity_series: "100": "#,
        ),
        (json!({"identity_series": -1}), "identity_series: -1: "),
        (json!({"identity_series": 1.5}), "identity_series: 1.5: "),
        (
            json!({"identity_series": 100_001}),
            "identity_series: 100001: ",
        ),
        (json!({"identity_series": null}), "identity_series: null: "),
        (
            json!({"certificate_sources": "xfcc"}),
            r#"certificate_sources: "xfcc": "#,
        ),
        (
            json!({"certificate_sources": []}),
            "certificate_sources: []: ",
        ),
        (
            json!({"certificate_sources": ["xfcc", "header"]}),
            r#"certificate_sources[1]: "header": "#,
        ),
        (
            json!({"certificate_sources": ["hierarchy"]}),
            r#"certificate_sources[0]: "hierarchy": "#,
        ),
        (
            json!({"certificate_sources": ["xfcc", "xfcc"]}),
            r#"certificate_sources[1]: "xfcc": "#,
        ),
        (json!({"filter_state_key": 1}), "filter_state_key: 1: "),
        (json!({"filter_state_key": ""}), r#"filter_state_key: "": "#),
        (
            json!({"strip_xfcc_certificates": "true"}),
            r#"strip_xfcc_certificates: "true": "#,
        ),
        (
            json!({"strip_xfcc_certificates": null}),
            "strip_xfcc_certificates: null: ",
        ),
        (json!({"hierarchy": true}), "hierarchy: true: "),
        (
            json!({"hierarchy": {"cluster": "a"}}),
            r#"hierarchy.cluster: "a": "#,
        ),
        (
            json!({"hierarchy": {"interval": 60}}),
            "hierarchy.interval: 60: ",
        ),
        (
            json!({"hierarchy": {"interval": "0s"}}),
            r#"hierarchy.interval: "0s": "#,
        ),
        (json!({"flag": "x-status"}), r#"flag: "x-status": "#),
        (
            json!({"flag": {"request_header": "a b"}}),
            r#"flag.request_header: "a b": "#,
        ),
        (
            json!({"flag": {"response_header": ":path"}}),
            r#"flag.response_header: ":path": "#,
        ),
        (
            json!({"flag": {"response_header": null}}),
            "flag.response_header: null: ",
        ),
        (json!({"identity": "none"}), r#"identity: "none": "#),
        (json!({"identity": null}), "identity: null: "),
        (json!({"ignore": {}}), "ignore: {}: "),
        (json!({"ignore": ["expired"]}), r#"ignore[0]: "expired": "#),
        (
            json!({"ignore": [{"finding": "expired"}, {"finding": "old"}]}),
            r#"ignore[1].finding: "old": "#,
        ),
        (json!({"ignore": [{}]}), "ignore[0]: {}: "),
        (
            json!({"ignore": [{"finding": "expired", "layer": "leaf"}]}),
            r#"ignore[0].layer: "leaf": "#,
        ),
        (
            json!({"ignore": [{"finding": "expired", "identity_prefix": 1}]}),
            "ignore[0].identity_prefix: 1: ",
        ),
        (
            json!({"ignore": [{"finding": "expired", "identity": "a"}]}),
            r#"ignore[0].identity: "a": "#,
        ),
        (json!({"deny": "expired"}), r#"deny: "expired": "#),
        (
            json!({"deny": ["expired", "Expired"]}),
            r#"deny[1]: "Expired": "#,
        ),
        (json!({"log_repeat": 3600}), "log_repeat: 3600: "),
        (json!({"log_repeat": "1h30m"}), r#"log_repeat: "1h30m": "#),
        (
            json!({"hierarchy": {"interval": "4s"}}),
            r#"hierarchy.interval: "4s": "#,
        ),
        (
            json!({"deny": [{"expired": null}]}),
            r#"deny[0]: {"expired":null}: "#,
        ),
        (
            json!({"deny": ["expired", "weak_key", "expired"]}),
            r#"deny[2]: "expired": "#,
        ),
        (json!([]), "configuration: []: "),
        (json!("thresholds"), r#"configuration: "thresholds": "#),
        (json!(null), "configuration: null: "),
    ] {
        let message = complaint(json.to_string().as_bytes());
        let problem = message.strip_prefix(start);
        assert!(
            problem.is_some_and(|text| text.len() > 5),
            "{json} → {message}"
        );
    }
}

#[test]
fn a_complaint_says_what_would_do() {
    let unknown_key = complaint(br#"{"hierarchy": {"cluster": "a"}}"#);
    assert!(
        unknown_key.contains("`admin_cluster` or `interval`"),
        "{unknown_key}"
    );
    let unknown_word = complaint(br#"{"deny": ["old"]}"#);
    for &finding in Finding::ALL {
        assert!(unknown_word.contains(finding.as_str()), "{unknown_word}");
    }
    let duration = complaint(br#"{"log_repeat": "soon"}"#);
    for example in ["90s", "30m", "36h", "21d"] {
        assert!(duration.contains(example), "{duration}");
    }
    let bound = complaint(br#"{"thresholds": {"workload": {"warning": "soon"}}}"#);
    assert!(bound.contains("21d") && bound.contains("25%"), "{bound}");
}

#[test]
fn durations_and_shares_are_written_in_one_way_only() {
    for bound in [
        "",
        "s",
        "d",
        "%",
        "21",
        "21 d",
        " 21d",
        "21d ",
        "21D",
        "-1d",
        "+1d",
        "1.5h",
        "1w",
        "1h30m",
        "١d",
        "21é",
        "25 %",
        "-1%",
        ".5%",
        "5.%",
        "12.345%",
        "100.01%",
        "101%",
        "1e1%",
        "25%%",
        "99999999999999999999d",
        "9223372036854775807d",
        "9223372036854775808%",
    ] {
        let workload = json!({"warning": bound, "critical": "0s"});
        let json = json!({"thresholds": {"workload": workload}}).to_string();
        let message = complaint(json.as_bytes());
        let start = format!("thresholds.workload.warning: {}: expected", json!(bound));
        assert!(message.starts_with(&start), "{message}");
    }
}

#[test]
fn critical_must_not_exceed_warning_bound_by_bound() {
    for (workload, blamed) in [
        (
            json!({"warning": "1d", "critical": "2d"}),
            "critical: \"2d\"",
        ),
        (
            json!({"warning": "10%", "critical": "10.01%"}),
            "critical: \"10.01%\"",
        ),
        (
            json!({"warning": ["9d", "10%"], "critical": ["7d", "11%"]}),
            r#"critical: ["7d","11%"]"#,
        ),
        // Against the default of what is not given.
        (json!({"warning": "1d"}), "warning: \"1d\""),
        (json!({"critical": "22d"}), "critical: \"22d\""),
    ] {
        let json = json!({"thresholds": {"workload": workload}}).to_string();
        let message = complaint(json.as_bytes());
        let start = format!("thresholds.workload.{blamed}: ");
        assert!(message.starts_with(&start), "{message}");
        assert!(
            message.contains("critical must not exceed warning"),
            "{message}"
        );
    }
    for equal in [
        json!({"warning": "1d", "critical": "1d"}),
        json!({"warning": ["9d", "10%"], "critical": ["9d", "10%"]}),
        json!({"critical": "21d"}),
    ] {
        let json = json!({"thresholds": {"workload": equal}}).to_string();
        assert!(Config::parse(json.as_bytes()).is_ok(), "{json}");
    }
}

#[test]
fn of_what_is_not_json_nothing_applies() {
    let deep = "[".repeat(100_000);
    for text in [
        &b"thresholds: {}"[..],
        b"{",
        b"{} {}",
        b"\xff\xfe",
        b"{\"deny\": [\"\xff\"]}",
        b"\0",
        deep.as_bytes(),
    ] {
        let message = complaint(text);
        assert!(message.starts_with("configuration: "), "{message}");
        assert!(message.contains("not JSON"), "{message}");
        assert_eq!(Config::read(text).0, Config::default());
    }
}

#[test]
fn a_complaint_is_one_line_of_bounded_length_whatever_was_written() {
    let long = "x".repeat(100_000);
    for json in [
        json!({"a\nb": 1}),
        json!({"thresholds": {"\u{1b}[2J": 1}}),
        json!({"deny": ["a\nb"]}),
        json!({"filter_state_key": ["\r\n"]}),
        json!({&long: 1}),
        json!({"log_repeat": long}),
        json!({"log_repeat": "é\u{301}".repeat(1000)}),
    ] {
        let message = complaint(json.to_string().as_bytes());
        assert!(!message.contains(char::is_control), "{message:?}");
        assert!(message.len() < 1500, "{} bytes", message.len());
    }
    let message = complaint(b"{\"deny\":\n\n oops}");
    assert!(!message.contains(char::is_control), "{message:?}");
}

#[test]
fn unicode_is_taken_where_a_name_is_free() {
    let config = read(&json!({"filter_state_key": "clé.✓"}));
    assert_eq!(config.filter_state_key, "clé.✓");
}

#[test]
fn a_poll_at_every_tick_is_the_shortest() {
    let config = read(&json!({"hierarchy": {"interval": "5s"}}));
    assert_eq!(
        config.hierarchy.map(|hierarchy| hierarchy.interval),
        Some(Seconds(5))
    );
}

/// A flag in the place of one would fail every request.
#[test]
fn a_flag_takes_no_header_by_which_http_works() {
    for name in [
        "connection",
        "Content-Length",
        "expect",
        "host",
        "keep-alive",
        "proxy-connection",
        "TE",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ] {
        for key in ["request_header", "response_header"] {
            let message = complaint(json!({"flag": {key: name}}).to_string().as_bytes());
            let start = format!("flag.{key}: {}: expected a header name", json!(name));
            assert!(message.starts_with(&start), "{message}");
        }
    }
    for name in ["hosts", "x-host", "content-length-", ""] {
        read(&json!({"flag": {"request_header": name}}));
    }
}

#[test]
fn a_hierarchy_of_null_is_none() {
    assert_eq!(read(&json!({"hierarchy": null})), Config::default());
    assert_eq!(
        read(&json!({"hierarchy": {}})).hierarchy,
        Some(Hierarchy::default())
    );
}

/// Every key with another value than its default.
fn changed() -> Value {
    json!({
        "thresholds": {
            "workload": {"warning": ["22d", "26%"], "critical": ["6d", "12%"]},
            "issuing_ca": {"warning": "31d", "critical": ["6d"]},
            "intermediate_ca": {"warning": ["61d", "17%"], "critical": ["29d", "7%"]},
            "root_ca": {"warning": ["181d", "17%"], "critical": ["89d", "7%"]},
        },
        "identity_series": 7,
        "certificate_sources": ["xfcc"],
        "filter_state_key": "k",
        "strip_xfcc_certificates": false,
        "hierarchy": {"admin_cluster": "admin", "interval": "5m"},
        "identity": "off",
        "certificate_addresses": 3,
        "ignore": [{"finding": "expired"}],
        "flag": {"request_header": "x-peer", "response_header": "x-server"},
        "deny": ["expired", "weak_key"],
        "log_repeat": "90s",
    })
}

/// Paths of all keys, as they are in a JSON pointer.
fn keys(value: &Value, path: &str) -> Vec<String> {
    let Some(object) = value.as_object() else {
        return Vec::new();
    };
    let inner = object.iter().flat_map(|(key, value)| {
        let path = format!("{path}/{key}");
        let inner = keys(value, &path);
        [path].into_iter().chain(inner)
    });
    inner.collect()
}

/// The configuration without one of its keys.
fn without(mut configuration: Value, pointer: &str) -> Value {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    let parent = configuration.pointer_mut(parent).unwrap();
    parent.as_object_mut().unwrap().remove(key).unwrap();
    configuration
}

/// The paths of the errors start with the path of the key that is wrong.
fn are_in(errors: &[ConfigError], pointer: &str) -> bool {
    let path = pointer[1..].replace('/', ".");
    !errors.is_empty() && errors.iter().all(|error| error.path.starts_with(&path))
}

#[test]
fn a_key_that_is_wrong_has_its_default_and_no_other_key_does() {
    let kinds = [
        json!(null),
        json!(true),
        json!(-1),
        json!(1.5),
        json!(1e99),
        json!("?\n"),
        json!(""),
        json!([]),
        json!([null]),
        json!([[]]),
        json!(["?"]),
        json!({"?": 1}),
    ];
    for pointer in keys(&changed(), "") {
        let default = read(&without(changed(), &pointer));
        let mut wrong = 0;
        for kind in &kinds {
            let mut configuration = changed();
            *configuration.pointer_mut(&pointer).unwrap() = kind.clone();
            let (config, errors) = Config::read(configuration.to_string().as_bytes());
            if errors.is_empty() {
                continue;
            }
            wrong += 1;
            assert!(are_in(&errors, &pointer), "{pointer}: {kind}: {errors:?}");
            // `hierarchy` with a key that is unknown is still wanted.
            if pointer == "/hierarchy" && kind.is_object() {
                assert_eq!(config.hierarchy, Some(Hierarchy::default()));
                continue;
            }
            assert_eq!(config, default, "{pointer}: {kind}");
        }
        // Each key takes a value or two of the list: `""`, `[]`, `true`, `null`.
        assert!(wrong >= kinds.len() - 2, "{pointer}: {wrong}");
    }
}

#[test]
fn an_unknown_key_changes_nothing() {
    let expected = read(&changed());
    for pointer in [
        "",
        "/thresholds",
        "/thresholds/root_ca",
        "/hierarchy",
        "/flag",
    ] {
        let mut configuration = changed();
        configuration.pointer_mut(pointer).unwrap()["nonsense"] = json!(1);
        let (config, errors) = Config::read(configuration.to_string().as_bytes());
        assert_eq!(config, expected, "{pointer}");
        let [error] = &errors[..] else {
            panic!("{errors:?}");
        };
        assert!(error.path.ends_with("nonsense"), "{error}");
        assert!(matches!(error.problem, Problem::UnknownKey(_)), "{error}");
    }
}

#[test]
fn a_list_with_one_wrong_item_does_not_apply_in_part() {
    for (key, list) in [
        (
            "ignore",
            json!([{"finding": "expired"}, {"finding": "old"}]),
        ),
        ("deny", json!(["expired", "old"])),
        ("deny", json!(["expired", "expired"])),
        ("certificate_sources", json!(["xfcc", "header"])),
    ] {
        let (config, errors) = Config::read(json!({key: list}).to_string().as_bytes());
        assert_eq!((config, errors.len()), (Config::default(), 1), "{list}");
    }
}

#[test]
fn where_critical_exceeds_warning_both_have_their_defaults() {
    let thresholds = json!({
        "workload": {"warning": "1d", "critical": "2d"},
        "root_ca": {"warning": "200d", "critical": "100d"},
    });
    let (config, errors) = Config::read(json!({"thresholds": thresholds}).to_string().as_bytes());
    assert_eq!(errors.len(), 1, "{errors:?}");
    let defaults = Config::default().thresholds;
    let (workload, root) = (Layer::Workload, Layer::RootCa);
    assert_eq!(config.thresholds.of(workload), defaults.of(workload));
    let long = 10_000 * DAY;
    assert_eq!(
        seconds(config.thresholds.of(root), long),
        (200 * DAY, 100 * DAY)
    );
}

/// The default that stands in for one of them is compared with the other.
#[test]
fn a_threshold_that_does_not_fit_the_default_of_a_wrong_one_is_an_error_too() {
    let workload = json!({"warning": "60 d", "critical": "30d"});
    let json = json!({"thresholds": {"workload": workload}}).to_string();
    let (config, errors) = Config::read(json.as_bytes());
    assert_eq!(config, Config::default());
    let paths: Vec<&str> = errors.iter().map(|error| &*error.path).collect();
    let expected = [
        "thresholds.workload.warning",
        "thresholds.workload.critical",
    ];
    assert_eq!(paths, expected);
}

#[test]
fn a_key_that_is_given_twice_has_its_default() {
    for (json, path, others) in [
        (
            r#"{"identity_series": 7, "log_repeat": "5s", "identity_series": 8}"#,
            "identity_series",
            r#"{"log_repeat": "5s"}"#,
        ),
        (
            r#"{"flag": {"request_header": "a", "request_header": "a"}, "deny": ["expired"]}"#,
            "flag.request_header",
            r#"{"deny": ["expired"]}"#,
        ),
        (r#"{"deny": [], "d\u0065ny": ["expired"]}"#, "deny", "{}"),
        (r#"{"hierarchy": {}, "hierarchy": {}}"#, "hierarchy", "{}"),
    ] {
        let (config, errors) = Config::read(json.as_bytes());
        assert_eq!(config, Config::parse(others.as_bytes()).unwrap(), "{json}");
        let [error] = &errors[..] else {
            panic!("{errors:?}");
        };
        assert_eq!(
            (&*error.path, &error.problem),
            (path, &Problem::KeyRepeated)
        );
    }
}

#[test]
fn every_mistake_is_told_up_to_a_limit() {
    let configuration = |count: usize| {
        let keys = (0..count).map(|number| format!(r#""k{number}": 1"#));
        let keys: Vec<String> = keys.collect();
        format!(r#"{{{}, "identity_series": 7}}"#, keys.join(","))
    };
    for (count, told) in [
        (1, 1),
        (MAX_ERRORS, MAX_ERRORS),
        (MAX_ERRORS + 1, MAX_ERRORS + 1),
        (20_000, MAX_ERRORS + 1),
    ] {
        let (config, errors) = Config::read(configuration(count).as_bytes());
        assert_eq!((config.identity_series, errors.len()), (7, told));
        let last = errors.last().unwrap();
        if count > MAX_ERRORS {
            assert_eq!(last.problem, Problem::More(count - MAX_ERRORS));
            let expected = format!("{} more errors", count - MAX_ERRORS);
            assert!(last.to_string().ends_with(&expected), "{last}");
        }
    }
}

#[test]
fn the_line_of_the_log_says_that_the_default_applies() {
    let json = json!({"thresholds": {"issuing_ca": {"warning": ["30d", "16 %"]}}});
    let (_, errors) = Config::read(json.to_string().as_bytes());
    assert_eq!(
        errors[0].log_line(),
        "mtls-watch: configuration error: thresholds.issuing_ca.warning[1]: \"16 %\": expected a duration \
         such as \"21d\" or a share of the lifetime such as \"25%\"; the default applies"
    );
}

/// The text of a value is kept as it was written: numbers, escapes.
#[test]
fn a_value_is_quoted_as_it_was_written() {
    for (json, expected) in [
        (r#"{"identity_series": 1e999}"#, "identity_series: 1e999: "),
        (r#"{"identity_series": 0.10}"#, "identity_series: 0.10: "),
        (r#"{"log_repeat": "\u0041"}"#, r#"log_repeat: "\u0041": "#),
        (r#"{"log_repeat": "\ud800"}"#, r#"log_repeat: "\ud800": "#),
        (r#"{"deny": [ "expired" , { } ]}"#, "deny[1]: { }: "),
    ] {
        let message = complaint(json.as_bytes());
        assert!(message.starts_with(expected), "{message}");
    }
}
