//! The gauges of identities and CAs: right with several replicas and workers, and bounded.

use std::rc::Rc;

use pki::{Ca, Identity, Lifetime};
use pki::{DAY, HOUR, MINUTE};
use serde_json::json;

use crate::facts;
use crate::fake_host::{FakeHost, Listener, Proxy};
use crate::worker::Worker;
use pki::fixtures::{NOW, PAY, PKI, hex, key_digits, lasting, leaf, workload};
use sha2::{Digest as _, Sha256};

const NOT_AFTER: &str = "mtls_peer_certificate_not_after_timestamp_seconds";
const NOT_BEFORE: &str = "mtls_peer_certificate_not_before_timestamp_seconds";
const LAST_SEEN: &str = "mtls_issuer_last_seen_timestamp_seconds";
const OVERFLOW: &str = "mtls_watch_series_overflow_total";

/// A gauge of clients' certificates, in seconds after [`NOW`].
fn gauge(proxy: &Proxy, metric: &str, layer: &str, identity: &str) -> Option<i64> {
    let labels = [
        ("direction", "inbound"),
        ("layer", layer),
        ("identity", identity),
    ];
    proxy.value(metric, &labels).map(|value| value as i64 - NOW)
}

fn not_after(proxy: &Proxy) -> Option<i64> {
    gauge(proxy, NOT_AFTER, "workload", PAY)
}

/// A replica of one workload, its certificate valid from and to so many seconds after [`NOW`].
fn replica(not_before: i64, not_after: i64) -> Identity {
    let lifetime = lasting(not_before, not_after);
    workload().lifetime(lifetime).issue().unwrap()
}

fn see(worker: &Worker, proxy: &Rc<Proxy>, client: &Identity) {
    worker.request(&FakeHost::new(proxy).on(Listener::Inbound).client(client));
}

#[test]
fn of_several_replicas_the_certificate_that_ends_first_counts() {
    let replicas = [
        replica(-3, 5 * HOUR),
        replica(-2, 4 * HOUR),
        replica(-1, 6 * HOUR),
    ];
    for order in [[0, 1, 2], [1, 0, 2], [2, 1, 0]] {
        let proxy = Proxy::new();
        let worker = Worker::new(&proxy);
        for index in order {
            see(&worker, &proxy, &replicas[index]);
        }
        assert_eq!(not_after(&proxy), Some(4 * HOUR));
        assert_eq!(gauge(&proxy, NOT_BEFORE, "workload", PAY), Some(-2));
    }
}

#[test]
fn a_certificate_counts_for_15_minutes_after_it_was_last_in_use() {
    let proxy = Proxy::new();
    let worker = Worker::new(&proxy);
    let (old, new) = (replica(-1, HOUR), replica(0, 2 * HOUR));
    see(&worker, &proxy, &old);
    for (minutes, expected) in [
        (1, HOUR),
        (14, HOUR),
        (15, HOUR),
        (16, 2 * HOUR),
        (40, 2 * HOUR),
    ] {
        proxy.set_clock(minutes * MINUTE);
        see(&worker, &proxy, &new);
        worker.tick();
        assert_eq!(not_after(&proxy), Some(expected), "after {minutes} minutes");
    }
    assert_eq!(gauge(&proxy, NOT_BEFORE, "workload", PAY), Some(0));
}

#[test]
fn a_keep_alive_connection_keeps_its_certificate_in_use() {
    let proxy = Proxy::new();
    let worker = Worker::new(&proxy);
    let held = FakeHost::new(&proxy)
        .on(Listener::Inbound)
        .client(&replica(-1, 9 * HOUR));
    for minutes in [0, 10, 20, 30, 40] {
        proxy.set_clock(minutes * MINUTE);
        worker.request(&held);
        see(&worker, &proxy, &replica(0, 10 * HOUR));
        worker.tick();
        assert_eq!(not_after(&proxy), Some(9 * HOUR));
    }
}

