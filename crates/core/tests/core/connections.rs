//! Connections: counted once by their security, watched for as long as they last, refused.

use mtls_watch_core::inspector::Decision::{Continue, Deny};
use mtls_watch_core::inspector::Event;
use mtls_watch_core::terms::Finding;
use pki::Identity;
use pki::{ExtendedKeyUsage, HOUR, KeyKind};
use serde_json::json;

use crate::fake_host::{FakeHost, Listener, Proxy, REFUSED};
use crate::worker::Worker;
use pki::fixtures::{PAY, PKI, key_digits, lasting, workload};

const CLOSE: Event = Event::Close { by_client: true };

fn sound() -> Identity {
    workload().issue().unwrap()
}

fn server_only() -> Identity {
    let leaf = workload().extended_key_usages(&[ExtendedKeyUsage::ServerAuth]);
    leaf.issue().unwrap()
}

fn connections(proxy: &Proxy, direction: &str, security: &str) -> u64 {
    let labels = [("direction", direction), ("security", security)];
    proxy.value("mtls_connections_total", &labels).unwrap()
}

fn findings(proxy: &Proxy, direction: &str, finding: &str) -> Option<u64> {
    let labels = [
        ("direction", direction),
        ("layer", "workload"),
        ("finding", finding),
    ];
    proxy.value("mtls_connection_findings_total", &labels)
}

fn remaining(proxy: &Proxy, direction: &str) -> Option<Vec<u64>> {
    let labels = [("direction", direction)];
    proxy.recorded("mtls_peer_certificate_remaining_seconds", &labels)
}

#[test]
fn a_connection_counts_once_by_its_security() {
    type Given = fn(FakeHost) -> FakeHost;
    let given: [(Given, &str); 4] = [
        (|host| host.client(&sound()), "mtls"),
        (|host| host.with("connection.tls_version", "TLSv1.3"), "tls"),
        (|host| host, "plaintext"),
        (
            |host| host.with("filter_state.io.istio.peer_principal", PAY),
            "hbone",
        ),
    ];
    for (given, security) in given {
        let proxy = Proxy::new();
        let host = given(FakeHost::new(&proxy).on(Listener::Inbound));
        let worker = Worker::new(&proxy);
        let mut watch = worker.accept();
        for event in [
            Event::DownstreamData,
            Event::UpstreamData,
            Event::DownstreamData,
            CLOSE,
        ] {
            assert_eq!(watch.on(&host, event), Continue);
        }
        assert_eq!(connections(&proxy, "inbound", security), 1, "{security}");
        assert_eq!(proxy.total("mtls_connections_total"), 1, "{security}");
    }
}

#[test]
fn listener_and_connection_say_who_the_peer_is() {
    for (listener, tls, inbound, outbound) in [
        (Some(Listener::Inbound), true, 1, 0),
        // A sidecar's application.
        (Some(Listener::Outbound), false, 0, 1),
        // A gateway of Istio's.
        (Some(Listener::Outbound), true, 1, 1),
        (None, true, 1, 1),
    ] {
        let proxy = Proxy::new();
        let host = FakeHost::new(&proxy).server(&sound());
        let host = if tls { host.client(&sound()) } else { host };
        let host = match listener {
            Some(listener) => host.on(listener),
            None => host,
        };
        Worker::new(&proxy).connection(&host);
        assert_eq!(connections(&proxy, "inbound", "mtls"), inbound);
        assert_eq!(connections(&proxy, "outbound", "mtls"), outbound);
        assert_eq!(proxy.total("mtls_connections_total"), inbound + outbound);
    }
}

/// A gateway of Istio's that lets clients in without a certificate.
#[test]
fn a_client_with_tls_alone_counts_at_an_outbound_listener() {
    let proxy = Proxy::new();
    let host = FakeHost::new(&proxy).on(Listener::Outbound);
    let host = host.with("connection.tls_version", "TLSv1.3");
    Worker::new(&proxy).connection(&host.server(&sound()));
    assert_eq!(connections(&proxy, "inbound", "tls"), 1);
    assert_eq!(connections(&proxy, "outbound", "mtls"), 1);
    assert_eq!(proxy.total("mtls_connections_total"), 2);
}

