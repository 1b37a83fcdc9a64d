//! The module loads with every configuration: what Envoy's log and the gauge say of a wrong one.

use std::collections::BTreeSet;

use wasmtime::Result;

use crate::attributes::{Attributes, INBOUND};
use crate::host::{CONTINUE, ERROR, Metric, Proxy, Worker};
use crate::pki::{DAY, ExtendedKeyUsage, Leaf};

/// The defaults as the documentation states them, with the one part that is off unless given.
const DOCUMENTED: &str = include_str!("../../crates/core/tests/core/reference.json");

/// The number of errors, as the gauge has it.
fn counted(proxy: &Proxy) -> Option<u64> {
    match proxy.metrics().get("mtls_watch_configuration_errors") {
        Some(Metric::Gauge(errors)) => *errors,
        other => panic!("{other:?}"),
    }
}

fn errors(worker: &Worker) -> Vec<&str> {
    let errors = worker.logs().iter().filter(|(level, _)| *level >= ERROR);
    errors.map(|(_, text)| text.as_str()).collect()
}

#[test]
fn good_configurations_are_accepted_without_a_complaint() -> Result<()> {
    for configuration in [
        "",
        "{}",
        DOCUMENTED,
        r#"{"thresholds": {"workload": {"warning": "36h", "critical": "30m"}}}"#,
        r#"{"identity_series": 0, "deny": ["expired"], "log_repeat": "90s"}"#,
    ] {
        let proxy = Proxy::new();
        let mut worker = proxy.unconfigured()?;
        assert!(worker.configure(configuration)?, "{configuration}");
        assert_eq!(errors(&worker), [""; 0], "{configuration}");
        assert_eq!(counted(&proxy), Some(0), "{configuration}");
    }
    Ok(())
}

