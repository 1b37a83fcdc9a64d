//! What the verification of a chain ends with: the texts of X509_verify_cert_error_string, which BoringSSL and
//! OpenSSL share, and what Envoy's validators add.

use std::borrow::Cow;

use super::words::same;
use super::{Failure, Holder, Reason};
use crate::terms::Direction;
use mtls_watch_x509::chain::Layer;

/// One result.
pub(super) struct Outcome {
    /// The words; of OpenSSL's, too, where they differ from BoringSSL's.
    texts: &'static [&'static str],
    /// `None`: a usage is missing, and the direction says which.
    reason: Option<Reason>,
    /// Where the reason's own is too general.
    hint: Option<&'static str>,
    holder: Option<Holder>,
    /// Where the depth does not tell.
    layer: Option<Layer>,
}

const fn outcome(texts: &'static [&'static str], reason: Reason) -> Outcome {
    Outcome {
        texts,
        reason: Some(reason),
        hint: None,
        holder: None,
        layer: None,
    }
}

const fn hinted(outcome: Outcome, hint: &'static str) -> Outcome {
    Outcome {
        hint: Some(hint),
        ..outcome
    }
}

/// One that is cured at this proxy.
const fn own(outcome: Outcome, hint: &'static str) -> Outcome {
    Outcome {
        holder: Some(Holder::Own),
        ..hinted(outcome, hint)
    }
}

const fn at(outcome: Outcome, layer: Layer) -> Outcome {
    Outcome {
        layer: Some(layer),
        ..outcome
    }
}