/// The server's side was ready before the client was refused.
#[test]
fn a_refused_client_of_a_gateway_is_a_failure_and_no_connection_to_a_server() {
    for listener in [Some(Listener::Outbound), None] {
        for reason in [REFUSED, ""] {
            let proxy = Proxy::new();
            let host = FakeHost::new(&proxy).server(&sound()).mtls(&sound());
            let host = match listener {
                Some(listener) => host.on(listener),
                None => host,
            };
            // Without a reason: Envoy 1.36.
            let host = host.with("connection.transport_failure_reason", reason);
            Worker::new(&proxy).accept().on(&host, CLOSE);
            assert_eq!(proxy.total("mtls_connections_total"), 0, "{reason}");
            let failures = proxy.total("mtls_handshake_failures_total");
            assert_eq!(failures, u64::from(!reason.is_empty()), "{reason}");
        }
    }
}

/// What Envoy's `tls_inspector` leaves on a connection without TLS that goes well.
#[test]
fn an_application_that_is_no_tls_client_is_no_refused_one() {
    const NOT_TLS: &str = "TLS_error:|268435612:SSL routines:OPENSSL_internal:\
                           HTTP_REQUEST:TLS_error_end";
    let proxy = Proxy::new();
    let host = FakeHost::new(&proxy).on(Listener::Outbound);
    let host = host.with("connection.transport_failure_reason", NOT_TLS);
    let host = host.server(&sound());
    let worker = Worker::new(&proxy);
    worker.connection(&host);
    worker.accept().on(&host, CLOSE);
    assert_eq!(proxy.total("mtls_handshake_failures_total"), 0);
    assert_eq!(connections(&proxy, "outbound", "mtls"), 2);
}

/// A server that speaks first does so in the middle of the client's handshake.
#[test]
fn no_property_that_envoy_would_keep_is_asked_in_mid_handshake() {
    let proxy = Proxy::new();
    let host = FakeHost::new(&proxy).on(Listener::Outbound);
    let worker = Worker::new(&proxy);
    let mut watch = worker.accept();
    watch.on(&host, Event::UpstreamData);
    let asked = host.take_asked();
    let tls = asked.iter().filter(|path| path.starts_with("connection."));
    assert_eq!(tls.collect::<Vec<_>>(), ["connection.mtls"]);
}

/// Egress to a public server: there is no certificate to show it, so it is no mTLS. The server's certificate counts.
#[test]
fn mtls_to_a_server_takes_a_certificate_of_this_proxy() {
    const LOCAL: [&str; 3] = [
        "subject_local_certificate",
        "uri_san_local_certificate",
        "dns_san_local_certificate",
    ];
    for own in LOCAL.map(Some).into_iter().chain([None]) {
        let proxy = Proxy::new();
        let host = FakeHost::new(&proxy).server_of_anybody(&sound());
        let host = host.on(Listener::Outbound);
        let host = match own {
            Some(own) => host.with(&format!("upstream.{own}"), "CN=web"),
            None => host,
        };
        Worker::new(&proxy).connection(&host);
        let expected = if own.is_some() { "mtls" } else { "tls" };
        assert_eq!(connections(&proxy, "outbound", expected), 1, "{own:?}");
        assert_eq!(proxy.total("mtls_connections_total"), 1, "{own:?}");
        let issuers = proxy.total("mtls_connections_by_issuer_total");
        assert_eq!(issuers, 1, "{own:?}");
    }
}

#[test]
fn a_server_without_certificate_counts_by_its_security() {
    for (tls_version, sidecar, security) in [
        ("", true, Some("plaintext")),
        ("TLSv1.2", true, Some("tls")),
        ("TLSv1.2", false, Some("tls")),
        // A gateway's upstream without TLS.
        ("", false, None),
    ] {
        let proxy = Proxy::new();
        let host = FakeHost::new(&proxy)
            .with("upstream.address", "192.0.2.1:443")
            .with("upstream.tls_version", tls_version);
        let host = if sidecar {
            host.on(Listener::Outbound)
        } else {
            host
        };
        Worker::new(&proxy).connection(&host);
        for candidate in ["tls", "plaintext"] {
            let expected = u64::from(security == Some(candidate));
            let found = connections(&proxy, "outbound", candidate);
            assert_eq!(
                found, expected,
                "{candidate} {tls_version:?} sidecar: {sidecar}"
            );
        }
    }
}

