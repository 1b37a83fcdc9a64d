//! Requests, as the HTTP filter sees them.

use std::cell::Cell;
use std::rc::Rc;

use super::failure::is_new_connection;
use super::flag;
use super::place::{self, Mark, Standing};
use super::shown::{PEER, SERVER, STATUS, Shown};
use super::{Config, Decision, Downstream, Inspector, Listener, Party, Peer, Server, XFCC};
use crate::host::{self, Host};
use crate::metrics::counters::Counter;
use crate::source::xfcc;
use crate::terms::Security;
use crate::terms::Source;
use crate::terms::{Direction, Status};

/// The watch over one request.
pub struct RequestWatch {
    inspector: Rc<Inspector>,
    downstream: Rc<Downstream>,
    /// What filter state says of this request's server.
    server_shown: Shown,
    /// Value of the response's flag header.
    flag: Option<String>,
    denied: bool,
}

impl RequestWatch {
    /// A request's headers are there: looks at the client.
    pub fn begin(inspector: &Rc<Inspector>, host: &dyn Host) -> (Self, Decision) {
        let mut watch = Self {
            downstream: inspector.remembered_downstream(host),
            inspector: Rc::clone(inspector),
            server_shown: Shown::Nothing,
            flag: None,
            denied: false,
        };
        let decision = watch.on_request(host);
        (watch, decision)
    }

    fn on_request(&mut self, host: &dyn Host) -> Decision {
        let (inspector, downstream) = (Rc::clone(&self.inspector), Rc::clone(&self.downstream));
        if matches!(downstream.standing, Standing::Leaves { .. }) && !downstream.behind_router {
            inspector.registry.duplicates.saw(inspector.clock.get());
        }
        if downstream.idle {
            return Decision::Continue;
        }
        let mut decision = Decision::Continue;
        if let Some(client) = &downstream.client {
            if let Some(digest) = &downstream.strips_xfcc {
                strip_xfcc(host, digest);
            }
            (self.flag, decision) = self.look(host, Direction::Inbound, client);
        }
        if let Some(name) = &inspector.config.flag.request_header {
            // Set or removed: what comes from outside never stands.
            flag::set_on_request(host, name, self.flag.as_deref());
        }
        self.denied = decision == Decision::Deny;
        decision
    }

