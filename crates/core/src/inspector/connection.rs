//! Connections, as the network filter sees them.

use std::rc::Rc;

use super::failure::{self, presented_certificate};
use super::shown::{Names, PEER, SERVER, Shown};
use super::{Decision, Inspector, Listener, Party, Peer, Posture, Server};
use crate::host::{self, Host};
use crate::metrics::counters::Counter;
use crate::terms::Security;
use crate::terms::{Direction, Findings, Status};
use mtls_watch_x509::chain::Layer;
use mtls_watch_x509::time::UnixTime;

/// Events of a server that speaks alone, at each of which the client is looked for. After so many it is looked
/// for once a tick.
const LOOKS: u32 = 64;

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
    /// Whether this connection is counted here, or by another plugin of this module.
    counts: bool,
    downstream: Side,
    upstream: Side,
    /// Whether there is a client to inspect, and it is known.
    client_met: bool,
    /// The latest event at which the server was looked for.
    looked_for_upstream: Option<Event>,
    /// How often the client was looked for in vain, and when last.
    looks: (u32, UnixTime),
    /// Whether the server has sent anything.
    server_spoke: bool,
    /// Whether the client has said that it is done.
    client_done: bool,
    /// Whether this connection was denied: then Envoy closes it, not the server.
    denied: bool,
}

/// One end of the connection.
enum Side {
    /// Not looked at yet.
    Unknown,
    /// Looked at; nothing to watch.
    Settled,
    /// A client whose handshake has failed, or seems to have: what was prepared for it counts for nothing.
    Refused,
    /// It has a certificate, which is watched as time passes.
    Watched(Rc<Peer>, Rc<Posture>),
}

impl Side {
    /// Whether there is nothing to find out. A peer that is known goes on talking, which costs no host call.
    fn is_unchanged(&self, inspector: &Inspector) -> bool {
        match self {
            Self::Unknown => false,
            Self::Settled | Self::Refused => true,
            Self::Watched(peer, posture) => {
                let now = inspector.clock.get();
                peer.saw(now);
                posture.holds(now)
            }
        }
    }
}

impl ConnectionWatch {
    /// A connection has come in.
    #[must_use]
    pub fn new(inspector: Rc<Inspector>) -> Self {
        Self {
            client_done: false,
            denied: false,
            looks: (0, UnixTime(0)),
            server_spoke: false,
            inspector,
            listener: None,
            counts: true,
            downstream: Side::Unknown,
            upstream: Side::Unknown,
            client_met: false,
            looked_for_upstream: None,
        }
    }

    /// Something happened on the connection.
    pub fn on(&mut self, host: &dyn Host, event: Event) -> Decision {
        let listener = match self.listener {
            Some(listener) => listener,
            None => self.begin(host),
        };
        if !self.counts {
            let inspector = &self.inspector;
            inspector.registry.duplicates.saw(inspector.clock.get());
            if inspector.config.deny.is_empty() {
                return Decision::Continue;
            }
        }
        let is_answer = event == Event::UpstreamData && !self.server_spoke;
        self.server_spoke |= is_answer;
        self.client_done |= event == Event::DownstreamEnd;
        let mut close = self.look_downstream(host, event, listener);
        if listener.inspects_upstream() && !matches!(self.downstream, Side::Refused) {
            if !self.upstream.is_unchanged(&self.inspector) {
                close |= self.look_upstream(host, event, listener);
            }
            if is_answer && matches!(self.upstream, Side::Watched(..)) {
                let now = self.inspector.clock.get();
                self.inspector.answers.note(host, now);
            }
            if self.counts && self.was_hung_up_on(host, event) {
                self.inspector.hung_up(host);
            }
        }
        self.denied |= close;
        match close {
            true => Decision::Deny,
            false => Decision::Continue,
        }
    }

    /// The first event: where it happens, and whether another plugin has been here before.
    fn begin(&mut self, host: &dyn Host) -> Listener {
        let listener = Listener::of(host);
        self.listener = Some(listener);
        self.inspector.met.set(self.inspector.clock.get());
        self.counts = self.inspector.plugin.takes_connection(host);
        listener
    }

    /// Whether the server was heard by a client that may have to be denied, and is not known yet: Envoy has no
    /// event for the end of its handshake.
    #[must_use]
    pub fn waits_for_client(&self) -> bool {
        let denies = !self.inspector.config.deny.is_empty();
        denies && self.server_spoke && matches!(self.downstream, Side::Unknown)
    }

