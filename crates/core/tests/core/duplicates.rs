//! Several plugins of this module in one place: each connection and request is counted once.

use std::rc::Rc;
use std::sync::LazyLock;

use mtls_watch_core::inspector::Decision::{Continue, Deny};
use mtls_watch_core::inspector::Event;
use pki::fixtures::{lasting, workload};
use pki::{HOUR, Identity};
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::json;

use crate::fake_host::{FakeHost, Listener, Proxy, REFUSED, XFCC};
use crate::worker::Worker;

const DUPLICATES: &str = "mtls_watch_duplicate_plugins";
const REQUESTS: &str = "mtls_requests_total";
const SECOND: i64 = 1_000_000_000;

static EXPIRED: LazyLock<Identity> = LazyLock::new(|| {
    let expired = workload().lifetime(lasting(-2 * HOUR, -HOUR));
    expired.issue().unwrap()
});

/// Of the mesh and of a namespace: in a VM each.
fn two(proxy: &Rc<Proxy>) -> [Worker; 2] {
    ["mesh", "namespace"].map(|name| Worker::named(proxy, name, json!({})))
}

/// The next request on a connection.
fn next(host: &FakeHost, number: i64) -> &FakeHost {
    host.set("request.time", (number * SECOND).to_le_bytes());
    host
}

#[test]
fn a_request_is_counted_by_the_first_and_costs_the_second_one_question() {
    let proxy = Proxy::new();
    let plugins = two(&proxy);
    let host = FakeHost::new(&proxy).client(&EXPIRED).server(&EXPIRED);
    for number in 1..=5 {
        for plugin in &plugins {
            next(&host, number).take_asked();
            plugin.request(&host);
        }
        let asked = host.take_asked();
        assert!(number == 1 || asked == ["mtls.requests"], "{asked:?}");
        assert_eq!(proxy.total(REQUESTS), 2 * number as u64);
        assert_eq!(
            proxy.total("mtls_request_findings_total"),
            2 * number as u64
        );
    }
    assert_eq!(proxy.total("mtls_watch_inspections_total"), 2);
    let labels = [("direction", "inbound")];
    let remaining = proxy.recorded("mtls_peer_certificate_remaining_seconds", &labels);
    assert_eq!(remaining, Some(vec![0]));
}

#[test]
fn a_connection_is_counted_by_whichever_sees_it_first() {
    let proxy = Proxy::new();
    let plugins = two(&proxy);
    for order in [[0, 1], [1, 0]] {
        let host = FakeHost::new(&proxy)
            .client(&EXPIRED)
            .server(&EXPIRED)
            .on(Listener::Inbound);
        let mut watches = order.map(|index| plugins[index].accept());
        for event in [
            Event::DownstreamData,
            Event::UpstreamData,
            Event::Close { by_client: true },
        ] {
            for watch in &mut watches {
                assert_eq!(watch.on(&host, event), Continue);
            }
        }
    }
    assert_eq!(proxy.total("mtls_connections_total"), 2);
    assert_eq!(proxy.total("mtls_connections_by_issuer_total"), 2);
    assert_eq!(proxy.total("mtls_connection_findings_total"), 2);
}

#[test]
fn a_refused_handshake_is_counted_once() {
    let proxy = Proxy::new();
    let plugins = two(&proxy);
    let client = FakeHost::new(&proxy).with("connection.transport_failure_reason", REFUSED);
    let server = FakeHost::new(&proxy)
        .on(Listener::Outbound)
        .with("upstream.transport_failure_reason", REFUSED);
    for host in [client, server] {
        for mut watch in plugins.each_ref().map(Worker::accept) {
            watch.on(&host, Event::Close { by_client: false });
        }
    }
    let server = FakeHost::new(&proxy)
        .on(Listener::Outbound)
        .with("upstream.transport_failure_reason", REFUSED);
    for plugin in &plugins {
        plugin.request(next(&server, 1));
    }
    assert_eq!(proxy.total("mtls_handshake_failures_total"), 3);
}

#[test]
fn a_network_and_an_http_filter_are_no_duplicates() {
    let proxy = Proxy::new();
    let worker = Worker::new(&proxy);
    let host = FakeHost::new(&proxy).client(&EXPIRED);
    worker.connection(&host);
    worker.request(next(&host, 1));
    worker.tick();
    assert_eq!(proxy.total("mtls_connections_total"), 1);
    assert_eq!(proxy.total(REQUESTS), 1);
    assert_eq!(proxy.value(DUPLICATES, &[]), None);
}

