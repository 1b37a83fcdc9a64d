//! Judgement: facts and a time become findings and a status. No clock, no host, no input or output.

use mtls_watch_x509::chain::{Layer, Member};
use mtls_watch_x509::spiffe::Svid;
use mtls_watch_x509::time::UnixTime;
use mtls_watch_x509::{Certificate, KeyAlgorithm, SignatureDigest};

use crate::terms::{Direction, Finding, Findings, Thresholds};

/// Which extended key usages a certificate must allow if it has the extension at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct RequiredUsages {
    client_auth: bool,
    server_auth: bool,
}

impl RequiredUsages {
    /// A client needs clientAuth, a server serverAuth; a mesh workload is both (X509-SVID, section
    /// 4.4: an extended key usage extension must have both).
    fn of(leaf: &Certificate, direction: Direction) -> Self {
        let workload = leaf.spiffe != Svid::No;
        Self {
            client_auth: workload || direction == Direction::Inbound,
            server_auth: workload || direction == Direction::Outbound,
        }
    }
}

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
        by_time.map_or(self.lasting, |finding| self.lasting.with(finding))
    }

    /// The judgement by dates alone, where nothing else is known.
    #[must_use]
    pub fn of_validity(
        not_before: UnixTime,
        not_after: UnixTime,
        layer: Layer,
        thresholds: &Thresholds,
    ) -> Self {
        let lifetime = not_after.since(not_before).max(0);
        let (warning, critical) = thresholds.of(layer).seconds(lifetime);
        Self {
            lasting: Findings::NONE,
            not_before,
            warning_from: not_after.minus(warning),
            critical_from: not_after.minus(critical),
            not_after,
        }
    }

    /// This judgement of a certificate, without the lasting findings that `other` of the same
    /// certificate lacks.
    #[must_use]
    pub fn common(self, other: &Judgement) -> Self {
        let extra = self.lasting.without(other.lasting);
        Self {
            lasting: self.lasting.without(extra),
            ..self
        }
    }

    /// The first moment after `now` at which the findings differ, or [`UnixTime::NEVER`].
    #[must_use]
    pub fn next_change(&self, now: UnixTime) -> UnixTime {
        [
            self.not_before,
            self.warning_from.plus(1),
            self.critical_from.plus(1),
            self.not_after.plus(1),
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
    let Some(leaf) = chain.first() else {
        return Vec::new();
    };
    let required = RequiredUsages::of(&leaf.certificate, direction);
    chain
        .iter()
        .map(|member| {
            let issuer = member.issuer.and_then(|index| chain.get(index));
            let issuer_not_after = issuer.map(|issuer| issuer.certificate.not_after);
            judge_one(member, required, issuer_not_after, thresholds)
        })
        .collect()
}

fn judge_one(
    member: &Member,
    required: RequiredUsages,
    issuer_not_after: Option<UnixTime>,
    thresholds: &Thresholds,
) -> Judgement {
    let certificate = &member.certificate;
    let outlives = issuer_not_after.is_some_and(|end| certificate.not_after > end);
    let lasting = usage_findings(member, required)
        .union(strength_findings(member))
        .union(match member.layer {
            Layer::Workload => leaf_findings(certificate),
            _ => ca_findings(certificate),
        })
        .with_if(Finding::OutlivesIssuer, outlives);
    Judgement {
        lasting,
        ..Judgement::of_validity(
            certificate.not_before,
            certificate.not_after,
            member.layer,
            thresholds,
        )
    }
}

/// Extended key usage as BoringSSL judges it (crypto/x509/v3_purp.cc): anyExtendedKeyUsage does not
/// stand for clientAuth or serverAuth; no extension restricts nothing.
fn usage_findings(member: &Member, required: RequiredUsages) -> Findings {
    match member.certificate.extended_key_usage {
        Some(usage) => Findings::NONE
            .with_if(
                Finding::ClientAuthMissing,
                required.client_auth && !usage.client_auth,
            )
            .with_if(
                Finding::ServerAuthMissing,
                required.server_auth && !usage.server_auth,
            ),
        None => Findings::NONE.with_if(
            Finding::ExtendedKeyUsageAbsent,
            member.layer == Layer::Workload,
        ),
    }
}

fn leaf_findings(leaf: &Certificate) -> Findings {
    let may_sign = leaf.key_usage.is_none_or(|usage| usage.digital_signature);
    Findings::NONE
        .with_if(Finding::DigitalSignatureMissing, !may_sign)
        .with_if(Finding::LeafIsCa, leaf.is_ca)
        .with_if(
            Finding::SpiffeIdInvalid,
            matches!(leaf.spiffe, Svid::Invalid(_)),
        )
}

fn ca_findings(ca: &Certificate) -> Findings {
    let may_sign = ca.key_usage.is_none_or(|usage| usage.cert_sign);
    // A version 1 certificate cannot carry the flag; BoringSSL takes a self-issued one for a CA.
    let old_root = ca.version == 1 && ca.is_self_issued();
    Findings::NONE
        .with_if(Finding::CertSignMissing, !may_sign)
        .with_if(Finding::CaFlagMissing, !ca.is_ca && !old_root)
}

/// Smallest key sizes by NIST SP 800-131A and the CA/Browser baseline requirements, 6.1.5.
fn strength_findings(member: &Member) -> Findings {
    let key = member.certificate.public_key;
    let weak_key = match key.algorithm {
        KeyAlgorithm::Rsa => key.bits < 2048,
        KeyAlgorithm::Ec => key.bits < 256,
        _ => false,
    };
    let weak_signature = member.certificate.signature_digest != SignatureDigest::Other;
    Findings::NONE
        .with_if(Finding::WeakKey, weak_key)
        .with_if(Finding::WeakSignature, weak_signature)
}
