//! What an operator decides: findings that are accepted, and how much of a name is shown.

use std::collections::BTreeSet;

use mtls_watch_core::inspector::Decision::{Continue, Deny};
use mtls_watch_core::inspector::Event;
use pki::fixtures::{PAY, fingerprint, lasting, leaf, workload};
use pki::{HOUR, Identity, LeafBuilder};
use serde_json::{Value, json};

use crate::captured_log::{capture, take};
use crate::fake_host::{FakeHost, Listener, Proxy};
use crate::worker::Worker;

const IGNORED: &str = "mtls_watch_ignored_findings_total";
const FINDINGS: &str = "mtls_request_findings_total";
const KUMA: &str = "kuma://mesh/pay";

fn issued(leaf: LeafBuilder) -> Identity {
    leaf.issue().unwrap()
}

/// A leaf as Kuma makes it: two URIs, which X509-SVID forbids.
fn of_kuma() -> Identity {
    issued(leaf().uri(KUMA).uri("spiffe://mesh/pay"))
}

fn accepting(item: Value) -> Value {
    json!({"ignore": [item], "deny": ["spiffe_id_invalid"]})
}

#[test]
fn what_is_accepted_has_no_effect_and_is_counted() {
    let all = json!({"finding": "spiffe_id_invalid"});
    let by_prefix = json!({"finding": "spiffe_id_invalid", "identity_prefix": "spiffe://mesh/"});
    let by_uri =
        json!({"finding": "spiffe_id_invalid", "identity_prefix": "kuma://", "layer": "workload"});
    let by_layer = json!({"finding": "spiffe_id_invalid", "layer": "workload"});
    for item in [all, by_prefix, by_uri, by_layer] {
        capture();
        let proxy = Proxy::new();
        let worker = Worker::configured(&proxy, accepting(item));
        let host = FakeHost::new(&proxy).client(&of_kuma());
        for _ in 0..3 {
            assert_eq!(worker.request(&host), Continue);
        }
        assert_eq!(proxy.total(FINDINGS), 0);
        let labels = [
            ("direction", "inbound"),
            ("layer", "workload"),
            ("finding", "spiffe_id_invalid"),
        ];
        // Once for the connection.
        assert_eq!(proxy.value(IGNORED, &labels), Some(1));
        let status = [("direction", "inbound"), ("status", "ok")];
        assert_eq!(proxy.value("mtls_requests_total", &status), Some(3));
        assert_eq!(
            host.filter_state("mtls_watch.status").as_deref(),
            Some("ok")
        );
        assert!(take().is_empty());
    }
}

#[test]
fn what_is_accepted_of_others_is_not_of_this_one() {
    for item in [
        json!({"finding": "spiffe_id_invalid", "identity_prefix": "kuma://other"}),
        json!({"finding": "spiffe_id_invalid", "layer": "issuing_ca"}),
        json!({"finding": "weak_key"}),
    ] {
        let proxy = Proxy::new();
        let worker = Worker::configured(&proxy, accepting(item));
        let host = FakeHost::new(&proxy).client(&of_kuma());
        assert_eq!(worker.request(&host), Deny);
        assert_eq!(proxy.total(FINDINGS), 1);
        assert_eq!(proxy.total(IGNORED), 0);
    }
}

#[test]
fn what_both_filters_accept_is_counted_once() {
    let kuma = of_kuma();
    let proxy = Proxy::new();
    let worker = Worker::configured(&proxy, accepting(json!({"finding": "spiffe_id_invalid"})));
    let host = FakeHost::new(&proxy).on(Listener::Inbound).client(&kuma);
    worker.accept().on(&host, Event::DownstreamData);
    worker.request(&host);
    assert_eq!(proxy.total(IGNORED), 1);
    assert_eq!(proxy.total("mtls_connection_findings_total"), 0);
}

#[test]
fn an_unreadable_certificate_can_be_accepted() {
    let proxy = Proxy::new();
    let worker = Worker::configured(&proxy, json!({"ignore": [{"finding": "unreadable"}]}));
    let host = FakeHost::new(&proxy)
        .client(&issued(workload()))
        .with("connection.peer_certificate", "no certificate");
    worker.request(&host);
    assert_eq!((proxy.total(FINDINGS), proxy.total(IGNORED)), (0, 1));
    let status = [("direction", "inbound"), ("status", "ok")];
    assert_eq!(proxy.value("mtls_requests_total", &status), Some(1));
}

/// The identities in series of leaves and in log lines, and in filter state.
fn shown(form: &str, client: &Identity) -> (BTreeSet<String>, String, Option<String>) {
    capture();
    let proxy = Proxy::new();
    let worker = Worker::configured(&proxy, json!({"identity": form}));
    let host = FakeHost::new(&proxy).client(client);
    worker.request(&host);
    let series = proxy.series().into_iter().filter_map(|series| {
        let (_, value) = series.split_once("layer=.=workload;.;identity=.=")?;
        Some(value.split_once(";.;")?.0.to_owned())
    });
    let lines: String = take().into_iter().map(|(_, line)| line).collect();
    let state = host.filter_state("mtls_watch.identity");
    (series.collect(), lines, state)
}

