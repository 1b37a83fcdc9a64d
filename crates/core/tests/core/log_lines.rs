//! What an operator reads in Envoy's log: one line a finding, in logfmt, safe to print.

use std::rc::Rc;

use log::Level::{Error, Warn};
use pki::Identity;
use pki::{ExtendedKeyUsage, HOUR, KeyKind, LeafBuilder, MINUTE};
use serde_json::json;

use crate::captured_log::{capture, take};
use crate::fake_host::{FakeHost, Listener, Proxy};
use crate::worker::Worker;
use pki::fixtures::{PAY, PKI, fingerprint, key_digits, lasting, leaf, workload};
use pki::handmade::{COMMON_NAME, Handmade, UTF8_STRING, name};

fn server_only() -> LeafBuilder {
    workload().extended_key_usages(&[ExtendedKeyUsage::ServerAuth])
}

fn issued(leaf: LeafBuilder) -> Identity {
    leaf.issue().unwrap()
}

fn see(worker: &Worker, proxy: &Rc<Proxy>, client: &Identity) {
    worker.request(&FakeHost::new(proxy).on(Listener::Inbound).client(client));
}

/// The lines, without their level.
fn lines() -> Vec<String> {
    take().into_iter().map(|(_, line)| line).collect()
}

/// The lines that one client is worth.
fn lines_for(client: &Identity) -> Vec<String> {
    capture();
    let proxy = Proxy::new();
    see(&Worker::new(&proxy), &proxy, client);
    lines()
}

