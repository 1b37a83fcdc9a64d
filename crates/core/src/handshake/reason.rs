//! The reasons of refused handshakes, and what is said of each.

use strum::{IntoStaticStr, VariantArray};

use super::Holder;
use crate::terms::Direction;

/// Why a handshake did not complete, in the order in which the causes are worth checking: expiry, chain,
/// name, usage, and what is not about certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
#[repr(u8)]
pub enum Reason {
    /// A certificate of the chain is past its not-after.
    Expired,
    /// A certificate of the chain is before its not-before.
    NotYetValid,
    /// The chain does not lead to a CA that is trusted here.
    UnknownCa,
    /// There is no trust bundle for the trust domain of the peer's SPIFFE ID.
    TrustDomainUnknown,
    /// The leaf is signed by itself.
    SelfSigned,
    /// A signature of the chain, or of the handshake, is wrong.
    BadSignature,
    /// The chain is longer than a CA of it allows.
    PathLength,
    /// A certificate has a critical extension that the verifier does not know.
    CriticalExtension,
    /// A certificate cannot be read, or contradicts itself.
    MalformedCertificate,
    /// A certificate is revoked, or its revocation could not be checked.
    Revoked,
    /// The certificate is not for the name (SAN, hash) that is expected here.
    NameMismatch,
    /// The extended key usage of the client's certificate (or of a CA above it) lacks clientAuth.
    ClientAuthMissing,
    /// The extended key usage of the server's certificate (or of a CA above it) lacks serverAuth.
    ServerAuthMissing,
    /// The key usage or the basic constraints forbid what the certificate is used for.
    KeyUsage,
    /// The peer showed no certificate where one is required.
    NoCertificate,
    /// The server requires a certificate, and this proxy has shown none.
    CertificateRequired,
    /// A secret, the own certificate or the trust bundle, was never supplied to this proxy.
    SecretMissing,
    /// Verification failed, and Envoy says no more (1.36).
    VerifyFailed,
    /// The other side refused: its alert, or the way it hung up, says so.
    RejectedByPeer,
    /// No TLS version in common.
    ProtocolVersion,
    /// No cipher suite, group or signature algorithm in common.
    NoSharedCipher,
    /// The server has nothing for the name that the client asks for (SNI).
    UnrecognizedName,
    /// No application protocol in common (ALPN).
    NoApplicationProtocol,
    /// What came is not TLS.
    NotTls,
    /// The connection was reset in the middle of the handshake.
    Reset,
    /// None of the others.
    Other,
}

impl Reason {
    /// All values.
    pub const ALL: &'static [Self] = Self::VARIANTS;