#[test]
fn a_certificate_that_is_seen_often_counts_from_when_it_was_seen_last() {
    let proxy = Proxy::new();
    let worker = Worker::new(&proxy);
    let often = replica(-1, HOUR);
    for seconds in (0..=100).step_by(5) {
        proxy.set_clock(seconds);
        see(&worker, &proxy, &often);
        worker.tick();
    }
    proxy.set_clock(15 * MINUTE + 90);
    see(&worker, &proxy, &replica(0, 2 * HOUR));
    worker.tick();
    assert_eq!(not_after(&proxy), Some(HOUR));
}

#[test]
fn an_identity_was_last_seen_when_any_certificate_of_its_was() {
    let proxy = Proxy::new();
    let worker = Worker::new(&proxy);
    for seconds in [0, 100, 200] {
        proxy.set_clock(seconds);
        see(&worker, &proxy, &replica(-1, HOUR + seconds));
        worker.tick();
        let metric = "mtls_peer_certificate_last_seen_timestamp_seconds";
        assert_eq!(gauge(&proxy, metric, "workload", PAY), Some(seconds));
    }
}

#[test]
fn only_a_certificate_that_ends_first_does_not_wait_for_the_tick() {
    const LAST_SEEN: &str = "mtls_peer_certificate_last_seen_timestamp_seconds";
    let proxy = Proxy::new();
    let worker = Worker::new(&proxy);
    let gauges = || {
        let last_seen = gauge(&proxy, LAST_SEEN, "workload", PAY);
        (not_after(&proxy), last_seen)
    };
    for (second, not_after, at_once) in [
        (0, 3 * HOUR, (Some(3 * HOUR), Some(0))),
        (1, 4 * HOUR, (Some(3 * HOUR), Some(0))),
        (2, 2 * HOUR, (Some(2 * HOUR), Some(2))),
        (6, 5 * HOUR, (Some(2 * HOUR), Some(2))),
        (7, 6 * HOUR, (Some(2 * HOUR), Some(7))),
    ] {
        proxy.set_clock(second);
        see(&worker, &proxy, &replica(-1, not_after));
        assert_eq!(gauges(), at_once, "second {second}");
    }
    proxy.set_clock(8);
    see(&worker, &proxy, &replica(-1, DAY));
    worker.tick();
    assert_eq!(gauges(), (Some(2 * HOUR), Some(8)));
}

#[test]
fn what_was_true_last_stays_when_nobody_is_there() {
    let proxy = Proxy::new();
    let worker = Worker::new(&proxy);
    see(&worker, &proxy, &replica(-1, HOUR));
    proxy.set_clock(DAY);
    worker.tick();
    assert_eq!(not_after(&proxy), Some(HOUR));
}

#[test]
fn workers_agree_on_the_earliest_whoever_saw_it_and_whoever_writes_last() {
    for order in [[0, 1], [1, 0]] {
        let proxy = Proxy::new();
        let workers = [Worker::new(&proxy), Worker::new(&proxy)];
        let replicas = [replica(-1, HOUR), replica(0, 2 * HOUR)];
        for index in order {
            see(&workers[index], &proxy, &replicas[index]);
        }
        for worker in &workers {
            worker.tick();
            assert_eq!(not_after(&proxy), Some(HOUR), "{order:?}");
        }
    }
}

#[test]
fn a_certificate_lapses_in_all_workers() {
    let proxy = Proxy::new();
    let workers = [Worker::new(&proxy), Worker::new(&proxy)];
    see(&workers[0], &proxy, &replica(-1, HOUR));
    see(&workers[1], &proxy, &replica(0, 2 * HOUR));
    proxy.set_clock(16 * MINUTE);
    see(&workers[1], &proxy, &replica(0, 2 * HOUR));
    for worker in &workers {
        worker.tick();
        assert_eq!(not_after(&proxy), Some(2 * HOUR));
    }
}