/// The pairs of a logfmt line after its words, quotes taken off.
fn pairs(line: &str) -> Vec<(String, String)> {
    let pair = regex::Regex::new(r#"^ ([a-z0-9_]+)=(?:([^" ]+)|"((?:[^"\\]|\\.)*)")"#).unwrap();
    let start = line.find('=').and_then(|at| line[..at].rfind(' ')).unwrap();
    let mut rest = &line[start..];
    let mut pairs = Vec::new();
    while !rest.is_empty() {
        let found = pair
            .captures(rest)
            .unwrap_or_else(|| panic!("no logfmt: {rest}"));
        let value = found.get(2).or(found.get(3)).unwrap().as_str();
        pairs.push((found[1].to_owned(), value.to_owned()));
        rest = &rest[found[0].len()..];
    }
    pairs
}

fn value(line: &str, key: &str) -> String {
    let pairs = pairs(line);
    let found = pairs.iter().find(|(found, _)| found == key);
    found
        .unwrap_or_else(|| panic!("no {key}: {line}"))
        .1
        .clone()
}

#[test]
fn a_line_says_what_is_wrong_with_whom_and_what_to_change() {
    let client = server_only().lifetime(lasting(-HOUR, 23 * HOUR));
    let client = issued(client.serial_number(&[0x1f, 7]));
    let found = lines_for(&client);
    let expected = format!(
        "mtls-watch: certificate finding direction=inbound finding=client_auth_missing \
         layer=workload identity=\"{PAY}\" issuer=\"Issuing CA:{}\" \
         not_after=2027-01-16T07:00:00Z serial=1f07 sha256={} \
         hint=\"add clientAuth to extendedKeyUsage\"",
        key_digits(&PKI.issuing),
        fingerprint(&client)
    );
    assert_eq!(found, [expected]);
}

#[test]
fn a_line_is_logfmt() {
    capture();
    let proxy = Proxy::new();
    let worker = Worker::configured(&proxy, json!({"deny": ["client_auth_missing"]}));
    see(&worker, &proxy, &issued(server_only()));
    worker.request(&FakeHost::new(&proxy).mtls(&issued(workload())));
    let lines = lines();
    assert_eq!(lines.len(), 3, "{lines:?}");
    for line in lines {
        assert!(line.starts_with("mtls-watch: "), "{line}");
        assert!(pairs(&line).len() >= 3, "{line}");
    }
}

#[test]
fn what_breaks_mtls_is_an_error_and_the_rest_a_warning() {
    for (leaf, level) in [
        (server_only(), Error),
        (workload().ca_flag(), Error),
        (workload().lifetime(lasting(-HOUR, -1)), Error),
        (workload().lifetime(lasting(1, HOUR)), Error),
        (
            workload().lifetime(lasting(-21 * HOUR - 1, 3 * HOUR - 1)),
            Error,
        ),
        (
            workload().lifetime(lasting(-18 * HOUR - 1, 6 * HOUR - 1)),
            Warn,
        ),
        (workload().key_kind(KeyKind::Rsa1024), Warn),
        (leaf().extended_key_usages(&[]), Warn),
    ] {
        capture();
        let proxy = Proxy::new();
        see(&Worker::new(&proxy), &proxy, &issued(leaf));
        let levels: Vec<_> = take().into_iter().map(|(level, _)| level).collect();
        assert!(levels.contains(&level), "{levels:?}");
        assert!(level == Error || !levels.contains(&Error), "{levels:?}");
    }
}

#[test]
fn a_peer_in_order_is_not_worth_a_line() {
    capture();
    let proxy = Proxy::new();
    let worker = Worker::new(&proxy);
    see(&worker, &proxy, &issued(workload()));
    proxy.set_clock(2 * MINUTE);
    worker.tick();
    assert_eq!(lines(), [""; 0]);
}

#[test]
fn every_finding_has_a_line_of_its_own() {
    let client = server_only()
        .key_kind(KeyKind::Rsa1024)
        .lifetime(lasting(-HOUR, -1));
    let lines = lines_for(&issued(client));
    let mut findings: Vec<_> = lines.iter().map(|line| value(line, "finding")).collect();
    findings.sort();
    assert_eq!(findings, ["client_auth_missing", "expired", "weak_key"]);
}

#[test]
fn a_line_is_not_repeated_within_the_configured_time() {
    for (configuration, seconds) in [
        (json!({}), HOUR),
        (json!({"log_repeat": "10m"}), 10 * MINUTE),
    ] {
        capture();
        let proxy = Proxy::new();
        let worker = Worker::configured(&proxy, configuration);
        let client = issued(server_only());
        for (time, expected) in [
            (0, 1),
            (0, 0),
            (1, 0),
            (seconds - 1, 0),
            (seconds, 1),
            (seconds + 1, 0),
            (2 * seconds - 1, 0),
        ] {
            proxy.set_clock(time);
            see(&worker, &proxy, &client);
            assert_eq!(lines().len(), expected, "at {time}");
        }
    }
}

#[test]
fn each_worker_writes_for_itself_and_each_certificate_counts() {
    capture();
    let proxy = Proxy::new();
    let client = issued(server_only());
    for worker in [Worker::new(&proxy), Worker::new(&proxy)] {
        see(&worker, &proxy, &client);
        assert_eq!(lines().len(), 1);
        see(
            &worker,
            &proxy,
            &issued(server_only().lifetime(lasting(-HOUR, 20 * HOUR))),
        );
        assert_eq!(lines().len(), 1);
    }
}

#[test]
fn two_certificates_without_a_name_that_end_together_have_a_line_each() {
    capture();
    let proxy = Proxy::new();
    let worker = Worker::new(&proxy);
    for _ in 0..2 {
        let nameless = leaf().extended_key_usages(&[ExtendedKeyUsage::ServerAuth]);
        see(&worker, &proxy, &issued(nameless));
        let lines = lines();
        let found: Vec<_> = lines.iter().map(|line| value(line, "finding")).collect();
        assert_eq!(found, ["client_auth_missing", "subject_alt_name_missing"]);
    }
}

#[test]
fn a_finding_that_comes_with_time_has_its_line_when_it_comes() {
    capture();
    let proxy = Proxy::new();
    let worker = Worker::new(&proxy);
    let host = FakeHost::new(&proxy).client(&issued(workload().lifetime(lasting(0, 24 * HOUR))));
    for (time, finding) in [
        (0, None),
        (18 * HOUR + 1, Some("expires_warning")),
        (18 * HOUR + 2, None),
        (21 * HOUR + 1, Some("expires_critical")),
        (24 * HOUR + 1, Some("expired")),
    ] {
        proxy.set_clock(time);
        worker.request(&host);
        let found: Vec<_> = lines().iter().map(|line| value(line, "finding")).collect();
        assert_eq!(found, Vec::from_iter(finding), "at {time}");
    }
}

#[test]
fn a_flood_of_findings_is_cut_off_and_counted() {
    capture();
    let proxy = Proxy::new();
    let worker = Worker::new(&proxy);
    let strangers = 300;
    for number in 0..strangers {
        let uri = format!("spiffe://d/{number}");
        let leaf = leaf()
            .uri(&uri)
            .extended_key_usages(&[ExtendedKeyUsage::ServerAuth]);
        see(&worker, &proxy, &issued(leaf));
    }
    let written = lines().len();
    assert!((1..=60).contains(&written), "{written} lines in a moment");
    proxy.set_clock(2 * MINUTE);
    worker.tick();
    let suppressed = lines();
    assert_eq!(suppressed.len(), 1);
    assert_eq!(
        value(&suppressed[0], "count"),
        (strangers - written).to_string()
    );
    worker.tick();
    assert_eq!(lines(), [""; 0]);
    see(&worker, &proxy, &issued(server_only()));
    assert_eq!(lines().len(), 1, "the flood is over");
}

/// A client whose only name is that common name, in a certificate that has something wrong.
fn called(proxy: &Rc<Proxy>, common_name: &str) -> FakeHost {
    let handmade = Handmade {
        subject: name(&[(&COMMON_NAME, UTF8_STRING, common_name.as_bytes())]),
        ..Handmade::default()
    };
    let block = pem::encode(&pem::Pem::new("CERTIFICATE", handmade.der()));
    FakeHost::new(proxy)
        .with("connection.mtls", [1])
        .with("connection.peer_certificate", block)
}

/// The identity as it is written for a client of that name.
fn written(common_name: &str) -> String {
    capture();
    let proxy = Proxy::new();
    Worker::new(&proxy).request(&called(&proxy, common_name));
    let lines = lines();
    assert!(!lines.is_empty());
    for line in &lines {
        assert!(!line.contains(char::is_control), "{line:?}");
    }
    value(&lines[0], "identity")
}

#[test]
fn what_a_peer_calls_itself_cannot_forge_a_line() {
    for (name, expected) in [
        ("pay", "pay"),
        ("a\" level=info x=\"b", r#"a\" level=info x=\"b"#),
        ("back\\slash\\", r"back\\slash\\"),
    ] {
        assert_eq!(written(name), expected);
    }
    for dangerous in [
        "\n",
        "\r",
        "\0",
        "\u{1b}",
        "\u{7f}",
        "\u{85}",
        "\u{9b}",
        "\u{2028}",
        "\u{202e}",
        "\u{feff}",
        "\u{ad}",
        "\u{61c}",
        "\u{e0041}",
    ] {
        let identity = written(&format!("a{dangerous}b"));
        assert!(!identity.contains(dangerous), "{identity:?}");
        assert!(
            identity.starts_with("a\\") && identity.ends_with('b'),
            "{identity:?}"
        );
    }
}

#[test]
fn a_value_of_a_peer_s_has_at_most_200_bytes() {
    for long in [
        "x".repeat(200),
        "x".repeat(201),
        "é".repeat(5000),
        "\u{1}".repeat(300),
        "\"".repeat(150),
    ] {
        let identity = written(&long);
        assert!(
            identity.len() <= 200,
            "{} bytes: {identity}",
            identity.len()
        );
    }
    assert_eq!(written(&"x".repeat(200)), "x".repeat(200));
}

#[test]
fn an_unreadable_certificate_is_reported_with_its_cause_and_without_its_bytes() {
    capture();
    let proxy = Proxy::new();
    let client = issued(workload());
    let pem = client.leaf_pem();
    let garbled = pem.replacen('M', "!", 1);
    let host = FakeHost::new(&proxy)
        .mtls(&client)
        .with("connection.peer_certificate", &garbled);
    Worker::new(&proxy).request(&host);
    let lines = lines();
    assert_eq!(lines.len(), 1);
    assert_eq!(value(&lines[0], "finding"), "unreadable");
    assert_eq!(value(&lines[0], "layer"), "workload");
    assert_eq!(value(&lines[0], "source"), "attribute");
    assert!(value(&lines[0], "cause").contains("base64"));
    let secret = pem.lines().nth(1).unwrap();
    assert!(!lines[0].contains(&secret[..16]));
}

#[test]
fn a_refusal_is_reported_once() {
    capture();
    let proxy = Proxy::new();
    let worker = Worker::configured(&proxy, json!({"deny": ["weak_key"]}));
    let client = issued(workload().key_kind(KeyKind::Rsa1024));
    for _ in 0..3 {
        see(&worker, &proxy, &client);
    }
    let lines = lines();
    let denied: Vec<_> = lines
        .iter()
        .filter(|line| line.contains("denied"))
        .collect();
    assert_eq!(denied.len(), 1, "{lines:?}");
    assert_eq!(value(denied[0], "identity"), PAY);
    assert_eq!(value(denied[0], "findings"), "weak_key");
}