#[test]
fn the_gauge_says_so_while_both_are_there_and_is_absent_before() {
    let proxy = Proxy::new();
    let plugins = two(&proxy);
    let host = FakeHost::new(&proxy).client(&EXPIRED);
    let tick = || plugins.iter().for_each(Worker::tick);
    plugins[0].request(next(&host, 1));
    tick();
    assert_eq!(proxy.value(DUPLICATES, &[]), None);
    plugins[1].request(&host);
    tick();
    assert_eq!(proxy.value(DUPLICATES, &[]), Some(1));
    proxy.set_clock(14 * 60);
    tick();
    assert_eq!(proxy.value(DUPLICATES, &[]), Some(1));
    proxy.set_clock(15 * 60);
    plugins[0].request(next(&host, 2));
    tick();
    assert_eq!(proxy.value(DUPLICATES, &[]), Some(0));
    plugins[1].connection(&host);
    tick();
    assert_eq!(proxy.value(DUPLICATES, &[]), Some(0));
    plugins[0].connection(&host);
    tick();
    assert_eq!(proxy.value(DUPLICATES, &[]), Some(1));
}

/// What the second is configured to do besides counting, it does.
#[test]
fn the_second_still_denies_flags_and_strips() {
    let proxy = Proxy::new();
    let first = Worker::named(
        &proxy,
        "mesh",
        json!({"strip_xfcc_certificates": false, "certificate_sources": ["attribute"]}),
    );
    let client = &*EXPIRED;
    for configuration in [
        json!({}),
        json!({"flag": {"request_header": "x-mtls"}}),
        json!({"deny": ["expired"]}),
    ] {
        let second = Worker::named(&proxy, "namespace", configuration.clone());
        let host = FakeHost::new(&proxy).client_with_chain(client);
        let counted = proxy.total(REQUESTS);
        assert_eq!(first.request(next(&host, 1)), Continue);
        let decision = second.request(&host);
        assert_eq!(decision == Deny, configuration.get("deny").is_some());
        let flag = host.upstream_header("x-mtls");
        assert_eq!(flag.is_some(), configuration.get("flag").is_some());
        let xfcc = host.upstream_header(XFCC).unwrap();
        assert!(!xfcc.contains("Cert="), "{configuration}: {xfcc}");
        assert_eq!(proxy.total(REQUESTS), counted + 1);

        let connection = FakeHost::new(&proxy).client(client);
        let counted = proxy.total("mtls_connections_total");
        assert_eq!(first.connection(&connection), Continue);
        assert_eq!(second.connection(&connection), decision);
        assert_eq!(proxy.total("mtls_connections_total"), counted + 1);
    }
}

/// Envoy gives a living connection's requests to another plugin. One of the same name takes over at once; one of
/// another first asks whether the first has gone.
#[test]
fn a_new_configuration_takes_over_connections_that_are_open() {
    for (name, not_counted) in [("mesh", 0), ("renamed", 1)] {
        let proxy = Proxy::new();
        let host = FakeHost::new(&proxy).client(&EXPIRED);
        Worker::named(&proxy, "mesh", json!({})).request(next(&host, 1));
        let worker = Worker::named(&proxy, name, json!({}));
        for number in 2..=9 {
            proxy.set_clock(number - pki::fixtures::NOW);
            worker.request(next(&host, number));
        }
        assert_eq!(proxy.total(REQUESTS), 9 - not_counted, "{name}");
    }
}

/// A step of a stream on one connection: its way through the chain may be held up between two filters, while others
/// overtake it.
fn interleaved() -> impl Strategy<Value = Vec<usize>> {
    vec(0..4_usize, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 128,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// However the streams of a connection overtake each other between two or three plugins.
    #[test]
    fn no_stream_is_counted_twice_or_not_at_all(
        steps in interleaved(),
        plugins in 2..4_usize,
        crowd in 0..100_i64,
    ) {
        let proxy = Proxy::new();
        let names = ["mesh", "namespace", "extension"];
        let workers: Vec<_> = names[..plugins]
            .iter()
            .map(|name| Worker::named(&proxy, name, json!({})))
            .collect();
        let host = FakeHost::new(&proxy).client(&EXPIRED);
        // For each of four slots: the stream in it, and how many plugins it has passed.
        let mut slots = [(0_i64, plugins); 4];
        let mut streams = 0;
        let mut crowds = 0;
        for slot in steps {
            let (stream, passed) = &mut slots[slot];
            if *passed == plugins {
                streams += 1;
                (*stream, *passed) = (streams, 0);
            }
            proxy.set_nanoseconds(0);
            next(&host, pki::fixtures::NOW + *stream);
            proxy.set_clock(streams);
            proxy.set_nanoseconds(1);
            workers[*passed].begin(&host);
            *passed += 1;
            if streams == crowd && crowds == 0 {
                crowds += 1;
                // The last plugin forgets the connection, the first does not.
                for _ in 0..2100 {
                    workers[plugins - 1].begin(&FakeHost::new(&proxy).client(&EXPIRED));
                }
            }
        }
        let counted = proxy.total(REQUESTS) - 2100 * crowds;
        prop_assert_eq!(counted, streams as u64);
    }
}
