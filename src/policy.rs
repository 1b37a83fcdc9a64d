//! Judgement: facts and a time become findings and a status. No clock, no host, no input or output.

use crate::certificate::{Certificate, KeyAlgorithm, SignatureDigest, spiffe::Svid};
use crate::chain::{Layer, Member};
use crate::config::Thresholds;
use crate::time::UnixTime;

/// On which side of this proxy the peer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// The peer is a client that connected to this proxy (Envoy: downstream).
    Inbound,
    /// The peer is a server this proxy connected to (Envoy: upstream).
    Outbound,
}

impl Direction {
    /// Both directions.
    pub const ALL: [Direction; 2] = [Direction::Inbound, Direction::Outbound];

    /// The label value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        }
    }
}

/// What is wrong, or soon will be, with one certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Finding {
    /// After not-after.
    Expired,
    /// Less time left than the layer's critical threshold.
    ExpiresCritical,
    /// Less time left than the layer's warning threshold.
    ExpiresWarning,
    /// Before not-before.
    NotYetValid,
    /// An extended key usage extension without clientAuth where a client must have it.
    ClientAuthMissing,
    /// An extended key usage extension without serverAuth where a server must have it.
    ServerAuthMissing,
    /// A leaf without the extended key usage extension: Envoy accepts it for any use.
    ExtendedKeyUsageAbsent,
    /// A leaf whose key usage lacks digitalSignature.
    DigitalSignatureMissing,
    /// A CA whose key usage lacks keyCertSign.
    CertSignMissing,
    /// A leaf with cA true.
    LeafIsCa,
    /// A CA without cA true.
    CaFlagMissing,
    /// A `spiffe:` URI SAN, but not a valid X.509-SVID leaf.
    SpiffeIdInvalid,
    /// Valid for longer than the certificate of the CA that signed it.
    OutlivesIssuer,
    /// RSA below 2048 bits, EC below 256.
    WeakKey,
    /// Signed with MD2, MD5 or SHA-1.
    WeakSignature,
    /// Not a readable certificate.
    Unreadable,
}

impl Finding {
    /// All findings, in the order of the reference.
    pub const ALL: [Finding; 16] = [
        Finding::Expired,
        Finding::ExpiresCritical,
        Finding::ExpiresWarning,
        Finding::NotYetValid,
        Finding::ClientAuthMissing,
        Finding::ServerAuthMissing,
        Finding::ExtendedKeyUsageAbsent,
        Finding::DigitalSignatureMissing,
        Finding::CertSignMissing,
        Finding::LeafIsCa,
        Finding::CaFlagMissing,
        Finding::SpiffeIdInvalid,
        Finding::OutlivesIssuer,
        Finding::WeakKey,
        Finding::WeakSignature,
        Finding::Unreadable,
    ];

