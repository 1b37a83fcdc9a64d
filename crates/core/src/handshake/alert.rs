//! Alerts: what one side of a handshake tells the other when it gives up (RFC 8446, section 6).

use std::borrow::Cow;

use super::{Failure, Holder, Reason};
use crate::terms::Direction;
use mtls_watch_x509::chain::Layer;

/// One alert.
pub(super) struct Alert {
    number: u8,
    /// What it means that the other side has sent it.
    reason: Reason,
    holder: Holder,
    hint: Option<&'static str>,
}

/// An alert about this proxy's certificate.
const fn refused(number: u8, hint: &'static str) -> Alert {
    Alert {
        number,
        reason: Reason::RejectedByPeer,
        holder: Holder::Own,
        hint: Some(hint),
    }
}

/// An alert that may be about anything.
const fn vague(number: u8, hint: &'static str) -> Alert {
    Alert {
        holder: Holder::None,
        ..refused(number, hint)
    }
}

/// An alert with a reason of its own.
const fn alert(number: u8, reason: Reason) -> Alert {
    Alert {
        number,
        reason,
        holder: reason.holder(),
        hint: None,
    }
}

const ALERTS: &[Alert] = &[
    vague(
        40,
        "the other side found no way to agree: it may require a certificate that this proxy has not shown, or other cipher suites, curves or key types; its log has the cause",
    ),
    refused(
        42,
        "the other side refused this proxy's certificate: its log has the cause; check the certificate with `mtls-watch inspect`",
    ),
    refused(
        43,
        "the other side does not accept this proxy's certificate for this use: check clientAuth and serverAuth in extendedKeyUsage",
    ),
    refused(
        44,
        "the other side says that this proxy's certificate is revoked: issue a new one",
    ),
    refused(
        45,
        "the other side says that this proxy's certificate has expired or is not valid yet: check its rotation, and the clocks",
    ),
    refused(
        46,
        "the other side refused this proxy's certificate: its log has the cause; check whether it expects another name or CA",
    ),
    vague(
        47,
        "the other side refused a value of the handshake, as BoringSSL does when keyUsage of this proxy's certificate lacks digitalSignature; its log has the cause",
    ),
    refused(
        48,
        "the other side does not trust the CA of this proxy's certificate: add the CA to its trust bundle, and send the whole chain",
    ),
    refused(
        49,
        "the other side accepted this proxy's certificate and does not let its identity in: check its authorization rules",
    ),
    refused(
        51,
        "the other side could not verify a signature: check that key and certificate of this proxy belong together",
    ),
    alert(70, Reason::ProtocolVersion),
    alert(71, Reason::NoSharedCipher),
    alert(86, Reason::ProtocolVersion),
    alert(112, Reason::UnrecognizedName),
    alert(116, Reason::CertificateRequired),
    alert(120, Reason::NoApplicationProtocol),
];

/// What an alert means that the other side has sent, by its number. Those that are not in the table mean that it
/// gave up, and no more.
pub(super) fn received(number: u32) -> Failure {
    let known = ALERTS.iter().find(|it| u32::from(it.number) == number);
    known.map_or_else(unknown, Alert::received)
}

/// What an alert means that this side has sent: a verdict on the peer.
pub(super) fn sent(number: Option<u32>, direction: Direction) -> Failure {
    let reason = match number {
        Some(43) => Reason::of_purpose(direction),
        Some(44) => Reason::Revoked,
        Some(45) => Reason::Expired,
        Some(48) => Reason::UnknownCa,
        Some(51) => Reason::BadSignature,
        Some(70 | 86) => Reason::ProtocolVersion,
        Some(40 | 71) => Reason::NoSharedCipher,
        Some(112) => Reason::UnrecognizedName,
        Some(116) => Reason::NoCertificate,
        Some(120) => Reason::NoApplicationProtocol,
        Some(42 | 46 | 49) => Reason::VerifyFailed,
        _ => Reason::Other,
    };
    let layer = matches!(
        reason,
        Reason::ClientAuthMissing | Reason::ServerAuthMissing
    )
    .then_some(Layer::Workload);
    Failure::new(reason, layer)
}

/// One that is in no table.
pub(super) fn unknown() -> Failure {
    Failure {
        holder: Holder::None,
        ..Failure::new(Reason::RejectedByPeer, None)
    }
}

impl Alert {
    fn received(&self) -> Failure {
        Failure {
            reason: self.reason,
            layer: None,
            holder: self.holder,
            hint: Cow::Borrowed(self.hint.unwrap_or(self.reason.hint())),
        }
    }
}
