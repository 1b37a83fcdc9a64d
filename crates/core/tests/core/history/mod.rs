//! A worker's life at random, beside a model that says what each counter and status must be: requests and
//! connections of clients and servers whose certificates begin and end, servers that speak in the client's handshake,
//! refused handshakes, clocks that jump, ticks, crowds that push others out of memory, new configurations.

mod model;

use std::rc::Rc;

use mtls_watch_core::inspector::{Decision, Event};
use pki::HOUR;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::fake_host::{Listener, Proxy};
use crate::worker::Worker;
use model::{CONNECTIONS, Counts, Ends, FAILURES, Sight, configuration, denies, status};

#[derive(Clone, Debug)]
enum Step {
    Requests {
        on: usize,
        count: usize,
    },
    Connect {
        on: usize,
        moments: Vec<Moment>,
        end: End,
    },
    /// A request whose server is refused.
    RefusedRequest {
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

/// What happens on a connection.
#[derive(Clone, Copy, Debug)]
enum Moment {
    ServerSpeaks,
    /// The end of the client's handshake. No event tells of it.
    Handshake,
    /// That, and its data.
    ClientSpeaks,
}

#[derive(Clone, Copy, Debug)]
enum End {
    ByClient,
    ByServer,
    /// The client's handshake is refused, if it is not over.
    ClientRefused,
}

/// What Envoy says of a refused handshake.
fn refusal(words: &str) -> String {
    format!(
        "TLS_error:|268435581:SSL routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED:verify cert failed: \
         X509_verify_cert: certificate verification error at depth 0: {words}:TLS_error_end"
    )
}

const EXPIRED: &str = "certificate has expired";

fn step() -> impl Strategy<Value = Step> {
    let on = 0..CONNECTIONS.len();
    let moment = prop_oneof![
        Just(Moment::ServerSpeaks),
        Just(Moment::Handshake),
        Just(Moment::ClientSpeaks)
    ];
    let end = prop_oneof![
        Just(End::ByClient),
        Just(End::ByServer),
        Just(End::ClientRefused)
    ];
    let near = prop_oneof![Just(1800), Just(HOUR), Just(2 * HOUR)];
    let to = prop_oneof![
        3 => (near, -61..62_i64).prop_map(|(moment, by)| moment + by),
        1 => -2 * HOUR..4 * HOUR,
    ];
    prop_oneof![
        12 => (on.clone(), 1..40_usize).prop_map(|(on, count)| Step::Requests { on, count }),
        4 => (on.clone(), vec(moment, 0..6), end).prop_map(|(on, moments, end)| Step::Connect { on, moments, end }),
        1 => on.prop_map(|on| Step::RefusedRequest { on }),
        1 => (1..2200_usize).prop_map(|size| Step::Crowd { size }),
        8 => to.prop_map(|to| Step::Clock { to }),
        8 => Just(Step::Tick),
        1 => any::<bool>().prop_map(|denying| Step::Configure { denying }),
    ]
}

/// A connection, by the model.
struct Life {
    ends: Ends,
    now: i64,
    denying: bool,
}

impl Life {
    fn runs(
        &self,
        proxy: &Rc<Proxy>,
        worker: &Worker,
        moments: &[Moment],
        end: End,
        counts: &mut Counts,
    ) -> Result<(), TestCaseError> {
        let mut host = self.ends.before_handshake(proxy);
        let mut watch = worker.accept();
        let (mut client, mut server) = (self.ends.client(self.now), self.ends.server(self.now));
        let (mut is_shaken, mut denied) = (false, false);
        for moment in moments {
            if !matches!(moment, Moment::ServerSpeaks) {
                host = self.ends.shake_hands(host);
                is_shaken = true;
            }
            // Without a certificate a client is not known before it speaks.
            let is_met = match moment {
                Moment::Handshake => continue,
                Moment::ClientSpeaks => true,
                Moment::ServerSpeaks => is_shaken && self.ends.client.is_some(),
            };
            let event = match moment {
                Moment::ClientSpeaks => Event::DownstreamData,
                _ => Event::UpstreamData,
            };
            let decision = watch.on(&host, event);
            denied = self.meets(client.take_if(|_| is_met), counts);
            denied |= self.meets(server.take(), counts);
            prop_assert_eq!(decision == Decision::Deny, denied);
            if denied {
                break;
            }
        }
        let is_refused =
            matches!(end, End::ClientRefused) && !is_shaken && self.ends.client.is_some();
        if is_refused {
            // Its certificate can be read all the same.
            host = self.ends.shake_hands(host);
            host = host.with("connection.transport_failure_reason", refusal(EXPIRED));
            counts.add(FAILURES, &["inbound", "workload", "peer", "expired"]);
        } else {
            let is_certified = is_shaken && self.ends.client.is_some();
            self.meets(client.take_if(|_| is_certified), counts);
            self.meets(server.take(), counts);
        }
        let by_client = !denied && matches!(end, End::ByClient);
        watch.on(&host, Event::Close { by_client });
        Ok(())
    }

    /// Whether the party is denied.
    fn meets(&self, party: Option<Sight>, counts: &mut Counts) -> bool {
        let Some(sight) = party else {
            return false;
        };
        counts.connection(sight);
        denies(self.denying, sight.2.unwrap_or_default())
    }
}

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
    fn any_history_counts_what_the_model_says(mut denying: bool, steps in vec(step(), 1..60)) {
        let proxy = Proxy::new();
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
                Step::Connect { on, moments, end } => {
                    let life = Life { ends: CONNECTIONS[on], now, denying };
                    life.runs(&proxy, &worker, &moments, end, &mut counts)?;
                }
                Step::RefusedRequest { on } => {
                    let ends = Ends { server: None, ..CONNECTIONS[on] };
                    if ends.listener.is_some_and(|it| matches!(it, Listener::Inbound)) {
                        continue;
                    }
                    let host = ends.host(&proxy);
                    let host = host.with("upstream.transport_failure_reason", refusal(EXPIRED));
                    let decision = worker.request(&host);
                    let client = ends.counts(now).first().copied();
                    let denied = client.is_some_and(|(_, status)| denies(denying, status));
                    prop_assert_eq!(decision == Decision::Deny, denied);
                    if let Some((direction, status)) = client {
                        counts.request(direction, status);
                    }
                    if !denied {
                        counts.request("outbound", "refused");
                        counts.add(FAILURES, &["outbound", "workload", "peer", "expired"]);
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
