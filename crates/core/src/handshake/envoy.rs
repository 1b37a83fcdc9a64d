//! Envoy's transport failure reason.
//!
//! `TLS_error:|<number>:<library>:OPENSSL_internal:<REASON>|…[:<detail>]:TLS_error_end`: BoringSSL's error queue, and
//! the verifier's words if verification failed (1.37 and later; source/common/tls/ssl_socket.cc). An access log has
//! `_` for blanks. `tls_inspector` writes `TLS_error|error:<hexadecimal number>:…` about what is no TLS. The detail comes last and may
//! name the peer's SANs, so the text is read from the front, and nothing is searched for in it.

use std::borrow::Cow;

use super::words::{around, limited, skip, strip, until};
use super::{Failure, Reason, alert, verification};
use crate::terms::Direction;
use mtls_watch_x509::chain::Layer;

/// Longest text that is looked at. Envoy's have a few hundred bytes; those with a SAN list more.
const MAX_TEXT_BYTES: usize = 4096;
/// Longest part of a text that is repeated in a hint.
const MAX_QUOTE_BYTES: usize = 160;
/// Most errors of a queue that are looked at. BoringSSL keeps 16.
const MAX_ERRORS: usize = 16;

/// BoringSSL's libraries (err.h, ERR_LIB_*).
const SYSTEM: u32 = 2;
const SSL: u32 = 16;
/// An alert of the other side is an error with this much added to its number (ssl.h).
pub(super) const ALERT_OFFSET: u32 = 1000;

/// One error of the queue.
struct QueuedError<'a> {
    library: u32,
    reason: u32,
    name: &'a str,
}

/// What a failure text has.
struct FailureText<'a> {
    errors: Vec<QueuedError<'a>>,
    /// What the verifier said.
    detail: &'a str,
}

/// One of BoringSSL's errors (ssl.h, SSL_R_*).
pub(super) struct SslError {
    number: u32,
    reason: Reason,
    layer: Option<Layer>,
    hint: Option<&'static str>,
}

const fn ssl(number: u32, reason: Reason) -> SslError {
    SslError {
        number,
        reason,
        layer: None,
        hint: None,
    }
}

const fn of_leaf(error: SslError, hint: Option<&'static str>) -> SslError {
    SslError {
        layer: Some(Layer::Workload),
        hint,
        ..error
    }
}

#[rustfmt::skip]
const SSL_ERRORS: &[SslError] = &[
    ssl(107, Reason::NoSharedCipher), // BAD_ECC_CERT
    of_leaf(ssl(114, Reason::BadSignature), None), // BAD_SIGNATURE
    of_leaf(ssl(144, Reason::KeyUsage), Some("add digitalSignature to keyUsage of the leaf")), // ECC_CERT_NOT_FOR_SIGNING
    of_leaf(ssl(127, Reason::MalformedCertificate), None), // CERT_LENGTH_MISMATCH
    of_leaf(ssl(137, Reason::MalformedCertificate), None), // DECODE_ERROR
    ssl(154, Reason::NoSharedCipher), // HANDSHAKE_FAILURE_ON_CLIENT_HELLO
    ssl(155, Reason::NotTls), // HTTPS_PROXY_REQUEST
    ssl(156, Reason::NotTls), // HTTP_REQUEST
    ssl(157, Reason::ProtocolVersion), // INAPPROPRIATE_FALLBACK
    ssl(184, Reason::NoSharedCipher), // NO_SHARED_CIPHER
    ssl(192, Reason::NoCertificate), // PEER_DID_NOT_RETURN_A_CERTIFICATE
    ssl(228, Reason::NoSharedCipher), // UNKNOWN_CERTIFICATE_TYPE
    ssl(234, Reason::ProtocolVersion), // UNKNOWN_SSL_VERSION
    ssl(237, Reason::NoSharedCipher), // UNSUPPORTED_CIPHER
    ssl(239, Reason::NoSharedCipher), // UNSUPPORTED_ELLIPTIC_CURVE
    ssl(240, Reason::ProtocolVersion), // UNSUPPORTED_PROTOCOL
    ssl(241, Reason::NoSharedCipher), // WRONG_CERTIFICATE_TYPE
    ssl(242, Reason::NoSharedCipher), // WRONG_CIPHER_RETURNED
    ssl(243, Reason::NoSharedCipher), // WRONG_CURVE
    ssl(245, Reason::NoSharedCipher), // WRONG_SIGNATURE_TYPE
    ssl(246, Reason::ProtocolVersion), // WRONG_SSL_VERSION
    ssl(247, Reason::NotTls), // WRONG_VERSION_NUMBER
    ssl(253, Reason::NoSharedCipher), // NO_COMMON_SIGNATURE_ALGORITHMS
    ssl(258, Reason::NoSharedCipher), // MISSING_KEY_SHARE
    ssl(259, Reason::NoApplicationProtocol), // INVALID_ALPN_PROTOCOL
    ssl(266, Reason::NoSharedCipher), // NO_SHARED_GROUP
    of_leaf(ssl(272, Reason::MalformedCertificate), None), // CANNOT_PARSE_LEAF_CERT
    ssl(280, Reason::ProtocolVersion), // NO_SUPPORTED_VERSIONS_ENABLED
    of_leaf(ssl(302, Reason::KeyUsage), Some("add digitalSignature to keyUsage of the leaf")), // KEY_USAGE_BIT_INCORRECT
    ssl(307, Reason::NoApplicationProtocol), // NO_APPLICATION_PROTOCOL
    ssl(125, Reason::VerifyFailed), // CERTIFICATE_VERIFY_FAILED
];