    /// Whether neither the response nor the end of the request will tell anything more.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.downstream.idle
            || !self.downstream.listener.inspects_upstream()
                && self.inspector.config.flag.response_header.is_none()
    }

    /// The response's headers are there: looks at the server.
    pub fn on_response(&mut self, host: &dyn Host) -> Decision {
        if self.downstream.idle {
            return Decision::Continue;
        }
        let inspector = Rc::clone(&self.inspector);
        let mut decision = Decision::Continue;
        if self.downstream.listener.inspects_upstream() && !self.denied {
            match inspector.upstream(host) {
                Server::Failed(reason) if self.counts() => {
                    if inspector.server_failed(host, &reason) {
                        self.was_refused(host);
                    }
                }
                Server::Met(party) if self.concerns(&party) => {
                    decision = self.look_upstream(host, &party);
                }
                Server::Met(_) | Server::Failed(_) | Server::Unknown => {}
            }
        }
        if let Some(name) = &inspector.config.flag.response_header {
            flag::set_on_response(host, name, self.flag.as_deref());
        }
        // The 403 that replaces the response comes through here again.
        self.denied |= decision == Decision::Deny;
        decision
    }

    /// The request is over, and access logs are about to be written: other requests of the connection
    /// may have put their server where this one's is looked for.
    pub fn on_log(&self, host: &dyn Host) {
        if self.downstream.listener.inspects_upstream() {
            self.inspector
                .show_server(host, &self.downstream, &self.server_shown);
        }
    }

    /// Whether a server is looked at: where both sides are inspected, one without TLS is not.
    fn concerns(&self, server: &Party) -> bool {
        self.downstream.listener == Listener::Outbound || server.security() != Security::Plaintext
    }

    fn look_upstream(&mut self, host: &dyn Host, server: &Party) -> Decision {
        let inspector = Rc::clone(&self.inspector);
        if let Party::Certified(peer) = server
            && self.counts()
        {
            inspector.record_new_server(host, server);
            // Only then does it matter, and is asked, whether the connection is new.
            if peer.is_superseded() && is_new_connection(host) {
                inspector.now(host);
                peer.handshook(inspector.moment.get());
            }
            if inspector.refused_request(host, peer) {
                self.was_refused(host);
                return Decision::Continue;
            }
        }
        let (flag, decision) = self.look(host, Direction::Outbound, server);
        self.flag_server(flag);
        decision
    }

    /// The request never got through to the server.
    fn was_refused(&mut self, host: &dyn Host) {
        let (direction, status) = (Direction::Outbound, Status::Refused);
        let counter = Counter::Request(direction, status);
        self.inspector.count(host, counter);
        self.show(host, direction, Shown::Anonymous(status));
        self.flag_server(self.flags().then(|| status.as_str().to_owned()));
    }

    /// Where the client is inspected, the flag is about the client.
    fn flag_server(&mut self, flag: Option<String>) {
        if self.downstream.client.is_none() {
            self.flag = flag;
        }
    }

    /// Counts the request by the party's status; gives the flag and what the configuration says.
    fn look(
        &mut self,
        host: &dyn Host,
        direction: Direction,
        party: &Party,
    ) -> (Option<String>, Decision) {
        match party {
            Party::Anonymous(security) => {
                let status = Status::of_anonymous(*security);
                if self.counts() {
                    let counter = Counter::Request(direction, status);
                    self.inspector.count(host, counter);
                }
                self.show(host, direction, Shown::Anonymous(status));
                let flag = self.flags().then(|| status.as_str().to_owned());
                (flag, Decision::Continue)
            }
            Party::Certified(peer) => self.look_at_peer(host, direction, peer),
        }
    }

    fn look_at_peer(
        &mut self,
        host: &dyn Host,
        direction: Direction,
        peer: &Rc<Peer>,
    ) -> (Option<String>, Decision) {
        let inspector = Rc::clone(&self.inspector);
        let now = inspector.now(host);
        let posture = inspector.posture(peer, now);
        if self.counts() {
            inspector.count(host, Counter::Request(direction, posture.status));
            let counter = |layer, finding| Counter::RequestFinding(direction, layer, finding);
            inspector.count_findings(host, &posture.findings, counter);
        }
        let decision = match inspector.denies(now, peer, &posture, "request") {
            true => Decision::Deny,
            false => Decision::Continue,
        };
        let flag = self.flags().then(|| posture.flag());
        let shown = Shown::Certified(Rc::clone(peer), Rc::clone(&posture));
        self.show(host, direction, shown);
        (flag, decision)
    }

    /// What filter state says is what is counted.
    fn show(&mut self, host: &dyn Host, direction: Direction, shown: Shown) {
        match direction {
            _ if !self.counts() => {}
            Direction::Inbound => self.inspector.show_client(host, &self.downstream, &shown),
            Direction::Outbound => {
                self.inspector.show_server(host, &self.downstream, &shown);
                self.server_shown = shown;
            }
        }
    }

    /// Whether the request is counted here.
    fn counts(&self) -> bool {
        self.downstream.standing == Standing::Counts
    }

    fn flags(&self) -> bool {
        let flag = &self.inspector.config.flag;
        flag.request_header.is_some() || flag.response_header.is_some()
    }
}