#[test]
fn nothing_is_asked_before_the_handshake_is_over() {
    // Envoy would keep the answers.
    let proxy = Proxy::new();
    let host = FakeHost::new(&proxy).client(&sound());
    let worker = Worker::new(&proxy);
    let mut watch = worker.accept();
    assert!(host.take_asked().is_empty());
    watch.on(&host, Event::DownstreamData);
    assert_eq!(connections(&proxy, "inbound", "mtls"), 1);
}

#[test]
fn a_client_that_closes_without_a_word_counts_if_it_showed_a_certificate() {
    let proxy = Proxy::new();
    let worker = Worker::new(&proxy);
    worker
        .accept()
        .on(&FakeHost::new(&proxy).client(&sound()), CLOSE);
    assert_eq!(connections(&proxy, "inbound", "mtls"), 1);
    // A health check, or a port scan.
    worker.accept().on(&FakeHost::new(&proxy), CLOSE);
    // In Envoy 1.36 a refused client looks like this.
    worker
        .accept()
        .on(&FakeHost::new(&proxy).mtls(&sound()), CLOSE);
    assert_eq!(proxy.total("mtls_connections_total"), 1);
}

#[test]
fn a_client_that_says_nothing_but_that_it_is_done_counts_if_it_shook_hands() {
    for (tls, expected) in [(true, 1), (false, 0)] {
        let proxy = Proxy::new();
        let host = FakeHost::new(&proxy).on(Listener::Inbound);
        let host = if tls { host.client(&sound()) } else { host };
        Worker::new(&proxy).accept().on(&host, Event::DownstreamEnd);
        assert_eq!(proxy.total("mtls_connections_total"), expected);
    }
}

#[test]
fn a_client_counts_once_its_handshake_is_over_though_the_server_speaks_first() {
    let proxy = Proxy::new();
    let host = FakeHost::new(&proxy).on(Listener::Inbound);
    let worker = Worker::new(&proxy);
    let mut watch = worker.accept();
    watch.on(&host, Event::UpstreamData);
    assert_eq!(proxy.total("mtls_connections_total"), 0);
    let host = host.client(&sound());
    watch.on(&host, Event::UpstreamData);
    assert_eq!(connections(&proxy, "inbound", "mtls"), 1);
}

#[test]
fn a_server_counts_once_its_handshake_is_over() {
    let proxy = Proxy::new();
    let host = FakeHost::new(&proxy).on(Listener::Outbound);
    let host = host.with("upstream.address", "192.0.2.1:443");
    let worker = Worker::new(&proxy);
    let mut watch = worker.accept();
    watch.on(&host, Event::DownstreamData);
    assert_eq!(proxy.total("mtls_connections_total"), 0);
    let host = host.server(&sound());
    watch.on(&host, Event::UpstreamData);
    assert_eq!(connections(&proxy, "outbound", "mtls"), 1);
    assert_eq!(proxy.total("mtls_connections_total"), 1);
}

#[test]
fn a_refused_server_is_no_connection() {
    let proxy = Proxy::new();
    let host = FakeHost::new(&proxy)
        .on(Listener::Outbound)
        .with("upstream.address", "192.0.2.1:443")
        .with("upstream.transport_failure_reason", REFUSED);
    let worker = Worker::new(&proxy);
    let mut watch = worker.accept();
    for event in [Event::DownstreamData, Event::UpstreamData, CLOSE] {
        assert_eq!(watch.on(&host, event), Continue);
    }
    assert_eq!(proxy.total("mtls_connections_total"), 0);
}