const PARAMETERS: &str = "the server refused the ClientHello: compare TLS versions, cipher suites, curves and key types (RSA, EC) of both sides, and the server name; no certificate has been shown yet";
const PLAINTEXT_ALERT: &str = "an OpenSSL client refused this proxy's certificate (it sends its TLS 1.3 alert in plaintext): check that the client trusts this proxy's CA, that the certificate has the name the client asks for, and that it has not expired; the client's log has the cause";

/// Reads Envoy's failure text about a peer on that side.
///
/// `None` if it is not about TLS: a refused or timed-out connection is no handshake.
#[must_use]
pub fn classify(text: &str, direction: Direction) -> Option<Failure> {
    let text = limited(text, MAX_TEXT_BYTES);
    let (_, rest) = around(text, "TLS_error").or_else(|| around(text, "TLS error"))?;
    // On a connection without TLS, which may go well: where the filter chain has TLS, its own text comes after.
    if rest.starts_with("|error:") {
        return None;
    }
    if strip(rest, ": Secret is not supplied by SDS").is_some() {
        return Some(Failure::new(Reason::SecretMissing, None));
    }
    let text = FailureText::read(rest);
    Some(text.failure(direction))
}

impl<'a> FailureText<'a> {
    fn read(mut rest: &'a str) -> Self {
        let mut errors = Vec::new();
        while errors.len() < MAX_ERRORS {
            let start = skip(rest, b"|: _");
            let Some((error, after)) = QueuedError::read(start) else {
                break;
            };
            errors.push(error);
            rest = after;
            if !rest.starts_with('|') {
                break;
            }
        }
        let detail = around(rest, "TLS_error_end").map_or(rest, |(detail, _)| detail);
        Self {
            errors,
            detail: skip(detail.strip_suffix(':').unwrap_or(detail), b":"),
        }
    }

    fn failure(&self, direction: Direction) -> Failure {
        if self.has(125) {
            return self.verification(direction);
        }
        if self.has(154) {
            // The alert before it is the server's answer to the ClientHello.
            return match self.alert() {
                Some(failure) if failure.reason != Reason::RejectedByPeer => failure,
                _ => Failure {
                    hint: Cow::Borrowed(PARAMETERS),
                    ..Failure::new(Reason::NoSharedCipher, None)
                },
            };
        }
        // BAD_PACKET_LENGTH, DECRYPTION_FAILED_OR_BAD_RECORD_MAC: two bytes where a record has to be encrypted.
        if direction == Direction::Inbound && self.has(112) && self.has(139) {
            return Failure {
                hint: Cow::Borrowed(PLAINTEXT_ALERT),
                ..Failure::new(Reason::RejectedByPeer, None)
            };
        }
        if let Some(failure) = self.alert() {
            return failure;
        }
        // What TLS says comes before what the connection says.
        let mut known = self
            .errors
            .iter()
            .filter_map(|error| error.known(direction));
        let known = match known.find(|failure| failure.reason != Reason::Reset) {
            None => self.errors.iter().find_map(|error| error.known(direction)),
            of_tls => of_tls,
        };
        known.unwrap_or_else(|| self.unknown())
    }

    fn has(&self, reason: u32) -> bool {
        let is_it = |error: &QueuedError| error.library == SSL && error.reason == reason;
        self.errors.iter().any(is_it)
    }

