//! Leaves that their workload has replaced: an old connection shows them, no handshake does any more.

use std::rc::Rc;

use pki::fixtures::{NOW, PAY, key_digits, lasting, workload};
use pki::{DAY, HOUR, Identity, MINUTE};

use crate::captured_log::{capture, take};
use crate::fake_host::{FakeHost, Listener, Proxy};
use crate::worker::Worker;

const NOT_AFTER: &str = "mtls_peer_certificate_not_after_timestamp_seconds";
const LAST_SEEN: &str = "mtls_peer_certificate_last_seen_timestamp_seconds";
const FINDINGS: &str = "mtls_request_findings_total";

/// A leaf of the one workload, valid from and to so many seconds after [`NOW`].
fn leaf(not_before: i64, not_after: i64) -> Identity {
    let lifetime = lasting(not_before, not_after);
    workload().lifetime(lifetime).issue().unwrap()
}

fn gauge(proxy: &Proxy, metric: &str, direction: &str) -> Option<i64> {
    let labels = [
        ("direction", direction),
        ("layer", "workload"),
        ("identity", PAY),
    ];
    proxy.value(metric, &labels).map(|value| value as i64 - NOW)
}

fn not_after(proxy: &Proxy) -> Option<i64> {
    gauge(proxy, NOT_AFTER, "inbound")
}

/// A connection of a client of that address.
fn from(proxy: &Rc<Proxy>, address: &str, client: &Identity) -> FakeHost {
    FakeHost::new(proxy)
        .on(Listener::Inbound)
        .client(client)
        .with("source.address", address)
}

fn outlives(proxy: &Proxy) -> u64 {
    let labels = [
        ("direction", "inbound"),
        ("layer", "workload"),
        ("finding", "connection_outlives_certificate"),
    ];
    proxy.value(FINDINGS, &labels).unwrap_or(0)
}

/// At each time, requests on these connections of these workers, and a tick of all.
fn run(proxy: &Proxy, workers: &[&Worker], open: &[(&Worker, &FakeHost)], times: [i64; 2]) {
    for seconds in (times[0]..=times[1]).step_by(60) {
        proxy.set_clock(seconds);
        for (worker, connection) in open {
            worker.request(connection);
        }
        for worker in workers {
            worker.tick();
        }
    }
}

#[test]
fn a_leaf_that_its_workload_has_replaced_counts_no_more_though_a_connection_holds_it() {
    let proxy = Proxy::new();
    // The old connection and the new one are at different workers.
    let (one, other) = (Worker::new(&proxy), Worker::new(&proxy));
    let old = from(&proxy, "10.0.0.1:40001", &leaf(0, DAY));
    let new = from(&proxy, "10.0.0.1:40002", &leaf(12 * HOUR, 36 * HOUR));
    let both = [&one, &other];
    run(&proxy, &both, &[(&one, &old)], [0, 10 * MINUTE]);
    assert_eq!(not_after(&proxy), Some(DAY));
    proxy.set_clock(12 * HOUR);
    other.request(&new);
    run(&proxy, &both, &[(&one, &old)], [12 * HOUR, 13 * HOUR]);
    // Long after the new connection has closed, too.
    assert_eq!(not_after(&proxy), Some(36 * HOUR));
    run(&proxy, &both, &[(&one, &old)], [14 * HOUR, 25 * HOUR]);
    assert_eq!(not_after(&proxy), Some(36 * HOUR));
    assert!(outlives(&proxy) > 0);
}

#[test]
fn a_replica_that_has_only_old_connections_counts_until_its_leaf_has_ended() {
    let proxy = Proxy::new();
    let worker = Worker::new(&proxy);
    let stalled = from(&proxy, "10.0.0.2:40001", &leaf(0, DAY));
    let renewed = from(&proxy, "10.0.0.1:40001", &leaf(12 * HOUR, 36 * HOUR));
    run(&proxy, &[&worker], &[(&worker, &stalled)], [0, 10 * MINUTE]);
    let open = [(&worker, &stalled), (&worker, &renewed)];
    run(&proxy, &[&worker], &open, [12 * HOUR, 24 * HOUR]);
    assert_eq!(not_after(&proxy), Some(DAY));
    assert_eq!(outlives(&proxy), 0);
    // From then on its handshakes are refused, and that is told by itself.
    run(&proxy, &[&worker], &open, [24 * HOUR + 60, 24 * HOUR + 120]);
    assert_eq!(not_after(&proxy), Some(36 * HOUR));
}

