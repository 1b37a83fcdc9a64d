//! Connections, as the network filter sees them.

use std::rc::Rc;

use super::failure::is_just_connected;
use super::shown::Shown;
use super::{Decision, Inspector, Listener, Party, Peer, Posture, Server};
use crate::host::{self, Host};
use crate::metrics::counters::Counter;
use crate::terms::Security;
use crate::terms::{Direction, Findings, Status};

/// An event of a connection's life, from which on more is known of its ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The client sent data: its handshake is over.
    DownstreamData,
    /// The client will send no more. A client without TLS may have said nothing at all.
    DownstreamEnd,
    /// The server sent data: so is its.
    UpstreamData,
    /// The connection closes, from the client's side or from this one.
    Close {
        /// Whether the client did it. If not, it was Envoy, mostly because the server had gone.
        by_client: bool,
    },
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
    /// Whether the server has sent anything.
    server_spoke: bool,
    /// Whether the client has said that it is done.
    client_done: bool,
}

/// One end of the connection.
enum Side {
    /// Not looked at yet.
    Unknown,
    /// Looked at; nothing to watch.
    Settled,
    /// It has a certificate, which is watched as time passes.
    Watched(Rc<Peer>, Rc<Posture>),
}

impl ConnectionWatch {
    /// A connection has come in.
    #[must_use]
    pub fn new(inspector: Rc<Inspector>) -> Self {
        Self {
            client_done: false,
            server_spoke: false,
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
        self.server_spoke |= event == Event::UpstreamData;
        self.client_done |= event == Event::DownstreamEnd;
        let mut close = false;
        if listener.inspects_downstream() {
            close |= self.look_downstream(host, event);
        }
        if listener.inspects_upstream() {
            close |= self.look_upstream(host, event, listener);
        }
        match close {
            true => Decision::Deny,
            false => Decision::Continue,
        }
    }

    fn look_downstream(&mut self, host: &dyn Host, event: Event) -> bool {
        match &mut self.downstream {
            Side::Settled => false,
            Side::Watched(peer, posture) => {
                again(&self.inspector, host, Direction::Inbound, peer, posture)
            }
            Side::Unknown => {
                let Some(party) = client(&self.inspector, host, event) else {
                    return false;
                };
                let (side, close) = first(&self.inspector, host, Direction::Inbound, party);
                self.downstream = side;
                close
            }
        }
    }

    fn look_upstream(&mut self, host: &dyn Host, event: Event, listener: Listener) -> bool {
        let close = match &mut self.upstream {
            Side::Settled => false,
            Side::Watched(peer, posture) => {
                again(&self.inspector, host, Direction::Outbound, peer, posture)
            }
            // A server that was not there at one event may be at the next kind of event. Under an
            // HTTP connection manager it never is.
            Side::Unknown if self.looked_for_upstream == Some(event) => false,
            Side::Unknown => {
                self.looked_for_upstream = Some(event);
                self.meet_upstream(host, event, listener)
            }
        };
        if self.was_hung_up_on(host, event) {
            self.inspector.rejected_by_server(host);
        }
        close
    }

    fn meet_upstream(&mut self, host: &dyn Host, event: Event, listener: Listener) -> bool {
        let party = match self.inspector.upstream(host) {
            Server::Unknown => return false,
            Server::Failed(reason) => {
                self.inspector.server_failed(host, &reason);
                self.upstream = Side::Settled;
                return false;
            }
            // Before the server's first byte its handshake may not have begun.
            Server::Met(Party::Anonymous(_)) if event != Event::UpstreamData => return false,
            Server::Met(Party::Anonymous(Security::Plaintext))
                if listener != Listener::Outbound =>
            {
                return false;
            }
            Server::Met(party) => party,
        };
        let (side, close) = first(&self.inspector, host, Direction::Outbound, party);
        self.upstream = side;
        close
    }

    /// The server's handshake was completed, and then it went away at once and without a word.
    fn was_hung_up_on(&self, host: &dyn Host, event: Event) -> bool {
        event == Event::Close { by_client: false }
            && !self.server_spoke
            && !self.client_done
            && matches!(self.upstream, Side::Watched(..))
            && is_just_connected(host, self.inspector.now(host))
    }
}

/// The client, if its handshake is over for certain: when it has sent data, or when it has shown a
/// certificate. Before, nothing but `connection.mtls` may be asked: Envoy would keep the answers. A
/// server that speaks first does so in the middle of the client's handshake, and a connection without
/// a byte may be a port scan or a health check.
fn client(inspector: &Inspector, host: &dyn Host, event: Event) -> Option<Party> {
    if event == Event::DownstreamData {
        return Some(inspector.downstream(host, None));
    }
    if let Event::Close { .. } = event
        && let Some(reason) = host.property(&["connection", "transport_failure_reason"])
    {
        inspector.client_failed(host, &reason);
        return None;
    }
    if event == Event::DownstreamEnd {
        let party = inspector.downstream(host, None);
        return Some(party).filter(|party| party.security() != Security::Plaintext);
    }
    // Envoy 1.36 gives no reasons, and a refused client looks like one that closed without a byte:
    // there only the versions that also give the certificate are believed.
    let evidence = match event {
        Event::Close { .. } => host.property(&["connection", "peer_certificate"]).is_some(),
        _ => true,
    };
    let certified = evidence && host::boolean(host, &["connection", "mtls"]);
    certified.then(|| inspector.downstream(host, None))
}

/// First sight of an end of the connection: counts it.
fn first(
    inspector: &Inspector,
    host: &dyn Host,
    direction: Direction,
    party: Party,
) -> (Side, bool) {
    inspector.count(host, Counter::Connection(direction, party.security()));
    let peer = match party {
        Party::Certified(peer) => peer,
        Party::Anonymous(security) => {
            Shown::Anonymous(Status::of_anonymous(security)).write(host, &Shown::Nothing);
            return (Side::Settled, false);
        }
    };
    let now = inspector.now(host);
    let posture = inspector.posture(&peer, now);
    let counter = |layer, finding| Counter::ConnectionFinding(direction, layer, finding);
    inspector.count_findings(host, &posture.findings, counter);
    if let Some(issuer) = peer.issuer() {
        issuer.count_connection(host, &inspector.registry);
    }
    if let Some(seconds) = peer.remaining(now) {
        inspector.registry.remaining(host, direction, seconds);
    }
    let shown = Shown::Certified(Rc::clone(&peer), Rc::clone(&posture));
    shown.write(host, &Shown::Nothing);
    let close = inspector.denies(now, &peer, &posture, "connection");
    (Side::Watched(peer, posture), close)
}

/// A peer that is known goes on talking. Costs no host call unless its certificate has crossed a
/// threshold since; then only the new findings are counted.
fn again(
    inspector: &Inspector,
    host: &dyn Host,
    direction: Direction,
    peer: &Rc<Peer>,
    posture: &mut Rc<Posture>,
) -> bool {
    let now = inspector.clock.get();
    peer.saw(now);
    if posture.holds(now) {
        return false;
    }
    let before = std::mem::replace(posture, inspector.posture(peer, now));
    let known = |layer| {
        let same = before.findings.iter().filter(|(known, _)| *known == layer);
        same.fold(Findings::empty(), |all, (_, findings)| all | *findings)
    };
    let new: Vec<_> = posture
        .findings
        .iter()
        .map(|(layer, findings)| (*layer, findings.difference(known(*layer))))
        .collect();
    let counter = |layer, finding| Counter::ConnectionFinding(direction, layer, finding);
    inspector.count_findings(host, &new, counter);
    let shown = Shown::Certified(Rc::clone(peer), Rc::clone(posture));
    shown.write(host, &Shown::Nothing);
    inspector.denies(now, peer, posture, "connection")
}
