//! Requests: counted by the peer's status, flagged, refused.

use std::rc::Rc;

use mtls_watch_core::host::Host as _;
use mtls_watch_core::inspector::Decision::{Continue, Deny};
use mtls_watch_core::terms::Finding;
use pki::Identity;
use pki::{ExtendedKeyUsage, HOUR, KeyKind, LeafBuilder};
use serde_json::json;

use crate::fake_host::{FakeHost, Listener, Proxy, REFUSED, XFCC};
use crate::worker::Worker;
use pki::fixtures::{
    NOW, PAY, PKI, fingerprint, lasting, leaf, url_encode, workload, xfcc_element,
};

const STATUS: &str = "mtls_watch.status";

fn issued(leaf: LeafBuilder) -> Identity {
    leaf.issue().unwrap()
}

/// A leaf that allows serverAuth only.
fn server_only() -> Identity {
    issued(workload().extended_key_usages(&[ExtendedKeyUsage::ServerAuth]))
}

fn requests(proxy: &Proxy, direction: &str, status: &str) -> u64 {
    let labels = [("direction", direction), ("status", status)];
    proxy.value("mtls_requests_total", &labels).unwrap()
}

fn findings(proxy: &Proxy, layer: &str, finding: &str) -> Option<u64> {
    let labels = [
        ("direction", "inbound"),
        ("layer", layer),
        ("finding", finding),
    ];
    proxy.value("mtls_request_findings_total", &labels)
}

