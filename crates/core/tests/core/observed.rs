//! What no certificate tells by itself: one that comes from many addresses, the proxy's own that another presents, a
//! serial number that two keys have.

use mtls_watch_core::inspector::{Decision, Event};
use pki::fixtures::{PKI, workload};
use pki::{Identity, LeafBuilder};
use serde_json::{Value, json};

use crate::captured_log::{capture, take};
use crate::fake_host::{FakeHost, Listener, Proxy};
use crate::worker::Worker;

use Decision::{Continue, Deny};

/// Seconds after which it is looked again where a peer is.
const TICK: i64 = 5;
const HOUR: i64 = 3600;

fn issued(leaf: LeafBuilder) -> Identity {
    leaf.issue().unwrap()
}

fn pay() -> Identity {
    issued(workload())
}

/// Both filters of a worker, at a clock that goes on by a tick before each connection.
struct Site {
    proxy: std::rc::Rc<Proxy>,
    worker: Worker,
    seconds: std::cell::Cell<i64>,
}

impl Site {
    fn new(configuration: Value) -> Self {
        let proxy = Proxy::new();
        let worker = Worker::configured(&proxy, configuration);
        Self {
            proxy,
            worker,
            seconds: std::cell::Cell::default(),
        }
    }

    fn pass(&self, seconds: i64) {
        self.seconds.set(self.seconds.get() + seconds);
        self.proxy.set_clock(self.seconds.get());
        self.worker.tick();
    }

    fn host(&self, client: &Identity, address: &str) -> FakeHost {
        let host = FakeHost::new(&self.proxy)
            .on(Listener::Inbound)
            .client(client);
        host.with("source.address", address)
            .with("destination.address", "10.1.0.9:8080")
    }

    /// A connection from an address, on which one byte is sent.
    fn connect(&self, client: &Identity, address: &str) -> Decision {
        self.pass(TICK);
        let host = self.host(client, address);
        self.worker.accept().on(&host, Event::DownstreamData)
    }

    fn request(&self, client: &Identity, address: &str) -> Decision {
        self.pass(TICK);
        self.worker.request(&self.host(client, address))
    }

    fn found(&self, finding: &str) -> u64 {
        let of = |metric| {
            let labels = [
                ("direction", "inbound"),
                ("layer", "workload"),
                ("finding", finding),
            ];
            self.proxy.value(metric, &labels).unwrap_or_default()
        };
        of("mtls_connection_findings_total") + of("mtls_request_findings_total")
    }
}

const SHARED: &str = "certificate_shared";

fn sharing(addresses: usize) -> Value {
    json!({"certificate_addresses": addresses, "deny": [SHARED]})
}

#[test]
fn a_certificate_from_more_addresses_than_configured_is_shared() {
    for connect in [Site::connect, Site::request] {
        capture();
        let site = Site::new(sharing(3));
        let pay = pay();
        for round in 1..=3 {
            for number in 1..=3 {
                // Each connection has a port of its own.
                let address = format!("10.0.0.{number}:{}", 40_000 + round);
                assert_eq!(connect(&site, &pay, &address), Continue);
            }
        }
        assert_eq!(site.found(SHARED), 0);
        assert_eq!(connect(&site, &pay, "[2001:db8::1]:40000"), Deny);
        // From then on, wherever it comes from.
        assert_eq!(connect(&site, &pay, "10.0.0.1:40009"), Deny);
        assert_eq!(site.found(SHARED), 2);
        let lines = take();
        let found = |line: &&(log::Level, String)| line.1.contains("finding=certificate_shared");
        assert_eq!(lines.iter().filter(found).count(), 1, "{lines:?}");
    }
}

#[test]
fn each_certificate_has_addresses_of_its_own() {
    let site = Site::new(sharing(3));
    let replicas: Vec<_> = (0..8).map(|_| pay()).collect();
    for (number, replica) in replicas.iter().enumerate() {
        // Rotated leaves, behind two gateways: an address has many certificates.
        for gateway in [1, 2] {
            let address = format!("10.0.0.{gateway}:{}", 40_000 + number);
            assert_eq!(site.connect(replica, &address), Continue);
        }
        // A pod with another address of its own.
        let address = format!("[2001:db8::{number}]:40000");
        assert_eq!(site.connect(replica, &address), Continue);
    }
}