impl Inspector {
    /// The client of this request's connection, which has a mark with its number since its first request. The
    /// rest is asked at that.
    fn remembered_downstream(&self, host: &dyn Host) -> Rc<Downstream> {
        if !self.keeps_state.get() {
            return self.downstream_by_id(host);
        }
        let mark = host.property(&[place::REQUESTS]);
        let mark = mark.and_then(|mark| Mark::read(&mark));
        let known = mark.and_then(|mark| self.connections.borrow_mut().get(&mark.number));
        if let Some((known, mark)) = known.as_ref().zip(mark)
            && self.plugin.stays(known.standing, mark)
        {
            return Rc::clone(known);
        }
        self.settle(host, mark, known)
    }

    /// A connection that is new here, or on which it has changed who counts its requests.
    fn settle(
        &self,
        host: &dyn Host,
        mark: Option<Mark>,
        known: Option<Rc<Downstream>>,
    ) -> Rc<Downstream> {
        let before = known.as_ref().map(|known| known.standing);
        let (number, standing) = match mark {
            Some(mark) => self.plugin.settle(host, mark, before),
            None => {
                let number = self.last_connection.get().wrapping_add(1);
                self.last_connection.set(number);
                self.plugin.take(host, number)
            }
        };
        if let Some(known) = known.filter(|known| known.standing == standing) {
            return known;
        }
        self.remember(number, self.new_downstream(host, standing))
    }

    /// Envoy's own number of the connection is dearer to ask for, and tells nothing of other plugins.
    fn downstream_by_id(&self, host: &dyn Host) -> Rc<Downstream> {
        let number = host::integer(host, &["connection", "id"]);
        let known = number.and_then(|number| self.connections.borrow_mut().get(&number));
        known.unwrap_or_else(|| {
            let downstream = self.new_downstream(host, Standing::Counts);
            match number {
                Some(number) => self.remember(number, downstream),
                None => Rc::new(downstream),
            }
        })
    }

    fn remember(&self, number: u64, downstream: Downstream) -> Rc<Downstream> {
        let downstream = Rc::new(downstream);
        let mut connections = self.connections.borrow_mut();
        connections.insert(number, Rc::clone(&downstream));
        downstream
    }

    /// Has filter state say that of the client, if it does not yet.
    fn show_client(&self, host: &dyn Host, downstream: &Downstream, shown: &Shown) {
        let before = self.replace(&downstream.shown, shown);
        if !before.is(shown) {
            shown.write(host, PEER, &before);
        }
    }

    /// Has filter state say that of the server of a request, if it does not yet. A sidecar's peer is the
    /// server.
    fn show_server(&self, host: &dyn Host, downstream: &Downstream, shown: &Shown) {
        let before = self.replace(&downstream.server_shown, shown);
        if before.is(shown) {
            return;
        }
        shown.write(host, SERVER, &before);
        if downstream.client.is_none() {
            shown.write(host, PEER, &before);
        }
    }

    /// What filter state said until now.
    fn replace(&self, kept: &Cell<Shown>, shown: &Shown) -> Shown {
        match self.keeps_state.get() {
            true => kept.replace(shown.clone()),
            // Each request has filter state of its own.
            false => Shown::Nothing,
        }
    }

    fn new_downstream(&self, host: &dyn Host, standing: Standing) -> Downstream {
        self.met.set(self.clock.get());
        let listener = Listener::of(host);
        let behind_router = self.is_behind_router(host);
        let counts = standing == Standing::Counts;
        let idle = behind_router || !counts && !self.acts(host);
        if idle || !listener.inspects_client(host) {
            return Downstream {
                listener,
                standing,
                behind_router,
                idle,
                client: None,
                strips_xfcc: None,
                shown: Cell::default(),
                server_shown: Cell::default(),
            };
        }
        let xfcc = self
            .reads_xfcc()
            .then(|| host.request_header(XFCC))
            .flatten();
        let header_counts = self.config.certificate_sources.contains(&Source::Xfcc);
        let party = self.downstream(host, xfcc.as_deref().filter(|_| header_counts));
        if let Party::Certified(peer) = &party {
            if counts {
                self.record_remaining(host, peer);
            }
            self.arrived(host, peer);
        }
        let strips = self.config.strip_xfcc_certificates && matches!(party, Party::Certified(_));
        let xfcc = xfcc.filter(|_| strips);
        let strips_xfcc = xfcc.and_then(|header| digest_of_own_certificates(host, &header));
        Downstream {
            listener,
            standing,
            behind_router,
            idle,
            client: Some(party),
            strips_xfcc,
            shown: Cell::default(),
            server_shown: Cell::default(),
        }
    }

