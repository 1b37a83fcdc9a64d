//! Connections, as the network filter sees them.

use std::rc::Rc;

use super::{Inspector, Listener, Party, Peer, Standing, set_filter_state};
use crate::host::Host;
use crate::metrics::counters::{Counter, Security};
use crate::policy::{Direction, Findings};

/// What becomes of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It goes on.
    Continue,
    /// The configuration refuses the peer.
    Close,
}

/// An event of a connection's life, from which on more is known of its ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The client sent data: its handshake is over.
    DownstreamData,
    /// The server sent data: so is its.
    UpstreamData,
    /// The connection closes.
    Close,
}

/// The watch over one connection.
pub struct ConnectionWatch {
    inspector: Rc<Inspector>,
    /// Known from the first event on: before, Envoy's TLS properties must not be asked (it would keep
    /// the answers of an unfinished handshake).
    listener: Option<Listener>,
    downstream: Side,
    upstream: Side,
    /// The latest event at which the server was looked for.
    looked_for_upstream: Option<Event>,
}

/// One end of the connection.
enum Side {
    /// Not looked at yet.
    Unknown,
    /// Looked at; nothing to watch.
    Settled,
    /// It has a certificate, which is watched as time passes.
    Watched(Rc<Peer>, Rc<Standing>),
}

impl ConnectionWatch {
    /// A connection has come in.
    #[must_use]
    pub fn new(inspector: Rc<Inspector>) -> Self {
        Self {
            inspector,
            listener: None,
            downstream: Side::Unknown,
            upstream: Side::Unknown,
            looked_for_upstream: None,
        }
    }

    /// Something happened on the connection.
    pub fn on(&mut self, host: &dyn Host, event: Event) -> Decision {
        let listener = *self.listener.get_or_insert_with(|| Listener::of(host));
        let mut close = false;
        if listener.inspects_downstream() {
            close |= self.look_downstream(host, event);
        }
        if listener.inspects_upstream() {
            close |= self.look_upstream(host, event, listener);
        }
        match close {
            true => Decision::Close,
            false => Decision::Continue,
        }
    }

    fn look_downstream(&mut self, host: &dyn Host, event: Event) -> bool {
        match &mut self.downstream {
            Side::Settled => false,
            Side::Watched(peer, standing) => {
                again(&self.inspector, host, Direction::Inbound, peer, standing)
            }
            Side::Unknown => {
                let party = match event {
                    Event::Close => established_at_close(&self.inspector, host),
                    _ => Some(self.inspector.downstream(host, None)),
                };
                let (side, close) = first(&self.inspector, host, Direction::Inbound, party);
                self.downstream = side;
                close
            }
        }
    }

    fn look_upstream(&mut self, host: &dyn Host, event: Event, listener: Listener) -> bool {
        match &mut self.upstream {
            Side::Settled => false,
            Side::Watched(peer, standing) => {
                again(&self.inspector, host, Direction::Outbound, peer, standing)
            }
            // A server that was not there at one event may be at the next kind of event. Under an
            // HTTP connection manager it never is.
            Side::Unknown if self.looked_for_upstream == Some(event) => false,
            Side::Unknown => {
                self.looked_for_upstream = Some(event);
                let party = self.inspector.upstream(host).filter(|party| {
                    match party {
                        Party::Certified(_) => true,
                        // Before the server's first byte its handshake may not have begun.
                        Party::Anonymous(_) => {
                            event == Event::UpstreamData && listener == Listener::Outbound
                        }
                    }
                });
                if party.is_none() {
                    return false;
                }
                let (side, close) = first(&self.inspector, host, Direction::Outbound, party);
                self.upstream = side;
                close
            }
        }
    }
}

/// The client of a connection that closes without a byte of data. A handshake that failed is not an
/// established connection, and nor is a port scan.
fn established_at_close(inspector: &Inspector, host: &dyn Host) -> Option<Party> {
    if host
        .property(&["connection", "transport_failure_reason"])
        .is_some()
    {
        return None;
    }
    match inspector.downstream(host, None) {
        Party::Anonymous(Security::Plaintext) => None,
        party => Some(party),
    }
}

/// First sight of an end of the connection: counts it.
fn first(
    inspector: &Inspector,
    host: &dyn Host,
    direction: Direction,
    party: Option<Party>,
) -> (Side, bool) {
    let Some(party) = party else {
        return (Side::Settled, false);
    };
    inspector.count(host, Counter::Connection(direction, party.security()));
    let Party::Certified(peer) = party else {
        return (Side::Settled, false);
    };
    let now = inspector.now(host);
    let standing = inspector.standing(&peer, now);
    let counter = |layer, finding| Counter::ConnectionFinding(direction, layer, finding);
    inspector.count_findings(host, &standing.findings, counter);
    if let Some(issuer) = peer.issuer() {
        issuer.count_connection(host, &inspector.registry);
    }
    if let Some(seconds) = peer.remaining(now) {
        inspector.registry.remaining(host, direction, seconds);
    }
    set_filter_state(host, &peer, &standing);
    let close = inspector.denies(now, &peer, &standing, "connection");
    (Side::Watched(peer, standing), close)
}

/// A peer that is known goes on talking. Costs no host call unless its certificate has crossed a
/// threshold since; then only the new findings are counted.
fn again(
    inspector: &Inspector,
    host: &dyn Host,
    direction: Direction,
    peer: &Rc<Peer>,
    standing: &mut Rc<Standing>,
) -> bool {
    let now = inspector.clock.get();
    peer.saw(now);
    if standing.holds(now) {
        return false;
    }
    let before = std::mem::replace(standing, inspector.standing(peer, now));
    let known = |layer| {
        let same = before.findings.iter().filter(|(known, _)| *known == layer);
        same.fold(Findings::NONE, |all, (_, findings)| all.union(*findings))
    };
    let new: Vec<_> = standing
        .findings
        .iter()
        .map(|(layer, findings)| (*layer, findings.without(known(*layer))))
        .collect();
    let counter = |layer, finding| Counter::ConnectionFinding(direction, layer, finding);
    inspector.count_findings(host, &new, counter);
    set_filter_state(host, peer, standing);
    inspector.denies(now, peer, standing, "connection")
}
