//! What is reported of a peer as a whole. All rules that decide it stand here.

use strum::{IntoStaticStr, VariantArray};

use super::{Finding, Findings, Security};

/// What is reported of a peer as a whole at a moment, from best to worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
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
    /// The handshake was refused by either side: the request never got through.
    Refused,
}

impl Status {
    /// All values.
    pub const ALL: &'static [Self] = Self::VARIANTS;

    /// The label value.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// The status of a peer that showed a certificate: `leaf_readable` or not, and with the findings of its whole
    /// chain, of which the worst counts.
    #[must_use]
    pub fn of_certified(leaf_readable: bool, findings: Findings) -> Self {
        match leaf_readable {
            true => findings.iter().map(Self::of_finding).max(),
            false => Some(Self::Unreadable),
        }
        .unwrap_or(Self::Ok)
    }

    /// The status of a peer that showed no certificate.
    #[must_use]
    pub const fn of_anonymous(security: Security) -> Self {
        match security {
            Security::Hbone => Self::Hbone,
            Security::Mtls | Security::Tls | Security::Plaintext => Self::NoCertificate,
        }
    }

    /// What one finding makes of the status.
    #[must_use]
    pub const fn of_finding(finding: Finding) -> Self {
        match finding {
            Finding::Expired => Self::Expired,
            Finding::NotYetValid => Self::NotYetValid,
            Finding::ExpiresCritical
            | Finding::ClientAuthMissing
            | Finding::ServerAuthMissing
            | Finding::DigitalSignatureMissing
            | Finding::LeafIsCa
            | Finding::CaFlagMissing
            | Finding::CertSignMissing
            | Finding::SpiffeIdInvalid => Self::Critical,
            Finding::ExpiresWarning
            | Finding::OutlivesIssuer
            | Finding::WeakKey
            | Finding::WeakSignature
            | Finding::Unreadable
            | Finding::ValidityReversed
            | Finding::ValidityTooLong
            | Finding::DefaultIssuer
            | Finding::SelfSignedLeaf
            | Finding::SubjectAltNameMissing
            | Finding::Version1
            | Finding::WildcardClient
            | Finding::CriticalExtensionUnknown
            | Finding::UsageExcessive
            | Finding::CertificateShared
            | Finding::OwnCertificatePresented
            | Finding::SerialReused
            | Finding::SessionUnverified
            | Finding::RotationRejected
            | Finding::SecretWarming
            | Finding::CrlExpiring
            | Finding::RevokedOwn => Self::Warning,
            Finding::ExtendedKeyUsageAbsent | Finding::ConnectionOutlivesCertificate => Self::Ok,
        }
    }
}
