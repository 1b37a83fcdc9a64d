//! Passes: how requests of busy connections are let through.

use std::rc::Rc;

use mtls_watch_core::inspector::Decision::{Continue, Deny};
use pki::Identity;
use pki::{DAY, ExtendedKeyUsage};
use serde_json::{Value, json};

use crate::fake_host::{FakeHost, Listener, Proxy, XFCC};
use crate::worker::Worker;
use pki::fixtures::{PAY, lasting, workload, xfcc_element};

/// As many requests as are sure to earn a pass, where there is one to be had.
const MANY: usize = 40;
const ROUND: i64 = 300;
const HOUR: i64 = 3600;

fn client() -> Identity {
    workload().issue().unwrap()
}

fn inbound(proxy: &Rc<Proxy>, client: &Identity) -> FakeHost {
    FakeHost::new(proxy).on(Listener::Inbound).client(client)
}

fn keep_busy(worker: &Worker, host: &FakeHost) {
    for _ in 0..MANY {
        assert_eq!(worker.request(host), Continue);
    }
}

/// Whether a further request is let through with a pass: then Envoy is asked for nothing.
fn has_pass(worker: &Worker, host: &FakeHost) -> bool {
    host.take_asked();
    worker.request(host);
    host.take_asked().is_empty()
}

fn requests(proxy: &Proxy, status: &str) -> u64 {
    let labels = [("direction", "inbound"), ("status", status)];
    proxy.value("mtls_requests_total", &labels).unwrap()
}

#[test]
fn a_busy_connection_gets_a_pass_and_its_requests_are_counted() {
    let proxy = Proxy::new();
    let worker = Worker::new(&proxy);
    let host = inbound(&proxy, &client());
    worker.request(&host);
    assert!(!has_pass(&worker, &host), "too early");
    keep_busy(&worker, &host);
    assert!(has_pass(&worker, &host));
    let sent = u64::try_from(MANY).unwrap() + 3;
    assert_eq!(requests(&proxy, "ok"), sent);
    assert!(!has_pass(&worker, &inbound(&proxy, &client())), "another's");
}

/// Where there is more to do for a request than to count it as `ok`, it is done.
#[test]
fn nobody_gets_a_pass_of_whom_more_is_to_be_said() {
    let flag = |name: &str| json!({ "flag": { name: "x-peer" } });
    let sound = |proxy: &Rc<Proxy>| inbound(proxy, &client());
    type Host = fn(&Rc<Proxy>) -> FakeHost;
    let cases: [(&str, Value, Host); 8] = [
        ("request flag", flag("request_header"), sound),
        ("response flag", flag("response_header"), sound),
        ("deny", json!({"deny": ["weak_key"]}), sound),
        ("a finding", json!({}), |proxy| {
            let usages = [ExtendedKeyUsage::ServerAuth];
            inbound(
                proxy,
                &workload().extended_key_usages(&usages).issue().unwrap(),
            )
        }),
        ("a finding that is ok", json!({}), |proxy| {
            inbound(proxy, &workload().extended_key_usages(&[]).issue().unwrap())
        }),
        ("no certificate", json!({}), |proxy| {
            FakeHost::new(proxy).on(Listener::Inbound)
        }),
        ("a server to look at", json!({}), |proxy| {
            FakeHost::new(proxy).client(&client())
        }),
        ("certificates in XFCC", json!({}), |proxy| {
            let client = client();
            inbound(proxy, &client).header(XFCC, &xfcc_element(&client))
        }),
    ];
    for (what, configuration, host) in cases {
        let proxy = Proxy::new();
        let worker = Worker::configured(&proxy, configuration);
        let host = host(&proxy);
        keep_busy(&worker, &host);
        assert!(!has_pass(&worker, &host), "{what}");
    }
}

#[test]
fn a_pass_is_void_from_the_second_on_in_which_the_status_changes() {
    let proxy = Proxy::new();
    let worker = Worker::new(&proxy);
    // The defaults for 40 days: a warning from the tenth day before the end on.
    let lifetime = lasting(-30 * DAY + 100, 10 * DAY + 100);
    let host = inbound(&proxy, &workload().lifetime(lifetime).issue().unwrap());
    let other = inbound(&proxy, &client());
    for host in [&host, &other] {
        keep_busy(&worker, host);
        assert!(has_pass(&worker, host));
    }
    proxy.set_clock(99);
    assert!(has_pass(&worker, &host));
    proxy.set_clock(101);
    assert!(!has_pass(&worker, &host));
    assert_eq!(requests(&proxy, "warning"), 1);
    worker.tick();
    keep_busy(&worker, &other);
    assert!(has_pass(&worker, &other), "the next round has begun");
    assert!(!has_pass(&worker, &host));
}