#[test]
fn as_many_pods_as_a_node_has_may_share_one_by_default() {
    let site = Site::new(json!({"deny": [SHARED]}));
    let pay = pay();
    let from = |number: u32| {
        let address = format!("10.0.{}.{}:40000", number / 200, number % 200);
        site.connect(&pay, &address)
    };
    for number in 1..=256 {
        assert_eq!(from(number), Continue, "{number}");
    }
    assert_eq!(from(257), Deny);
    let never = Site::new(json!({"deny": [SHARED], "certificate_addresses": 0}));
    for number in 1..=300 {
        let address = format!("10.0.{}.{}:40000", number / 200, number % 200);
        assert_eq!(never.connect(&pay, &address), Continue);
    }
}

/// Ten nodes full of pods, each of which shares a certificate, in one hour: more addresses than a worker remembers.
#[test]
fn full_nodes_are_not_found_by_default() {
    let site = Site::new(json!({"deny": [SHARED]}));
    let nodes: Vec<_> = (0..10).map(|_| pay()).collect();
    for pod in 0..250 {
        site.pass(TICK);
        for (node, certificate) in nodes.iter().enumerate() {
            let host = site.host(certificate, &format!("10.{node}.0.{pod}:40000"));
            let decision = site.worker.accept().on(&host, Event::DownstreamData);
            assert_eq!(decision, Continue, "pod {pod} of node {node}");
        }
    }
    assert_eq!(site.found(SHARED), 0);
}

#[test]
fn addresses_are_forgotten_after_an_hour() {
    let site = Site::new(sharing(3));
    let pay = pay();
    for hour in 0..4 {
        for number in 1..=3 {
            let address = format!("10.{hour}.0.{number}:40000");
            assert_eq!(site.connect(&pay, &address), Continue);
        }
        site.pass(HOUR);
    }
}

#[test]
fn what_is_not_the_clients_own_address_does_not_count() {
    let site = Site::new(sharing(1));
    let pay = pay();
    // As X-Forwarded-For has it, and as a socket file has.
    for address in ["10.0.0.1:0", "10.0.0.2:0", "/tmp/a.sock", "@b", ""] {
        assert_eq!(site.request(&pay, address), Continue, "{address}");
    }
    // Servers behind one name share a certificate.
    for number in 1..=4 {
        site.pass(TICK);
        let host = FakeHost::new(&site.proxy)
            .on(Listener::Outbound)
            .server(&pay);
        let host = host.with("upstream.address", format!("10.0.0.{number}:443"));
        assert_eq!(site.worker.connection(&host), Continue);
    }
}

#[test]
fn it_is_not_asked_more_than_once_a_tick_where_a_peer_is() {
    let site = Site::new(sharing(1));
    let pay = pay();
    site.connect(&pay, "10.0.0.1:40000");
    for number in 2..100 {
        let host = site.host(&pay, &format!("10.0.0.{number}:40000"));
        site.worker.accept().on(&host, Event::DownstreamData);
        assert!(!host.take_asked().contains(&"source.address".to_owned()));
    }
    assert_eq!(site.connect(&pay, "10.0.0.2:40000"), Deny);
}

#[test]
fn an_accepted_one_is_counted_apart() {
    let ignore = json!([{"finding": SHARED, "identity_prefix": "spiffe://cluster.local/"}]);
    let site = Site::new(json!({"certificate_addresses": 1, "ignore": ignore, "deny": [SHARED]}));
    let pay = pay();
    for number in 1..=3 {
        assert_eq!(
            site.connect(&pay, &format!("10.0.0.{number}:40000")),
            Continue
        );
    }
    assert_eq!(site.found(SHARED), 0);
    assert_eq!(site.proxy.total("mtls_watch_ignored_findings_total"), 2);
}

const OWN: &str = "own_certificate_presented";

/// A site that has polled its admin interface: its leaf is that one.
fn site_of(own: &Identity) -> Site {
    let hierarchy = json!({"admin_cluster": "admin", "interval": "5s"});
    let site = Site::new(json!({"hierarchy": hierarchy, "deny": [OWN]}));
    site.pass(TICK);
    poll(&site, own);
    site
}

fn poll(site: &Site, own: &Identity) {
    let source = json!({"inline_string": own.leaf_pem()});
    let secret = json!({"tls_certificate": {"certificate_chain": source}});
    let secrets = json!({"configs": [{"name": "default", "secret": secret}]});
    for reply in [secrets, json!({"certificates": []})] {
        let token = u32::try_from(site.proxy.calls().len()).unwrap();
        site.worker.reply(token, reply.to_string().as_bytes());
    }
}

