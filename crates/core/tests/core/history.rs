//! A worker's life at random, beside a model that says what each counter and status must be: requests and
//! connections of clients and servers whose certificates begin and end, clocks that jump, ticks, crowds that push
//! others out of memory, new configurations.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::LazyLock;

use mtls_watch_core::inspector::Decision;
use pki::{HOUR, Identity};
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::fake_host::{FakeHost, Listener, Proxy};
use crate::worker::Worker;
use pki::fixtures::{lasting, leaf};

/// Begin and end of each certificate, in seconds from the beginning.
const LIFETIMES: [(i64, i64); 4] = [
    (-1000 * HOUR, 1000 * HOUR),
    (-1000 * HOUR, 2 * HOUR),
    (HOUR, 1000 * HOUR),
    (-HOUR, 1800),
];

static PEERS: LazyLock<Vec<Identity>> = LazyLock::new(|| {
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
struct Ends {
    listener: Option<Listener>,
    client: Option<usize>,
    server: Option<usize>,
}

/// All kinds of connections. One of each is there all the time.
const CONNECTIONS: [Ends; 8] = [
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
    fn host(self, proxy: &Rc<Proxy>) -> FakeHost {
        let mut host = FakeHost::new(proxy);
        if let Some(listener) = self.listener {
            host = host.on(listener);
        }
        if let Some(peer) = self.client.and_then(|index| PEERS.get(index)) {
            host = host.client(peer);
        }
        if let Some(peer) = self.server.and_then(|index| PEERS.get(index)) {
            host = host.server(peer);
        }
        host
    }

    /// What a request counts at that time: direction and status, the first of which access logs show.
    fn counts(self, now: i64) -> Vec<(&'static str, &'static str)> {
        let client = match (self.client, self.listener) {
            (Some(peer), _) => Some(("inbound", status(peer, now))),
            (None, Some(Listener::Outbound)) => None,
            (None, _) => Some(("inbound", "no_certificate")),
        };
        let server = self.server.map(|peer| ("outbound", status(peer, now)));
        client.into_iter().chain(server).collect()
    }

    /// The security of both ends.
    fn securities(self) -> Vec<(&'static str, &'static str)> {
        let client = match (self.client, self.listener) {
            (Some(_), _) => Some(("inbound", "mtls")),
            (None, Some(Listener::Outbound)) => None,
            (None, _) => Some(("inbound", "plaintext")),
        };
        let server = self.server.map(|_| ("outbound", "mtls"));
        client.into_iter().chain(server).collect()
    }
}

/// The one finding of a leaf with that status.
fn finding(status: &str) -> Option<&'static str> {
    match status {
        "not_yet_valid" => Some("not_yet_valid"),
        "expired" => Some("expired"),
        "critical" => Some("expires_critical"),
        "warning" => Some("expires_warning"),
        _ => None,
    }
}

/// What a configuration denies.
fn denies(denying: bool, status: &str) -> bool {
    denying && DENIED.contains(&finding(status).unwrap_or_default())
}

const DENIED: [&str; 2] = ["expired", "expires_critical"];

/// By the thresholds of [`configuration`].
fn status(peer: usize, now: i64) -> &'static str {
    let (from, to) = LIFETIMES[peer];
    match to - now {
        _ if now < from => "not_yet_valid",
        ..0 => "expired",
        0..10 => "critical",
        10..60 => "warning",
        _ => "ok",
    }
}

fn configuration(denying: bool) -> Value {
    let deny: &[&str] = if denying { &DENIED } else { &[] };
    json!({"thresholds": {"workload": {"warning": "60s", "critical": "10s"}}, "deny": deny})
}

#[derive(Clone, Debug)]
enum Step {
    Requests {
        on: usize,
        count: usize,
    },
    Connect {
        on: usize,
    },
    /// So many connections of others, with a request each.
    Crowd {
        size: usize,
    },
    Clock {
        to: i64,
    },
    Tick,
    Configure {
        denying: bool,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let on = 0..CONNECTIONS.len();
    let near = prop_oneof![Just(1800), Just(HOUR), Just(2 * HOUR)];
    let to = prop_oneof![
        3 => (near, -61..62_i64).prop_map(|(moment, by)| moment + by),
        1 => -2 * HOUR..4 * HOUR,
    ];
    prop_oneof![
        12 => (on.clone(), 1..40_usize).prop_map(|(on, count)| Step::Requests { on, count }),
        4 => on.prop_map(|on| Step::Connect { on }),
        1 => (1..2200_usize).prop_map(|size| Step::Crowd { size }),
        8 => to.prop_map(|to| Step::Clock { to }),
        8 => Just(Step::Tick),
        1 => any::<bool>().prop_map(|denying| Step::Configure { denying }),
    ]
}

/// Series by labels, as the model has counted them.
#[derive(Default)]
struct Counts(BTreeMap<(&'static str, Vec<&'static str>), u64>);

impl Counts {
    fn add(&mut self, metric: &'static str, labels: &[&'static str]) {
        *self.0.entry((metric, labels.to_vec())).or_default() += 1;
    }