    /// The label value.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// What people see of it: the alert that the refused side gets, and Envoy's words. Recorded from
    /// Envoy 1.40.0.
    #[must_use]
    pub const fn symptom(self) -> &'static str {
        match self {
            Self::Expired => "alert `certificate_expired`; Envoy: `certificate has expired`",
            Self::NotYetValid => {
                "alert `certificate_expired`, as for `expired`; Envoy: `certificate is not yet valid`"
            }
            Self::ClientAuthMissing => {
                "alert `unsupported_certificate`, in TLS 1.3 often only `connection reset`; Envoy: `unsupported certificate purpose`"
            }
            Self::ServerAuthMissing => "503 `UF`; Envoy: `unsupported certificate purpose`",
            Self::UnknownCa => {
                "alert `unknown_ca`; Envoy: `unable to get local issuer certificate`; elsewhere `unknown authority`, `UnknownIssuer`"
            }
            Self::TrustDomainUnknown => {
                "alert `certificate_unknown`; Envoy's SPIFFE validator: `no trust bundle store`"
            }
            Self::SelfSigned => {
                "alert `unknown_ca`; Envoy: `unable to get local issuer certificate` at depth 0"
            }
            Self::BadSignature => "alert `decrypt_error`; Envoy: `certificate signature failure`",
            Self::CriticalExtension => {
                "alert `certificate_unknown`; Envoy: `unhandled critical extension`"
            }
            Self::MalformedCertificate => {
                "alert `decode_error`, `certificate_unknown`; Envoy: `DECODE_ERROR`, `invalid or inconsistent certificate extension`"
            }
            Self::Revoked => "alert `certificate_revoked`; Envoy: `certificate revoked`",
            Self::NameMismatch => {
                "alert `certificate_unknown`; Envoy: `SAN matcher, certificate SANs are [...]`"
            }
            Self::KeyUsage => {
                "alert `illegal_parameter`; Envoy: `KEY_USAGE_BIT_INCORRECT`, `invalid CA certificate`"
            }
            Self::PathLength => "alert `unknown_ca`; Envoy: `path length constraint exceeded`",
            Self::NoCertificate => {
                "alert `certificate_required` (TLS 1.3), `handshake_failure` (1.2); Envoy: `PEER_DID_NOT_RETURN_A_CERTIFICATE`"
            }
            Self::CertificateRequired => {
                "503 `UC`; alert `certificate_required` (TLS 1.3), often `handshake_failure` (TLS 1.2)"
            }
            Self::SecretMissing => "503 `UF`; Envoy: `Secret is not supplied by SDS`",
            Self::VerifyFailed => "Envoy 1.36: `CERTIFICATE_VERIFY_FAILED`, nothing more",
            Self::RejectedByPeer => {
                "503 `UC`, `connection termination` (TLS 1.3); Envoy: `..._ALERT_...` (TLS 1.2)"
            }
            Self::ProtocolVersion => "alert `protocol_version`; Envoy: `UNSUPPORTED_PROTOCOL`",
            Self::NoSharedCipher => "alert `handshake_failure`; Envoy: `NO_SHARED_CIPHER`",
            Self::UnrecognizedName => {
                "alert `unrecognized_name`; Envoy: `TLSV1_ALERT_UNRECOGNIZED_NAME`"
            }
            Self::NoApplicationProtocol => {
                "alert `no_application_protocol`; Envoy: `TLSV1_ALERT_NO_APPLICATION_PROTOCOL`"
            }
            Self::NotTls => "Envoy: `HTTP_REQUEST`, `WRONG_VERSION_NUMBER`",
            Self::Reset => "Envoy: `Connection reset by peer`",
            Self::Other => "Envoy: any other `TLS_error`",
        }
    }

    /// What it means, in one sentence.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Expired => "a certificate of the peer's chain has expired",
            Self::NotYetValid => "a certificate of the peer's chain is not valid yet",
            Self::ClientAuthMissing => {
                "the client's certificate has an extendedKeyUsage without clientAuth"
            }
            Self::ServerAuthMissing => {
                "the server's certificate has an extendedKeyUsage without serverAuth"
            }
            Self::UnknownCa => "the peer's chain does not lead to a CA of the trust bundle",
            Self::TrustDomainUnknown => {
                "this proxy has no trust bundle for the trust domain of the peer's SPIFFE ID"
            }
            Self::SelfSigned => "the peer's certificate is self-signed and not in the trust bundle",
            Self::BadSignature => "a signature of the chain or of the handshake does not verify",
            Self::CriticalExtension => {
                "a certificate has a critical extension that the verifier does not know"
            }
            Self::MalformedCertificate => "a certificate cannot be read, or contradicts itself",
            Self::Revoked => "a certificate is revoked, or the CRL cannot be used",
            Self::NameMismatch => "the certificate is not for the identity that is expected here",
            Self::KeyUsage => {
                "keyUsage or basicConstraints forbid what the certificate is used for"
            }
            Self::PathLength => "the chain is longer than a CA of it allows",
            Self::NoCertificate => "the peer sent no certificate, but one is required",
            Self::CertificateRequired => {
                "the server requires a client certificate, and this proxy has shown none"
            }
            Self::SecretMissing => {
                "this proxy's certificate, or its trust bundle for this peer, was never supplied"
            }
            Self::VerifyFailed => "the chain was refused, and Envoy gives no cause",
            Self::RejectedByPeer => {
                "the other side refused this proxy's certificate or TLS parameters"
            }
            Self::ProtocolVersion => "the two sides have no TLS version in common",
            Self::NoSharedCipher => {
                "the two sides have no cipher suite or signature algorithm in common"
            }
            Self::UnrecognizedName => {
                "the server has no certificate or route for the server name (SNI) of the client"
            }
            Self::NoApplicationProtocol => {
                "the two sides have no application protocol (ALPN) in common"
            }
            Self::NotTls => "plaintext, or another protocol, on a TLS port",
            Self::Reset => "the connection was reset in the middle of the handshake",
            Self::Other => "none of the known causes",
        }
    }

    /// What to change, in one sentence, where nothing more is known.
    #[must_use]
    pub const fn hint(self) -> &'static str {
        match self {
            Self::Expired => {
                "renew the expired certificate, and find out why its rotation did not run"
            }
            Self::NotYetValid => "compare the clocks of issuer and proxy, or wait for not_before",
            Self::ClientAuthMissing => "add clientAuth to the certificate's extendedKeyUsage",
            Self::ServerAuthMissing => "add serverAuth to the certificate's extendedKeyUsage",
            Self::UnknownCa => {
                "add the CA to the trust bundle, or have the peer send a certificate of a trusted CA with its whole chain"
            }
            Self::TrustDomainUnknown => {
                "check the spelling of the trust domain; if it is meant to be trusted, federate it: add its bundle to trust_domains"
            }
            Self::SelfSigned => "issue the peer a certificate from a CA of the trust bundle",
            Self::BadSignature => {
                "check that the chain belongs to the leaf, and that no two CAs share a name and key identifier"
            }
            Self::CriticalExtension => {
                "reissue the certificate without the extension, or not critical"
            }
            Self::MalformedCertificate => {
                "read the certificate with `openssl x509 -text`, and have its CA issue it again"
            }
            Self::Revoked => "issue a new certificate, or publish a current CRL",
            Self::NameMismatch => {
                "compare the certificate's subjectAltName with what this proxy expects"
            }
            Self::KeyUsage => {
                "leaf: add digitalSignature to keyUsage; CA: cA true, and keyCertSign in keyUsage"
            }
            Self::PathLength => "raise pathLenConstraint of the CA, or take a CA out of the chain",
            Self::NoCertificate => {
                "give the client a certificate of an accepted key type, or allow plaintext until it has one"
            }
            Self::CertificateRequired => {
                "give this proxy a client certificate for this server: tls_certificates of the cluster, in Istio mode MUTUAL or ISTIO_MUTUAL"
            }
            Self::SecretMissing => {
                "this proxy's own certificate or the CA bundle for this peer is missing: check the names of the secrets, and the SDS server or the files that it reads"
            }
            Self::VerifyFailed => {
                "inspect the peer's certificate; Envoy 1.37 and later give the cause"
            }
            Self::RejectedByPeer => {
                "look at the other side's log for the cause; check this proxy's own certificate and chain"
            }
            Self::ProtocolVersion => {
                "let tls_minimum_protocol_version and tls_maximum_protocol_version of both sides overlap"
            }
            Self::NoSharedCipher => {
                "compare cipher suites, curves and key types (RSA, EC) of both sides"
            }
            Self::UnrecognizedName => {
                "compare the server name that the client sends (sni of the cluster) with the names that the server has"
            }
            Self::NoApplicationProtocol => {
                "compare alpn_protocols of both sides: h2 for HTTP/2, http/1.1"
            }
            Self::NotTls => {
                "inbound: let the client use TLS, or set the port to permissive or plaintext; outbound: the server does not speak TLS on this port: check the port, whether it has a sidecar, or turn TLS off towards it"
            }
            Self::Reset => "look for a proxy, firewall or time-out between the two sides",
            Self::Other => "read Envoy's transport_failure_reason in the access log",
        }
    }

    /// The same for a peer on that side.
    #[must_use]
    pub const fn hint_towards(self, direction: Direction) -> &'static str {
        match (self, direction) {
            (Self::NotTls, Direction::Inbound) => {
                "let the client use TLS, or set the port to permissive or plaintext"
            }
            (Self::NotTls, Direction::Outbound) => {
                "the server does not speak TLS on this port: check the port, whether it has a sidecar, or turn TLS off towards it"
            }
            _ => self.hint(),
        }
    }

    /// The usage that a refused purpose lacks.
    #[must_use]
    pub(super) const fn of_purpose(direction: Direction) -> Self {
        match direction {
            Direction::Inbound => Self::ClientAuthMissing,
            Direction::Outbound => Self::ServerAuthMissing,
        }
    }

    /// What to check first.
    #[must_use]
    pub const fn first_check(self) -> &'static str {
        match self {
            Self::Expired | Self::NotYetValid => {
                "not_after in the log line, or `mtls-watch inspect` on the peer's chain; the clocks"
            }
            Self::UnknownCa | Self::SelfSigned => {
                "issuer in the log line against the trust bundle of this proxy, by key identifier"
            }
            Self::TrustDomainUnknown => {
                "the trust domain in identity against trust_domains of this proxy's validation context"
            }
            Self::CriticalExtension | Self::MalformedCertificate => {
                "`openssl x509 -noout -text` on every certificate of the peer's chain"
            }
            Self::CertificateRequired => "tls_certificates of the cluster of this server",
            Self::SecretMissing => {
                "dynamic_warming_secrets in `/config_dump` of this proxy's admin interface"
            }
            Self::UnrecognizedName => {
                "the sni of the cluster, and the names in the server's certificate"
            }
            Self::NoApplicationProtocol => "alpn_protocols of both sides",
            Self::BadSignature | Self::PathLength => {
                "`openssl verify -CAfile bundle.pem chain.pem`"
            }
            Self::Revoked => "the CRL's nextUpdate, and the serial number of the certificate",
            Self::NameMismatch => "identity in the log line against the SAN matchers of this proxy",
            Self::ClientAuthMissing | Self::ServerAuthMissing | Self::KeyUsage => {
                "`mtls-watch inspect` on the peer's chain: usages of the leaf and of every CA"
            }
            Self::NoCertificate => "whether the client is in the mesh, and which key type it has",
            Self::VerifyFailed => "`mtls-watch inspect` on the peer's chain",
            Self::RejectedByPeer => "the same metric on the other side's proxy",
            Self::ProtocolVersion | Self::NoSharedCipher => "TLS parameters of both sides",
            Self::NotTls => "which client connects: address in the log line",
            Self::Reset => "whether it happens with every peer or with one",
            Self::Other => "Envoy's text, in its access log",
        }
    }

    /// Whether one of the two sides' certificates, or its absence, is the cause. The others are no
    /// reason to look at a certificate, and nothing to page the owner of one for.
    #[must_use]
    pub const fn concerns_certificates(self) -> bool {
        !matches!(
            self,
            Self::ProtocolVersion
                | Self::NoSharedCipher
                | Self::UnrecognizedName
                | Self::NoApplicationProtocol
                | Self::NotTls
                | Self::Reset
                | Self::Other
        )
    }

    /// Whose thing must be changed, where nothing more is known.
    #[must_use]
    pub const fn holder(self) -> Holder {
        match self {
            Self::RejectedByPeer | Self::CertificateRequired | Self::SecretMissing => Holder::Own,
            Self::VerifyFailed => Holder::None,
            _ if self.concerns_certificates() => Holder::Peer,
            _ => Holder::None,
        }
    }
}