const OUTCOMES: &[Outcome] = &[
    outcome(&["certificate has expired"], Reason::Expired),
    outcome(&["certificate is not yet valid"], Reason::NotYetValid),
    outcome(
        &["unable to get local issuer certificate"],
        Reason::UnknownCa,
    ),
    outcome(&["unable to get issuer certificate"], Reason::UnknownCa),
    outcome(
        &["unable to verify the first certificate"],
        Reason::UnknownCa,
    ),
    at(
        outcome(
            &[
                "self signed certificate in certificate chain",
                "self-signed certificate in certificate chain",
            ],
            Reason::UnknownCa,
        ),
        Layer::RootCa,
    ),
    at(
        outcome(
            &["self signed certificate", "self-signed certificate"],
            Reason::SelfSigned,
        ),
        Layer::Workload,
    ),
    outcome(&["certificate not trusted"], Reason::UnknownCa),
    outcome(&["certificate rejected"], Reason::UnknownCa),
    hinted(
        outcome(
            &["authority and subject key identifier mismatch"],
            Reason::UnknownCa,
        ),
        "the CA of this name has another key than the one that signed: compare key identifiers, and send the CA that signed",
    ),
    hinted(
        outcome(&["subject issuer mismatch"], Reason::UnknownCa),
        "the chain does not fit together: send the CA whose subject is the leaf's issuer",
    ),
    outcome(&["certificate chain too long"], Reason::PathLength),
    outcome(&["path length constraint exceeded"], Reason::PathLength),
    hinted(
        outcome(&["invalid CA certificate"], Reason::KeyUsage),
        "the certificate that signed is no CA: reissue it with cA true and keyCertSign",
    ),
    hinted(
        outcome(
            &["invalid non-CA certificate (has CA markings)"],
            Reason::KeyUsage,
        ),
        "a CA certificate is used as a leaf: issue a leaf from it",
    ),
    hinted(
        outcome(
            &["key usage does not include certificate signing"],
            Reason::KeyUsage,
        ),
        "reissue the CA with keyCertSign in keyUsage",
    ),
    hinted(
        outcome(
            &["key usage does not include digital signature"],
            Reason::KeyUsage,
        ),
        "add digitalSignature to keyUsage",
    ),
    Outcome {
        reason: None,
        ..outcome(
            &[
                "unsupported certificate purpose",
                "unsuitable certificate purpose",
            ],
            Reason::Other,
        )
    },
    outcome(&["certificate signature failure"], Reason::BadSignature),
    outcome(
        &["unable to decrypt certificate's signature"],
        Reason::BadSignature,
    ),
    outcome(&["certificate revoked"], Reason::Revoked),
    own(
        outcome(&["CRL has expired"], Reason::Revoked),
        "publish a new CRL: the one that this proxy has is past its nextUpdate",
    ),
    own(
        outcome(&["CRL is not yet valid"], Reason::Revoked),
        "compare clocks: the CRL that this proxy has is not valid yet",
    ),
    own(
        outcome(
            &[
                "unable to get certificate CRL",
                "unable to get CRL issuer certificate",
            ],
            Reason::Revoked,
        ),
        "give Envoy a CRL for every CA of the chain, or none at all",
    ),
    own(
        outcome(&["CRL signature failure"], Reason::Revoked),
        "the CRL that this proxy has is not of the CA whose name it has: replace it",
    ),
    outcome(&["unhandled critical extension"], Reason::CriticalExtension),
    own(
        outcome(&["unhandled critical CRL extension"], Reason::Revoked),
        "publish a CRL without that extension",
    ),
    hinted(
        outcome(
            &["invalid or inconsistent certificate extension"],
            Reason::MalformedCertificate,
        ),
        "an extension contradicts another: most often pathLenConstraint without cA, or keyCertSign without cA; reissue the certificate",
    ),
    hinted(
        outcome(
            &[
                "format error in certificate's notBefore field",
                "format error in certificate's notAfter field",
            ],
            Reason::MalformedCertificate,
        ),
        "a date of the certificate is not a date of RFC 5280: reissue the certificate",
    ),
    outcome(
        &["unable to decode issuer public key"],
        Reason::MalformedCertificate,
    ),
    hinted(
        outcome(
            &["permitted subtree violation", "excluded subtree violation"],
            Reason::NameMismatch,
        ),
        "a CA of the chain may not issue for this name (nameConstraints): issue from another CA",
    ),
    hinted(
        outcome(
            &[
                "name constraints minimum and maximum not supported",
                "unsupported name constraint type",
                "unsupported or invalid name constraint syntax",
                "unsupported or invalid name syntax",
            ],
            Reason::NameMismatch,
        ),
        "nameConstraints of a CA, or a name that they are about, is of a kind that the verifier does not know: reissue the CA",
    ),
    at(
        outcome(
            &[
                "hostname mismatch",
                "IP address mismatch",
                "email address mismatch",
            ],
            Reason::NameMismatch,
        ),
        Layer::Workload,
    ),
    // Envoy's own.
    at(
        outcome(
            &[
                "SAN matcher",
                "SAN match",
                "verify SAN list",
                "URI SAN peer identity mismatches",
            ],
            Reason::NameMismatch,
        ),
        Layer::Workload,
    ),
    at(
        hinted(
            outcome(&["cert hash and spki"], Reason::NameMismatch),
            "the certificate is not the one pinned in verify_certificate_hash or verify_certificate_spki: update the pin",
        ),
        Layer::Workload,
    ),
    at(
        outcome(&["no trust bundle store"], Reason::TrustDomainUnknown),
        Layer::Workload,
    ),
    at(
        hinted(
            outcome(&["cert precheck"], Reason::KeyUsage),
            "Envoy's SPIFFE validator takes a leaf with cA false, without keyCertSign and cRLSign, and with a spiffe:// URI only: reissue the leaf",
        ),
        Layer::Workload,
    ),
    outcome(
        &["empty cert chain", "no cert chain"],
        Reason::NoCertificate,
    ),
    at(
        outcome(&["DER encoding error"], Reason::MalformedCertificate),
        Layer::Workload,
    ),
];

/// The outcome of these words.
pub(super) fn by_text(text: &str) -> Option<&'static Outcome> {
    OUTCOMES
        .iter()
        .find(|outcome| outcome.texts.iter().any(|words| same(text, words)))
}

/// The outcome that begins a text: its words, and what follows them.
pub(super) fn at_start<'a>(
    text: &'a str,
    strip: impl Fn(&'a str, &str) -> Option<&'a str>,
) -> Option<(&'static Outcome, &'a str)> {
    OUTCOMES.iter().find_map(|outcome| {
        let mut rest = outcome.texts.iter().filter_map(|words| strip(text, words));
        Some((outcome, rest.next()?))
    })
}

impl Outcome {
    /// A failure of the certificate with that layer, as far as it is known.
    pub(super) fn failure(&self, layer: Option<Layer>, direction: Direction) -> Failure {
        let reason = self.reason.unwrap_or(Reason::of_purpose(direction));
        let layer = match self.layer {
            // A self-signed CA is the root wherever it stands.
            Some(Layer::RootCa) => self.layer,
            _ => layer.or(self.layer),
        };
        Failure {
            reason,
            layer: layer.filter(|_| reason != Reason::NoCertificate),
            holder: self.holder.unwrap_or(reason.holder()),
            hint: Cow::Borrowed(self.hint.unwrap_or(reason.hint_towards(direction))),
        }
    }
}