    /// A peer was seen to stand so: in a request, or on a connection.
    fn finding(&mut self, metric: &'static str, direction: &'static str, status: &str) {
        if let Some(finding) = finding(status) {
            self.add(metric, &[direction, "workload", finding]);
        }
    }

    fn request(&mut self, direction: &'static str, status: &'static str) {
        self.add(REQUESTS, &[direction, status]);
        self.finding(REQUEST_FINDINGS, direction, status);
    }

    /// Whether the proxy has counted the same, and nothing else.
    fn check(&self, proxy: &Proxy) -> Result<(), TestCaseError> {
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

const REQUESTS: &str = "mtls_requests_total";
const REQUEST_FINDINGS: &str = "mtls_request_findings_total";
const CONNECTIONS_TOTAL: &str = "mtls_connections_total";
const CONNECTION_FINDINGS: &str = "mtls_connection_findings_total";

/// What the model counts, by which labels.
const METRICS: [(&str, &[&str]); 5] = [
    (REQUESTS, &["direction", "status"]),
    (REQUEST_FINDINGS, &["direction", "layer", "finding"]),
    (CONNECTIONS_TOTAL, &["direction", "security"]),
    (CONNECTION_FINDINGS, &["direction", "layer", "finding"]),
    ("mtls_handshake_failures_total", &[]),
];

/// `HISTORIES=35000` are a million steps.
fn histories() -> u32 {
    let histories = std::env::var("HISTORIES").ok();
    histories.map_or(100, |text| text.parse().unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: histories(),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_history_counts_what_the_model_says(steps in vec(step(), 1..60)) {
        let proxy = Proxy::new();
        let mut denying = false;
        let mut worker = Worker::configured(&proxy, configuration(denying));
        let hosts = CONNECTIONS.map(|ends| ends.host(&proxy));
        let mut now = 0;
        let mut counts = Counts::default();
        for step in steps {
            match step {
                Step::Requests { on, count } => {
                    for _ in 0..count {
                        let decision = worker.request(&hosts[on]);
                        let seen = CONNECTIONS[on].counts(now);
                        let denied = seen.iter().position(|(_, status)| denies(denying, status));
                        prop_assert_eq!(decision == Decision::Deny, denied.is_some());
                        let shown = hosts[on].filter_state("mtls_watch.status");
                        prop_assert_eq!(shown.as_deref(), Some(seen[0].1));
                        // Who is denied does not get to the server.
                        let met = denied.map_or(seen.len(), |position| position + 1);
                        for (direction, status) in &seen[..met] {
                            counts.request(direction, status);
                        }
                    }
                }
                Step::Connect { on } => {
                    let decision = worker.connection(&CONNECTIONS[on].host(&proxy));
                    let seen = CONNECTIONS[on].counts(now);
                    let denied = seen.iter().any(|(_, status)| denies(denying, status));
                    prop_assert_eq!(decision == Decision::Deny, denied);
                    for (direction, security) in CONNECTIONS[on].securities() {
                        counts.add(CONNECTIONS_TOTAL, &[direction, security]);
                    }
                    for (direction, status) in seen {
                        counts.finding(CONNECTION_FINDINGS, direction, status);
                    }
                }
                Step::Crowd { size } => {
                    for _ in 0..size {
                        worker.request(&CONNECTIONS[0].host(&proxy));
                        counts.request("inbound", status(0, now));
                    }
                }
                Step::Clock { to } => {
                    now = to;
                    proxy.set_clock(to);
                }
                Step::Tick => worker.tick(),
                Step::Configure { denying: now_denying } => {
                    denying = now_denying;
                    worker.configure_again(configuration(denying));
                }
            }
        }
        counts.check(&proxy)?;
    }
}
