//! Failure texts of TLS stacks to reasons.
//!
//! Envoy writes `TLS_error:|<n>:SSL routines:OPENSSL_internal:<NAME>[:<detail>]:TLS_error_end`, several
//! joined by `|`; `<n>` is 0x10000000 plus BoringSSL's number, numbers from 1000 on are 1000 plus the
//! alert that the other side sent. From 1.37 on the detail says what failed, at which depth.
//! The same table reads what OpenSSL, Go and rustls say, which is what people paste.

use std::borrow::Cow;

use super::{Failure, Reason};
use crate::terms::Direction;
use mtls_watch_x509::chain::Layer;

/// Longest text that is looked at. Envoy's have a few hundred bytes; those with a SAN list more.
const MAX_TEXT_BYTES: usize = 4096;

/// A phrase, and what it means. Phrases are in lower case, with a blank for `_` and `-`.
struct Phrase {
    text: &'static str,
    reason: Reason,
    /// Where the reason's own hint is too general.
    hint: Option<&'static str>,
}

const fn phrase(text: &'static str, reason: Reason) -> Phrase {
    Phrase {
        text,
        reason,
        hint: None,
    }
}

const fn hinted(text: &'static str, reason: Reason, hint: &'static str) -> Phrase {
    Phrase {
        text,
        reason,
        hint: Some(hint),
    }
}

/// What verification says: the first phrase that is in the text counts, so the special ones stand
/// before the general ones.
const VERIFICATION: &[Phrase] = &[
    // CRLs: before "has expired" and "revoked".
    hinted(
        "crl has expired",
        Reason::Revoked,
        "publish a new CRL: the one in use is past its nextUpdate",
    ),
    hinted(
        "crl is not yet valid",
        Reason::Revoked,
        "compare clocks: the CRL in use is not valid yet",
    ),
    hinted(
        "unable to get certificate crl",
        Reason::Revoked,
        "give Envoy a CRL for every CA of the chain, or none at all",
    ),
    phrase("certificate revoked", Reason::Revoked),
    phrase("certificate has been revoked", Reason::Revoked),
    phrase("peer certificate: revoked", Reason::Revoked),
    // Time. Go has one text for both ends of validity.
    phrase("certificate is not yet valid", Reason::NotYetValid),
    phrase("is before", Reason::NotYetValid),
    phrase("notvalidyet", Reason::NotYetValid),
    phrase("certificate has expired", Reason::Expired),
    phrase("certificate expired", Reason::Expired),
    phrase("peer certificate: expired", Reason::Expired),
    // Chain.
    hinted(
        "authority and subject key identifier mismatch",
        Reason::UnknownCa,
        "a new key under the same name: add the new CA to every trust bundle before issuing from it",
    ),
    phrase("unable to get local issuer certificate", Reason::UnknownCa),
    phrase("unable to get issuer certificate", Reason::UnknownCa),
    phrase("unable to verify the first certificate", Reason::UnknownCa),
    phrase("unable to verify leaf signature", Reason::UnknownCa),
    phrase(
        "self signed certificate in certificate chain",
        Reason::UnknownCa,
    ),
    phrase("signed by unknown authority", Reason::UnknownCa),
    phrase("unknownissuer", Reason::UnknownCa),
    phrase("self signed certificate", Reason::SelfSigned),
    phrase("certificate chain too long", Reason::PathLength),
    phrase("path length constraint exceeded", Reason::PathLength),
    phrase("too many intermediates for path length", Reason::PathLength),
    hinted(
        "invalid ca certificate",
        Reason::KeyUsage,
        "the certificate that signed is no CA: reissue it with cA true and keyCertSign",
    ),
    hinted(
        "causedasendentity",
        Reason::KeyUsage,
        "a CA certificate is used as a leaf: issue a leaf from it",
    ),
    hinted(
        "key usage does not include certificate signing",
        Reason::KeyUsage,
        "reissue the CA with keyCertSign in keyUsage",
    ),
    // Names.
    phrase("san matcher", Reason::NameMismatch),
    phrase("verify san list", Reason::NameMismatch),
    phrase("hostname mismatch", Reason::NameMismatch),
    phrase("ip address mismatch", Reason::NameMismatch),
    phrase("email address mismatch", Reason::NameMismatch),
    phrase("notvalidforname", Reason::NameMismatch),
    phrase("certificate is valid for", Reason::NameMismatch),
    phrase("doesn't contain any ip sans", Reason::NameMismatch),
    phrase("relies on legacy common name", Reason::NameMismatch),
    phrase(
        "certificate is not valid for any names",
        Reason::NameMismatch,
    ),
    hinted(
        "subtree violation",
        Reason::NameMismatch,
        "a CA of the chain may not issue for this name (nameConstraints): issue from another CA",
    ),
    hinted(
        "cert hash and spki",
        Reason::NameMismatch,
        "the certificate is not the one pinned in verify_certificate_hash or verify_certificate_spki: update the pin",
    ),
    // Signatures.
    phrase("certificate signature failure", Reason::BadSignature),
    phrase("bad signature", Reason::BadSignature),
    phrase("badsignature", Reason::BadSignature),
    phrase("ecdsa verification failure", Reason::BadSignature),
    phrase("crypto/rsa: verification error", Reason::BadSignature),
    hinted(
        "key usage bit incorrect",
        Reason::KeyUsage,
        "add digitalSignature to keyUsage of the leaf",
    ),
];

