//! Requests, as the HTTP filter sees them.

use std::rc::Rc;

use super::failure::server_hung_up;
use super::{
    CONNECTION, Downstream, Inspector, Listener, Party, Peer, STATUS, Server, Standing, XFCC,
    anonymous_status, set_filter_state,
};
use crate::host::{self, Host};
use crate::metrics::counters::{Counter, Security};
use crate::policy::Direction;
use crate::source::Source;
use crate::source::xfcc;

/// What becomes of the request or response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It goes on.
    Continue,
    /// The configuration refuses the peer: HTTP 403.
    Deny,
}

/// The watch over one request.
pub struct RequestWatch {
    inspector: Rc<Inspector>,
    /// Envoy's number of its connection, if that has been met before.
    connection: Option<u64>,
    listener: Listener,
    /// Whether the client showed a certificate; then the flags are about it, and not the server.
    client_certified: bool,
    /// Value of the response's flag header.
    flag: Option<String>,
    denied: bool,
}

impl RequestWatch {
    /// A request has come in; `connection` is what [`met_connection`](super::met_connection) says.
    #[must_use]
    pub fn new(inspector: Rc<Inspector>, connection: Option<u64>) -> Self {
        Self {
            inspector,
            connection,
            listener: Listener::Unspecified,
            client_certified: false,
            flag: None,
            denied: false,
        }
    }

    /// The request's headers are there: looks at the client.
    pub fn on_request(&mut self, host: &dyn Host) -> Decision {
        let inspector = Rc::clone(&self.inspector);
        let downstream = inspector.remembered_downstream(host, self.connection);
        self.listener = downstream.listener;
        let mut flag = None;
        let mut decision = Decision::Continue;
        if self.listener.inspects_downstream() {
            if downstream.strips_xfcc {
                strip_xfcc(host);
            }
            (flag, decision) = self.look(host, Direction::Inbound, &downstream.party);
        }
        if let Some(name) = &inspector.config.flag.request_header {
            // Set or removed: what comes from outside never stands.
            host.set_request_header(name, flag.as_deref().map(str::as_bytes));
        }
        self.flag = flag;
        self.denied = decision == Decision::Deny;
        decision
    }

    /// The response's headers are there: looks at the server.
    pub fn on_response(&mut self, host: &dyn Host) -> Decision {
        let inspector = Rc::clone(&self.inspector);
        let mut decision = Decision::Continue;
        if self.listener.inspects_upstream() && !self.denied {
            match inspector.upstream(host) {
                Server::Failed(reason) => inspector.server_failed(host, &reason),
                Server::Met(party) if self.counts(&party) => {
                    decision = self.look_upstream(host, &party);
                }
                Server::Met(_) | Server::Unknown => {}
            }
        }
        if let Some(name) = &inspector.config.flag.response_header {
            host.set_response_header(name, self.flag.as_deref().map(str::as_bytes));
        }
        // The 403 that replaces the response comes through here again.
        self.denied |= decision == Decision::Deny;
        decision
    }

    /// Whether a server is counted: where both sides are inspected, one without TLS is not.
    fn counts(&self, server: &Party) -> bool {
        self.listener == Listener::Outbound || server.security() != Security::Plaintext
    }

    fn look_upstream(&mut self, host: &dyn Host, server: &Party) -> Decision {
        let inspector = Rc::clone(&self.inspector);
        if let Party::Certified(_) = server {
            inspector.record_new_server(host, server);
            if server_hung_up(host, inspector.clock.get()) {
                inspector.rejected_by_server(host);
            }
        }
        let (flag, decision) = self.look(host, Direction::Outbound, server);
        // As in filter state: the server's, unless the client showed a certificate.
        if !self.client_certified {
            self.flag = flag.or_else(|| self.flag.take());
        }
        decision
    }

    /// Counts the request by the party's status; gives the flag and what the configuration says.
    fn look(
        &mut self,
        host: &dyn Host,
        direction: Direction,
        party: &Party,
    ) -> (Option<String>, Decision) {
        let inspector = &self.inspector;
        match party {
            Party::Anonymous(security) => {
                let status = anonymous_status(*security);
                inspector.count(host, Counter::Request(direction, status));
                if !self.client_certified {
                    host.set_filter_state(STATUS, status.as_str().as_bytes());
                }
                (
                    self.flags().then(|| status.as_str().to_owned()),
                    Decision::Continue,
                )
            }
            Party::Certified(peer) => {
                let now = inspector.now(host);
                let standing = inspector.standing(peer, now);
                inspector.count(host, Counter::Request(direction, standing.status));
                let counter = |layer, finding| Counter::RequestFinding(direction, layer, finding);
                inspector.count_findings(host, &standing.findings, counter);
                let decision = match inspector.denies(now, peer, &standing, "request") {
                    true => Decision::Deny,
                    false => Decision::Continue,
                };
                (self.certified(host, direction, peer, &standing), decision)
            }
        }
    }

