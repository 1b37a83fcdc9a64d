//! Handshakes that did not complete.

use std::borrow::Cow;

use super::{Inspector, Peer};
use crate::handshake::{self, Failure, Known, Reason};
use crate::host::{self, Host};
use crate::metrics::counters::Counter;
use crate::metrics::issuers::known_cas;
use crate::own;
use crate::report::Refused;
use crate::source::read::{Fingerprint, fingerprint_of};
use crate::terms::Direction;
use mtls_watch_x509::{self as x509, Certificate, pem};

/// Envoy's response flag UF: no connection with the server came about (response_flags, bit 5).
const UPSTREAM_CONNECTION_FAILURE: u64 = 1 << 5;

/// Envoy's response flag UC: the upstream connection was terminated (response_flags, bit 6).
const UPSTREAM_CONNECTION_TERMINATION: u64 = 1 << 6;

/// How long the connection pool took, at least, if it made a new connection for the request: a TCP and
/// a TLS handshake. A connection that was there is handed out at once. Nanoseconds.
const NEW_CONNECTION: u64 = 100_000;

/// A refusal comes one round trip after the handshake; what comes later is a server that failed, or one
/// that closes idle connections. Nanoseconds.
const AT_ONCE: u64 = 1_000_000_000;

/// The same of a TCP connection, which Envoy also closes by its own short timeouts, without a flag that says so. Twice
/// the time that connecting took comes on top.
const AT_ONCE_TCP: u64 = 400_000_000;

const REFUSED_OR_DEAD: &str = "the server closed right after the handshake: it refused this proxy's certificate, or it died; look at the other side's log for the cause, and check this proxy's own certificate and chain";
const REQUIRED_OR_DEAD: &str = "the server closed right after the handshake: it requires a client certificate, which this proxy does not have for it, or it died; look at its log, and give this proxy a certificate if it is required: tls_certificates of the cluster, in Istio mode MUTUAL or ISTIO_MUTUAL";

impl Inspector {
    /// Envoy refused the client, or the client refused Envoy. On Envoy 1.38 and later the certificate
    /// that was refused can be read at the close of the connection; it names the peer.
    pub(super) fn client_failed(&self, host: &dyn Host, text: &[u8]) {
        let Some(failure) = classify(text, Direction::Inbound) else {
            return;
        };
        if failure.reason == Reason::Reset && !has_begun(host) {
            return;
        }
        let refused = refused_leaf(host);
        let leaf = refused.as_ref().map(|(leaf, _)| leaf);
        let failure = self.complete(host, failure, leaf, Direction::Inbound);
        self.count_failure(host, Direction::Inbound, &failure, refused.as_ref());
    }

    /// Envoy refused the server, or the server refused Envoy during the handshake. The certificate of
    /// a refused server cannot be read. Whether it was a handshake that failed.
    pub(super) fn server_failed(&self, host: &dyn Host, text: &[u8]) -> bool {
        let Some(failure) = classify(text, Direction::Outbound) else {
            return false;
        };
        let failure = self.complete(host, failure, None, Direction::Outbound);
        self.count_failure(host, Direction::Outbound, &failure, None);
        true
    }

    /// In TLS 1.3 a client's handshake is over before the server has judged its certificate, or missed it. A server
    /// that refuses it hangs up on a connection that looks established: nothing was ever received on
    /// it, and no reason is given. Whether this was such a refusal: a server that has lately answered on a new
    /// connection has another reason. One that has not may have died: the hint says both.
    pub(super) fn hung_up(&self, host: &dyn Host) -> bool {
        let shown = presented_certificate(host);
        if !is_tls13(host) || self.answers.lately(host, self.now(host), shown) {
            return false;
        }
        let (reason, hint) = match shown {
            true => (Reason::RejectedByPeer, REFUSED_OR_DEAD),
            false => (Reason::CertificateRequired, REQUIRED_OR_DEAD),
        };
        let failure = Failure {
            hint: Cow::Borrowed(hint),
            ..Failure::new(reason, None)
        };
        self.count_failure(host, Direction::Outbound, &failure, None);
        true
    }

    /// Whether the server has refused this proxy after the handshake, with the request already on its way. A server
    /// that closes an idle connection hits a request on a connection that was there before. From time to
    /// time it is noted of a server that it answers on new connections.
    pub(super) fn refused_request(&self, host: &dyn Host, server: &Peer) -> bool {
        let flags = host::integer(host, &["response", "flags"]).unwrap_or_default();
        if flags & UPSTREAM_CONNECTION_TERMINATION != 0 {
            return is_new_connection(host)
                && is_just_connected(host, AT_ONCE)
                && self.hung_up(host);
        }
        if flags == 0 && server.is_answer_due(self.clock.get()) && is_new_connection(host) {
            self.answers.note(host, self.clock.get());
        }
        false
    }

