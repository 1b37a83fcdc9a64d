//! What the world is like in the histories, and what a worker must make of it.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::LazyLock;

use pki::fixtures::{lasting, leaf};
use pki::{HOUR, Identity};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::fake_host::{FakeHost, Listener, Proxy};

/// Begin and end of each certificate, in seconds from the beginning.
pub const LIFETIMES: [(i64, i64); 4] = [
    (-1000 * HOUR, 1000 * HOUR),
    (-1000 * HOUR, 2 * HOUR),
    (HOUR, 1000 * HOUR),
    (-HOUR, 1800),
];

pub static PEERS: LazyLock<Vec<Identity>> = LazyLock::new(|| {
    // Each of a workload of its own: none replaces the certificate of another.
    let issue = |(number, (from, to)): (usize, &(i64, i64))| {
        let uri = format!("spiffe://cluster.local/ns/shop/sa/peer-{number}");
        let leaf = leaf().uri(&uri).lifetime(lasting(*from, *to));
        leaf.issue().unwrap()
    };
    LIFETIMES.iter().enumerate().map(issue).collect()
});

/// Who is on a connection: by index, the client and the server with a certificate.
#[derive(Clone, Copy, Debug)]
pub struct Ends {
    pub listener: Option<Listener>,
    pub client: Option<usize>,
    pub server: Option<usize>,
}

/// All kinds of connections. One of each is there all the time.
pub const CONNECTIONS: [Ends; 8] = [
    ends(Some(Listener::Inbound), Some(0), None),
    ends(Some(Listener::Inbound), Some(1), None),
    ends(Some(Listener::Inbound), Some(2), None),
    ends(Some(Listener::Inbound), None, None),
    ends(Some(Listener::Outbound), None, Some(1)),
    ends(Some(Listener::Outbound), None, Some(3)),
    ends(Some(Listener::Outbound), Some(1), Some(3)),
    ends(None, Some(3), Some(2)),
];

const fn ends(listener: Option<Listener>, client: Option<usize>, server: Option<usize>) -> Ends {
    Ends {
        listener,
        client,
        server,
    }
}

impl Ends {
    pub fn host(self, proxy: &Rc<Proxy>) -> FakeHost {
        self.shake_hands(self.before_handshake(proxy))
    }

    /// The client's handshake is over.
    pub fn shake_hands(self, host: FakeHost) -> FakeHost {
        match self.client.and_then(|index| PEERS.get(index)) {
            Some(peer) => host.client(peer),
            None => host,
        }
    }

    /// The server's is.
    pub fn before_handshake(self, proxy: &Rc<Proxy>) -> FakeHost {
        let mut host = FakeHost::new(proxy);
        if let Some(listener) = self.listener {
            host = host.on(listener);
        }
        if let Some(peer) = self.server.and_then(|index| PEERS.get(index)) {
            host = host.server(peer);
        }
        host
    }

    /// What a request counts at that time: direction and status, the first of which access logs show.
    pub fn counts(self, now: i64) -> Vec<(&'static str, &'static str)> {
        let client = match (self.client, self.listener) {
            (Some(peer), _) => Some(("inbound", status(peer, now))),
            (None, Some(Listener::Outbound)) => None,
            (None, _) => Some(("inbound", "no_certificate")),
        };
        let server = self.server.map(|peer| ("outbound", status(peer, now)));
        client.into_iter().chain(server).collect()
    }

    /// The client as a connection counts it, once it has sent data: its security, and its certificate's status.
    pub fn client(self, now: i64) -> Option<Sight> {
        match (self.client, self.listener) {
            (Some(peer), _) => Some(("inbound", "mtls", Some(status(peer, now)))),
            (None, Some(Listener::Outbound)) => None,
            (None, _) => Some(("inbound", "plaintext", None)),
        }
    }

    pub fn server(self, now: i64) -> Option<Sight> {
        let peer = self.server?;
        Some(("outbound", "mtls", Some(status(peer, now))))
    }
}