/// What is said of purposes: which usage is missing follows from the side that is verified.
const PURPOSE: &[&str] = &[
    "unsupported certificate purpose",
    "unsuitable certificate purpose",
    "incompatible key usage",
    "invalidpurpose",
];

/// How stacks say that the other side sent an alert. Looked for first: the name of an alert reads
/// like a finding of this side's.
const ALERT: &[&str] = &["alert", "remote error: tls:"];

/// What the alert was, in BoringSSL's and OpenSSL's, rustls' and Go's names.
const ALERTS: &[Phrase] = &[
    phrase("protocol version", Reason::ProtocolVersion),
    phrase("protocolversion", Reason::ProtocolVersion),
    phrase("insufficient security", Reason::NoSharedCipher),
    phrase("insufficientsecurity", Reason::NoSharedCipher),
    hinted(
        "certificate expired",
        Reason::RejectedByPeer,
        PEER_SAYS_EXPIRED,
    ),
    hinted(
        "certificateexpired",
        Reason::RejectedByPeer,
        PEER_SAYS_EXPIRED,
    ),
    hinted(
        "expired certificate",
        Reason::RejectedByPeer,
        PEER_SAYS_EXPIRED,
    ),
    hinted("unknown ca", Reason::RejectedByPeer, PEER_SAYS_UNKNOWN_CA),
    hinted("unknownca", Reason::RejectedByPeer, PEER_SAYS_UNKNOWN_CA),
    hinted(
        "unknown certificate authority",
        Reason::RejectedByPeer,
        PEER_SAYS_UNKNOWN_CA,
    ),
    hinted(
        "unsupported certificate",
        Reason::RejectedByPeer,
        PEER_SAYS_UNSUPPORTED,
    ),
    hinted(
        "unsupportedcertificate",
        Reason::RejectedByPeer,
        PEER_SAYS_UNSUPPORTED,
    ),
    hinted(
        "certificate revoked",
        Reason::RejectedByPeer,
        PEER_SAYS_REVOKED,
    ),
    hinted(
        "certificaterevoked",
        Reason::RejectedByPeer,
        PEER_SAYS_REVOKED,
    ),
    hinted(
        "revoked certificate",
        Reason::RejectedByPeer,
        PEER_SAYS_REVOKED,
    ),
    hinted(
        "certificate required",
        Reason::RejectedByPeer,
        PEER_SAYS_REQUIRED,
    ),
    hinted(
        "certificaterequired",
        Reason::RejectedByPeer,
        PEER_SAYS_REQUIRED,
    ),
    phrase("", Reason::RejectedByPeer),
];

const PEER_SAYS_EXPIRED: &str = "the other side says that this proxy's certificate has expired or is not valid yet: check its rotation, and the clocks";
const PEER_SAYS_UNKNOWN_CA: &str = "the other side does not trust the CA of this proxy's certificate: add the CA to its trust bundle, and send the whole chain";
const PEER_SAYS_UNSUPPORTED: &str = "the other side does not accept this proxy's certificate for this use: check clientAuth and serverAuth in extendedKeyUsage";
const PEER_SAYS_REVOKED: &str =
    "the other side says that this proxy's certificate is revoked: issue a new one";
const PEER_SAYS_REQUIRED: &str = "the other side requires a certificate, and this proxy has shown none: configure one, of a key type the other side accepts";

/// What the handshake itself says.
const HANDSHAKE: &[Phrase] = &[
    phrase("peer did not return a certificate", Reason::NoCertificate),
    phrase("peer sent no certificates", Reason::NoCertificate),
    phrase("client didn't provide a certificate", Reason::NoCertificate),
    // No TLS at all.
    phrase("wrong version number", Reason::NotTls),
    phrase("http request", Reason::NotTls),
    phrase("https proxy request", Reason::NotTls),
    phrase("does not look like a tls handshake", Reason::NotTls),
    phrase("gave http response to https client", Reason::NotTls),
    phrase("invalidcontenttype", Reason::NotTls),
    // Parameters.
    phrase("unsupported protocol", Reason::ProtocolVersion),
    phrase("protocol version not supported", Reason::ProtocolVersion),
    phrase("peerincompatible(notls1", Reason::ProtocolVersion),
    phrase("no shared cipher", Reason::NoSharedCipher),
    phrase("no cipher suite supported by both", Reason::NoSharedCipher),
    phrase("no common signature algorithms", Reason::NoSharedCipher),
    phrase("no shared group", Reason::NoSharedCipher),
    phrase("nociphersuitesincommon", Reason::NoSharedCipher),
    // Transport.
    phrase("connection reset by peer", Reason::Reset),
    phrase("broken pipe", Reason::Reset),
    phrase("handshake eof", Reason::Reset),
    phrase("unexpected eof", Reason::Reset),
    hinted(
        "secret is not supplied by sds",
        Reason::Other,
        "this proxy has not received its own certificate yet: check the SDS server or the files it reads",
    ),
    phrase("certificate verify failed", Reason::VerifyFailed),
    phrase("invalid peer certificate", Reason::VerifyFailed),
];