#[test]
fn names_are_shown_hashed_or_not_at_all() {
    let server_only = || leaf().extended_key_usages(&[pki::ExtendedKeyUsage::ServerAuth]);
    let jane = issued(server_only().email("jane@shop.test"));
    let (series, lines, state) = shown("full", &jane);
    assert_eq!(series, BTreeSet::from(["jane@shop.test".to_owned()]));
    assert!(lines.contains(r#"identity="jane@shop.test""#), "{lines}");
    assert_eq!(state.as_deref(), Some("jane@shop.test"));

    let digits = {
        use sha2::Digest as _;
        pki::fixtures::hex(&sha2::Sha256::digest("jane@shop.test"))[..16].to_owned()
    };
    let (series, lines, state) = shown("hashed", &jane);
    assert_eq!(series, BTreeSet::from([digits.clone()]));
    assert!(
        lines.contains(&format!(r#"identity="{digits}""#)),
        "{lines}"
    );
    assert_eq!(state.as_deref(), Some(&*digits));

    let (series, lines, state) = shown("off", &jane);
    assert_eq!(series, BTreeSet::from(["other".to_owned()]));
    assert!(
        !lines.contains("identity=") && lines.contains("serial="),
        "{lines}"
    );
    assert_eq!(state.as_deref(), Some(""));

    let (series, ..) = shown("hashed", &issued(workload()));
    let [hashed] = &Vec::from_iter(series)[..] else {
        panic!("one series");
    };
    let digits = hashed.strip_prefix("spiffe://cluster.local/").unwrap();
    assert_eq!(digits.len(), 16);
    assert_ne!(hashed, PAY);
}

#[test]
fn a_finding_has_one_line_of_both_filters_and_names_its_certificate() {
    capture();
    let proxy = Proxy::new();
    let worker = Worker::new(&proxy);
    let client = issued(workload().extended_key_usages(&[pki::ExtendedKeyUsage::ServerAuth]));
    let host = FakeHost::new(&proxy).on(Listener::Inbound).client(&client);
    worker.accept().on(&host, Event::DownstreamData);
    worker.another_filter().request(&host);
    let lines = take();
    let [(_, line)] = &lines[..] else {
        panic!("{lines:?}");
    };
    let sha256 = format!(" sha256={} ", fingerprint(&client));
    assert!(line.contains(&sha256), "{line}");
    let serial = mtls_watch_x509::describe::serial_number(client.der()).unwrap();
    assert!(line.contains(&format!(" serial={serial} ")), "{line}");
}

#[test]
fn certificates_with_one_serial_number_have_a_line_each() {
    capture();
    let proxy = Proxy::new();
    let worker = Worker::new(&proxy);
    for _ in 0..2 {
        let client = workload().serial_number(&[1]);
        let client = issued(client.extended_key_usages(&[pki::ExtendedKeyUsage::ServerAuth]));
        worker.request(&FakeHost::new(&proxy).client(&client));
        let mut lines = take();
        // Of the second also that there are two.
        lines.retain(|(_, line)| line.contains("finding=client_auth_missing"));
        assert_eq!(lines.len(), 1);
        assert!(lines[0].1.contains(" serial=01 "), "{lines:?}");
    }
}

#[test]
fn a_clock_that_is_off_is_told_from_a_certificate_of_tomorrow() {
    for (lifetime, words) in [
        (lasting(60, HOUR), "differ by minutes"),
        (lasting(2 * HOUR, 9 * HOUR), "issued for a later time"),
        (lasting(HOUR, 1), "never valid"),
    ] {
        capture();
        let proxy = Proxy::new();
        let client = issued(workload().lifetime(lifetime));
        Worker::new(&proxy).request(&FakeHost::new(&proxy).client(&client));
        let lines = take();
        let line = lines
            .iter()
            .find(|(_, line)| line.contains("not_yet_valid"));
        assert!(line.unwrap().1.contains(words), "{lines:?}");
    }
}

#[test]
fn connections_are_counted_by_the_trust_domain_of_the_peer() {
    let proxy = Proxy::new();
    let worker = Worker::new(&proxy);
    let connect = |uri: &str| {
        let host = FakeHost::new(&proxy)
            .on(Listener::Inbound)
            .client(&issued(leaf().uri(uri)));
        worker.accept().on(&host, Event::DownstreamData);
    };
    let of = |domain| {
        let labels = [("direction", "inbound"), ("trust_domain", domain)];
        proxy.value("mtls_connections_by_trust_domain_total", &labels)
    };
    connect(PAY);
    connect(PAY);
    connect("https://a.test/");
    for number in 0..25 {
        connect(&format!("spiffe://d{number}/a"));
    }
    assert_eq!(of("cluster.local"), Some(2));
    assert_eq!(of("d18"), Some(1));
    assert_eq!(of("d19"), None);
    assert_eq!(of("other"), Some(6));
    assert_eq!(proxy.total("mtls_connections_by_trust_domain_total"), 27);
}