#[test]
fn workers_that_write_at_the_same_moment_lose_nothing() {
    let proxy = Proxy::new();
    let (one, other) = (Worker::new(&proxy), Rc::new(Worker::new(&proxy)));
    see(&one, &proxy, &replica(0, 5 * HOUR));
    let at_the_same_moment = {
        let (other, proxy) = (Rc::clone(&other), Rc::clone(&proxy));
        move || see(&other, &proxy, &replica(-1, HOUR))
    };
    proxy.before_next_share(at_the_same_moment);
    see(&one, &proxy, &replica(-2, 3 * HOUR));
    assert_eq!(not_after(&proxy), Some(HOUR));
    // What the first one saw is not lost either: it is next when the earliest is gone.
    proxy.set_clock(10 * MINUTE);
    see(&one, &proxy, &replica(-2, 3 * HOUR));
    proxy.set_clock(16 * MINUTE);
    other.tick();
    assert_eq!(not_after(&proxy), Some(3 * HOUR));
}

#[test]
fn many_replicas_that_are_replaced_at_once_leave_nothing_behind() {
    let proxy = Proxy::new();
    let worker = Worker::new(&proxy);
    for index in 0..20 {
        see(&worker, &proxy, &replica(-1, HOUR + index));
    }
    let new = replica(0, DAY);
    for minutes in [16, 17, 40] {
        proxy.set_clock(minutes * MINUTE);
        see(&worker, &proxy, &new);
        worker.tick();
    }
    assert_eq!(not_after(&proxy), Some(DAY));
}

#[test]
fn a_clock_that_was_ahead_does_not_hold_what_was_seen_then() {
    let proxy = Proxy::new();
    let worker = Worker::new(&proxy);
    proxy.set_clock(365 * DAY);
    see(&worker, &proxy, &replica(-1, HOUR));
    let new = replica(0, DAY);
    for minutes in [0, 16, 17] {
        proxy.set_clock(minutes * MINUTE);
        see(&worker, &proxy, &new);
        worker.tick();
    }
    assert_eq!(not_after(&proxy), Some(DAY));
    assert_eq!(last_seen(&proxy, &issuing_ca()), Some(17 * MINUTE));
}

#[test]
fn the_cas_of_the_chain_have_gauges_by_name() {
    let proxy = Proxy::new();
    let host = FakeHost::new(&proxy).client_with_chain(&workload().issue().unwrap());
    Worker::new(&proxy).request(&host);
    for (layer, name, ca) in [
        ("issuing_ca", "Issuing_CA", &PKI.issuing),
        ("intermediate_ca", "Intermediate_CA", &PKI.intermediate),
    ] {
        let identity = format!("{name}:{}", key_digits(ca));
        let expected = facts(ca.der());
        let found = gauge(&proxy, NOT_AFTER, layer, &identity);
        assert_eq!(found, Some(expected.not_after.0 - NOW), "{layer}");
        let found = gauge(&proxy, NOT_BEFORE, layer, &identity);
        assert_eq!(found, Some(expected.not_before.0 - NOW), "{layer}");
    }
}

#[test]
fn clients_and_servers_of_one_identity_have_gauges_of_their_own() {
    let proxy = Proxy::new();
    let worker = Worker::new(&proxy);
    let host = FakeHost::new(&proxy)
        .client(&replica(0, HOUR))
        .server(&replica(0, 2 * HOUR));
    worker.request(&host);
    for (direction, expected) in [("inbound", HOUR), ("outbound", 2 * HOUR)] {
        let labels = [
            ("direction", direction),
            ("layer", "workload"),
            ("identity", PAY),
        ];
        assert_eq!(
            proxy.value(NOT_AFTER, &labels),
            Some((NOW + expected) as u64)
        );
    }
}

#[test]
fn connections_feed_the_gauges_too() {
    let proxy = Proxy::new();
    Worker::new(&proxy).connection(&FakeHost::new(&proxy).client(&replica(0, HOUR)));
    assert_eq!(not_after(&proxy), Some(HOUR));
}