#[test]
fn a_peer_elsewhere_that_has_the_proxys_own_certificate_is_found() {
    let (own, other) = (pay(), pay());
    for connect in [Site::connect, Site::request] {
        let site = site_of(&own);
        assert_eq!(connect(&site, &other, "10.0.0.1:40000"), Continue);
        assert_eq!(connect(&site, &own, "10.0.0.1:40000"), Deny);
        assert_eq!(site.found(OWN), 1);
    }
}

#[test]
fn a_workload_that_calls_itself_is_sound() {
    let own = pay();
    let site = site_of(&own);
    for port in 40_000..40_004 {
        assert_eq!(site.connect(&own, &format!("10.1.0.9:{port}")), Continue);
    }
    // Who has met it so does not miss the other.
    assert_eq!(site.connect(&own, "10.0.0.1:40000"), Deny);
    // Towards itself, from the same address.
    for (server, decision) in [("10.1.0.9:8080", Continue), ("10.0.0.1:8080", Deny)] {
        let site = site_of(&own);
        let host = FakeHost::new(&site.proxy)
            .on(Listener::Outbound)
            .server(&own);
        let host = host
            .with("upstream.address", server)
            .with("upstream.local_address", "10.1.0.9:40000");
        assert_eq!(site.worker.connection(&host), decision);
    }
}

/// A peer that shares the secret shows its new certificate before this proxy has been asked for its own.
#[test]
fn a_certificate_becomes_the_proxys_own_later() {
    let (old, new) = (pay(), pay());
    let site = site_of(&old);
    assert_eq!(site.connect(&new, "10.0.0.1:40000"), Continue);
    site.pass(TICK);
    poll(&site, &new);
    assert_eq!(site.connect(&new, "10.0.0.1:40000"), Deny);
    assert_eq!(site.connect(&old, "10.0.0.1:40000"), Continue);
}

const REUSED: &str = "serial_reused";

/// Lives so long that it may have to be revoked.
fn numbered(number: u8) -> LeafBuilder {
    let month = pki::fixtures::lasting(-HOUR, 30 * pki::DAY);
    workload().lifetime(month).serial_number(&[number])
}

#[test]
fn a_serial_number_of_two_keys_is_found_in_both_leaves() {
    let site = Site::new(json!({"deny": [REUSED]}));
    let (one, two, other) = (
        issued(numbered(7)),
        issued(numbered(7)),
        issued(numbered(8)),
    );
    let from = |client: &Identity| site.connect(client, "10.0.0.1:40000");
    assert_eq!(
        (from(&one), from(&one), from(&other)),
        (Continue, Continue, Continue)
    );
    assert_eq!(from(&two), Deny);
    assert_eq!(from(&one), Deny);
    assert_eq!(from(&other), Continue);
}

#[test]
fn one_key_and_several_issuers_may_have_a_number_twice() {
    let site = Site::new(json!({"deny": [REUSED]}));
    let from = |leaf: LeafBuilder| site.connect(&issued(leaf), "10.0.0.1:40000");
    let one = issued(numbered(1));
    assert_eq!(site.connect(&one, "10.0.0.1:40000"), Continue);
    // Renewed with the same key: not what is to be found.
    assert_eq!(from(numbered(1).key(one.key()).dns("pay.shop")), Continue);
    // Two CAs of one name, such as the old and the new one of a rotation.
    let renamed = PKI.intermediate.subordinate("Issuing CA").issue().unwrap();
    let month = pki::fixtures::lasting(-HOUR, 30 * pki::DAY);
    let leaf = renamed.leaf().uri("spiffe://a/b").lifetime(month);
    assert_eq!(from(leaf.serial_number(&[1])), Continue);
    // Self-signed ones have no issuer in common.
    for _ in 0..2 {
        let leaf = LeafBuilder::self_signed().common_name("a").dns("a");
        let leaf = leaf.without_authority_key_identifier();
        assert_eq!(from(leaf.serial_number(&[1])), Continue);
    }
}

/// Three identity controllers of a Linkerd, each of which counts from 1, and all of them started anew.
#[test]
fn a_ca_of_short_lived_leaves_may_count_anew() {
    let site = Site::new(json!({"deny": [REUSED]}));
    let leaves = pki::issuers::default_leaves();
    let (_, _, linkerd) = leaves.iter().find(|leaf| leaf.0 == "Linkerd").unwrap();
    let from = |leaf: LeafBuilder| site.connect(&issued(leaf), "10.0.0.1:40000");
    for _ in 0..6 {
        for number in [1_u32, 2, 300, 70_000] {
            let bytes = number.to_be_bytes();
            let start = bytes.iter().position(|byte| *byte != 0).unwrap();
            let leaf = linkerd.clone().serial_number(&bytes[start..]);
            assert_eq!(from(leaf), Continue, "{number}");
        }
    }
    assert_eq!(site.found(REUSED), 0);
}

