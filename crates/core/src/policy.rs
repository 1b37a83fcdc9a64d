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
    accepted: Findings,
    not_before: UnixTime,
    warning_from: UnixTime,
    critical_from: UnixTime,
    not_after: UnixTime,
}

impl Judgement {
    /// The same, but these findings are accepted.
    #[must_use]
    pub fn accepting(self, accepted: Findings) -> Self {
        Self { accepted, ..self }
    }

    /// The findings that are accepted, should it have them.
    #[must_use]
    pub fn accepted(&self) -> Findings {
        self.accepted
    }

    /// The findings at a moment, without those that are accepted.
    #[must_use]
    pub fn at(&self, now: UnixTime) -> Findings {
        self.all_at(now).difference(self.accepted)
    }

    /// The findings at a moment. A clock that was never read ([`UnixTime::default`]) finds nothing.
    #[must_use]
    pub fn all_at(&self, now: UnixTime) -> Findings {
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
            accepted: Findings::empty(),
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
    let mut judged = judge_for(chain, required, thresholds);
    if let (Direction::Inbound, Some(leaf), Some(judgement)) =
        (direction, chain.first(), judged.first_mut())
    {
        judgement.lasting |= client_findings(&leaf.certificate);
    }
    judged
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
        let certificate = &member.certificate;
        let lasting = usage_findings(member, required)
            | own_findings(member)
            | strength_findings(member)
            | issuer_findings(certificate, issuer)
            | form_findings(member);
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
    let lifetime = leaf.not_after.since(leaf.not_before);
    found([
        (Finding::DigitalSignatureMissing, !may_sign),
        (Finding::LeafIsCa, leaf.is_ca),
        (Finding::SpiffeIdInvalid, invalid_id),
        (Finding::ValidityTooLong, lifetime > LONGEST_LIFETIME),
        (Finding::SelfSignedLeaf, leaf.is_self_signed()),
        (Finding::SubjectAltNameMissing, !leaf.has_alt_names),
        (Finding::UsageExcessive, is_for_more(leaf)),
    ])
}

/// Two years, of which each may be a leap year where the CA counts in days.
const LONGEST_LIFETIME: Seconds = Seconds::DAY.times(2 * 366);

/// Whether nothing comes of it that a leaf's serial number is another one's, too: it ends before it would be revoked
/// (short-lived, as the Baseline Requirements of the CA/Browser Forum have it in section 1.6.1: seven days), and its
/// number may be a counter's. Linkerd's identity controllers count from 1, each for itself and anew after each start.
#[must_use]
pub(crate) fn may_share_its_number(leaf: &Certificate) -> bool {
    const SHORT_LIVED: Seconds = Seconds::DAY.times(7);
    const COUNTED: usize = 4;
    let lifetime = leaf.not_after.since(leaf.not_before);
    lifetime <= SHORT_LIVED && leaf.serial.len() <= COUNTED
}

/// Whether a leaf may be used for what takes a certificate of its own. (cA is a finding of its own.)
fn is_for_more(leaf: &Certificate) -> bool {
    let usage = leaf.key_usage.unwrap_or_default();
    let extended = leaf.extended_key_usage.unwrap_or_default();
    usage.cert_sign || usage.crl_sign || extended.code_signing || extended.ocsp_signing
}

fn client_findings(leaf: &Certificate) -> Findings {
    found([(Finding::WildcardClient, leaf.has_wildcard)])
}

/// What is wrong whatever the certificate is for.
fn form_findings(member: &Member) -> Findings {
    let certificate = &member.certificate;
    let reversed = certificate.not_after < certificate.not_before;
    let is_old = certificate.version == 1 && member.layer != Layer::RootCa;
    found([
        (Finding::ValidityReversed, reversed),
        (Finding::DefaultIssuer, certificate.has_default_issuer),
        (Finding::Version1, is_old),
        (
            Finding::CriticalExtensionUnknown,
            certificate.has_unknown_critical_extension,
        ),
    ])
}

fn ca_findings(ca: &Certificate) -> Findings {
    let may_sign = ca.key_usage.is_none_or(|usage| usage.cert_sign);
    found([
        (Finding::CertSignMissing, !may_sign),
        (Finding::CaFlagMissing, !ca.is_ca && !ca.is_old_root()),
    ])
}

fn issuer_findings(certificate: &Certificate, issuer: Option<&Member>) -> Findings {
    let not_after = certificate.not_after;
    let is_longer = |issuer: &Member| not_after > issuer.certificate.not_after;
    let outlives = not_after != UnixTime::NO_EXPIRY && issuer.is_some_and(is_longer);
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
    let is_verified = member.layer != Layer::RootCa || !certificate.is_self_signed();
    let weak_signature = is_verified && certificate.signature_digest != SignatureDigest::Other;
    found([
        (Finding::WeakKey, weak_key),
        (Finding::WeakSignature, weak_signature),
    ])
}