/// A leaf of each status.
fn by_status() -> [(Identity, &'static str); 5] {
    [
        (issued(workload()), "ok"),
        (issued(workload().key_kind(KeyKind::Rsa1024)), "warning"),
        (server_only(), "critical"),
        (issued(workload().lifetime(lasting(-HOUR, -1))), "expired"),
        (
            issued(workload().lifetime(lasting(1, HOUR))),
            "not_yet_valid",
        ),
    ]
}

#[test]
fn a_request_counts_by_the_status_of_its_client() {
    for (client, status) in by_status() {
        let proxy = Proxy::new();
        let host = FakeHost::new(&proxy).client(&client);
        assert_eq!(Worker::new(&proxy).request(&host), Continue);
        assert_eq!(requests(&proxy, "inbound", status), 1, "{status}");
        assert_eq!(proxy.total("mtls_requests_total"), 1, "{status}");
        assert_eq!(host.filter_state(STATUS).as_deref(), Some(status));
    }
}

#[test]
fn a_request_counts_by_the_status_of_its_server() {
    for (server, status) in by_status() {
        let proxy = Proxy::new();
        let host = FakeHost::new(&proxy).on(Listener::Outbound).server(&server);
        assert_eq!(Worker::new(&proxy).request(&host), Continue);
        assert_eq!(requests(&proxy, "outbound", status), 1, "{status}");
        assert_eq!(proxy.total("mtls_requests_total"), 1, "{status}");
        assert_eq!(host.filter_state(STATUS).as_deref(), Some(status));
    }
}

#[test]
fn a_client_without_certificate_counts_by_what_else_is_known() {
    type Given = fn(FakeHost) -> FakeHost;
    let given: [(Given, &str); 4] = [
        (|host| host, "no_certificate"),
        (
            |host| host.with("connection.tls_version", "TLSv1.3"),
            "no_certificate",
        ),
        (|host| host.with("connection.mtls", [0]), "no_certificate"),
        (
            |host| host.with("filter_state.io.istio.peer_principal", PAY),
            "hbone",
        ),
    ];
    for (given, status) in given {
        let proxy = Proxy::new();
        let host = given(FakeHost::new(&proxy).on(Listener::Inbound));
        Worker::new(&proxy).request(&host);
        assert_eq!(requests(&proxy, "inbound", status), 1, "{status}");
        assert_eq!(proxy.total("mtls_requests_total"), 1);
        assert_eq!(host.filter_state(STATUS).as_deref(), Some(status));
    }
}

#[test]
fn an_unreadable_certificate_is_a_status_and_a_finding() {
    let proxy = Proxy::new();
    let host = FakeHost::new(&proxy)
        .mtls(&issued(workload()))
        .with("connection.peer_certificate", "hello");
    Worker::new(&proxy).request(&host);
    assert_eq!(requests(&proxy, "inbound", "unreadable"), 1);
    assert_eq!(findings(&proxy, "workload", "unreadable"), Some(1));
}

#[test]
fn listener_and_connection_say_who_the_peer_is() {
    let (client, server) = (issued(workload()), issued(workload()));
    for (listener, tls, inbound, outbound) in [
        (Some(Listener::Inbound), true, 1, 0),
        // A sidecar's application.
        (Some(Listener::Outbound), false, 0, 1),
        // A gateway of Istio's.
        (Some(Listener::Outbound), true, 1, 1),
        (None, true, 1, 1),
    ] {
        let proxy = Proxy::new();
        let host = FakeHost::new(&proxy).server(&server);
        let host = if tls { host.client(&client) } else { host };
        let host = match listener {
            Some(listener) => host.on(listener),
            None => host,
        };
        Worker::new(&proxy).request(&host);
        assert_eq!(requests(&proxy, "inbound", "ok"), inbound);
        assert_eq!(requests(&proxy, "outbound", "ok"), outbound);
        assert_eq!(proxy.total("mtls_requests_total"), inbound + outbound);
    }
}

/// A gateway of Istio's that lets clients in without a certificate.
#[test]
fn a_client_with_tls_alone_counts_at_an_outbound_listener() {
    let proxy = Proxy::new();
    let host = FakeHost::new(&proxy).on(Listener::Outbound);
    let host = host.with("connection.tls_version", "TLSv1.3");
    Worker::new(&proxy).request(&host.server(&issued(workload())));
    assert_eq!(requests(&proxy, "inbound", "no_certificate"), 1);
    assert_eq!(requests(&proxy, "outbound", "ok"), 1);
    assert_eq!(proxy.total("mtls_requests_total"), 2);
}

#[test]
fn a_server_without_tls_counts_at_an_outbound_listener_only() {
    for (sidecar, expected) in [(true, 1), (false, 0)] {
        let proxy = Proxy::new();
        let host = FakeHost::new(&proxy).with("upstream.address", "192.0.2.1:80");
        let host = if sidecar {
            host.on(Listener::Outbound)
        } else {
            host
        };
        Worker::new(&proxy).request(&host);
        assert_eq!(requests(&proxy, "outbound", "no_certificate"), expected);
    }
}

#[test]
fn a_server_with_tls_but_no_certificate_counts_in_a_gateway_too() {
    let proxy = Proxy::new();
    let host = FakeHost::new(&proxy)
        .with("upstream.address", "192.0.2.1:443")
        .with("upstream.tls_version", "TLSv1.2");
    Worker::new(&proxy).request(&host);
    assert_eq!(requests(&proxy, "outbound", "no_certificate"), 1);
}

/// Nobody was chosen; the connection or its handshake did not come about, and Envoy has no reason or one that is not
/// about TLS.
#[test]
fn a_server_that_was_never_reached_counts_for_nothing() {
    const CONNECTION_FAILURE: u64 = 1 << 5;
    let chosen = |host: FakeHost| {
        host.with("upstream.address", "192.0.2.1:443")
            .with("response.flags", CONNECTION_FAILURE.to_le_bytes())
    };
    const DELAYED: &str = "delayed connect error: Connection refused";
    for change in [(|host| host) as fn(FakeHost) -> FakeHost, chosen, |host| {
        host.with("upstream.transport_failure_reason", DELAYED)
    }] {
        let proxy = Proxy::new();
        let host = change(FakeHost::new(&proxy).on(Listener::Outbound));
        Worker::new(&proxy).request(&host);
        assert_eq!(proxy.total("mtls_requests_total"), 0);
        assert_eq!(proxy.total("mtls_handshake_failures_total"), 0);
    }
}

#[test]
fn a_request_whose_handshake_failed_counts_as_refused() {
    let proxy = Proxy::new();
    let flags = json!({"flag": {"response_header": "x-peer"}});
    let host = FakeHost::new(&proxy)
        .on(Listener::Outbound)
        .with("upstream.address", "192.0.2.1:443")
        .with("upstream.transport_failure_reason", REFUSED);
    Worker::configured(&proxy, flags).request(&host);
    assert_eq!(requests(&proxy, "outbound", "refused"), 1);
    assert_eq!(proxy.total("mtls_requests_total"), 1);
    assert_eq!(host.response_header("x-peer").as_deref(), Some("refused"));
    let shown = host.filter_state("mtls_watch.upstream_status");
    assert_eq!(shown.as_deref(), Some("refused"));
}

/// A response with these flags, on a connection that the pool has made just now.
fn on_new_connection(proxy: &Rc<Proxy>, address: &str, flags: u64) -> FakeHost {
    const MILLISECOND: i64 = 1_000_000;
    FakeHost::new(proxy)
        .on(Listener::Outbound)
        .server(&issued(workload()))
        .with("upstream.address", address)
        .with("upstream.cx_pool_ready_duration", MILLISECOND.to_le_bytes())
        .with(
            "request.time",
            ((NOW * 1000 - 2) * MILLISECOND).to_le_bytes(),
        )
        .with("response.flags", flags.to_le_bytes())
}

const TERMINATED: u64 = 1 << 6;

/// It answers every second request, and hangs up on the others: its trouble is another one.
#[test]
fn a_server_that_has_lately_answered_on_a_new_connection_has_accepted_it() {
    let proxy = Proxy::new();
    let worker = Worker::new(&proxy);
    let (here, there) = ("192.0.2.1:443", "192.0.2.2:443");
    for _ in 0..3 {
        worker.request(&on_new_connection(&proxy, here, 0));
        worker.request(&on_new_connection(&proxy, here, TERMINATED));
    }
    assert_eq!(proxy.total("mtls_handshake_failures_total"), 0);
    worker.request(&on_new_connection(&proxy, there, TERMINATED));
    assert_eq!(proxy.total("mtls_handshake_failures_total"), 1);
    assert_eq!(requests(&proxy, "outbound", "refused"), 1);
    assert_eq!(requests(&proxy, "outbound", "ok"), 6);
}

/// Old connections go on with the certificate from before.
#[test]
fn an_answer_on_an_old_connection_proves_nothing_of_a_new_certificate() {
    let proxy = Proxy::new();
    let worker = Worker::new(&proxy);
    let old = on_new_connection(&proxy, "192.0.2.1:443", 0)
        .with("upstream.cx_pool_ready_duration", 10_000_u64.to_le_bytes());
    worker.request(&old);
    worker.request(&on_new_connection(&proxy, "192.0.2.1:443", TERMINATED));
    assert_eq!(proxy.total("mtls_handshake_failures_total"), 1);
}

#[test]
fn a_server_that_wants_a_certificate_where_this_proxy_has_none() {
    let proxy = Proxy::new();
    let host = on_new_connection(&proxy, "192.0.2.1:443", TERMINATED)
        .with("upstream.uri_san_local_certificate", "");
    Worker::new(&proxy).request(&host);
    let labels = [
        ("direction", "outbound"),
        ("layer", "none"),
        ("holder", "own"),
        ("reason", "certificate_required"),
    ];
    let counted = proxy.value("mtls_handshake_failures_total", &labels);
    assert_eq!(counted, Some(1), "{:?}", proxy.series());
}

/// One that has answered without a certificate requires none: that it dies later is no refusal.
#[test]
fn a_server_that_has_answered_without_a_certificate_requires_none() {
    const ANSWERED: i64 = 0;
    let proxy = Proxy::new();
    let worker = Worker::new(&proxy);
    let without = |flags, at| {
        proxy.set_clock(at);
        worker.tick();
        let started = ((NOW + at) * 1000 - 2) * 1_000_000;
        on_new_connection(&proxy, "192.0.2.1:443", flags)
            .with("upstream.uri_san_local_certificate", "")
            .with("request.time", started.to_le_bytes())
    };
    worker.request(&without(0, ANSWERED));
    for minutes in [1, 10, 59] {
        worker.request(&without(TERMINATED, minutes * 60));
        assert_eq!(proxy.total("mtls_handshake_failures_total"), 0, "{minutes}");
    }
    worker.request(&without(TERMINATED, 61 * 60));
    assert_eq!(proxy.total("mtls_handshake_failures_total"), 1);
}

/// How old the server's connection was when it was closed, as Envoy and the clock tell, in milliseconds; how old
/// the tick is; whether that is a server that hung up on a new connection.
const HANG_UPS: [(i64, i64, bool); 6] = [
    (0, 0, true),
    (300, 0, true),
    (900, 4, true),
    // By the clock of the last tick it would be younger than it is.
    (1100, 0, false),
    (4000, 4, false),
    // The clock was set back.
    (-60_000, 0, false),
];

#[test]
fn a_server_that_hangs_up_on_a_new_connection_has_rejected_it() {
    const MILLISECOND: i64 = 1_000_000;
    for (age, since_tick, rejected) in HANG_UPS {
        let proxy = Proxy::new();
        let worker = Worker::new(&proxy);
        worker.tick();
        proxy.set_clock(since_tick);
        proxy.set_nanoseconds(500_000_000);
        let now = (NOW + since_tick) * 1000 + 500;
        let connected = (now - age) * MILLISECOND;
        let wait = MILLISECOND;
        let host = FakeHost::new(&proxy)
            .on(Listener::Outbound)
            .server(&issued(workload()))
            .with("upstream.uri_san_local_certificate", PAY)
            .with("upstream.cx_pool_ready_duration", wait.to_le_bytes())
            .with("request.time", (connected - wait).to_le_bytes())
            .with("response.flags", (1_u64 << 6).to_le_bytes());
        worker.request(&host);
        let labels = [
            ("direction", "outbound"),
            ("layer", "none"),
            ("holder", "own"),
            ("reason", "rejected_by_peer"),
        ];
        let counted = proxy.value("mtls_handshake_failures_total", &labels);
        assert_eq!(counted.is_some(), rejected, "{age} ms, {since_tick} s");
    }
}

/// Among the filters of a cluster: each retry comes by, and nobody says when it ends.
#[test]
fn nothing_is_watched_behind_the_router() {
    let everything = json!({
        "flag": {"request_header": "x-peer", "response_header": "x-peer"},
        "deny": ["client_auth_missing"],
    });
    for (client, listener) in [(true, None), (false, None), (true, Some(Listener::Inbound))] {
        let proxy = Proxy::new();
        let worker = Worker::configured(&proxy, everything.clone());
        let host = FakeHost::new(&proxy).server(&server_only());
        let host = if client {
            host.client(&server_only())
        } else {
            host
        };
        let host = match listener {
            Some(listener) => host.on(listener),
            None => host,
        };
        let host = host.header("x-peer", "of the filter in front");
        for _ in 0..3 {
            let mut watch = worker.attempt(&host);
            assert!(watch.is_over());
            assert_eq!(watch.on_response(&host), Continue);
        }
        assert_eq!(proxy.total("mtls_requests_total"), 0);
        let header = host.upstream_header("x-peer");
        assert_eq!(header.as_deref(), Some("of the filter in front"));
        assert_eq!(host.filter_state(STATUS), None);
    }
}

#[test]
fn requests_move_no_metric_of_connections() {
    let proxy = Proxy::new();
    let worker = Worker::new(&proxy);
    worker.request(
        &FakeHost::new(&proxy)
            .client(&server_only())
            .server(&server_only()),
    );
    assert_eq!(proxy.total("mtls_connections_total"), 0);
    assert_eq!(proxy.total("mtls_connection_findings_total"), 0);
    assert_eq!(proxy.total("mtls_connections_by_issuer_total"), 0);
}

#[test]
fn every_finding_of_every_certificate_counts_at_its_layer() {
    let expiring = PKI
        .intermediate
        .subordinate("Issuing CA")
        .lifetime(lasting(-10, 1));
    let client = issued(
        expiring
            .issue()
            .unwrap()
            .leaf()
            .uri("spiffe://Bad/x")
            .lifetime(lasting(-10, 2)),
    );
    let proxy = Proxy::new();
    let worker = Worker::new(&proxy);
    let host = FakeHost::new(&proxy).client_with_chain(&client);
    for _ in 0..3 {
        worker.request(&host);
    }
    for (layer, finding) in [
        ("workload", "spiffe_id_invalid"),
        ("workload", "outlives_issuer"),
        ("workload", "expires_warning"),
        ("issuing_ca", "expires_warning"),
    ] {
        assert_eq!(
            findings(&proxy, layer, finding),
            Some(3),
            "{layer} {finding}"
        );
    }
    assert_eq!(proxy.total("mtls_request_findings_total"), 12);
}

#[test]
fn the_status_is_in_filter_state_with_identity_and_findings() {
    let proxy = Proxy::new();
    let client = issued(
        workload()
            .key_kind(KeyKind::Rsa1024)
            .extended_key_usages(&[ExtendedKeyUsage::Any]),
    );
    let host = FakeHost::new(&proxy).client(&client);
    Worker::new(&proxy).request(&host);
    assert_eq!(host.filter_state(STATUS).as_deref(), Some("critical"));
    assert_eq!(
        host.filter_state("mtls_watch.identity").as_deref(),
        Some(PAY)
    );
    let findings = host.filter_state("mtls_watch.findings").unwrap();
    for finding in ["client_auth_missing", "server_auth_missing", "weak_key"] {
        assert!(findings.contains(finding), "{findings}");
    }
}

#[test]
fn a_header_carries_the_status_where_one_is_named() {
    let flag = json!({"flag": {"request_header": "x-peer", "response_header": "x-peer-too"}});
    for (client, expected) in [
        (Some(server_only()), "critical; client_auth_missing"),
        (Some(issued(workload())), "ok"),
        (None, "no_certificate"),
    ] {
        let proxy = Proxy::new();
        let host = FakeHost::new(&proxy).on(Listener::Inbound);
        let host = match client {
            Some(client) => host.client(&client),
            None => host,
        };
        Worker::configured(&proxy, flag.clone()).request(&host);
        assert_eq!(host.upstream_header("x-peer").as_deref(), Some(expected));
        assert_eq!(
            host.response_header("x-peer-too").as_deref(),
            Some(expected)
        );
    }
}

#[test]
fn one_header_does_without_the_other() {
    for (only, request, response) in [
        ("request_header", Some("ok"), None),
        ("response_header", None, Some("ok")),
    ] {
        let proxy = Proxy::new();
        let host = FakeHost::new(&proxy)
            .on(Listener::Inbound)
            .client(&issued(workload()));
        Worker::configured(&proxy, json!({"flag": {only: "x-peer"}})).request(&host);
        assert_eq!(host.upstream_header("x-peer").as_deref(), request);
        assert_eq!(host.response_header("x-peer").as_deref(), response);
    }
}

#[test]
fn without_a_name_there_is_no_header() {
    let proxy = Proxy::new();
    let host = FakeHost::new(&proxy)
        .client(&server_only())
        .header("x-peer", "mine");
    Worker::new(&proxy).request(&host);
    assert_eq!(host.upstream_header("x-peer").as_deref(), Some("mine"));
    let only = json!({"flag": {"response_header": "x-peer"}});
    Worker::configured(&proxy, only).request(&host);
    assert_eq!(host.upstream_header("x-peer").as_deref(), Some("mine"));
}

#[test]
fn a_flag_from_outside_never_stands() {
    let flag = json!({"flag": {"request_header": "X-Peer", "response_header": "x-peer"}});
    for listener in [Listener::Inbound, Listener::Outbound] {
        let proxy = Proxy::new();
        let host = FakeHost::new(&proxy).on(listener).header("x-peer", "ok");
        host.set_response_header("x-peer", Some(b"ok"));
        Worker::configured(&proxy, flag.clone()).request(&host);
        assert_ne!(host.upstream_header("x-peer").as_deref(), Some("ok"));
        assert_ne!(host.response_header("x-peer").as_deref(), Some("ok"));
    }
}

/// The same name to an application behind CGI, WSGI or PHP.
#[test]
fn a_name_that_applications_take_for_the_flag_never_stands() {
    for (flag, alias) in [
        ("x-mtls-status", "x_mtls_status"),
        ("x-mtls-status", "x-mtls_status"),
        ("x-mtls-status", "x_mtls-status"),
        ("x_mtls_status", "x-mtls-status"),
        ("x-a-b-c-d-e-f-g", "x-a_b-c-d_e-f_g"),
    ] {
        let flags = json!({"flag": {"request_header": flag, "response_header": flag}});
        for client in [true, false] {
            let proxy = Proxy::new();
            let host = FakeHost::new(&proxy);
            let host = match client {
                true => host.client(&issued(workload())),
                false => host.on(Listener::Outbound),
            };
            let host = host.header(alias, "ok").header("x-mtls", "mine");
            host.set_response_header(alias, Some(b"ok"));
            Worker::configured(&proxy, flags.clone()).request(&host);
            assert_eq!(host.upstream_header(alias), None, "{alias}");
            assert_eq!(host.response_header(alias), None, "{alias}");
            assert_eq!(host.upstream_header("x-mtls").as_deref(), Some("mine"));
            assert_eq!(host.upstream_header(flag).is_some(), client, "{flag}");
        }
    }
}

#[test]
fn the_response_s_flag_is_the_status_that_access_logs_show() {
    let flag = json!({"flag": {"response_header": "x-peer"}});
    for (client, server) in [(true, true), (true, false), (false, true)] {
        let proxy = Proxy::new();
        let mut host = FakeHost::new(&proxy);
        if client {
            host = host.client(&issued(workload()));
        }
        if server {
            host = host.server(&server_only());
        }
        Worker::configured(&proxy, flag.clone()).request(&host);
        let flagged = host.response_header("x-peer").unwrap();
        let status = host.filter_state(STATUS).unwrap();
        assert_eq!(
            flagged.split(';').next(),
            Some(&*status),
            "{client} {server}"
        );
    }
}

#[test]
fn what_is_denied_is_refused_and_still_counted() {
    for (peer, finding) in [
        (server_only(), Finding::ClientAuthMissing),
        (
            issued(workload().key_kind(KeyKind::Rsa1024)),
            Finding::WeakKey,
        ),
        (
            issued(workload().lifetime(lasting(-HOUR, -1))),
            Finding::Expired,
        ),
    ] {
        for (denied, decision) in [
            (json!([finding.as_str()]), Deny),
            (json!(["not_yet_valid", finding.as_str()]), Deny),
            (json!(["not_yet_valid"]), Continue),
            (json!([]), Continue),
        ] {
            let configuration = json!({"deny": denied});
            for direction in ["inbound", "outbound"] {
                let proxy = Proxy::new();
                let host = FakeHost::new(&proxy);
                let host = match direction {
                    "inbound" => host.client(&peer),
                    _ => host.on(Listener::Outbound).server(&peer),
                };
                let worker = Worker::configured(&proxy, configuration.clone());
                assert_eq!(worker.request(&host), decision, "{direction} {denied}");
                assert_eq!(proxy.total("mtls_requests_total"), 1);
            }
        }
    }
}

#[test]
fn an_unreadable_certificate_can_be_denied_and_none_at_all_cannot() {
    let proxy = Proxy::new();
    let worker = Worker::configured(
        &proxy,
        json!({"deny": Finding::ALL.iter().map(|finding| finding.as_str()).collect::<Vec<_>>()}),
    );
    let unreadable = FakeHost::new(&proxy).mtls(&issued(workload()));
    assert_eq!(worker.request(&unreadable), Deny);
    assert_eq!(worker.request(&FakeHost::new(&proxy)), Continue);
}

#[test]
fn a_request_that_was_refused_reaches_no_server() {
    let proxy = Proxy::new();
    let worker = Worker::configured(&proxy, json!({"deny": ["client_auth_missing"]}));
    // The local reply comes through the response path while attributes of a server may be there.
    worker.request(
        &FakeHost::new(&proxy)
            .client(&server_only())
            .server(&server_only()),
    );
    assert_eq!(proxy.total("mtls_requests_total"), 1);
}

/// Servers and clients that are set up with their leaf both as certificate and as chain send it twice.
#[test]
fn a_leaf_that_is_sent_twice_is_one() {
    let client = issued(workload());
    let other = issued(workload());
    for beside in [client.leaf_pem(), other.leaf_pem()] {
        let chain = [client.leaf_pem(), beside, client.chain_pem()].concat();
        let header = format!(
            "Hash={};Chain=\"{}\"",
            fingerprint(&client),
            url_encode(&chain)
        );
        let proxy = Proxy::new();
        let worker = Worker::configured(&proxy, json!({"deny": ["ca_flag_missing"]}));
        let host = FakeHost::new(&proxy).client(&client).header(XFCC, &header);
        assert_eq!(worker.request(&host), Continue);
        assert_eq!(proxy.total("mtls_request_findings_total"), 0);
        let layers = ["workload", "issuing_ca", "intermediate_ca", "root_ca"];
        let series = layers.map(|layer| {
            let layer = format!("layer=.={layer};");
            let series = proxy.series();
            let is_one = |name: &&String| {
                name.contains(&layer) && name.ends_with("not_after_timestamp_seconds")
            };
            series.iter().filter(is_one).count()
        });
        assert_eq!(series, [1, 1, 1, 0]);
    }
}

#[test]
fn certificates_of_this_hop_are_taken_out_of_the_header() {
    let client = issued(workload());
    let earlier = xfcc_element(&issued(workload().common_name("earlier")));
    let rest = format!(
        "By=spiffe://d/me;Hash={};Subject=\"\"",
        fingerprint(&client)
    );
    for (before, configuration, expected) in [
        ("", json!({}), rest.clone()),
        (
            &*format!("{earlier},"),
            json!({}),
            format!("{earlier},{rest}"),
        ),
        (
            "",
            json!({"certificate_sources": ["attribute"]}),
            rest.clone(),
        ),
        (
            "",
            json!({"strip_xfcc_certificates": false}),
            xfcc_element(&client),
        ),
    ] {
        let proxy = Proxy::new();
        let worker = Worker::configured(&proxy, configuration);
        let header = format!("{before}{}", xfcc_element(&client));
        let host = FakeHost::new(&proxy).client(&client);
        // On a connection, every request brings its header.
        for _ in 0..2 {
            host.set_request_header(XFCC, Some(header.as_bytes()));
            worker.request(&host);
            assert_eq!(host.upstream_header(XFCC).as_deref(), Some(&*expected));
        }
    }
}

#[test]
fn a_header_that_is_not_of_this_hop_stays_as_it_is() {
    let client = issued(workload());
    let other = issued(workload());
    for header in [
        xfcc_element(&other),
        "Hash=00;Cert=\"x".to_owned(),
        format!("Hash={};URI={PAY}", fingerprint(&client)),
    ] {
        let proxy = Proxy::new();
        let host = FakeHost::new(&proxy).client(&client).header(XFCC, &header);
        Worker::new(&proxy).request(&host);
        assert_eq!(host.upstream_header(XFCC).as_deref(), Some(&*header));
    }
    let proxy = Proxy::new();
    let plaintext = FakeHost::new(&proxy).header(XFCC, &xfcc_element(&other));
    Worker::new(&proxy).request(&plaintext);
    assert_eq!(plaintext.upstream_header(XFCC), Some(xfcc_element(&other)));
}

#[test]
fn later_requests_of_a_connection_ask_for_nothing_but_its_number() {
    let proxy = Proxy::new();
    let worker = Worker::new(&proxy);
    let host = FakeHost::new(&proxy)
        .on(Listener::Inbound)
        .client(&issued(workload()));
    worker.request(&host);
    host.take_asked();
    for _ in 0..10 {
        worker.request(&host);
    }
    assert_eq!(host.take_asked().len(), 10);
    assert_eq!(requests(&proxy, "inbound", "ok"), 11);
}

/// Requests of one connection may go to different servers at the same time; what filter state says is
/// of the connection, and access logs are written at the end of each request.
#[test]
fn access_logs_see_the_server_of_their_own_request() {
    let proxy = Proxy::new();
    let worker = Worker::new(&proxy);
    let sound = issued(workload());
    let host = FakeHost::new(&proxy).on(Listener::Outbound);
    let mut first = worker.begin(&host);
    let mut second = worker.begin(&host);
    let third = worker.begin(&host);
    let host = host.server(&sound);
    first.on_response(&host);
    assert_eq!(host.filter_state(STATUS).as_deref(), Some("ok"));
    let host = host.server(&server_only());
    second.on_response(&host);
    assert_eq!(host.filter_state(STATUS).as_deref(), Some("critical"));
    first.on_log(&host);
    assert_eq!(host.filter_state(STATUS).as_deref(), Some("ok"));
    let identity = host.filter_state("mtls_watch.identity");
    assert_eq!(identity.as_deref(), Some(PAY));
    second.on_log(&host);
    assert_eq!(host.filter_state(STATUS).as_deref(), Some("critical"));
    third.on_log(&host);
    assert_eq!(
        host.filter_state(STATUS).as_deref(),
        Some(""),
        "it had no response"
    );
    let identity = host.filter_state("mtls_watch.identity");
    assert_eq!(identity.as_deref(), Some(""));
}

/// The names without prefix are the client's where the client is inspected, else the server's. Those with
/// the prefix are the server's everywhere.
#[test]
fn filter_state_tells_client_and_server_apart() {
    let (sound, critical) = (issued(workload()), server_only());
    type Given<'a> = &'a dyn Fn(FakeHost) -> FakeHost;
    let gateway: Given<'_> = &|host| host.on(Listener::Outbound).client(&critical).server(&sound);
    let plain: Given<'_> = &|host| host.client(&critical).server(&sound);
    let anonymous: Given<'_> = &|host| host.server(&sound);
    let sidecar: Given<'_> = &|host| host.on(Listener::Outbound).server(&sound);
    let inbound: Given<'_> = &|host| host.on(Listener::Inbound).client(&critical);
    for (given, peer, server) in [
        (gateway, "critical", Some("ok")),
        (plain, "critical", Some("ok")),
        (anonymous, "no_certificate", Some("ok")),
        (sidecar, "ok", Some("ok")),
        (inbound, "critical", None),
    ] {
        let proxy = Proxy::new();
        let worker = Worker::new(&proxy);
        let host = given(FakeHost::new(&proxy));
        for _ in 0..2 {
            worker.request(&host);
            assert_eq!(host.filter_state(STATUS).as_deref(), Some(peer));
            let status = host.filter_state("mtls_watch.upstream_status");
            assert_eq!(status.as_deref(), server);
            let identity = host.filter_state("mtls_watch.upstream_identity");
            assert_eq!(identity.as_deref(), server.map(|_| PAY));
            let findings = host.filter_state("mtls_watch.upstream_findings");
            assert_eq!(findings.as_deref(), server.map(|_| ""));
        }
    }
}

/// The second request reached none.
#[test]
fn filter_state_keeps_no_server_of_another_request() {
    let proxy = Proxy::new();
    let worker = Worker::new(&proxy);
    let host = FakeHost::new(&proxy).client(&server_only());
    let host = host.server(&issued(workload()));
    worker.request(&host);
    let unreached = worker.begin(&host);
    unreached.on_log(&host);
    for name in ["status", "identity", "findings"] {
        let value = host.filter_state(&format!("mtls_watch.upstream_{name}"));
        assert_eq!(value.as_deref(), Some(""), "{name}");
    }
    assert_eq!(host.filter_state(STATUS).as_deref(), Some("critical"));
}

/// Every request has filter state of its own then.
#[test]
fn filter_state_is_written_at_every_request_where_connections_keep_none() {
    let proxy = Proxy::new();
    proxy.keep_no_state();
    let worker = Worker::new(&proxy);
    let host = FakeHost::new(&proxy).client(&server_only());
    for _ in 0..3 {
        host.set(STATUS, "");
        worker.request(&host);
        assert_eq!(host.filter_state(STATUS).as_deref(), Some("critical"));
    }
    let remaining = [("direction", "inbound")];
    let recorded = proxy.recorded("mtls_peer_certificate_remaining_seconds", &remaining);
    assert_eq!(recorded.unwrap().len(), 1, "it is one connection");
}

#[test]
fn later_connections_with_a_certificate_do_not_read_it_again() {
    let proxy = Proxy::new();
    let worker = Worker::new(&proxy);
    let client = issued(workload());
    for connection in 0..10 {
        let host = FakeHost::new(&proxy).client_with_chain(&client);
        worker.request(&host);
        let reads = host
            .take_asked()
            .contains(&"connection.peer_certificate".to_owned());
        assert_eq!(reads, connection == 0);
    }
    assert_eq!(
        proxy.total("mtls_watch_inspections_total"),
        client.chain().len() as u64
    );
}

#[test]
fn a_keep_alive_connection_is_judged_again_as_time_passes_and_not_read_again() {
    let proxy = Proxy::new();
    let worker = Worker::new(&proxy);
    let host = FakeHost::new(&proxy).client(&issued(workload().lifetime(lasting(0, 24 * HOUR))));
    for (time, status) in [
        (0, "ok"),
        (18 * HOUR, "ok"),
        (18 * HOUR + 1, "warning"),
        (21 * HOUR, "warning"),
        (21 * HOUR + 1, "critical"),
        (24 * HOUR, "critical"),
        (24 * HOUR + 1, "expired"),
        // The clock was wrong, and is set right.
        (12 * HOUR, "ok"),
        (-1, "not_yet_valid"),
        (20 * HOUR, "warning"),
    ] {
        proxy.set_clock(time);
        let before = requests(&proxy, "inbound", status);
        worker.request(&host);
        assert_eq!(requests(&proxy, "inbound", status), before + 1, "at {time}");
    }
    assert_eq!(proxy.total("mtls_watch_inspections_total"), 1);
}

/// A client whose certificate ends two hours and three minutes after [`NOW`](pki::fixtures::NOW).
fn ends_after_two_hours(proxy: &Rc<Proxy>) -> FakeHost {
    let lifetime = lasting(-1000 * HOUR, 2 * HOUR + 180);
    let client = issued(workload().lifetime(lifetime));
    FakeHost::new(proxy).on(Listener::Inbound).client(&client)
}

/// Thresholds that make a certificate `ok` to its end.
fn ok_to_the_end(proxy: &Rc<Proxy>) -> Worker {
    let none = json!({"warning": "1s", "critical": "1s"});
    Worker::configured(proxy, json!({"thresholds": {"workload": none}}))
}

/// Ticks once a minute up to that second.
fn pass_time(proxy: &Proxy, worker: &Worker, from: i64, to: i64) {
    for second in (from + 60..=to).step_by(60) {
        proxy.set_clock(second);
        worker.tick();
    }
}

/// Requests in bursts, with pauses between them: whatever is kept of the connection, the last burst
/// comes after the certificate's end.
fn last_burst_is_expired(burst: usize, pause: i64, others: usize) {
    let proxy = Proxy::new();
    let worker = ok_to_the_end(&proxy);
    let host = ends_after_two_hours(&proxy);
    let other = issued(workload());
    for _ in 0..40 {
        worker.request(&host);
    }
    let mut now = 0;
    while now < 2 * HOUR + 185 {
        for _ in 0..others {
            worker.request(&FakeHost::new(&proxy).on(Listener::Inbound).client(&other));
        }
        pass_time(&proxy, &worker, now, now + pause);
        now += pause;
        let before = requests(&proxy, "inbound", "expired");
        for _ in 0..burst {
            worker.request(&host);
        }
        let expired = requests(&proxy, "inbound", "expired") - before;
        let expected = if now > 2 * HOUR + 180 { burst } else { 0 };
        assert_eq!(expired, expected as u64, "after {now} s");
    }
}

#[test]
fn a_slow_keep_alive_connection_is_expired_after_two_hours() {
    last_burst_is_expired(5, 300, 0);
}

#[test]
fn a_connection_that_others_push_out_of_memory_is_expired_after_two_hours() {
    last_burst_is_expired(40, 300, 2150);
}

#[test]
fn a_busy_connection_is_expired_after_two_hours() {
    last_burst_is_expired(40, 60, 0);
}

#[test]
fn a_silent_connection_is_expired_after_two_hours() {
    last_burst_is_expired(1, 2 * HOUR + 300, 0);
}

#[test]
fn whichever_certificate_of_the_chain_changes_first_is_judged_in_time() {
    let ends = |seconds| lasting(-1000 * HOUR, seconds);
    let ca = PKI
        .intermediate
        .subordinate("Issuing CA")
        .lifetime(ends(HOUR));
    let leaf = ca
        .issue()
        .unwrap()
        .leaf()
        .uri(PAY)
        .lifetime(lasting(0, 24 * HOUR));
    let proxy = Proxy::new();
    let worker = Worker::new(&proxy);
    let host = FakeHost::new(&proxy).client_with_chain(&issued(leaf));
    for (time, finding, expected) in [
        (0, "expired", None),
        (HOUR + 1, "expired", Some(1)),
        (2 * HOUR, "expired", Some(2)),
    ] {
        proxy.set_clock(time);
        worker.request(&host);
        assert_eq!(
            findings(&proxy, "issuing_ca", finding),
            expected,
            "at {time}"
        );
    }
    proxy.set_clock(24 * HOUR + 1);
    worker.request(&host);
    assert_eq!(findings(&proxy, "workload", "expired"), Some(1));
}

#[test]
fn a_proxy_that_answers_nothing_is_watched_as_far_as_that_goes() {
    let proxy = Proxy::new();
    let worker = Worker::configured(&proxy, json!({"deny": ["unreadable"]}));
    let host = FakeHost::knowing_nothing(&proxy);
    assert_eq!(worker.request(&host), Continue);
    assert_eq!(requests(&proxy, "inbound", "no_certificate"), 1);
    assert_eq!(proxy.total("mtls_requests_total"), 1);
}

#[test]
fn a_proxy_that_says_mtls_and_nothing_else_has_an_unreadable_peer() {
    let proxy = Proxy::new();
    let host = FakeHost::knowing_nothing(&proxy).with("connection.mtls", [1]);
    assert_eq!(Worker::new(&proxy).request(&host), Continue);
    assert_eq!(requests(&proxy, "inbound", "unreadable"), 1);
}

#[test]
fn a_proxy_that_refuses_metrics_or_shared_data_still_gets_its_flags_and_refusals() {
    let refusals: [fn(&Rc<Proxy>); 3] = [
        |proxy| proxy.refuse_metrics(),
        |proxy| proxy.refuse_shared_data(),
        |proxy| {
            proxy.refuse_metrics();
            proxy.refuse_shared_data();
        },
    ];
    for refuse in refusals {
        let proxy = Proxy::new();
        refuse(&proxy);
        let worker = Worker::configured(&proxy, json!({"deny": ["client_auth_missing"]}));
        let host = FakeHost::new(&proxy).client(&server_only());
        assert_eq!(worker.request(&host), Deny);
        assert_eq!(host.filter_state(STATUS).as_deref(), Some("critical"));
        worker.tick();
        let sound = FakeHost::new(&proxy).client(&issued(workload()));
        assert_eq!(worker.request(&sound), Continue);
    }
}

#[test]
fn a_clock_that_fails_makes_nobody_expire() {
    let proxy = Proxy::new();
    proxy.break_clock();
    let worker = Worker::configured(&proxy, json!({"deny": ["expired", "not_yet_valid"]}));
    let host = FakeHost::new(&proxy).client(&issued(workload()));
    assert_eq!(worker.request(&host), Continue);
    assert_eq!(requests(&proxy, "inbound", "ok"), 1);
}

#[test]
fn identities_without_a_name_are_unknown() {
    let proxy = Proxy::new();
    let host = FakeHost::new(&proxy).client(&issued(leaf()));
    Worker::new(&proxy).request(&host);
    assert_eq!(
        host.filter_state("mtls_watch.identity").as_deref(),
        Some("unknown")
    );
}
