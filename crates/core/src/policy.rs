//! Judgement: facts and a time become findings and a status. No clock, no host, no input or output.

use mtls_watch_x509::chain::{Layer, Member};
use mtls_watch_x509::spiffe::Svid;
use mtls_watch_x509::time::{Seconds, UnixTime};
use mtls_watch_x509::{Certificate, KeyAlgorithm, SignatureDigest};

use crate::terms::{Direction, Finding, Findings, Thresholds, found};
use crate::usage::RequiredUsages;

/// A certificate judged once: what never changes, and the moments at which the rest does. Asking
/// again at a later time costs a few comparisons.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judgement {
    lasting: Findings,
    not_before: UnixTime,
    warning_from: UnixTime,
    critical_from: UnixTime,
    not_after: UnixTime,
}

impl Judgement {
    /// The findings at a moment. A clock that was never read ([`UnixTime::default`]) finds nothing.
    #[must_use]
    pub fn at(&self, now: UnixTime) -> Findings {
        let by_time = if now == UnixTime::default() {
            None
        } else if now > self.not_after {
            Some(Finding::Expired)
        } else if now < self.not_before {
            Some(Finding::NotYetValid)
        } else if now > self.critical_from {
            Some(Finding::ExpiresCritical)
        } else if now > self.warning_from {
            Some(Finding::ExpiresWarning)
        } else {
            None
        };
        by_time.map_or(self.lasting, |finding| self.lasting | finding)
    }

    /// The judgement by dates alone, where nothing else is known.
    #[must_use]
    pub fn of_validity(
        not_before: UnixTime,
        not_after: UnixTime,
        layer: Layer,
        thresholds: &Thresholds,
    ) -> Self {
        let lifetime = not_after.since(not_before).max(Seconds::ZERO);
        let (warning, critical) = thresholds.of(layer).of_lifetime(lifetime);
        Self {
            lasting: Findings::empty(),
            not_before,
            warning_from: not_after.minus(warning),
            critical_from: not_after.minus(critical),
            not_after,
        }
    }

    /// The first moment after `now` at which the findings differ, or [`UnixTime::NEVER`].
    #[must_use]
    pub fn next_change(&self, now: UnixTime) -> UnixTime {
        [
            self.not_before,
            self.warning_from.plus(Seconds::ONE),
            self.critical_from.plus(Seconds::ONE),
            self.not_after.plus(Seconds::ONE),
        ]
        .into_iter()
        .filter(|moment| *moment > now)
        .min()
        .unwrap_or(UnixTime::NEVER)
    }
}

/// Judges every certificate of a chain whose first is the leaf, for a peer on that side.
#[must_use]
pub fn judge(chain: &[Member], direction: Direction, thresholds: &Thresholds) -> Vec<Judgement> {
    let required = |leaf: &Certificate| Some(RequiredUsages::of_peer(leaf, direction));
    judge_for(chain, required, thresholds)
}

/// Judges this proxy's own chain, whose first is the leaf, or the CAs of its bundle.
#[must_use]
pub fn judge_own(chain: &[Member], thresholds: &Thresholds) -> Vec<Judgement> {
    judge_for(chain, RequiredUsages::of_own, thresholds)
}

fn judge_for(
    chain: &[Member],
    required: impl FnOnce(&Certificate) -> Option<RequiredUsages>,
    thresholds: &Thresholds,
) -> Vec<Judgement> {
    let Some(leaf) = chain.first() else {
        return Vec::new();
    };
    let required = required(&leaf.certificate);
    let judged = chain.iter().map(|member| {
        let issuer = member.issuer.and_then(|index| chain.get(index));
        let lasting = usage_findings(member, required)
            | own_findings(member)
            | strength_findings(member)
            | issuer_findings(&member.certificate, issuer);
        let certificate = &member.certificate;
        let (not_before, not_after) = (certificate.not_before, certificate.not_after);
        Judgement {
            lasting,
            ..Judgement::of_validity(not_before, not_after, member.layer, thresholds)
        }
    });
    judged.collect()
}

/// `required`: `None` where the use is not known.
fn usage_findings(member: &Member, required: Option<RequiredUsages>) -> Findings {
    match (member.certificate.extended_key_usage, required) {
        (Some(usage), Some(required)) => required.missing(usage),
        (Some(_), None) => Findings::empty(),
        (None, _) => found([(
            Finding::ExtendedKeyUsageAbsent,
            member.layer == Layer::Workload,
        )]),
    }
}

/// What the certificate's place in the hierarchy asks of it.
fn own_findings(member: &Member) -> Findings {
    match member.layer {
        Layer::Workload => leaf_findings(&member.certificate),
        Layer::IssuingCa | Layer::IntermediateCa | Layer::RootCa => {
            ca_findings(&member.certificate)
        }
    }
}

fn leaf_findings(leaf: &Certificate) -> Findings {
    let may_sign = leaf.key_usage.is_none_or(|usage| usage.digital_signature);
    let invalid_id = matches!(leaf.spiffe, Svid::Invalid(_));
    found([
        (Finding::DigitalSignatureMissing, !may_sign),
        (Finding::LeafIsCa, leaf.is_ca),
        (Finding::SpiffeIdInvalid, invalid_id),
    ])
}

fn ca_findings(ca: &Certificate) -> Findings {
    let may_sign = ca.key_usage.is_none_or(|usage| usage.cert_sign);
    // A version 1 certificate cannot carry the flag; BoringSSL takes a self-issued one for a CA.
    let old_root = ca.version == 1 && ca.is_self_issued();
    found([
        (Finding::CertSignMissing, !may_sign),
        (Finding::CaFlagMissing, !ca.is_ca && !old_root),
    ])
}

fn issuer_findings(certificate: &Certificate, issuer: Option<&Member>) -> Findings {
    let outlives =
        issuer.is_some_and(|issuer| certificate.not_after > issuer.certificate.not_after);
    found([(Finding::OutlivesIssuer, outlives)])
}

/// Smallest key sizes by NIST SP 800-131A and the CA/Browser baseline requirements, 6.1.5.
fn strength_findings(member: &Member) -> Findings {
    let certificate = &member.certificate;
    let key = certificate.public_key;
    let weak_key = match key.algorithm {
        KeyAlgorithm::Rsa => key.bits < 2048,
        KeyAlgorithm::Ec => key.bits < 256,
        KeyAlgorithm::Ed25519 | KeyAlgorithm::Ed448 | KeyAlgorithm::Dsa | KeyAlgorithm::Other => {
            false
        }
    };
    // Nobody verifies a root's signature over itself.
    let is_verified = member.layer != Layer::RootCa;
    let weak_signature = is_verified && certificate.signature_digest != SignatureDigest::Other;
    found([
        (Finding::WeakKey, weak_key),
        (Finding::WeakSignature, weak_signature),
    ])
}
