//! What can be wrong with a certificate.

use super::Status;

/// What is wrong, or soon will be, with one certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
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
    pub const fn with_if(self, finding: Finding, found: bool) -> Findings {
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