#[test]
fn a_wrong_configuration_loads_with_one_line_that_says_where_and_what() -> Result<()> {
    for (configuration, path, value) in [
        (r#"{"treshold": {}}"#, "treshold", "treshold"),
        (r#"{"thresholds": {"leaf": {}}}"#, "thresholds.leaf", "leaf"),
        (
            r#"{"thresholds": {"root_ca": {"warn": "1d"}}}"#,
            "thresholds.root_ca.warn",
            "warn",
        ),
        (
            r#"{"thresholds": {"issuing_ca": {"warning": ["30d", "16 %"]}}}"#,
            "thresholds.issuing_ca.warning[1]",
            "16 %",
        ),
        (
            r#"{"thresholds": {"workload": {"warning": "soon"}}}"#,
            "thresholds.workload.warning",
            "soon",
        ),
        (
            r#"{"thresholds": {"workload": {"critical": "99999999999999999999d"}}}"#,
            "thresholds.workload.critical",
            "99999999999999999999d",
        ),
        (
            r#"{"thresholds": {"workload": {"warning": "1d", "critical": "2d"}}}"#,
            "thresholds.workload",
            "2d",
        ),
        (r#"{"thresholds": 7}"#, "thresholds", "7"),
        (r#"{"identity_series": "many"}"#, "identity_series", "many"),
        (r#"{"identity_series": -1}"#, "identity_series", "-1"),
        (r#"{"identity_series": 1.5}"#, "identity_series", "1.5"),
        (
            r#"{"certificate_sources": ["attribute", "dns"]}"#,
            "certificate_sources[1]",
            "dns",
        ),
        (
            r#"{"strip_xfcc_certificates": "yes"}"#,
            "strip_xfcc_certificates",
            "yes",
        ),
        (r#"{"filter_state_key": 5}"#, "filter_state_key", "5"),
        (r#"{"deny": ["expired", "expird"]}"#, "deny[1]", "expird"),
        (
            r#"{"hierarchy": {"interval": "often"}}"#,
            "hierarchy.interval",
            "often",
        ),
        (
            r#"{"flag": {"request_header": 7}}"#,
            "flag.request_header",
            "7",
        ),
        (r#"{"log_repeat": "1 hour"}"#, "log_repeat", "1 hour"),
    ] {
        let proxy = Proxy::new();
        let mut worker = proxy.unconfigured()?;
        assert!(worker.configure(configuration)?, "{configuration}");
        assert_eq!(counted(&proxy), Some(1), "{configuration}");
        let [line] = errors(&worker)[..] else {
            panic!("{configuration}: {:?}", worker.logs());
        };
        let start = format!("mtls-watch: configuration error: {path}");
        assert!(line.starts_with(&start), "{configuration}: {line}");
        assert!(line.contains(value), "{configuration}: {line}");
        let end = "; the default applies";
        assert!(line.ends_with(end), "{configuration}: {line}");
    }
    Ok(())
}

#[test]
fn what_is_not_a_json_object_loads_with_one_line() -> Result<()> {
    let inputs: [&[u8]; 8] = [
        b"[]",
        b"7",
        b"\"{}\"",
        b"{\"deny\": [}",
        b"{\"deny\": [\"exp",
        b"{} {}",
        b"\xff\xfe{}",
        &[b'['; 100_000],
    ];
    for input in inputs {
        let proxy = Proxy::new();
        let mut worker = proxy.unconfigured()?;
        let text = String::from_utf8_lossy(&input[..input.len().min(20)]);
        assert!(worker.configure(input)?, "{text}");
        assert_eq!(counted(&proxy), Some(1), "{text}");
        let errors = errors(&worker);
        assert_eq!(errors.len(), 1, "{text}: {errors:?}");
        assert!(errors[0].len() < 1000, "{text}: {}", errors[0].len());
    }
    Ok(())
}

/// Whatever is wrong, the rest applies: here what `deny` says.
#[test]
fn the_rest_of_a_wrong_configuration_applies() -> Result<()> {
    for (configuration, response) in [
        (r#"{"deny": ["expired"], "treshold": 1}"#, &[403][..]),
        (r#"{"deny": ["expired"], "log_repeat": 1}"#, &[403]),
        (r#"{"deny": ["expired", "expird"]}"#, &[]),
        (r#"{"deny": ["expired"]"#, &[]),
    ] {
        let mut worker = Proxy::new().worker(configuration)?;
        let expired = Leaf::new("spiffe://d/x").valid(-DAY, -1).sign();
        let stream = worker.open(&Attributes::http().client(&expired))?;
        worker.request_headers(stream, Vec::new())?;
        let responses = worker.finish(stream)?.local_responses;
        assert_eq!(responses, response, "{configuration}");
    }
    Ok(())
}

/// As after a rollback: the gauge is of the configuration that was loaded last.
#[test]
fn the_gauge_of_errors_goes_back() -> Result<()> {
    let proxy = Proxy::new();
    let mut worker = proxy.unconfigured()?;
    for (configuration, errors) in [
        ("{}", 0),
        (
            r#"{"treshold": 1, "identity_series": -1, "deny": ["x"]}"#,
            3,
        ),
        ("", 0),
        ("nonsense", 1),
        (r#"{"identity_series": 7}"#, 0),
    ] {
        assert!(worker.configure(configuration)?);
        assert_eq!(counted(&proxy), Some(errors), "{configuration}");
    }
    Ok(())
}

/// Envoy mints an id per definition and forgets none of them.
#[test]
fn configuring_again_defines_no_metric_again() -> Result<()> {
    let mut worker = Proxy::new().unconfigured()?;
    for _ in 0..5 {
        assert!(worker.configure("{}")?);
        worker.configure_another("{}")?;
    }
    let definitions = &worker.host().definitions;
    let names: BTreeSet<_> = definitions.iter().collect();
    assert!(!names.is_empty());
    assert_eq!(names.len(), definitions.len(), "{definitions:?}");
    Ok(())
}

/// A server that speaks first does so in the middle of the client's handshake, and its end is no event.
#[test]
fn a_client_that_only_listens_is_denied_at_the_next_tick() -> Result<()> {
    let client = Leaf::new("spiffe://d/x").usages(&[ExtendedKeyUsage::ServerAuth]);
    let peer = Attributes::network().client(&client.sign());
    for (deny, expected) in [("client_auth_missing", 1), ("expired", 0)] {
        let configuration = format!(r#"{{"deny": ["{deny}"]}}"#);
        let mut worker = Proxy::new().worker(&configuration)?;
        let connection = worker.open(&Attributes::network().direction(INBOUND))?;
        worker.upstream_data(connection)?;
        worker.tick()?;
        assert_eq!(worker.stream(connection).closed.len(), 0, "{deny}");
        worker.stream(connection).attributes = peer.clone();
        worker.tick()?;
        assert_eq!(worker.stream(connection).closed.len(), expected, "{deny}");
        worker.disconnect(connection)?;
        worker.tick()?;
    }
    Ok(())
}

/// One VM, two plugins: what the one refuses, the other lets pass, however their streams come in.
#[test]
fn each_plugin_of_a_vm_watches_its_own_streams() -> Result<()> {
    let mut worker = Proxy::new().worker("{}")?;
    let strict = worker.configure_another(r#"{"deny": ["expired"]}"#)?;
    let expired = Leaf::new("spiffe://d/x").valid(-DAY, -1).sign();
    let requests = Attributes::http().client(&expired);
    let connections = Attributes::network().client(&expired);
    let lenient_connection = worker.open(&connections)?;
    let strict_connection = worker.open_in(strict, &connections)?;
    for _ in 0..2 {
        let strict_request = worker.open_in(strict, &requests)?;
        worker.request_headers(strict_request, Vec::new())?;
        let lenient_request = worker.open(&requests)?;
        assert_eq!(
            worker.request_headers(lenient_request, Vec::new())?,
            CONTINUE
        );
        assert_eq!(worker.finish(lenient_request)?.local_responses, [0; 0]);
        assert_eq!(worker.finish(strict_request)?.local_responses, [403]);
    }
    assert_eq!(worker.downstream_data(lenient_connection)?, CONTINUE);
    worker.downstream_data(strict_connection)?;
    assert_eq!(worker.disconnect(lenient_connection)?.closed, [0; 0]);
    assert!(!worker.disconnect(strict_connection)?.closed.is_empty());
    Ok(())
}

#[test]
fn a_proxy_at_rest_has_few_series() -> Result<()> {
    let proxy = Proxy::new();
    proxy.worker("")?.tick()?;
    let series = proxy.metrics().len();
    assert!((1..=60).contains(&series), "{series} series");
    Ok(())
}

/// The module's stack is a quarter of the usual one (build.rs).
#[test]
fn text_nested_as_deep_as_it_likes_loads() -> Result<()> {
    for depth in [100, 127, 128, 100_000] {
        for (open, close) in [("[", "]"), (r#"{"deny":"#, "}")] {
            let text = open.repeat(depth) + "0" + &close.repeat(depth);
            let mut worker = Proxy::new().unconfigured()?;
            assert!(worker.configure(&text)?, "{depth}");
            assert_eq!(errors(&worker).len(), 1, "{depth}");
        }
    }
    Ok(())
}
