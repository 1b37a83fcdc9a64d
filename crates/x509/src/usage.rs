//! What a certificate may be used for.

/// The key usages that matter for mTLS (RFC 5280, section 4.2.1.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyUsage {
    /// May sign handshakes.
    pub digital_signature: bool,
    /// May sign certificates.
    pub cert_sign: bool,
    /// May sign revocation lists.
    pub crl_sign: bool,
    /// Whether the extension is marked critical.
    pub critical: bool,
}

/// The extended key usages that matter for mTLS (RFC 5280, section 4.2.1.12).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExtendedKeyUsage {
    /// id-kp-serverAuth.
    pub server_auth: bool,
    /// id-kp-clientAuth.
    pub client_auth: bool,
    /// id-kp-codeSigning.
    pub code_signing: bool,
    /// id-kp-OCSPSigning.
    pub ocsp_signing: bool,
}