#[test]
fn nobody_presents_what_has_ended_and_only_an_old_connection_holds() {
    let proxy = Proxy::new();
    let worker = Worker::new(&proxy);
    let old = from(&proxy, "10.0.0.2:40001", &leaf(0, HOUR));
    run(&proxy, &[&worker], &[(&worker, &old)], [0, 3 * HOUR]);
    assert_eq!(not_after(&proxy), Some(HOUR), "the last value stays");
    assert_eq!(gauge(&proxy, LAST_SEEN, "inbound"), Some(HOUR));
}

/// Two replicas behind one address, as with NAT: each handshake shows that its leaf is still presented.
#[test]
fn a_leaf_that_is_presented_again_is_not_replaced() {
    let proxy = Proxy::new();
    let worker = Worker::new(&proxy);
    let (first, second) = (leaf(0, DAY), leaf(0, 2 * DAY));
    for (minute, client) in [(0, &first), (1, &second), (2, &first), (3, &second)] {
        proxy.set_clock(minute * MINUTE);
        worker.request(&from(&proxy, &format!("10.0.0.1:4000{minute}"), client));
        worker.tick();
    }
    assert_eq!(not_after(&proxy), Some(DAY));
}

/// Without an address of its own one replica is not told from another: with X-Forwarded-For the HTTP filter is
/// given that of another (its port is 0).
#[test]
fn without_an_address_of_its_own_no_leaf_is_replaced() {
    for address in ["10.0.0.1:0", "envoy://internal_client_address/", "/run/x"] {
        let proxy = Proxy::new();
        let worker = Worker::new(&proxy);
        worker.request(&from(&proxy, address, &leaf(0, DAY)));
        proxy.set_clock(60);
        worker.request(&from(&proxy, address, &leaf(0, 2 * DAY)));
        worker.tick();
        worker.tick();
        assert_eq!(not_after(&proxy), Some(DAY), "{address}");
    }
}

/// With both filters on a connection, the network filter knows the address.
#[test]
fn of_both_filters_the_one_that_knows_the_address_tells_the_gauges() {
    let proxy = Proxy::new();
    let (network, http) = (Worker::new(&proxy), Worker::new(&proxy));
    let connection = |port: u16, client: &Identity| {
        let host = from(&proxy, &format!("10.0.0.1:{port}"), client);
        network.connection(&host);
        host.set("source.address", "203.0.113.9:0");
        http.request(&host);
        host
    };
    let old = connection(40001, &leaf(0, DAY));
    proxy.set_clock(60);
    connection(40002, &leaf(60, 2 * DAY));
    for seconds in [65, 70, 75] {
        proxy.set_clock(seconds);
        http.request(&old);
        network.tick();
        http.tick();
    }
    assert_eq!(not_after(&proxy), Some(2 * DAY));
}

#[test]
fn a_servers_leaf_is_replaced_in_the_same_way() {
    let proxy = Proxy::new();
    let worker = Worker::new(&proxy);
    let to = |address: &str, server: &Identity| {
        let host = FakeHost::new(&proxy).on(Listener::Outbound).server(server);
        host.with("upstream.address", address)
    };
    let old = to("10.0.0.1:8443", &leaf(0, DAY));
    let new = to("10.0.0.1:8443", &leaf(0, 3 * DAY));
    let other = to("10.0.0.2:8443", &leaf(0, 2 * DAY));
    worker.request(&old);
    run(
        &proxy,
        &[&worker],
        &[(&worker, &new), (&worker, &other), (&worker, &old)],
        [60, 180],
    );
    assert_eq!(gauge(&proxy, NOT_AFTER, "outbound"), Some(2 * DAY));
    // The pool had to make a connection for this request: the old leaf is presented again.
    let again = old.with(
        "upstream.cx_pool_ready_duration",
        1_000_000_u64.to_le_bytes(),
    );
    run(&proxy, &[&worker], &[(&worker, &again)], [240, 300]);
    assert_eq!(gauge(&proxy, NOT_AFTER, "outbound"), Some(DAY));
}