    /// The label value, and the word in `deny`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::ExpiresCritical => "expires_critical",
            Self::ExpiresWarning => "expires_warning",
            Self::NotYetValid => "not_yet_valid",
            Self::ClientAuthMissing => "client_auth_missing",
            Self::ServerAuthMissing => "server_auth_missing",
            Self::ExtendedKeyUsageAbsent => "extended_key_usage_absent",
            Self::DigitalSignatureMissing => "digital_signature_missing",
            Self::CertSignMissing => "cert_sign_missing",
            Self::LeafIsCa => "leaf_is_ca",
            Self::CaFlagMissing => "ca_flag_missing",
            Self::SpiffeIdInvalid => "spiffe_id_invalid",
            Self::OutlivesIssuer => "outlives_issuer",
            Self::WeakKey => "weak_key",
            Self::WeakSignature => "weak_signature",
            Self::Unreadable => "unreadable",
        }
    }

    /// The finding of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Finding> {
        Self::ALL
            .into_iter()
            .find(|finding| finding.as_str() == name)
    }

    /// What the finding makes of the peer's status.
    #[must_use]
    pub const fn status(self) -> Status {
        match self {
            Self::Expired => Status::Expired,
            Self::NotYetValid => Status::NotYetValid,
            Self::ExpiresCritical
            | Self::ClientAuthMissing
            | Self::ServerAuthMissing
            | Self::DigitalSignatureMissing
            | Self::LeafIsCa
            | Self::CaFlagMissing
            | Self::CertSignMissing
            | Self::SpiffeIdInvalid => Status::Critical,
            Self::ExpiresWarning
            | Self::OutlivesIssuer
            | Self::WeakKey
            | Self::WeakSignature
            | Self::Unreadable => Status::Warning,
            Self::ExtendedKeyUsageAbsent => Status::Ok,
        }
    }

    /// What to change, in one sentence.
    #[must_use]
    pub const fn hint(self) -> &'static str {
        match self {
            Self::Expired => "renew the certificate and find out why its rotation did not run",
            Self::ExpiresCritical => "renew now: the usual time of rotation has passed",
            Self::ExpiresWarning => {
                "check that rotation runs: the certificate should be new by now"
            }
            Self::NotYetValid => "compare the clocks of issuer and proxy, or wait for not_before",
            Self::ClientAuthMissing => "add clientAuth to extendedKeyUsage",
            Self::ServerAuthMissing => "add serverAuth to extendedKeyUsage",
            Self::ExtendedKeyUsageAbsent => {
                "add extendedKeyUsage with clientAuth and serverAuth; Envoy accepts its absence, others may not"
            }
            Self::DigitalSignatureMissing => "add digitalSignature to keyUsage",
            Self::CertSignMissing => "reissue the CA with keyCertSign in keyUsage",
            Self::LeafIsCa => {
                "reissue the leaf with cA false: whoever holds its key can sign certificates"
            }
            Self::CaFlagMissing => "reissue the CA with cA true in basicConstraints",
            Self::SpiffeIdInvalid => {
                "give the leaf exactly one valid spiffe://trust-domain/path URI SAN and cA false"
            }
            Self::OutlivesIssuer => {
                "rotate the CA before its not_after, or issue shorter certificates"
            }
            Self::WeakKey => "use EC P-256, or RSA of 2048 bits or more",
            Self::WeakSignature => "sign with SHA-256 or better",
            Self::Unreadable => "check the certificate with openssl x509 -text",
        }
    }

    #[expect(clippy::as_conversions, reason = "one bit for each of 16 findings")]
    const fn bit(self) -> u16 {
        1 << (self as u8)
    }
}

/// How a peer stands at a moment, from best to worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Status {
    /// Nothing found that needs anyone.
    Ok,
    /// Something to mend in time.
    Warning,
    /// mTLS is about to break, or breaks with stricter peers.
    Critical,
    /// Not valid before a time that has not come.
    NotYetValid,
    /// Past its end.
    Expired,
    /// The peer has a certificate that could not be read.
    Unreadable,
    /// The peer has shown no certificate.
    NoCertificate,
    /// The peer's identity is known from Istio's HBONE tunnel only, its certificate is not.
    Hbone,
}

impl Status {
    /// All values.
    pub const ALL: [Status; 8] = [
        Status::Ok,
        Status::Warning,
        Status::Critical,
        Status::NotYetValid,
        Status::Expired,
        Status::Unreadable,
        Status::NoCertificate,
        Status::Hbone,
    ];

    /// The label value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Critical => "critical",
            Self::NotYetValid => "not_yet_valid",
            Self::Expired => "expired",
            Self::Unreadable => "unreadable",
            Self::NoCertificate => "no_certificate",
            Self::Hbone => "hbone",
        }
    }
}

/// A set of findings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Findings(u16);

impl Findings {
    /// No finding.
    pub const NONE: Findings = Findings(0);

    /// This set and `finding`.
    #[must_use]
    pub const fn with(self, finding: Finding) -> Findings {
        Findings(self.0 | finding.bit())
    }

    /// This set, and `finding` if `found`.
    #[must_use]
    const fn with_if(self, finding: Finding, found: bool) -> Findings {
        if found { self.with(finding) } else { self }
    }

    /// All of both.
    #[must_use]
    pub const fn union(self, other: Findings) -> Findings {
        Findings(self.0 | other.0)
    }

    /// What is in this set and not in `other`.
    #[must_use]
    pub const fn without(self, other: Findings) -> Findings {
        Findings(self.0 & !other.0)
    }

    /// Whether the sets share a finding.
    #[must_use]
    pub const fn intersects(self, other: Findings) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether `finding` is in the set.
    #[must_use]
    pub const fn contains(self, finding: Finding) -> bool {
        self.0 & finding.bit() != 0
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The findings, in the order of [`Finding::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Finding> {
        Finding::ALL
            .into_iter()
            .filter(move |finding| self.contains(*finding))
    }

    /// The worst that any of the findings makes of the status.
    #[must_use]
    pub fn status(self) -> Status {
        self.iter().map(Finding::status).max().unwrap_or(Status::Ok)
    }
}

impl FromIterator<Finding> for Findings {
    fn from_iter<I: IntoIterator<Item = Finding>>(findings: I) -> Self {
        findings.into_iter().fold(Self::NONE, Findings::with)
    }
}

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