#[test]
fn a_gauge_reaches_to_the_year_9999() {
    const END_OF_9999: i64 = 253_402_300_799;
    let proxy = Proxy::new();
    let lifetime = Lifetime {
        not_before: 0,
        not_after: END_OF_9999,
    };
    let client = workload().lifetime(lifetime).issue().unwrap();
    see(&Worker::new(&proxy), &proxy, &client);
    assert_eq!(not_after(&proxy), Some(END_OF_9999 - NOW));
}

#[test]
fn an_identity_is_a_label_in_the_promised_alphabet() {
    let proxy = Proxy::new();
    let client = leaf().common_name("pay;.; =é\n").issue().unwrap();
    see(&Worker::new(&proxy), &proxy, &client);
    let digits = &hex(&Sha256::digest("pay;.; =é\n"))[..8];
    let label = format!("pay_._____~{digits}");
    assert!(gauge(&proxy, NOT_AFTER, "workload", &label).is_some());
}

/// A client of the given number.
fn stranger(number: usize) -> Identity {
    leaf().uri(&format!("spiffe://d/{number}")).issue().unwrap()
}

/// The label values of the clients' leaves that have series.
fn identities(proxy: &Proxy) -> Vec<String> {
    let start = "direction=.=inbound;.;layer=.=workload;.;identity=.=";
    let end = format!(";.;{NOT_AFTER}");
    let series = proxy.series().into_iter();
    let value = |name: String| Some(name.strip_prefix(start)?.strip_suffix(&end)?.to_owned());
    series.filter_map(value).collect()
}

#[test]
fn the_101st_identity_shares_a_series_and_is_counted() {
    let proxy = Proxy::new();
    let workers = [Worker::new(&proxy), Worker::new(&proxy)];
    for number in 0..100 {
        see(&workers[number % 2], &proxy, &stranger(number));
    }
    assert_eq!(identities(&proxy).len(), 100);
    assert_eq!(proxy.value(OVERFLOW, &[]), Some(0));
    for worker in &workers {
        see(worker, &proxy, &stranger(100));
    }
    assert_eq!(identities(&proxy).len(), 101);
    assert!(identities(&proxy).contains(&"other".to_owned()));
    assert!(proxy.value(OVERFLOW, &[]) >= Some(1));
    // Whoever has a place keeps it, in every worker.
    for worker in &workers {
        for number in [0, 1, 99] {
            see(worker, &proxy, &stranger(number));
        }
    }
    assert_eq!(identities(&proxy).len(), 101);
}

#[test]
fn workers_that_meet_identities_at_the_same_moment_do_not_exceed_the_limit() {
    let proxy = Proxy::new();
    let limited = || Worker::configured(&proxy, json!({"identity_series": 1}));
    let (one, other) = (limited(), limited());
    let at_the_same_moment = {
        let proxy = Rc::clone(&proxy);
        move || see(&other, &proxy, &stranger(1))
    };
    proxy.before_next_share(at_the_same_moment);
    see(&one, &proxy, &stranger(0));
    let mut identities = identities(&proxy);
    identities.sort();
    assert_eq!(identities, ["other", "spiffe://d/1"]);
}

#[test]
fn workers_that_cannot_agree_admit_nobody_of_their_own() {
    for disturb in [Proxy::refuse_shared_data, Proxy::contend_for_shared_data] {
        let proxy = Proxy::new();
        disturb(&proxy);
        let workers = [Worker::new(&proxy), Worker::new(&proxy)];
        for number in 0..150 {
            see(&workers[number % 2], &proxy, &stranger(number));
        }
        assert!(identities(&proxy).len() <= 101);
    }
}