    fn alert(&self) -> Option<Failure> {
        let alerts = self.errors.iter().filter(|error| error.library == SSL);
        let mut numbers = alerts.filter_map(|error| error.reason.checked_sub(ALERT_OFFSET));
        numbers.next().map(alert::received)
    }

    fn verification(&self, direction: Direction) -> Failure {
        match strip(self.detail, VERIFIER) {
            Some(words) => detail(words, direction),
            None => Failure::new(Reason::VerifyFailed, None),
        }
    }

    /// What nobody knows is said as it is.
    fn unknown(&self) -> Failure {
        let mut names = String::new();
        for error in &self.errors {
            let separator = if names.is_empty() { "" } else { ", " };
            names.push_str(separator);
            names.push_str(error.name);
        }
        let hint = match names.is_empty() {
            true => Cow::Borrowed(Reason::Other.hint()),
            false => Cow::Owned(format!(
                "Envoy's transport_failure_reason: {}",
                limited(&names, MAX_QUOTE_BYTES)
            )),
        };
        Failure {
            hint,
            ..Failure::new(Reason::Other, None)
        }
    }
}

/// What comes before the verifier's words.
pub(super) const VERIFIER: &str = "verify cert failed: ";
/// What comes before a result of BoringSSL's.
const AT_DEPTH: &str = "X509 verify cert: certificate verification error at depth ";

/// Reads the verifier's words.
pub(super) fn detail(words: &str, direction: Direction) -> Failure {
    let (layer, words) = match strip(words, AT_DEPTH) {
        Some(rest) => {
            let (depth, words) = until(rest, b":");
            (layer_at(depth), skip(words, b": _"))
        }
        None => (None, words),
    };
    match outcome(words) {
        Some(outcome) => outcome.failure(layer, direction),
        None => Failure {
            hint: Cow::Owned(format!(
                "Envoy's words: '{}'",
                limited(words, MAX_QUOTE_BYTES)
            )),
            ..Failure::new(Reason::VerifyFailed, layer)
        },
    }
}

/// The result among the verifier's words: the last of several clauses, as in `certificate revocation check against
/// provided CRLs failed: certificate revoked`. The names that the certificate has follow a comma.
fn outcome(words: &str) -> Option<&'static verification::Outcome> {
    let (mut clauses, _) = until(words, b",");
    while !clauses.is_empty() {
        if let Some(outcome) = verification::by_text(clauses) {
            return Some(outcome);
        }
        let (_, rest) = until(clauses, b":");
        clauses = skip(rest, b": _");
    }
    None
}

impl<'a> QueuedError<'a> {
    /// `<number>:<library>:<function>:<reason>`, and what follows.
    fn read(text: &'a str) -> Option<(Self, &'a str)> {
        let (number, rest) = match text.strip_prefix("error:") {
            Some(hexadecimal) => {
                let (digits, rest) = until(hexadecimal, b":");
                (u32::from_str_radix(digits, 16).ok()?, rest)
            }
            None => {
                let (digits, rest) = until(text, b":");
                (digits.parse().ok()?, rest)
            }
        };
        let (_library, rest) = until(rest.strip_prefix(':')?, b":");
        let (_function, rest) = until(rest.strip_prefix(':')?, b":");
        let (name, rest) = until(rest.strip_prefix(':')?, b"|:");
        let error = Self {
            library: number >> 24,
            reason: number & 0xFFF,
            name,
        };
        Some((error, rest))
    }

    fn known(&self, direction: Direction) -> Option<Failure> {
        match self.library {
            SSL => SslError::numbered(self.reason).map(|it| it.failure(direction)),
            // The reason is errno. All of them are of a connection that broke.
            SYSTEM => Some(Failure::new(Reason::Reset, None)),
            _ => None,
        }
    }
}

impl SslError {
    /// By its number.
    pub(super) fn numbered(number: u32) -> Option<&'static Self> {
        SSL_ERRORS.iter().find(|error| error.number == number)
    }

    /// What it means, of a peer on that side.
    pub(super) fn failure(&self, direction: Direction) -> Failure {
        let Self {
            reason,
            layer,
            hint,
            ..
        } = *self;
        Failure {
            hint: Cow::Borrowed(hint.unwrap_or(reason.hint_towards(direction))),
            ..Failure::new(reason, layer)
        }
    }
}

/// The layer of the certificate at a depth: 0 is the leaf, 1 what signed it.
fn layer_at(depth: &str) -> Option<Layer> {
    Some(match depth.parse::<u8>().ok()? {
        0 => Layer::Workload,
        1 => Layer::IssuingCa,
        _ => Layer::IntermediateCa,
    })
}
