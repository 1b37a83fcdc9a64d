//! Handshakes that did not complete.

use super::Inspector;
use crate::handshake::{self, Failure, Known, Reason};
use crate::host::{self, Host};
use crate::metrics::counters::Counter;
use crate::metrics::issuers::known_cas;
use crate::terms::Direction;
use mtls_watch_x509::{self as x509, Certificate, pem};

/// Envoy's response flag UC: the upstream connection was terminated (response_flags, bit 6).
const UPSTREAM_CONNECTION_TERMINATION: u64 = 1 << 6;

/// How long the connection pool took, at least, if it made a new connection for the request: a TCP and
/// a TLS handshake. A connection that was there is handed out at once. Nanoseconds.
const NEW_CONNECTION: u64 = 100_000;

/// A refusal comes one round trip after the handshake; what comes later is a server that failed, or one
/// that closes idle connections. Nanoseconds.
const AT_ONCE: u64 = 1_000_000_000;

impl Inspector {
    /// Envoy refused the client, or the client refused Envoy. On Envoy 1.38 and later the certificate
    /// that was refused can be read at the close of the connection; it names the peer.
    pub(super) fn client_failed(&self, host: &dyn Host, text: &[u8]) {
        let Some(failure) = classify(text, Direction::Inbound) else {
            return;
        };
        let leaf = refused_leaf(host);
        let failure = self.complete(host, failure, leaf.as_ref(), Direction::Inbound);
        self.count_failure(host, Direction::Inbound, &failure, leaf.as_ref());
    }

    /// Envoy refused the server, or the server refused Envoy during the handshake. The certificate of
    /// a refused server cannot be read.
    pub(super) fn server_failed(&self, host: &dyn Host, text: &[u8]) {
        if let Some(failure) = classify(text, Direction::Outbound) {
            let failure = self.complete(host, failure, None, Direction::Outbound);
            self.count_failure(host, Direction::Outbound, &failure, None);
        }
    }

    /// In TLS 1.3 a client's handshake is over before the server has judged its certificate. A server
    /// that refuses it hangs up on a connection that looks established: nothing was ever received on
    /// it, and no reason is given.
    pub(super) fn rejected_by_server(&self, host: &dyn Host) {
        if presented_certificate(host) && is_tls13(host) {
            let failure = Failure::new(Reason::RejectedByPeer, None);
            self.count_failure(host, Direction::Outbound, &failure, None);
        }
    }

    /// Completes a failure by what this proxy knows beside the text.
    // Not inlined: the largest function sets the memory that the module takes to compile.
    #[inline(never)]
    fn complete(
        &self,
        host: &dyn Host,
        failure: Failure,
        leaf: Option<&Certificate>,
        direction: Direction,
    ) -> Failure {
        let directory = self.directory.current();
        let trust_domain = own_trust_domain(host, direction);
        let known = Known {
            leaf,
            bundle: directory.bundle(),
            others: directory.others(),
            accepted: &known_cas(host),
            trust_domain: trust_domain.as_deref(),
        };
        handshake::settle(failure, &known, direction, self.now(host))
    }

    fn count_failure(
        &self,
        host: &dyn Host,
        direction: Direction,
        failure: &Failure,
        leaf: Option<&Certificate>,
    ) {
        let Failure {
            layer,
            holder,
            reason,
            ..
        } = *failure;
        let counter = Counter::HandshakeFailure(direction, layer, holder, reason);
        self.count(host, counter);
        let address = match direction {
            Direction::Inbound => host.property(&["source", "address"]),
            Direction::Outbound => host.property(&["upstream", "address"]),
        };
        let address = address.map(|address| String::from_utf8_lossy(&address).into_owned());
        let now = self.now(host);
        self.reporter
            .failure(now, direction, failure, leaf, address.as_deref());
    }
}

/// Whether a request failed because its server hung up on a new connection before the first byte. A
/// server that closes an idle connection hits a request on a connection that was there before.
pub(super) fn server_hung_up(host: &dyn Host) -> bool {
    let flags = host::integer(host, &["response", "flags"]);
    let terminated = flags.is_some_and(|flags| flags & UPSTREAM_CONNECTION_TERMINATION != 0);
    terminated && pool_wait(host) >= Some(NEW_CONNECTION) && is_just_connected(host)
}

/// Whether the connection with the server was made just now. That takes a clock that is asked now: the one of
/// the last tick is up to five seconds old. A connection of the future tells of a clock that was set.
pub(super) fn is_just_connected(host: &dyn Host) -> bool {
    let started = host::integer(host, &["request", "time"]);
    let connected = started
        .zip(pool_wait(host))
        .map(|(started, wait)| started.saturating_add(wait));
    let age = connected.and_then(|connected| host.nanoseconds()?.checked_sub(connected));
    age.is_some_and(|age| age <= AT_ONCE)
}

/// Nanoseconds from the start of the request, or connection, until the server's connection was ready.
fn pool_wait(host: &dyn Host) -> Option<u64> {
    host::integer(host, &["upstream", "cx_pool_ready_duration"])
}

fn classify(text: &[u8], direction: Direction) -> Option<Failure> {
    handshake::classify(&String::from_utf8_lossy(text), direction)
}

/// The certificate that was refused. It is read for this one log line and forgotten: strangers get no
/// place in any cache.
fn refused_leaf(host: &dyn Host) -> Option<Certificate> {
    let text = host.property(&["connection", "peer_certificate"])?;
    let text = pem::percent_decode(&text).ok()?;
    let der = pem::certificates(&text).next()?.ok()?;
    x509::parse(&der).ok()
}

/// The trust domain of the certificate that this proxy has shown, or would have.
fn own_trust_domain(host: &dyn Host, direction: Direction) -> Option<String> {
    let side = match direction {
        Direction::Inbound => "connection",
        Direction::Outbound => "upstream",
    };
    let identity = host.property(&[side, "uri_san_local_certificate"])?;
    let identity = String::from_utf8_lossy(&identity);
    let (name, _) = identity.strip_prefix("spiffe://")?.split_once('/')?;
    Some(name.to_owned())
}

/// Whether this proxy has a certificate for the server. Envoy does not tell whether the server asked for it. A
/// certificate that has neither a subject nor a URI or DNS SAN cannot be told from none.
pub(super) fn presented_certificate(host: &dyn Host) -> bool {
    [
        "uri_san_local_certificate",
        "subject_local_certificate",
        "dns_san_local_certificate",
    ]
    .iter()
    .any(|name| host.property(&["upstream", name]).is_some())
}

fn is_tls13(host: &dyn Host) -> bool {
    host.property(&["upstream", "tls_version"]).as_deref() == Some(b"TLSv1.3")
}
