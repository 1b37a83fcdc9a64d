//! A worker's life at random, beside a model that says what each counter and status must be: requests and
//! connections of clients and servers whose certificates begin and end, clocks that jump, ticks, crowds that push
//! others out of memory, new configurations.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::LazyLock;

use mtls_watch_core::inspector::Decision::Continue;
use pki::{HOUR, Identity};
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::fake_host::{FakeHost, Listener, Proxy};
use crate::worker::Worker;
use pki::fixtures::{lasting, workload};

/// Begin and end of each certificate, in seconds from the beginning.
const LIFETIMES: [(i64, i64); 4] = [
    (-1000 * HOUR, 1000 * HOUR),
    (-1000 * HOUR, 2 * HOUR),
    (HOUR, 1000 * HOUR),
    (-HOUR, 1800),
];

static PEERS: LazyLock<Vec<Identity>> = LazyLock::new(|| {
    let issue = |(from, to)| workload().lifetime(lasting(from, to)).issue().unwrap();
    LIFETIMES.map(issue).into()
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
}

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

fn configuration() -> Value {
    json!({"thresholds": {"workload": {"warning": "60s", "critical": "10s"}}})
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
    Configure,
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
        1 => Just(Step::Configure),
    ]
}

/// `HISTORIES=20000` takes some minutes.
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
        let mut worker = Worker::configured(&proxy, configuration());
        let hosts = CONNECTIONS.map(|ends| ends.host(&proxy));
        let mut now = 0;
        let mut requests = BTreeMap::<_, u64>::new();
        let mut connections = 0;
        for step in steps {
            match step {
                Step::Requests { on, count } => {
                    for _ in 0..count {
                        prop_assert_eq!(worker.request(&hosts[on]), Continue);
                        let counts = CONNECTIONS[on].counts(now);
                        let shown = hosts[on].filter_state("mtls_watch.status");
                        prop_assert_eq!(shown.as_deref(), Some(counts[0].1));
                        for labels in counts {
                            *requests.entry(labels).or_default() += 1;
                        }
                    }
                }
                Step::Connect { on } => {
                    worker.connection(&CONNECTIONS[on].host(&proxy));
                    connections += CONNECTIONS[on].counts(now).len() as u64;
                }
                Step::Crowd { size } => {
                    for _ in 0..size {
                        worker.request(&CONNECTIONS[0].host(&proxy));
                    }
                    let labels = ("inbound", status(0, now));
                    *requests.entry(labels).or_default() += size as u64;
                }
                Step::Clock { to } => {
                    now = to;
                    proxy.set_clock(to);
                }
                Step::Tick => worker.tick(),
                Step::Configure => worker.configure_again(configuration()),
            }
        }
        for ((direction, status), expected) in &requests {
            let labels = [("direction", *direction), ("status", *status)];
            let counted = proxy.value("mtls_requests_total", &labels);
            prop_assert_eq!(counted, Some(*expected), "{} {}", direction, status);
        }
        let sum: u64 = requests.values().sum();
        prop_assert_eq!(proxy.total("mtls_requests_total"), sum);
        prop_assert_eq!(proxy.total("mtls_connections_total"), connections);
    }
}
