//! What can be wrong with a certificate.

use enumset::{EnumSet, EnumSetType};
use strum::{IntoStaticStr, VariantArray};

/// What is wrong, or soon will be, with one certificate.
#[derive(Debug, EnumSetType, Hash, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
#[enumset(repr = "u64")]
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
    /// A `spiffe:` URI SAN, but not a valid X.509-SVID leaf (X509-SVID, sections 2 to 4).
    SpiffeIdInvalid,
    /// Valid for longer than the certificate of the CA that signed it.
    OutlivesIssuer,
    /// RSA below 2048 bits, EC below 256.
    WeakKey,
    /// Signed with MD2, MD5 or SHA-1. Of a self-signed root it does not matter: nobody verifies it.
    WeakSignature,
    /// Not a readable certificate.
    Unreadable,
    /// Not-after comes before not-before: it is never valid.
    ValidityReversed,
    /// A leaf that is valid for more than two years from its not-before.
    ValidityTooLong,
    /// The issuer's name is one that a tool proposes, such as `Internet Widgits Pty Ltd`.
    DefaultIssuer,
    /// A leaf that no CA has signed.
    SelfSignedLeaf,
    /// A leaf without subject alternative names.
    SubjectAltNameMissing,
    /// X.509 version 1, which has no extensions. Of a root it does not matter.
    #[strum(serialize = "version_1")]
    Version1,
    /// A client's leaf with a wildcard in a DNS SAN.
    WildcardClient,
    /// An extension marked critical that BoringSSL does not know, so that it refuses the certificate.
    CriticalExtensionUnknown,
    /// A leaf that may also sign code, OCSP responses, certificates or revocation lists.
    UsageExcessive,
    /// A client's leaf that comes from more addresses than configured.
    CertificateShared,
    /// A peer at another address presents the leaf of this proxy.
    OwnCertificatePresented,
    /// A leaf whose issuer has given its serial number to another key, too.
    SerialReused,
    /// A client whose leaf has ended, let in by a TLS session that was resumed: Envoy has not verified it again.
    SessionUnverified,
    /// An open connection whose leaf the same workload has since replaced.
    ConnectionOutlivesCertificate,
    /// Envoy serves an older leaf than its secret has: certificate and key do not match, or it cannot be loaded.
    RotationRejected,
    /// A secret that nobody has supplied yet: its listeners and clusters wait for it.
    SecretWarming,
    /// A revocation list of the trust bundle that is about to reach its next update, or is past it.
    CrlExpiring,
    /// A certificate of this proxy that is on a revocation list of its own trust bundle.
    RevokedOwn,
}

impl Finding {
    /// All values.
    pub const ALL: &'static [Self] = Self::VARIANTS;

    /// The label value, and the word in `deny`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// The finding of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Finding> {
        Self::ALL
            .iter()
            .copied()
            .find(|finding| finding.as_str() == name)
    }

    /// What to change, in one sentence.
    #[must_use]
    pub const fn hint(self) -> &'static str {
        match self {
            Self::Expired => "renew the certificate and find out why its rotation did not run",
            Self::ExpiresCritical => "renew now: the usual time of rotation has passed",
            Self::ExpiresWarning => {
                "check that rotation works: the certificate should have been renewed by now"
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
                "give the leaf exactly one valid spiffe://trust-domain/path URI SAN, cA false, and a critical keyUsage without keyCertSign and cRLSign"
            }
            Self::OutlivesIssuer => {
                "rotate the CA before it expires, or issue certificates with a shorter lifetime"
            }
            Self::WeakKey => "use EC P-256, or RSA of 2048 bits or more",
            Self::WeakSignature => "sign with SHA-256 or better",
            Self::ConnectionOutlivesCertificate => {
                "nothing to renew: the workload has a newer certificate, and this connection keeps its first; limit the age of connections if that matters"
            }
            Self::Unreadable => "check the certificate with openssl x509 -text",
            Self::ValidityReversed => {
                "reissue it with not_after behind not_before: it is never valid"
            }
            Self::ValidityTooLong => {
                "issue leaves for two years at most, better for days, and renew them automatically"
            }
            Self::DefaultIssuer => {
                "issue from a CA of your own: this issuer's name is the default of a tool, and others have made CAs of that name"
            }
            Self::SelfSignedLeaf => {
                "issue the leaf from a CA: a self-signed one can be replaced only by changing every trust bundle"
            }
            Self::SubjectAltNameMissing => {
                "add the peer's name as subjectAltName; names in the subject are not compared"
            }
            Self::Version1 => "reissue it as X.509 version 3: version 1 has no usages and no names",
            Self::WildcardClient => {
                "give each client a name of its own: any host that has this key passes for all of them"
            }
            Self::CriticalExtensionUnknown => {
                "reissue it without the critical extension, or not marked critical: Envoy refuses it (openssl x509 -text shows which)"
            }
            Self::UsageExcessive => {
                "reissue the leaf without codeSigning, OCSPSigning, keyCertSign and cRLSign"
            }
            Self::CertificateShared => {
                "give each workload a key of its own: whoever has this one passes for all of them"
            }
            Self::OwnCertificatePresented => {
                "find out who else has the key of this proxy, and reissue it if nobody should"
            }
            Self::SerialReused => {
                "have the CA draw serial numbers at random: whoever revokes one certificate revokes all of that number"
            }
            Self::SessionUnverified => {
                "renew the client's certificate; Envoy resumes its TLS sessions without another look: disable_stateless_session_resumption stops that"
            }
            Self::RotationRejected => {
                "compare certificate and key of the secret: Envoy refused it and serves the one before"
            }
            Self::SecretWarming => {
                "find out why the control plane does not supply the secret: listeners and clusters wait for it"
            }
            Self::CrlExpiring => {
                "publish a new CRL: past its nextUpdate Envoy refuses every peer under its CA"
            }
            Self::RevokedOwn => {
                "issue a new certificate, or correct the CRL: whoever has this list refuses the certificate"
            }
        }
    }
}

/// A set of findings, iterated in the order of [`Finding::ALL`].
pub type Findings = EnumSet<Finding>;

/// Those of the findings that were found.
pub fn found<const N: usize>(checked: [(Finding, bool); N]) -> Findings {
    let found = checked.into_iter().filter(|(_, found)| *found);
    found.map(|(finding, _)| finding).collect()
}