    /// Completes a failure by what this proxy knows beside the text.
    fn complete(
        &self,
        host: &dyn Host,
        failure: Failure,
        leaf: Option<&Certificate>,
        direction: Direction,
    ) -> Failure {
        let directory = self.directory.current();
        let trust_domain = own_trust_domain(host, direction);
        let missing = match failure.reason {
            Reason::SecretMissing => own::missing_secrets(host),
            _ => None,
        };
        let known = Known {
            leaf,
            bundle: directory.bundle(),
            others: directory.others(),
            accepted: &known_cas(host),
            trust_domain: trust_domain.as_deref(),
            missing_secrets: missing.as_deref(),
        };
        handshake::settle(failure, &known, direction, self.now(host))
    }

    fn count_failure(
        &self,
        host: &dyn Host,
        direction: Direction,
        failure: &Failure,
        refused: Option<&(Certificate, Fingerprint)>,
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
        let identity = refused.map(|(leaf, _)| self.config.identity.shown(&leaf.identity));
        let refused = refused.map(|(leaf, fingerprint)| Refused {
            leaf,
            fingerprint,
            identity: identity.as_deref().unwrap_or_default(),
        });
        self.reporter
            .failure(now, direction, failure, refused, address.as_deref());
    }
}

/// Whether the pool has made a connection for this request.
pub(super) fn is_new_connection(host: &dyn Host) -> bool {
    pool_wait(host) >= Some(NEW_CONNECTION)
}

/// Whether connecting to the server failed, or its handshake did.
pub(super) fn failed_to_connect(host: &dyn Host) -> bool {
    let flags = host::integer(host, &["response", "flags"]);
    flags.is_some_and(|flags| flags & UPSTREAM_CONNECTION_FAILURE != 0)
}

/// Whether a TCP connection ended right after the server's handshake, and Envoy knows of no reason: where it closes by
/// a limit of its own, or the server has reset the connection, a flag says so. A refusal ends in an alert, which has
/// none.
pub(super) fn server_left_at_once(host: &dyn Host) -> bool {
    let flags = host::integer(host, &["response", "flags"]);
    let connecting = pool_wait(host).unwrap_or_default();
    flags.unwrap_or_default() == 0
        && is_just_connected(
            host,
            AT_ONCE_TCP.saturating_add(connecting.saturating_mul(2)),
        )
}

/// Whether the connection with the server was made within that time. That takes a clock that is asked now: the one of
/// the last tick is up to five seconds old. A connection of the future tells of a clock that was set.
fn is_just_connected(host: &dyn Host, within: u64) -> bool {
    let started = host::integer(host, &["request", "time"]);
    let connected = started
        .zip(pool_wait(host))
        .map(|(started, wait)| started.saturating_add(wait));
    let age = connected.and_then(|connected| host.nanoseconds()?.checked_sub(connected));
    age.is_some_and(|age| age <= within)
}

/// Nanoseconds from the start of the request, or connection, until the server's connection was ready.
fn pool_wait(host: &dyn Host) -> Option<u64> {
    host::integer(host, &["upstream", "cx_pool_ready_duration"])
}

/// Whether a client's reset was in the middle of a handshake for certain. Before its first byte Envoy has TLS 1.2 for the
/// version, and the server name only where a listener filter reads it: a client that offers no more than TLS 1.2 cannot
/// be told from a health check that connects and resets.
fn has_begun(host: &dyn Host) -> bool {
    let version = host.property(&["connection", "tls_version"]);
    version.as_deref() == Some(b"TLSv1.3")
        || host
            .property(&["connection", "requested_server_name"])
            .is_some()
}

/// Whether the text says that the connection was reset.
pub(super) fn is_reset(text: &[u8]) -> bool {
    classify(text, Direction::Inbound).is_some_and(|failure| failure.reason == Reason::Reset)
}

fn classify(text: &[u8], direction: Direction) -> Option<Failure> {
    handshake::classify(&String::from_utf8_lossy(text), direction)
}

/// The certificate that was refused, and its fingerprint. It is read for this one log line and forgotten: strangers get no
/// place in any cache.
fn refused_leaf(host: &dyn Host) -> Option<(Certificate, Fingerprint)> {
    let text = host.property(&["connection", "peer_certificate"])?;
    let text = pem::percent_decode(&text).ok()?;
    let der = pem::certificates(&text).next()?.ok()?;
    Some((x509::parse(&der).ok()?, fingerprint_of(&der)))
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