#[test]
fn what_shares_a_series_still_shows_the_earliest() {
    let proxy = Proxy::new();
    let worker = Worker::configured(&proxy, json!({"identity_series": 1}));
    see(&worker, &proxy, &stranger(0));
    for (number, hours) in [(1, 5), (2, 3), (3, 4)] {
        let uri = format!("spiffe://d/{number}");
        let leaf = leaf().uri(&uri).lifetime(lasting(0, hours * HOUR));
        see(&worker, &proxy, &leaf.issue().unwrap());
    }
    assert_eq!(
        gauge(&proxy, NOT_AFTER, "workload", "other"),
        Some(3 * HOUR)
    );
}

#[test]
fn with_no_identity_series_no_identity_is_a_label() {
    let proxy = Proxy::new();
    let worker = Worker::configured(&proxy, json!({"identity_series": 0}));
    let host = FakeHost::new(&proxy).client_with_chain(&workload().issue().unwrap());
    worker.request(&host);
    worker.tick();
    let mut identities = 0;
    for series in proxy.series() {
        if let Some((_, rest)) = series.split_once("identity=.=") {
            assert!(rest.starts_with("other;.;"), "{series}");
            identities += 1;
        }
    }
    assert!(identities > 0);
}

/// A client of a CA of its own.
fn client_of_ca(number: usize) -> Identity {
    let ca = Ca::root(&format!("CA {number}")).issue().unwrap();
    ca.leaf().uri(PAY).issue().unwrap()
}

#[test]
fn strangers_cas_are_capped_as_well() {
    let proxy = Proxy::new();
    let worker = Worker::new(&proxy);
    for number in 0..150 {
        see(&worker, &proxy, &client_of_ca(number));
    }
    let series = proxy.series();
    let issuers = series
        .iter()
        .filter(|name| name.ends_with(LAST_SEEN))
        .count();
    assert_eq!(issuers, 101);
    assert!(last_seen(&proxy, "other").is_some());
    assert!(proxy.value(OVERFLOW, &[]) >= Some(49));
}

fn issuing_ca() -> String {
    format!("Issuing_CA:{}", key_digits(&PKI.issuing))
}

fn last_seen(proxy: &Proxy, issuer: &str) -> Option<i64> {
    let labels = [("direction", "inbound"), ("issuer", issuer)];
    let value = proxy.value(LAST_SEEN, &labels)?;
    Some(value as i64 - NOW)
}

#[test]
fn an_issuer_was_last_seen_when_a_leaf_of_its_was() {
    let proxy = Proxy::new();
    let worker = Worker::new(&proxy);
    let client = workload().issue().unwrap();
    for seconds in [0, 60, 3600] {
        proxy.set_clock(seconds);
        see(&worker, &proxy, &client);
        worker.tick();
        assert_eq!(last_seen(&proxy, &issuing_ca()), Some(seconds));
    }
    proxy.set_clock(7200);
    worker.tick();
    assert_eq!(last_seen(&proxy, &issuing_ca()), Some(3600));
}

#[test]
fn an_old_ca_and_its_successor_of_the_same_name_are_told_apart() {
    let proxy = Proxy::new();
    let worker = Worker::new(&proxy);
    let [old, new] = [(); 2].map(|()| Ca::root("Mesh CA").issue().unwrap());
    for ca in [&old, &new] {
        see(&worker, &proxy, &ca.leaf().uri(PAY).issue().unwrap());
    }
    for ca in [&old, &new] {
        let issuer = format!("Mesh_CA:{}", key_digits(ca));
        assert_eq!(last_seen(&proxy, &issuer), Some(0));
    }
}

#[test]
fn shared_data_that_somebody_else_wrote_is_survived() {
    let proxy = Proxy::new();
    let worker = Worker::new(&proxy);
    see(&worker, &proxy, &replica(0, HOUR));
    proxy.garble_shared_data();
    see(&worker, &proxy, &replica(-1, 2 * HOUR));
    see(&worker, &proxy, &stranger(1));
    worker.tick();
    assert!(not_after(&proxy).is_some());
}