    /// Whether the filter stands in a cluster's chain (`upstream_http_filters`): there the server is known before
    /// the request is sent. Each retry comes by as a request, and Envoy does not say when one ends.
    fn is_behind_router(&self, host: &dyn Host) -> bool {
        let is_behind_router = host.property(&["upstream", "address"]).is_some();
        if is_behind_router && !self.misplaced.replace(true) {
            log::error!(
                "mtls-watch: it is among the HTTP filters of a cluster, where it watches nothing: put it among \
                 those of the listener"
            );
        }
        is_behind_router
    }

    /// Whether the configuration does more with this request than watch it.
    fn acts(&self, host: &dyn Host) -> bool {
        let Config { deny, flag, .. } = &self.config;
        let strips = || {
            let header = host.request_header(XFCC);
            self.config.strip_xfcc_certificates
                && header.is_some_and(|header| digest_of_own_certificates(host, &header).is_some())
        };
        !deny.is_empty()
            || flag.request_header.is_some()
            || flag.response_header.is_some()
            || strips()
    }

    fn reads_xfcc(&self) -> bool {
        self.config.strip_xfcc_certificates
            || self.config.certificate_sources.contains(&Source::Xfcc)
    }

    /// No network filter sees the servers of HTTP requests: each new certificate is recorded here.
    fn record_new_server(&self, host: &dyn Host, party: &Party) {
        if let Party::Certified(peer) = party
            && peer.take_fresh()
        {
            self.record(host, Direction::Outbound, peer);
        }
    }

    /// Handshakes and the histogram of remaining lifetimes are the network filter's, which leaves its status on the
    /// connection. Where there is none, this filter records each new connection.
    fn record_remaining(&self, host: &dyn Host, peer: &Peer) {
        if host.property(&[STATUS]).is_none() {
            self.now(host);
            peer.handshook(self.moment.get());
            self.record(host, Direction::Inbound, peer);
        }
    }

    fn record(&self, host: &dyn Host, direction: Direction, peer: &Peer) {
        let now = self.now(host);
        if let Some(seconds) = peer.remaining(now) {
            self.registry.remaining(host, direction, seconds);
        }
        self.count_ignored(host, direction, &peer.posture(now));
    }
}

/// The fingerprint by which this proxy's element is found in each request's header, if the element has certificates
/// and was set by this proxy: then its hash is the one of this connection's certificate. Empty where Envoy does not
/// give it.
fn digest_of_own_certificates(host: &dyn Host, header: &[u8]) -> Option<Vec<u8>> {
    let digest = host.property(&["connection", "sha256_peer_certificate_digest"]);
    let element = xfcc::own_element(header, digest.as_deref()).ok()?;
    let own = match (element.hash(), &digest) {
        (Some(hash), Some(digest)) => hash.eq_ignore_ascii_case(digest),
        _ => true,
    };
    (own && element.has_certificates()).then(|| digest.unwrap_or_default())
}

fn strip_xfcc(host: &dyn Host, digest: &[u8]) {
    let Some(header) = host.request_header(XFCC) else {
        return;
    };
    let digest = Some(digest).filter(|digest| !digest.is_empty());
    if let Ok(element) = xfcc::own_element(&header, digest) {
        let stripped = element.without_certificates();
        if stripped.len() < header.len() {
            host.set_request_header(XFCC, Some(&stripped));
        }
    }
}