#[test]
fn a_refused_handshake_is_no_connection_and_makes_no_series_of_the_stranger() {
    let proxy = Proxy::new();
    let worker = Worker::new(&proxy);
    let host = FakeHost::new(&proxy)
        .client(&sound())
        .with("connection.transport_failure_reason", REFUSED);
    worker.accept().on(&host, CLOSE);
    worker.tick();
    assert_eq!(proxy.total("mtls_connections_total"), 0);
    assert_eq!(proxy.total("mtls_connection_findings_total"), 0);
    assert_eq!(proxy.total("mtls_watch_inspections_total"), 0);
    let series = proxy.series().join("\n");
    assert!(
        !series.contains(PAY) && !series.contains("Issuing_CA"),
        "{series}"
    );
}

#[test]
fn connections_move_no_metric_of_requests() {
    let proxy = Proxy::new();
    Worker::new(&proxy).connection(&FakeHost::new(&proxy).client(&server_only()));
    assert_eq!(proxy.total("mtls_requests_total"), 0);
    assert_eq!(proxy.total("mtls_request_findings_total"), 0);
}

#[test]
fn findings_and_issuer_count_at_every_connection() {
    let proxy = Proxy::new();
    let worker = Worker::new(&proxy);
    let client = server_only();
    for _ in 0..3 {
        worker.connection(&FakeHost::new(&proxy).on(Listener::Inbound).client(&client));
    }
    assert_eq!(findings(&proxy, "inbound", "client_auth_missing"), Some(3));
    assert_eq!(proxy.total("mtls_connection_findings_total"), 3);
    let issuer = format!("Issuing_CA:{}", key_digits(&PKI.issuing));
    let labels = [("direction", "inbound"), ("issuer", &*issuer)];
    assert_eq!(
        proxy.value("mtls_connections_by_issuer_total", &labels),
        Some(3)
    );
    assert_eq!(proxy.total("mtls_watch_inspections_total"), 1);
}

#[test]
fn the_remaining_lifetime_is_recorded_at_every_connection() {
    for direction in ["inbound", "outbound"] {
        let proxy = Proxy::new();
        let worker = Worker::new(&proxy);
        let connect = |peer: &Identity| {
            let host = FakeHost::new(&proxy);
            worker.connection(&match direction {
                "inbound" => host.on(Listener::Inbound).client(peer),
                _ => host.on(Listener::Outbound).server(peer),
            });
        };
        let peer = workload().lifetime(lasting(-HOUR, HOUR)).issue().unwrap();
        connect(&peer);
        connect(&peer);
        proxy.set_clock(HOUR - 1);
        connect(&peer);
        proxy.set_clock(2 * HOUR);
        connect(&peer);
        assert_eq!(remaining(&proxy, direction), Some(vec![3600, 3600, 1, 0]));
    }
}

#[test]
fn with_both_filters_the_remaining_lifetime_is_recorded_once_a_connection() {
    let proxy = Proxy::new();
    let (network, http) = (Worker::new(&proxy), Worker::new(&proxy));
    let host = FakeHost::new(&proxy).on(Listener::Inbound).client(&sound());
    network.accept().on(&host, Event::DownstreamData);
    http.request(&host);
    http.request(&host);
    assert_eq!(remaining(&proxy, "inbound").unwrap().len(), 1);
}

#[test]
fn the_http_filter_alone_records_it_at_every_new_connection() {
    let proxy = Proxy::new();
    let http = Worker::new(&proxy);
    let client = sound();
    for _ in 0..2 {
        let host = FakeHost::new(&proxy).on(Listener::Inbound).client(&client);
        http.request(&host);
        http.request(&host);
    }
    assert_eq!(remaining(&proxy, "inbound").unwrap().len(), 2);
    let host = FakeHost::new(&proxy).on(Listener::Outbound).server(&client);
    http.request(&host);
    http.request(&host);
    assert_eq!(remaining(&proxy, "outbound").unwrap().len(), 1);
}