/// The IMC study "Mutual TLS in Practice" has issuers that number all they sign 00 or 01.
#[test]
fn one_number_for_all_is_found_in_short_lived_leaves_too() {
    let site = Site::new(json!({"deny": [REUSED]}));
    let from = |leaf: LeafBuilder| site.connect(&issued(leaf), "10.0.0.1:40000");
    assert_eq!(from(workload().serial_number(&[1])), Continue);
    assert_eq!(from(workload().serial_number(&[1])), Deny);
}

#[test]
fn a_short_lived_leaf_has_its_random_number_alone() {
    let drawn = [0x5a; 16];
    let lasting = |seconds| {
        let lifetime = pki::fixtures::lasting(0, seconds);
        move |number: &[u8]| workload().lifetime(lifetime).serial_number(number)
    };
    let week = 7 * pki::DAY;
    for (seconds, number, expected) in [
        (pki::DAY, &drawn[..], Deny),
        (week, &drawn[..5], Deny),
        (week, &drawn[..4], Continue),
        (week + 1, &drawn[..4], Deny),
    ] {
        let site = Site::new(json!({"deny": [REUSED]}));
        let from = |leaf: LeafBuilder| site.connect(&issued(leaf), "10.0.0.1:40000");
        // It has given another number before.
        assert_eq!(from(lasting(seconds)(&[7])), Continue);
        assert_eq!(from(lasting(seconds)(number)), Continue);
        assert_eq!(
            from(lasting(seconds)(number)),
            expected,
            "{seconds} {number:?}"
        );
    }
}

#[test]
fn what_default_issuers_make_is_not_found() {
    const ALL: [&str; 4] = [SHARED, OWN, REUSED, UNVERIFIED];
    let site = Site::new(json!({"deny": ALL}));
    for (issuer, is_client, leaf) in pki::issuers::default_leaves() {
        // A few replicas, each at an address of its own.
        for number in 1..=4 {
            let address = format!("10.0.0.{number}:40000");
            let replica = issued(leaf.clone());
            if is_client {
                assert_eq!(site.connect(&replica, &address), Continue, "{issuer}");
                // Its handshake, and its session resumed.
                assert_eq!(seen(&site, &replica, Some(1)), Continue, "{issuer}");
                assert_eq!(seen(&site, &replica, Some(0)), Continue, "{issuer}");
            }
        }
    }
    assert_eq!(ALL.map(|finding| site.found(finding)), [0; 4]);
}

const UNVERIFIED: &str = "session_unverified";

/// Envoy says of each connection whether it has verified the client's certificate.
fn seen(site: &Site, client: &Identity, verified: Option<u8>) -> Decision {
    let host = site.host(client, "10.0.0.1:40000");
    if let Some(verified) = verified {
        host.set("connection.peer_certificate_valid", [verified]);
    }
    let decision = site.worker.accept().on(&host, Event::DownstreamData);
    assert_eq!(site.worker.another_filter().request(&host), Continue);
    decision
}

#[test]
fn an_ended_leaf_that_was_verified_once_comes_by_a_resumed_session() {
    let ends = || issued(workload().lifetime(pki::fixtures::lasting(-HOUR, 100)));
    // Whether Envoy has verified it at first, and after its end.
    for (first, then, expected) in [
        (Some(1), Some(0), Deny),
        // Envoy accepts ended certificates, and has verified this one.
        (Some(1), Some(1), Continue),
        // It accepts untrusted ones.
        (Some(0), Some(0), Continue),
        // It does not say (before 1.39).
        (None, None, Continue),
    ] {
        let site = Site::new(json!({"deny": [UNVERIFIED]}));
        let client = ends();
        assert_eq!(seen(&site, &client, first), Continue);
        // Resumed while it is valid.
        assert_eq!(seen(&site, &client, then), Continue);
        site.pass(101);
        assert_eq!(seen(&site, &client, then), expected, "{first:?} {then:?}");
        assert_eq!(site.found(UNVERIFIED) > 0, expected == Deny);
        // One that the worker meets at its end.
        assert_eq!(seen(&site, &ends(), Some(0)), Continue);
    }
}