    fn look_downstream(&mut self, host: &dyn Host, event: Event, listener: Listener) -> bool {
        if self.downstream.is_unchanged(&self.inspector) {
            return false;
        }
        if matches!(self.downstream, Side::Unknown) && !self.is_worth_a_look(event) {
            return false;
        }
        let sight = Sight {
            inspector: &self.inspector,
            host,
            direction: Direction::Inbound,
            names: &[PEER],
            counts: self.counts,
        };
        let (side, close) = match &mut self.downstream {
            Side::Settled | Side::Refused => return false,
            Side::Watched(peer, posture) => return sight.again(peer, posture),
            Side::Unknown => match client(&sight, event, listener) {
                Client::Unknown => return false,
                Client::Application => (Side::Settled, false),
                Client::Refused => (Side::Refused, false),
                Client::Met(party) => {
                    self.client_met = true;
                    // The server spoke first, and was taken for the peer.
                    if let (true, Side::Watched(peer, posture)) = (self.counts, &self.upstream) {
                        let server = Shown::Certified(Rc::clone(peer), Rc::clone(posture));
                        Shown::Nothing.write(host, PEER, &server);
                    }
                    sight.first(party)
                }
            },
        };
        self.downstream = side;
        close
    }

    /// A client that is still in its handshake is asked for again, but not at every packet of a server
    /// that streams to a client without TLS.
    fn is_worth_a_look(&mut self, event: Event) -> bool {
        let now = self.inspector.clock.get();
        let (looks, last) = self.looks;
        let watched_closely = looks < LOOKS || !self.inspector.config.deny.is_empty();
        if event == Event::UpstreamData && !watched_closely && last == now {
            return false;
        }
        self.looks = (looks.saturating_add(1), now);
        true
    }

    fn look_upstream(&mut self, host: &dyn Host, event: Event, listener: Listener) -> bool {
        let sight = Sight {
            inspector: &self.inspector,
            host,
            direction: Direction::Outbound,
            names: self.server_names(listener),
            counts: self.counts,
        };
        match &mut self.upstream {
            Side::Settled | Side::Refused => false,
            Side::Watched(peer, posture) => sight.again(peer, posture),
            // A server that was not there at one event may be at the next kind of event. Under an
            // HTTP connection manager it never is. A stream in one direction has one kind of event, and
            // who denies wants to know of a server that came later.
            Side::Unknown
                if self.looked_for_upstream == Some(event)
                    && self.inspector.config.deny.is_empty() =>
            {
                false
            }
            Side::Unknown => {
                self.looked_for_upstream = Some(event);
                let (side, close) = meet_upstream(&sight, event, listener);
                self.upstream = side;
                close
            }
        }
    }

    /// What filter state about the server is called. At an outbound listener it is the peer as long as no
    /// client is known whose TLS ends here.
    fn server_names(&self, listener: Listener) -> &'static [Names] {
        match listener == Listener::Outbound && !self.client_met {
            true => &[SERVER, PEER],
            false => &[SERVER],
        }
    }

    /// The server's handshake was completed, and then it went away at once and without a word.
    fn was_hung_up_on(&self, host: &dyn Host, event: Event) -> bool {
        event == Event::Close { by_client: false }
            && !self.server_spoke
            && !self.client_done
            && !self.denied
            && matches!(self.upstream, Side::Watched(..))
            && failure::server_left_at_once(host)
    }
}

/// The server, if it is there.
fn meet_upstream(sight: &Sight, event: Event, listener: Listener) -> (Side, bool) {
    let nobody = (Side::Unknown, false);
    match sight.inspector.upstream(sight.host) {
        Server::Unknown => nobody,
        Server::Failed(reason) => {
            if sight.counts {
                sight.inspector.server_failed(sight.host, &reason);
            }
            (Side::Settled, false)
        }
        // Before the server's first byte its handshake may not have begun.
        Server::Met(Party::Anonymous(_)) if event != Event::UpstreamData => nobody,
        Server::Met(Party::Anonymous(Security::Plaintext)) if listener != Listener::Outbound => {
            nobody
        }
        Server::Met(party) => sight.first(party),
    }
}

/// What an event tells of the client.
enum Client {
    /// Nothing yet.
    Unknown,
    /// It is not inspected: the application of a sidecar.
    Application,
    /// Its handshake has failed, or seems to have.
    Refused,
    /// Its handshake is over, or there was none to do.
    Met(Party),
}

/// The client, if its handshake is over for certain: when it has sent data, or when it has shown a
/// certificate. Before, nothing but `connection.mtls` may be asked: Envoy would keep the answers. A
/// server that speaks first does so in the middle of the client's handshake, and a connection without
/// a byte may be a port scan or a health check.
fn client(sight: &Sight, event: Event, listener: Listener) -> Client {
    let (inspector, host) = (sight.inspector, sight.host);
    match event {
        Event::DownstreamData | Event::DownstreamEnd if !listener.inspects_client(host) => {
            Client::Application
        }
        Event::DownstreamData => Client::Met(inspector.downstream(host, None)),
        Event::DownstreamEnd => match inspector.downstream(host, None) {
            Party::Anonymous(Security::Plaintext) => Client::Unknown,
            party => Client::Met(party),
        },
        Event::UpstreamData if host::boolean(host, &["connection", "mtls"]) => {
            Client::Met(inspector.downstream(host, None))
        }
        Event::UpstreamData => Client::Unknown,
        Event::Close { .. } => leaving_client(sight, listener),
    }
}