#[test]
fn a_connection_that_outlives_its_certificate_adds_each_finding_as_it_comes() {
    for (direction, event) in [
        ("inbound", Event::DownstreamData),
        ("outbound", Event::UpstreamData),
    ] {
        let proxy = Proxy::new();
        let worker = Worker::new(&proxy);
        let peer = workload()
            .key_kind(KeyKind::Rsa1024)
            .lifetime(lasting(0, 24 * HOUR));
        let peer = peer.issue().unwrap();
        let host = FakeHost::new(&proxy);
        let host = match direction {
            "inbound" => host.on(Listener::Inbound).client(&peer),
            _ => host.on(Listener::Outbound).server(&peer),
        };
        let mut watch = worker.accept();
        for event in [Event::DownstreamData, Event::UpstreamData] {
            watch.on(&host, event);
        }
        host.take_asked();
        for (time, finding) in [
            (18 * HOUR + 1, "expires_warning"),
            (21 * HOUR + 1, "expires_critical"),
            (24 * HOUR + 1, "expired"),
        ] {
            proxy.set_clock(time);
            worker.tick();
            for _ in 0..3 {
                watch.on(&host, event);
            }
            assert_eq!(findings(&proxy, direction, finding), Some(1), "{finding}");
        }
        let status = host.filter_state("mtls_watch.status");
        assert_eq!(status.as_deref(), Some("expired"));
        assert_eq!(findings(&proxy, direction, "weak_key"), Some(1));
        assert_eq!(connections(&proxy, direction, "mtls"), 1);
        assert_eq!(host.take_asked(), [""; 0]);
    }
}

/// Envoy connects to the server with the first data (`upstream_connect_mode: ON_DOWNSTREAM_DATA`), and the client
/// alone has something to say.
#[test]
fn a_server_that_comes_with_the_data_is_denied_at_the_next() {
    let proxy = Proxy::new();
    let worker = Worker::configured(&proxy, json!({"deny": ["client_auth_missing"]}));
    let host = FakeHost::new(&proxy).on(Listener::Outbound);
    let mut watch = worker.accept();
    for _ in 0..2 {
        assert_eq!(watch.on(&host, Event::DownstreamData), Continue);
    }
    let host = host.server(&server_only());
    assert_eq!(watch.on(&host, Event::DownstreamData), Deny);
}

/// However much the server has said in the client's handshake, and whatever the last tick was.
#[test]
fn a_client_that_shakes_hands_late_is_denied_at_the_next_event() {
    let proxy = Proxy::new();
    let worker = Worker::configured(&proxy, json!({"deny": ["client_auth_missing"]}));
    for listener in [Listener::Inbound, Listener::Outbound] {
        let host = FakeHost::new(&proxy).on(listener);
        let mut watch = worker.accept();
        for _ in 0..1000 {
            assert_eq!(watch.on(&host, Event::UpstreamData), Continue);
        }
        let host = host.client(&server_only());
        assert_eq!(watch.on(&host, Event::UpstreamData), Deny);
    }
}

#[test]
fn a_server_that_speaks_alone_costs_one_question_a_tick() {
    let proxy = Proxy::new();
    let worker = Worker::new(&proxy);
    let host = FakeHost::new(&proxy).on(Listener::Inbound);
    let mut watch = worker.accept();
    let mut asked = |events: usize| {
        host.take_asked();
        for _ in 0..events {
            watch.on(&host, Event::UpstreamData);
        }
        host.take_asked().len()
    };
    assert!(asked(1000) < 100);
    assert_eq!(asked(1000), 0);
    proxy.set_clock(5);
    worker.tick();
    assert_eq!(asked(1000), 1);
}

#[test]
fn what_is_denied_is_closed_and_still_counted() {
    let peer = server_only();
    for (denied, decision) in [
        (json!([Finding::ClientAuthMissing.as_str()]), Deny),
        (json!(["expired"]), Continue),
        (json!([]), Continue),
    ] {
        let proxy = Proxy::new();
        let worker = Worker::configured(&proxy, json!({"deny": denied}));
        let client = FakeHost::new(&proxy).on(Listener::Inbound).client(&peer);
        assert_eq!(worker.connection(&client), decision);
        let server = FakeHost::new(&proxy).on(Listener::Outbound).server(&peer);
        assert_eq!(worker.connection(&server), decision);
        assert_eq!(proxy.total("mtls_connections_total"), 2);
    }
}