#[test]
fn a_pass_is_void_after_the_round() {
    let proxy = Proxy::new();
    let worker = Worker::new(&proxy);
    let host = inbound(&proxy, &client());
    keep_busy(&worker, &host);
    proxy.set_clock(ROUND - 1);
    worker.tick();
    assert!(has_pass(&worker, &host));
    proxy.set_clock(ROUND);
    worker.tick();
    assert!(!has_pass(&worker, &host));
    keep_busy(&worker, &host);
    assert!(has_pass(&worker, &host));
}

/// A clock that was ahead: what was known of the certificate may not have been true yet.
#[test]
fn a_pass_is_void_when_the_clock_is_set_back() {
    let proxy = Proxy::new();
    let worker = Worker::new(&proxy);
    let host = inbound(&proxy, &client());
    keep_busy(&worker, &host);
    proxy.set_clock(-10);
    worker.tick();
    assert!(!has_pass(&worker, &host));
}

/// Connections outlive the configuration that gave them a pass.
#[test]
fn another_configuration_honours_no_pass() {
    let proxy = Proxy::new();
    let mut worker = Worker::new(&proxy);
    let host = inbound(&proxy, &client());
    keep_busy(&worker, &host);
    assert!(has_pass(&worker, &host));
    let all_are_old = json!({"workload": {"critical": "9999d", "warning": "9999d"}});
    worker.configure_again(json!({"thresholds": all_are_old, "deny": ["expires_critical"]}));
    assert_eq!(worker.request(&host), Deny);
}

/// The name of a round comes again, but not within two hours: there are no passes then.
#[test]
fn names_rest_for_two_hours() {
    let proxy = Proxy::new();
    let worker = Worker::new(&proxy);
    let host = inbound(&proxy, &client());
    let mut without_pass = Vec::new();
    let rounds = 3 * HOUR / ROUND;
    for round in 0..rounds {
        // Rounds that end twice as early as they should, for the clock goes back and forth.
        for second in [0, ROUND / 2] {
            proxy.set_clock(round * ROUND + second - 1000);
            worker.tick();
            proxy.set_clock(round * ROUND + second);
            worker.tick();
        }
        keep_busy(&worker, &host);
        if !has_pass(&worker, &host) {
            without_pass.push(round);
        }
    }
    let at = |second: i64| without_pass.contains(&(second / ROUND));
    assert!(!at(0), "{without_pass:?}");
    assert!(at(HOUR), "all names rest: {without_pass:?}");
    assert!(!at(2 * HOUR), "the first has rested: {without_pass:?}");
}

#[test]
fn a_connection_has_one_pass_at_a_time() {
    let proxy = Proxy::new();
    let worker = Worker::new(&proxy);
    let host = inbound(&proxy, &client());
    for round in 0..50 {
        proxy.set_clock(round * ROUND);
        worker.tick();
        keep_busy(&worker, &host);
        assert!(has_pass(&worker, &host), "round {round}");
        assert_eq!(host.passes(), 1, "round {round}");
    }
}

/// Whoever passes by is there, though nobody asks who it is.
#[test]
fn holders_that_pass_by_are_seen() {
    let proxy = Proxy::new();
    let worker = Worker::new(&proxy);
    let host = inbound(&proxy, &client());
    keep_busy(&worker, &host);
    let labels = [
        ("direction", "inbound"),
        ("layer", "workload"),
        ("identity", PAY),
    ];
    let last_seen = || {
        let metric = "mtls_peer_certificate_last_seen_timestamp_seconds";
        proxy.value(metric, &labels).unwrap()
    };
    worker.tick();
    let before = last_seen();
    proxy.set_clock(100);
    worker.tick();
    assert_eq!(last_seen(), before, "nobody came");
    assert!(has_pass(&worker, &host));
    worker.tick();
    assert_eq!(last_seen(), before + 100);
}

#[test]
fn where_filter_state_goes_with_the_request_there_are_no_passes() {
    let proxy = Proxy::new();
    proxy.keep_no_state();
    let worker = Worker::new(&proxy);
    let host = inbound(&proxy, &client());
    keep_busy(&worker, &host);
    assert!(!has_pass(&worker, &host));
    assert_eq!(requests(&proxy, "ok"), u64::try_from(MANY).unwrap() + 1);
}

/// What passes it had before is not known.
#[test]
fn a_connection_that_was_forgotten_gets_no_pass() {
    let proxy = Proxy::new();
    let worker = Worker::new(&proxy);
    let client = client();
    let host = inbound(&proxy, &client);
    worker.request(&host);
    for _ in 0..3000 {
        worker.request(&inbound(&proxy, &client));
    }
    keep_busy(&worker, &host);
    assert!(!has_pass(&worker, &host));
}