/// Direction, security, and the certificate's status.
pub type Sight = (&'static str, &'static str, Option<&'static str>);

/// The one finding of a leaf with that status.
pub fn finding(status: &str) -> Option<&'static str> {
    match status {
        "not_yet_valid" => Some("not_yet_valid"),
        "expired" => Some("expired"),
        "critical" => Some("expires_critical"),
        "warning" => Some("expires_warning"),
        _ => None,
    }
}

/// What a configuration denies.
pub fn denies(denying: bool, status: &str) -> bool {
    denying && DENIED.contains(&finding(status).unwrap_or_default())
}

pub const DENIED: [&str; 2] = ["expired", "expires_critical"];

/// By the thresholds of [`configuration`].
pub fn status(peer: usize, now: i64) -> &'static str {
    let (from, to) = LIFETIMES[peer];
    match to - now {
        _ if now < from => "not_yet_valid",
        ..0 => "expired",
        0..10 => "critical",
        10..60 => "warning",
        _ => "ok",
    }
}

pub fn configuration(denying: bool) -> Value {
    let deny: &[&str] = if denying { &DENIED } else { &[] };
    json!({"thresholds": {"workload": {"warning": "60s", "critical": "10s"}}, "deny": deny})
}

/// Series by labels, as the model has counted them.
#[derive(Default)]
pub struct Counts(BTreeMap<(&'static str, Vec<&'static str>), u64>);

impl Counts {
    pub fn add(&mut self, metric: &'static str, labels: &[&'static str]) {
        *self.0.entry((metric, labels.to_vec())).or_default() += 1;
    }

    /// A peer was seen to stand so: in a request, or on a connection.
    pub fn finding(&mut self, metric: &'static str, direction: &'static str, status: &str) {
        if let Some(finding) = finding(status) {
            self.add(metric, &[direction, "workload", finding]);
        }
    }

    /// A party of a connection is met.
    pub fn connection(&mut self, (direction, security, status): Sight) {
        self.add(CONNECTIONS_TOTAL, &[direction, security]);
        self.finding(CONNECTION_FINDINGS, direction, status.unwrap_or_default());
    }

    pub fn request(&mut self, direction: &'static str, status: &'static str) {
        self.add(REQUESTS, &[direction, status]);
        self.finding(REQUEST_FINDINGS, direction, status);
    }

    /// Whether the proxy has counted the same, and nothing else.
    pub fn check(&self, proxy: &Proxy) -> Result<(), TestCaseError> {
        for (metric, keys) in METRICS {
            let mut sum = 0;
            for ((_, values), expected) in self.0.iter().filter(|((name, _), _)| *name == metric) {
                let labels: Vec<_> = keys.iter().copied().zip(values.iter().copied()).collect();
                let counted = proxy.value(metric, &labels);
                prop_assert_eq!(counted, Some(*expected), "{} {:?}", metric, labels);
                sum += expected;
            }
            prop_assert_eq!(proxy.total(metric), sum, "{}", metric);
        }
        Ok(())
    }
}

pub const REQUESTS: &str = "mtls_requests_total";
pub const REQUEST_FINDINGS: &str = "mtls_request_findings_total";
pub const CONNECTIONS_TOTAL: &str = "mtls_connections_total";
pub const CONNECTION_FINDINGS: &str = "mtls_connection_findings_total";
pub const FAILURES: &str = "mtls_handshake_failures_total";

/// What the model counts, by which labels.
pub const METRICS: [(&str, &[&str]); 5] = [
    (REQUESTS, &["direction", "status"]),
    (REQUEST_FINDINGS, &["direction", "layer", "finding"]),
    (CONNECTIONS_TOTAL, &["direction", "security"]),
    (CONNECTION_FINDINGS, &["direction", "layer", "finding"]),
    (FAILURES, &["direction", "layer", "holder", "reason"]),
];