    fn certified(
        &mut self,
        host: &dyn Host,
        direction: Direction,
        peer: &Peer,
        standing: &Standing,
    ) -> Option<String> {
        if self.client_certified {
            return None;
        }
        self.client_certified = direction == Direction::Inbound;
        set_filter_state(host, peer, standing);
        self.flags().then(|| standing.flag())
    }

    fn flags(&self) -> bool {
        let flag = &self.inspector.config.flag;
        flag.request_header.is_some() || flag.response_header.is_some()
    }
}

impl Inspector {
    /// The client of this request's connection. Its number tells which connection it is; the rest is
    /// asked at its first request.
    fn remembered_downstream(&self, host: &dyn Host, met: Option<u64>) -> Rc<Downstream> {
        let id = met.or_else(|| host::integer(host, &["connection", "id"]));
        let known = id.and_then(|id| self.connections.borrow_mut().get(&id));
        if let Some(downstream) = known {
            return downstream;
        }
        let downstream = Rc::new(self.new_downstream(host));
        if let Some(id) = id {
            self.connections
                .borrow_mut()
                .insert(id, Rc::clone(&downstream));
            if met.is_none() && self.marks_connections.get() {
                host.set_filter_state(CONNECTION, &id.to_le_bytes());
            }
        }
        downstream
    }

    fn new_downstream(&self, host: &dyn Host) -> Downstream {
        let listener = Listener::of(host);
        if !listener.inspects_downstream() {
            return Downstream {
                listener,
                party: Party::Anonymous(Security::Plaintext),
                strips_xfcc: false,
            };
        }
        let xfcc = self
            .reads_xfcc()
            .then(|| host.request_header(XFCC))
            .flatten();
        let header_counts = self.config.certificate_sources.contains(&Source::Xfcc);
        let party = self.downstream(host, xfcc.as_deref().filter(|_| header_counts));
        if let Party::Certified(peer) = &party {
            self.record_remaining(host, peer);
        }
        let strips_xfcc = self.config.strip_xfcc_certificates
            && matches!(party, Party::Certified(_))
            && xfcc.is_some_and(|header| has_own_certificates(host, &header));
        Downstream {
            listener,
            party,
            strips_xfcc,
        }
    }

    fn reads_xfcc(&self) -> bool {
        self.config.strip_xfcc_certificates
            || self.config.certificate_sources.contains(&Source::Xfcc)
    }

    /// No network filter sees the servers of HTTP requests: each new certificate is recorded here.
    fn record_new_server(&self, host: &dyn Host, party: &Party) {
        if let Party::Certified(peer) = party
            && peer.take_fresh()
            && let Some(seconds) = peer.remaining(self.now(host))
        {
            self.registry.remaining(host, Direction::Outbound, seconds);
        }
    }

    /// The histogram of remaining lifetimes is the network filter's, which leaves its status on the
    /// connection. Where there is none, this filter records each new connection.
    fn record_remaining(&self, host: &dyn Host, peer: &Peer) {
        let seen_by_network_filter = host.property(&[STATUS]).is_some();
        if let (false, Some(seconds)) = (seen_by_network_filter, peer.remaining(self.now(host))) {
            self.registry.remaining(host, Direction::Inbound, seconds);
        }
    }
}

/// Whether the header's last element has certificates and was set by this proxy: then its hash is the
/// one of this connection's certificate.
fn has_own_certificates(host: &dyn Host, header: &[u8]) -> bool {
    let Ok(element) = xfcc::last_element(header) else {
        return false;
    };
    let digest = host.property(&["connection", "sha256_peer_certificate_digest"]);
    let own = match (element.hash(), &digest) {
        (Some(hash), Some(digest)) => hash.eq_ignore_ascii_case(digest),
        _ => true,
    };
    own && element.has_certificates()
}

fn strip_xfcc(host: &dyn Host) {
    let Some(header) = host.request_header(XFCC) else {
        return;
    };
    if let Ok(element) = xfcc::last_element(&header) {
        let stripped = element.without_certificates();
        if stripped.len() < header.len() {
            host.set_request_header(XFCC, Some(&stripped));
        }
    }
}