/// A client that closes before it has sent anything.
fn leaving_client(sight: &Sight, listener: Listener) -> Client {
    let (inspector, host) = (sight.inspector, sight.host);
    if let Some(reason) = host.property(&["connection", "transport_failure_reason"]) {
        // Envoy's listener filter for TLS leaves a reason on connections without TLS.
        if !listener.inspects_client(host) {
            return Client::Application;
        }
        // A client that has shown its certificate and resets was not refused.
        if failure::is_reset(&reason) && host::boolean(host, &["connection", "mtls"]) {
            return Client::Met(inspector.downstream(host, None));
        }
        if sight.counts {
            inspector.client_failed(host, &reason);
        }
        return Client::Refused;
    }
    if !host::boolean(host, &["connection", "mtls"]) {
        return Client::Unknown;
    }
    // Envoy 1.36 gives no reasons, and a refused client looks like one that closed without a byte:
    // only the versions that also give the certificate are believed.
    match host.property(&["connection", "peer_certificate"]) {
        Some(_) => Client::Met(inspector.downstream(host, None)),
        None => Client::Refused,
    }
}

/// How an end of the connection is looked at.
struct Sight<'a> {
    inspector: &'a Inspector,
    host: &'a dyn Host,
    direction: Direction,
    /// What filter state about it is called.
    names: &'a [Names],
    /// Whether it is counted here, or by another plugin of this module.
    counts: bool,
}

impl Sight<'_> {
    /// First sight of a party: counts it.
    fn first(&self, party: Party) -> (Side, bool) {
        let (inspector, host) = (self.inspector, self.host);
        if self.counts {
            let security = self.security(&party);
            inspector.count(host, Counter::Connection(self.direction, security));
        }
        let peer = match party {
            Party::Certified(peer) => peer,
            Party::Anonymous(security) => {
                self.show(&Shown::Anonymous(Status::of_anonymous(security)));
                return (Side::Settled, false);
            }
        };
        let now = inspector.now(host);
        peer.handshook(inspector.moment.get());
        inspector.arrived(host, &peer);
        let posture = inspector.posture(&peer, now);
        self.count_findings(&posture.findings);
        if self.counts {
            inspector.count_ignored(host, self.direction, &posture);
            if let Some(issuer) = peer.issuer() {
                issuer.count_connection(host, &inspector.registry);
            }
            if let Some(domain) = peer.trust_domain() {
                domain.count_connection(host, &inspector.registry);
            }
            if let Some(seconds) = peer.remaining(now) {
                inspector.registry.remaining(host, self.direction, seconds);
            }
        }
        let shown = Shown::Certified(Rc::clone(&peer), Rc::clone(&posture));
        self.show(&shown);
        let close = inspector.denies(now, &peer, &posture, "connection");
        (Side::Watched(peer, posture), close)
    }

    /// Where this proxy shows no certificate to a server, TLS is one-sided.
    fn security(&self, party: &Party) -> Security {
        match (self.direction, party.security()) {
            (Direction::Outbound, Security::Mtls) if !presented_certificate(self.host) => {
                Security::Tls
            }
            (_, security) => security,
        }
    }

    /// A peer that is known has crossed a threshold: only the new findings are counted.
    fn again(&self, peer: &Rc<Peer>, posture: &mut Rc<Posture>) -> bool {
        let now = self.inspector.clock.get();
        let before = std::mem::replace(posture, self.inspector.posture(peer, now));
        let known = |layer| {
            let same = before.findings.iter().filter(|(known, _)| *known == layer);
            same.fold(Findings::empty(), |all, (_, findings)| all | *findings)
        };
        let new: Vec<_> = posture
            .findings
            .iter()
            .map(|(layer, findings)| (*layer, findings.difference(known(*layer))))
            .collect();
        self.count_findings(&new);
        let shown = Shown::Certified(Rc::clone(peer), Rc::clone(posture));
        self.show(&shown);
        self.inspector.denies(now, peer, posture, "connection")
    }

    fn count_findings(&self, findings: &[(Layer, Findings)]) {
        if self.counts {
            let counter =
                |layer, finding| Counter::ConnectionFinding(self.direction, layer, finding);
            self.inspector.count_findings(self.host, findings, counter);
        }
    }

    /// Filter state says what is counted.
    fn show(&self, shown: &Shown) {
        let names = self.names.iter().filter(|_| self.counts);
        for names in names {
            shown.write(self.host, *names, &Shown::Nothing);
        }
    }
}