/// Reads a failure text about a peer on that side.
///
/// `None` if it is not about TLS: a refused or timed-out connection is no handshake.
#[must_use]
pub fn classify(text: &str, direction: Direction) -> Option<Failure> {
    let text = normalise(text);
    let is_alert = ALERT.iter().any(|alert| says(&text, alert));
    if !is_alert && PURPOSE.iter().any(|purpose| says(&text, purpose)) {
        return Some(Failure::new(purpose_reason(direction), layer(&text)));
    }
    let tables: &[&[Phrase]] = match is_alert {
        true => &[ALERTS],
        false => &[VERIFICATION, HANDSHAKE],
    };
    let mut phrases = tables.iter().copied().flatten();
    match phrases.find(|known| says(&text, known.text)) {
        Some(known) => Some(Failure {
            reason: known.reason,
            layer: layer_of(known.reason, &text),
            holder: known.reason.holder(),
            hint: Cow::Borrowed(known.hint.unwrap_or(known.reason.hint())),
        }),
        None => {
            by_number(&text).or_else(|| is_tls(&text).then(|| Failure::new(Reason::Other, None)))
        }
    }
}

/// The usage that a refused purpose lacks.
pub(super) fn purpose_reason(direction: Direction) -> Reason {
    match direction {
        Direction::Inbound => Reason::ClientAuthMissing,
        Direction::Outbound => Reason::ServerAuthMissing,
    }
}

/// Lower case, with a blank for `_` and `-`, cut to a bounded length. What a peer may have written,
/// the list of its SANs, is left out: it must not choose the reason.
fn normalise(text: &str) -> String {
    let end = text.floor_char_boundary(MAX_TEXT_BYTES);
    let text = text.get(..end).unwrap_or_default();
    let own_words = match around(text, "certificate SANs are [") {
        Some((before, _)) => before,
        None => text,
    };
    own_words.to_ascii_lowercase().replace(['_', '-'], " ")
}

fn says(text: &str, words: &str) -> bool {
    around(text, words).is_some()
}

/// What stands before and after words in a text. The search of the standard library, made for long words,
/// is 2.5 KB of module.
fn around<'a>(text: &'a str, words: &str) -> Option<(&'a str, &'a str)> {
    let first = words.as_bytes().first()?;
    memchr::memchr_iter(*first, text.as_bytes()).find_map(|start| {
        let (before, rest) = text.split_at_checked(start)?;
        Some((before, rest.strip_prefix(words)?))
    })
}

fn is_tls(text: &str) -> bool {
    ["tls", "ssl", "x509", "certificate"]
        .iter()
        .any(|word| says(text, word))
}

/// Reasons that are about the leaf wherever they occur, and those that the depth places.
fn layer_of(reason: Reason, text: &str) -> Option<Layer> {
    match reason {
        Reason::NameMismatch => layer(text).or(Some(Layer::Workload)),
        Reason::KeyUsage if says(text, "key usage bit incorrect") => Some(Layer::Workload),
        Reason::UnknownCa if says(text, "in certificate chain") => Some(Layer::RootCa),
        Reason::NoCertificate | Reason::RejectedByPeer => None,
        _ if reason.concerns_certificates() => layer(text),
        _ => None,
    }
}

/// The layer of the certificate at `depth N`: 0 is the leaf, 1 what signed it.
fn layer(text: &str) -> Option<Layer> {
    let (_, rest) = around(text, "at depth ")?;
    let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
    Some(match digits.parse::<u8>().ok()? {
        0 => Layer::Workload,
        1 => Layer::IssuingCa,
        _ => Layer::IntermediateCa,
    })
}

/// BoringSSL's numbers (ssl.h, SSL_R_*), for a text that has the number but not the name.
fn by_number(text: &str) -> Option<Failure> {
    const SSL_LIBRARY: u32 = 16 << 24;
    let numbers = text
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|digits| digits.parse::<u32>().ok());
    let reason = numbers
        .filter_map(|number| number.checked_sub(SSL_LIBRARY))
        .find_map(|number| match number {
            125 => Some(Reason::VerifyFailed),
            192 => Some(Reason::NoCertificate),
            302 => Some(Reason::KeyUsage),
            156 | 157 | 247 => Some(Reason::NotTls),
            240 | 1070 => Some(Reason::ProtocolVersion),
            184 | 253 | 266 | 1071 => Some(Reason::NoSharedCipher),
            1000..=1255 => Some(Reason::RejectedByPeer),
            _ => None,
        })?;
    Some(Failure::new(reason, layer_of(reason, text)))
}