#[test]
fn a_connection_is_closed_when_its_certificate_expires_and_that_is_denied() {
    let proxy = Proxy::new();
    let worker = Worker::configured(&proxy, json!({"deny": ["expired"]}));
    let host = FakeHost::new(&proxy).client(&sound());
    let mut watch = worker.accept();
    assert_eq!(watch.on(&host, Event::DownstreamData), Continue);
    proxy.set_clock(24 * HOUR);
    worker.tick();
    assert_eq!(watch.on(&host, Event::DownstreamData), Deny);
}

#[test]
fn filter_state_tells_access_logs_of_every_peer() {
    let proxy = Proxy::new();
    let worker = Worker::new(&proxy);
    let certified = FakeHost::new(&proxy).client(&server_only());
    worker.connection(&certified);
    for (name, expected) in [
        ("mtls_watch.status", "critical"),
        ("mtls_watch.identity", PAY),
        ("mtls_watch.findings", "client_auth_missing"),
    ] {
        assert_eq!(certified.filter_state(name).as_deref(), Some(expected));
    }
    let anonymous = FakeHost::new(&proxy).on(Listener::Inbound);
    worker.connection(&anonymous);
    let status = anonymous.filter_state("mtls_watch.status");
    assert_eq!(status.as_deref(), Some("no_certificate"));
}

/// The names without prefix are the client's where the client is inspected, else the server's. Those with
/// the prefix are the server's everywhere.
#[test]
fn filter_state_tells_client_and_server_apart() {
    let (sound, critical) = (sound(), server_only());
    type Given<'a> = &'a dyn Fn(FakeHost) -> FakeHost;
    let gateway: Given<'_> = &|host| host.client(&critical);
    let tls: Given<'_> = &|host| {
        host.on(Listener::Outbound)
            .with("connection.tls_version", "TLSv1.3")
    };
    let sidecar: Given<'_> = &|host| host;
    for (given, peer, identity) in [
        (gateway, "critical", Some(PAY)),
        (tls, "no_certificate", None),
        (sidecar, "ok", Some(PAY)),
    ] {
        for server_first in [false, true] {
            let proxy = Proxy::new();
            let worker = Worker::new(&proxy);
            let host = FakeHost::new(&proxy).on(Listener::Outbound);
            let host = host.server(&sound);
            let mut watch = worker.accept();
            if server_first {
                watch.on(&host, Event::UpstreamData);
            }
            let host = given(host);
            for event in [Event::DownstreamData, Event::UpstreamData, CLOSE] {
                watch.on(&host, event);
            }
            let state = |name: &str| host.filter_state(name).filter(|value| !value.is_empty());
            assert_eq!(state("mtls_watch.status").as_deref(), Some(peer));
            assert_eq!(state("mtls_watch.identity").as_deref(), identity);
            assert_eq!(state("mtls_watch.upstream_status").as_deref(), Some("ok"));
            assert_eq!(state("mtls_watch.upstream_identity").as_deref(), Some(PAY));
        }
    }
}

#[test]
fn a_proxy_that_answers_nothing_has_a_plaintext_client() {
    let proxy = Proxy::new();
    let worker = Worker::configured(&proxy, json!({"deny": ["unreadable"]}));
    assert_eq!(
        worker.connection(&FakeHost::knowing_nothing(&proxy)),
        Continue
    );
    assert_eq!(connections(&proxy, "inbound", "plaintext"), 1);
    assert_eq!(proxy.total("mtls_connections_total"), 1);
}

#[test]
fn a_proxy_that_refuses_metrics_or_shared_data_still_gets_its_refusals() {
    for refuse in [Proxy::refuse_metrics, Proxy::refuse_shared_data] {
        let proxy = Proxy::new();
        refuse(&proxy);
        let worker = Worker::configured(&proxy, json!({"deny": ["client_auth_missing"]}));
        let host = FakeHost::new(&proxy).client(&server_only());
        assert_eq!(worker.connection(&host), Deny);
        worker.tick();
    }
}