#[test]
fn the_cas_of_a_replaced_leaf_are_presented_no_more() {
    const ISSUER: &str = "mtls_issuer_last_seen_timestamp_seconds";
    let proxy = Proxy::new();
    let worker = Worker::new(&proxy);
    let [ended, next] = [(); 2].map(|()| pki::Ca::root("Mesh CA").issue().unwrap());
    let of = |ca: &pki::Ca, to: i64| {
        let leaf = ca.leaf().uri(PAY).lifetime(lasting(0, to));
        leaf.issue().unwrap()
    };
    let old = from(&proxy, "10.0.0.1:40001", &of(&ended, DAY));
    let new = from(&proxy, "10.0.0.1:40002", &of(&next, 2 * DAY));
    worker.request(&old);
    run(
        &proxy,
        &[&worker],
        &[(&worker, &new), (&worker, &old)],
        [60, HOUR],
    );
    let seen = |ca: &pki::Ca| {
        let issuer = format!("Mesh_CA:{}", key_digits(ca));
        proxy.value(ISSUER, &[("direction", "inbound"), ("issuer", &issuer)])
    };
    assert_eq!(seen(&next), Some((NOW + HOUR) as u64));
    assert!(seen(&ended) < Some((NOW + 5 * MINUTE) as u64));
}

/// Requests keep their status; the line says that there is nothing to renew, and for how long the connection is open.
#[test]
fn the_log_line_tells_a_replaced_leaf_from_one_that_was_not_renewed() {
    let lines = logged(|| {
        let proxy = Proxy::new();
        let worker = Worker::new(&proxy);
        let old = from(&proxy, "10.0.0.1:40001", &leaf(0, DAY));
        worker.request(&old);
        proxy.set_clock(12 * HOUR);
        worker.request(&from(&proxy, "10.0.0.1:40002", &leaf(12 * HOUR, 36 * HOUR)));
        run(
            &proxy,
            &[&worker],
            &[(&worker, &old)],
            [12 * HOUR, 23 * HOUR],
        );
        let critical = [("direction", "inbound"), ("status", "critical")];
        assert!(proxy.value("mtls_requests_total", &critical) > Some(0));
    });
    let about = |finding: &str| {
        let found = lines
            .iter()
            .find(|line| line.contains(&format!("finding={finding} ")));
        found
            .unwrap_or_else(|| panic!("{finding}: {lines:#?}"))
            .clone()
    };
    let line = about("connection_outlives_certificate");
    assert!(line.contains(" connection_age=43"), "{line}");
    let line = about("expires_critical");
    assert!(line.contains("nothing to renew"), "{line}");
    assert!(!line.contains("renew now"), "{line}");
}

#[test]
fn the_log_line_of_a_leaf_that_ends_with_its_issuer_names_the_issuer() {
    let lines = logged(|| {
        let proxy = Proxy::new();
        let ca = pki::Ca::root("Short CA")
            .lifetime(lasting(-DAY, HOUR))
            .issue()
            .unwrap();
        let client = ca
            .leaf()
            .uri(PAY)
            .lifetime(lasting(-DAY, HOUR))
            .issue()
            .unwrap();
        Worker::new(&proxy).request(&FakeHost::new(&proxy).client_with_chain(&client.with_root()));
    });
    let line = lines.iter().find(|line| line.contains("layer=workload"));
    let line = line.unwrap_or_else(|| panic!("{lines:#?}"));
    assert!(line.contains("ends with its issuer 'Short CA:"), "{line}");
}

/// The lines that are logged meanwhile.
fn logged(happens: impl FnOnce()) -> Vec<String> {
    capture();
    happens();
    take().into_iter().map(|(_, line)| line).collect()
}

#[test]
fn many_replicas_with_old_connections_do_not_bring_their_old_leaves_back() {
    let proxy = Proxy::new();
    let worker = Worker::new(&proxy);
    let connections = |from_port: i64, not_after: i64| -> Vec<FakeHost> {
        let hosts = (0..50).map(|replica| {
            let address = format!("10.0.0.{replica}:{from_port}");
            from(
                &proxy,
                &address,
                &leaf(not_after - DAY, not_after + replica),
            )
        });
        hosts.collect()
    };
    let old = connections(40001, DAY);
    for host in &old {
        worker.request(host);
    }
    worker.tick();
    proxy.set_clock(12 * HOUR);
    for host in connections(40002, 36 * HOUR) {
        worker.request(&host);
    }
    let open: Vec<_> = old.iter().map(|host| (&worker, host)).collect();
    run(&proxy, &[&worker], &open, [12 * HOUR, 13 * HOUR]);
    assert_eq!(not_after(&proxy), Some(36 * HOUR));
}
