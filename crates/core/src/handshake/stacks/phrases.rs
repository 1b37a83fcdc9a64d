//! The words of TLS stacks, each with what it means. A row names who says so, and the version that the text is known
//! from (docs/explain.md says which were recorded); tests/core/handshake/stacks.rs has a whole line of each.

use super::Rank;
use crate::handshake::Reason;
use mtls_watch_x509::chain::Layer;

/// A phrase of a stack.
pub(super) struct Phrase {
    /// Who says so, with the version that the text is known from.
    pub(super) stack: &'static str,
    pub(super) text: &'static str,
    /// `None`: a usage is missing, and the direction says which.
    pub(super) reason: Option<Reason>,
    pub(super) rank: Rank,
    pub(super) layer: Option<Layer>,
    pub(super) hint: Option<&'static str>,
}

const fn phrase(stack: &'static str, text: &'static str, reason: Reason) -> Phrase {
    Phrase {
        stack,
        text,
        reason: Some(reason),
        rank: Rank::Cause,
        layer: None,
        hint: None,
    }
}

const fn purpose(stack: &'static str, text: &'static str) -> Phrase {
    Phrase {
        reason: None,
        layer: Some(Layer::Workload),
        ..phrase(stack, text, Reason::Other)
    }
}

const fn hinted(phrase: Phrase, hint: &'static str) -> Phrase {
    Phrase {
        hint: Some(hint),
        ..phrase
    }
}

const fn vague(stack: &'static str, text: &'static str, reason: Reason) -> Phrase {
    Phrase {
        rank: Rank::Vague,
        ..phrase(stack, text, reason)
    }
}

const fn broken(stack: &'static str, text: &'static str) -> Phrase {
    Phrase {
        rank: Rank::Broken,
        ..phrase(stack, text, Reason::Reset)
    }
}

const GO: &str = "Go 1.26";
const RUSTLS: &str = "rustls 0.23";
const JAVA: &str = "Java 17";
const GNUTLS: &str = "GnuTLS 3.8";
const DOTNET: &str = ".NET 8";
const SCHANNEL: &str = "Windows 11 SChannel";
const MBEDTLS: &str = "mbedTLS 3.6";
const WOLFSSL: &str = "wolfSSL 5.7";
const NSS: &str = "NSS 3.100";
const CHROME: &str = "Chrome 130";
const NODE: &str = "Node 20";
const CURL: &str = "curl 7.88";
const PYTHON: &str = "Python 3.11";
const OPENSSL: &str = "OpenSSL 3.0";
const ERLANG: &str = "Erlang/OTP 27";
const NGINX: &str = "nginx 1.26";
const HAPROXY: &str = "HAProxy 3.0";
const ENVOY: &str = "Envoy 1.40";

const NEW_KEY: &str = "a CA of this name is trusted, and its key did not sign the certificate: a new key under an old name, or a stranger's CA of the same name; compare key identifiers before you trust it";
const NOT_LOGGED_HERE: &str = "the cause is not in this text: log %UPSTREAM_TRANSPORT_FAILURE_REASON% in the access log of this proxy, and %DOWNSTREAM_TRANSPORT_FAILURE_REASON% in that of the other side";
const HUNG_UP: &str = "the other side hung up: in TLS 1.3 a server that refuses the client's certificate does so after the handshake; the server's log has the cause, in Envoy %DOWNSTREAM_TRANSPORT_FAILURE_REASON%";

/// The longer of two that begin alike comes first.
#[rustfmt::skip]
pub(super) const PHRASES: &[Phrase] = &[
    // Go: crypto/x509/verify.go, crypto/tls. One text for both ends of validity, see `dates`.
    phrase(GO, "certificate has expired or is not yet valid", Reason::Expired),
    hinted(phrase(GO, "certificate signed by unknown authority (possibly because of", Reason::UnknownCa), NEW_KEY),
    phrase(GO, "certificate signed by unknown authority", Reason::UnknownCa),
    phrase(GO, "certificate is valid for ", Reason::NameMismatch),
    phrase(GO, "certificate is not valid for any names", Reason::NameMismatch),
    phrase(GO, "cannot validate certificate for ", Reason::NameMismatch),
    phrase(GO, "certificate relies on legacy Common Name field", Reason::NameMismatch),
    phrase(GO, "a root or intermediate certificate is not authorized to sign for this name", Reason::NameMismatch),
    Phrase { layer: None, ..purpose(GO, "certificate specifies an incompatible key usage") },
    phrase(GO, "too many intermediates for path length constraint", Reason::PathLength),
    phrase(GO, "unhandled critical extension", Reason::CriticalExtension),
    phrase(GO, "certificate is not authorized to sign other certificates", Reason::KeyUsage),
    phrase(GO, "invalid signature by the ", Reason::BadSignature),
    phrase(GO, "malformed certificate", Reason::MalformedCertificate),
    phrase(GO, "failed to parse certificate", Reason::MalformedCertificate),
    phrase(GO, "client didn't provide a certificate", Reason::NoCertificate),
    phrase(GO, "client offered only unsupported versions", Reason::ProtocolVersion),
    phrase(GO, "server selected unsupported protocol version", Reason::ProtocolVersion),
    phrase(GO, "no cipher suite supported by both client and server", Reason::NoSharedCipher),
    phrase(GO, "no key exchanges supported by both client and server", Reason::NoSharedCipher),
    phrase(GO, "no supported elliptic curves offered", Reason::NoSharedCipher),
    phrase(GO, "peer doesn't support any of the certificate's signature algorithms", Reason::NoSharedCipher),
    phrase(GO, "client requested unsupported application protocols", Reason::NoApplicationProtocol),
    phrase(GO, "first record does not look like a TLS handshake", Reason::NotTls),
    phrase(GO, "server gave HTTP response to HTTPS client", Reason::NotTls),
    phrase(GO, "client sent an HTTP request to an HTTPS server", Reason::NotTls),
    // rustls: error.rs.
    phrase(RUSTLS, "certificate expired", Reason::Expired),
    phrase(RUSTLS, "certificate not valid yet", Reason::NotYetValid),
    phrase(RUSTLS, "certificate not valid for name", Reason::NameMismatch),
    purpose(RUSTLS, "certificate does not allow extended key usage"),
    phrase(RUSTLS, "UnknownIssuer", Reason::UnknownCa),
    phrase(RUSTLS, "Expired", Reason::Expired),
    phrase(RUSTLS, "NotValidYet", Reason::NotYetValid),
    phrase(RUSTLS, "NotValidForName", Reason::NameMismatch),
    purpose(RUSTLS, "InvalidPurpose"),
    phrase(RUSTLS, "BadSignature", Reason::BadSignature),
    phrase(RUSTLS, "BadEncoding", Reason::MalformedCertificate),
    phrase(RUSTLS, "Revoked", Reason::Revoked),
    phrase(RUSTLS, "UnhandledCriticalExtension", Reason::CriticalExtension),
    hinted(phrase(RUSTLS, "Other(OtherError(CaUsedAsEndEntity", Reason::KeyUsage), "a CA certificate is used as a leaf: issue a leaf from it"),
    hinted(phrase(RUSTLS, "CaUsedAsEndEntity", Reason::KeyUsage), "a CA certificate is used as a leaf: issue a leaf from it"),
    phrase(RUSTLS, "peer sent no certificates", Reason::NoCertificate),
    phrase(RUSTLS, "NoCipherSuitesInCommon", Reason::NoSharedCipher),
    phrase(RUSTLS, "NoKxGroupsInCommon", Reason::NoSharedCipher),
    phrase(RUSTLS, "NoSignatureSchemesInCommon", Reason::NoSharedCipher),
    phrase(RUSTLS, "ServerDoesNotSupportTls12Or13", Reason::ProtocolVersion),
    phrase(RUSTLS, "Tls12NotOffered", Reason::ProtocolVersion),
    phrase(RUSTLS, "Tls13RequiredForQuic", Reason::ProtocolVersion),
    phrase(RUSTLS, "received corrupt message of type InvalidContentType", Reason::NotTls),
    broken(RUSTLS, "tls handshake eof"),
    // Java: JSSE and the PKIX validator.
    phrase(JAVA, "CertificateExpiredException", Reason::Expired),
    phrase(JAVA, "CertificateNotYetValidException", Reason::NotYetValid),
    phrase(JAVA, "CertificateRevokedException", Reason::Revoked),
    phrase(JAVA, "unable to find valid certification path to requested target", Reason::UnknownCa),
    phrase(JAVA, "Path does not chain with any of the trust anchors", Reason::UnknownCa),
    phrase(JAVA, "PKIX path building failed", Reason::UnknownCa),
    Phrase { rank: Rank::Guess, ..phrase(JAVA, "validity check failed", Reason::Expired) },
    phrase(JAVA, "unrecognized critical extension", Reason::CriticalExtension),
    phrase(JAVA, "basic constraints check failed", Reason::PathLength),
    phrase(JAVA, "signature check failed", Reason::BadSignature),
    phrase(JAVA, "Certificate has been revoked", Reason::Revoked),
    phrase(JAVA, "No subject alternative", Reason::NameMismatch),
    phrase(JAVA, "No name matching", Reason::NameMismatch),
    purpose(JAVA, "Extended key usage does not permit"),
    phrase(JAVA, "KeyUsage does not allow", Reason::KeyUsage),
    phrase(JAVA, "Empty client certificate chain", Reason::NoCertificate),
    phrase(JAVA, "Empty server certificate chain", Reason::NoCertificate),
    phrase(JAVA, "null cert chain", Reason::NoCertificate),
    phrase(JAVA, "no cipher suites in common", Reason::NoSharedCipher),
    phrase(JAVA, "No appropriate protocol", Reason::ProtocolVersion),
    phrase(JAVA, "Client requested protocol", Reason::ProtocolVersion),
    phrase(JAVA, "The server selected protocol version", Reason::ProtocolVersion),
    phrase(JAVA, "Unsupported or unrecognized SSL message", Reason::NotTls),
    hinted(Phrase { rank: Rank::Alert, ..phrase(JAVA, "Insufficient buffer remaining for AEAD cipher fragment", Reason::RejectedByPeer) }, "an OpenSSL client refused this side's certificate and said so in plaintext; the client's log has the cause"),
    vague(JAVA, "PKIX path validation failed", Reason::VerifyFailed),
    broken(JAVA, "Remote host terminated the handshake"),
    broken(JAVA, "Connection reset"),
    // GnuTLS: gnutls_certificate_verification_status_print, gnutls_strerror.
    phrase(GNUTLS, "The certificate issuer is unknown", Reason::UnknownCa),
    phrase(GNUTLS, "The certificate chain uses expired certificate", Reason::Expired),
    phrase(GNUTLS, "The certificate chain uses not yet valid certificate", Reason::NotYetValid),
    phrase(GNUTLS, "The certificate chain is revoked", Reason::Revoked),
    phrase(GNUTLS, "The name in the certificate does not match the expected", Reason::NameMismatch),
    phrase(GNUTLS, "The certificate issuer is not a CA", Reason::KeyUsage),
    phrase(GNUTLS, "The signature in the certificate is invalid", Reason::BadSignature),
    phrase(GNUTLS, "The certificate contains an unknown critical extension", Reason::CriticalExtension),
    purpose(GNUTLS, "The certificate chain does not match the intended purpose"),
    phrase(GNUTLS, "Key usage violation in certificate has been detected", Reason::KeyUsage),
    phrase(GNUTLS, "Certificate is required", Reason::NoCertificate),
    phrase(GNUTLS, "No certificate was found", Reason::NoCertificate),
    phrase(GNUTLS, "No supported cipher suites have been found", Reason::NoSharedCipher),
    phrase(GNUTLS, "A packet with illegal or unsupported version was received", Reason::ProtocolVersion),
    phrase(GNUTLS, "An unexpected TLS packet was received", Reason::NotTls),
    broken(GNUTLS, "The TLS connection was non-properly terminated"),
    vague(GNUTLS, "Error in the certificate verification", Reason::VerifyFailed),
    vague(GNUTLS, "The certificate is NOT trusted", Reason::VerifyFailed),
    // .NET: SslStream; X509ChainStatusFlags.
    phrase(DOTNET, "UntrustedRoot", Reason::UnknownCa),
    phrase(DOTNET, "PartialChain", Reason::UnknownCa),
    phrase(DOTNET, "NotTimeValid", Reason::Expired),
    phrase(DOTNET, "RevocationStatusUnknown", Reason::Revoked),
    phrase(DOTNET, "OfflineRevocation", Reason::Revoked),
    phrase(DOTNET, "NotSignatureValid", Reason::BadSignature),
    purpose(DOTNET, "NotValidForUsage"),
    phrase(DOTNET, "RemoteCertificateNameMismatch", Reason::NameMismatch),
    phrase(DOTNET, "RemoteCertificateNotAvailable", Reason::NoCertificate),
    vague(DOTNET, "RemoteCertificateChainErrors", Reason::VerifyFailed),
    vague(DOTNET, "The remote certificate is invalid", Reason::VerifyFailed),
    vague(DOTNET, "The remote certificate was rejected by the provided", Reason::VerifyFailed),
    phrase(DOTNET, "Cannot determine the frame size or a corrupted frame was received", Reason::NotTls),
    broken(DOTNET, "Received an unexpected EOF or 0 bytes from the transport stream"),
    // mbedTLS: x509_crt.h, error.c.
    phrase(MBEDTLS, "The certificate validity has expired", Reason::Expired),
    phrase(MBEDTLS, "The certificate validity starts in the future", Reason::NotYetValid),
    phrase(MBEDTLS, "The certificate is not correctly signed by the trusted CA", Reason::UnknownCa),
    phrase(MBEDTLS, "The certificate Common Name (CN) does not match with the expected CN", Reason::NameMismatch),
    phrase(MBEDTLS, "The certificate has been revoked", Reason::Revoked),
    purpose(MBEDTLS, "Usage does not match the extendedKeyUsage extension"),
    phrase(MBEDTLS, "Usage does not match the keyUsage extension", Reason::KeyUsage),
    phrase(MBEDTLS, "No client certification received from the client", Reason::NoCertificate),
    phrase(MBEDTLS, "An invalid SSL record was received", Reason::NotTls),
    phrase(MBEDTLS, "The server has no ciphersuites in common with the client", Reason::NoSharedCipher),
    Phrase { rank: Rank::Alert, ..phrase(MBEDTLS, "A fatal alert message was received from our peer", Reason::RejectedByPeer) },
    vague(MBEDTLS, "Certificate verification failed", Reason::VerifyFailed),
    broken(MBEDTLS, "The connection indicated an EOF"),
    // wolfSSL: wolfcrypt/src/error.c, src/internal.c.
    phrase(WOLFSSL, "ASN no signer error to confirm failure", Reason::UnknownCa),
    phrase(WOLFSSL, "ASN self-signed certificate error", Reason::SelfSigned),
    phrase(WOLFSSL, "ASN date error, current date after", Reason::Expired),
    phrase(WOLFSSL, "ASN date error, current date is after", Reason::Expired),
    phrase(WOLFSSL, "ASN date error, current date before", Reason::NotYetValid),
    phrase(WOLFSSL, "ASN date error, current date is before", Reason::NotYetValid),
    phrase(WOLFSSL, "ASN sig error, confirm failure", Reason::BadSignature),
    phrase(WOLFSSL, "peer subject name mismatch", Reason::NameMismatch),
    phrase(WOLFSSL, "peer didn't send cert", Reason::NoCertificate),
    phrase(WOLFSSL, "can't match cipher suite", Reason::NoSharedCipher),
    phrase(WOLFSSL, "record layer version error", Reason::NotTls),
    Phrase { rank: Rank::Alert, ..phrase(WOLFSSL, "received alert fatal error", Reason::RejectedByPeer) },
    // curl.
    phrase(CURL, "no alternative certificate subject name matches", Reason::NameMismatch),
    phrase(CURL, "certificate subject name '", Reason::NameMismatch),
    vague(CURL, "SSL certificate verification failed", Reason::VerifyFailed),
    vague(CURL, "SSL certificate problem", Reason::VerifyFailed),
    broken(CURL, "SSL_ERROR_SYSCALL"),
    broken(CURL, "Recv failure"),
    // Node.
    phrase(NODE, "Hostname/IP does not match certificate's altnames", Reason::NameMismatch),
    broken(NODE, "socket hang up"),
    broken(NODE, "read ECONNRESET"),
    broken(NODE, "ECONNRESET"),
    // Python.
    phrase(PYTHON, "Hostname mismatch", Reason::NameMismatch),
    broken(PYTHON, "EOF occurred in violation of protocol"),
    // OpenSSL and who uses it.
    phrase(OPENSSL, "peer did not return a certificate", Reason::NoCertificate),
    phrase(OPENSSL, "no peer certificate available", Reason::NoCertificate),
    vague(OPENSSL, "certificate verify failed", Reason::VerifyFailed),
    broken(OPENSSL, "unexpected eof while reading"),
    phrase(NGINX, "client sent no required SSL certificate", Reason::NoCertificate),
    phrase(NGINX, "client sent plain HTTP request to HTTPS port", Reason::NotTls),
    phrase(HAPROXY, "SSL client CA chain cannot be verified", Reason::UnknownCa),
    vague(HAPROXY, "SSL client certificate not trusted", Reason::VerifyFailed),
    // Erlang: ssl_alert.erl, public_key.
    phrase(ERLANG, "hostname_check_failed", Reason::NameMismatch),
    phrase(ERLANG, "cert_expired", Reason::Expired),
    phrase(ERLANG, "selfsigned_peer", Reason::SelfSigned),
    phrase(ERLANG, "invalid_signature", Reason::BadSignature),
    // Every stack, in the words of errno.
    broken(OPENSSL, "connection reset by peer"),
    broken(OPENSSL, "broken pipe"),
    // Envoy without its reason.
    hinted(Phrase { reason: Some(Reason::Other), ..broken(ENVOY, "remote connection failure") }, NOT_LOGGED_HERE),
    hinted(broken(ENVOY, "connection termination"), HUNG_UP),
];

/// Names of errors, whole words in capitals.
#[rustfmt::skip]
pub(super) const NAMES: &[Phrase] = &[
    phrase(NODE, "ERR_TLS_CERT_ALTNAME_INVALID", Reason::NameMismatch),
    // NSS: sslerr.h, secerr.h; Firefox.
    phrase(NSS, "SEC_ERROR_UNKNOWN_ISSUER", Reason::UnknownCa),
    phrase(NSS, "SEC_ERROR_UNTRUSTED_ISSUER", Reason::UnknownCa),
    phrase(NSS, "SEC_ERROR_UNTRUSTED_CERT", Reason::UnknownCa),
    phrase(NSS, "SEC_ERROR_EXPIRED_CERTIFICATE", Reason::Expired),
    Phrase { layer: Some(Layer::IssuingCa), ..phrase(NSS, "SEC_ERROR_EXPIRED_ISSUER_CERTIFICATE", Reason::Expired) },
    phrase(NSS, "SEC_ERROR_REVOKED_CERTIFICATE", Reason::Revoked),
    phrase(NSS, "SEC_ERROR_CRL_EXPIRED", Reason::Revoked),
    phrase(NSS, "SEC_ERROR_BAD_SIGNATURE", Reason::BadSignature),
    phrase(NSS, "SEC_ERROR_BAD_DER", Reason::MalformedCertificate),
    phrase(NSS, "SEC_ERROR_CA_CERT_INVALID", Reason::KeyUsage),
    phrase(NSS, "SEC_ERROR_INADEQUATE_KEY_USAGE", Reason::KeyUsage),
    purpose(NSS, "SEC_ERROR_INADEQUATE_CERT_TYPE"),
    phrase(NSS, "SEC_ERROR_PATH_LEN_CONSTRAINT_INVALID", Reason::PathLength),
    phrase(NSS, "SEC_ERROR_UNKNOWN_CRITICAL_EXTENSION", Reason::CriticalExtension),
    phrase(NSS, "SEC_ERROR_CERT_NOT_IN_NAME_SPACE", Reason::NameMismatch),
    phrase(NSS, "SSL_ERROR_BAD_CERT_DOMAIN", Reason::NameMismatch),
    phrase(NSS, "SSL_ERROR_NO_CERTIFICATE", Reason::NoCertificate),
    phrase(NSS, "SSL_ERROR_NO_CYPHER_OVERLAP", Reason::NoSharedCipher),
    phrase(NSS, "SSL_ERROR_UNSUPPORTED_VERSION", Reason::ProtocolVersion),
    phrase(NSS, "SSL_ERROR_RX_RECORD_TOO_LONG", Reason::NotTls),
    phrase(NSS, "SSL_ERROR_NEXT_PROTOCOL_NO_PROTOCOL", Reason::NoApplicationProtocol),
    phrase(NSS, "MOZILLA_PKIX_ERROR_SELF_SIGNED_CERT", Reason::SelfSigned),
    phrase(NSS, "MOZILLA_PKIX_ERROR_NOT_YET_VALID_CERTIFICATE", Reason::NotYetValid),
    broken(NSS, "PR_END_OF_FILE_ERROR"),
    broken(NSS, "PR_CONNECT_RESET_ERROR"),
    // Chrome: net_error_list.h.
    phrase(CHROME, "ERR_CERT_AUTHORITY_INVALID", Reason::UnknownCa),
    phrase(CHROME, "ERR_CERT_DATE_INVALID", Reason::Expired),
    phrase(CHROME, "ERR_CERT_COMMON_NAME_INVALID", Reason::NameMismatch),
    phrase(CHROME, "ERR_CERT_REVOKED", Reason::Revoked),
    phrase(CHROME, "ERR_CERT_INVALID", Reason::MalformedCertificate),
    phrase(CHROME, "ERR_SSL_KEY_USAGE_INCOMPATIBLE", Reason::KeyUsage),
    phrase(CHROME, "ERR_SSL_SERVER_CERT_BAD_FORMAT", Reason::MalformedCertificate),
    phrase(CHROME, "ERR_SSL_VERSION_OR_CIPHER_MISMATCH", Reason::NoSharedCipher),
    phrase(CHROME, "ERR_SSL_UNRECOGNIZED_NAME_ALERT", Reason::UnrecognizedName),
    phrase(CHROME, "ERR_SSL_CLIENT_AUTH_CERT_NEEDED", Reason::CertificateRequired),
    Phrase { rank: Rank::Alert, ..phrase(CHROME, "ERR_BAD_SSL_CLIENT_AUTH_CERT", Reason::RejectedByPeer) },
    vague(CHROME, "ERR_SSL_PROTOCOL_ERROR", Reason::Other),
    // SChannel: winerror.h.
    phrase(SCHANNEL, "SEC_E_UNTRUSTED_ROOT", Reason::UnknownCa),
    phrase(SCHANNEL, "CERT_E_UNTRUSTEDROOT", Reason::UnknownCa),
    phrase(SCHANNEL, "CERT_E_CHAINING", Reason::UnknownCa),
    phrase(SCHANNEL, "SEC_E_CERT_EXPIRED", Reason::Expired),
    phrase(SCHANNEL, "CERT_E_EXPIRED", Reason::Expired),
    phrase(SCHANNEL, "SEC_E_WRONG_PRINCIPAL", Reason::NameMismatch),
    phrase(SCHANNEL, "CERT_E_CN_NO_MATCH", Reason::NameMismatch),
    purpose(SCHANNEL, "CERT_E_WRONG_USAGE"),
    phrase(SCHANNEL, "CRYPT_E_REVOKED", Reason::Revoked),
    phrase(SCHANNEL, "CRYPT_E_NO_REVOCATION_CHECK", Reason::Revoked),
    phrase(SCHANNEL, "CRYPT_E_REVOCATION_OFFLINE", Reason::Revoked),
    phrase(SCHANNEL, "SEC_E_ALGORITHM_MISMATCH", Reason::NoSharedCipher),
    phrase(SCHANNEL, "SEC_E_INVALID_TOKEN", Reason::NotTls),
    vague(SCHANNEL, "SEC_E_CERT_UNKNOWN", Reason::VerifyFailed),
    vague(SCHANNEL, "SEC_E_ILLEGAL_MESSAGE", Reason::Other),
];

/// How stacks say that the other side has sent an alert; its name or number follows.
#[rustfmt::skip]
pub(super) const ALERTS: &[(&str, &str)] = &[
    (GO, "remote error: tls: "),
    (JAVA, "received fatal alert: "),
    (OPENSSL, "sslv3 alert "),
    (OPENSSL, "tlsv1 alert "),
    (OPENSSL, "tlsv13 alert "),
    (OPENSSL, "SSL alert number "),
    (DOTNET, "Authentication failed because the remote party sent a TLS alert: "),
    (GNUTLS, "*** Received alert ["),
    (MBEDTLS, "got an alert message, type: "),
];

/// NSS' names of alerts.
#[rustfmt::skip]
pub(super) const NSS_ALERTS: &[(&str, &str)] = &[
    ("SSL_ERROR_BAD_CERT_ALERT", "bad certificate"),
    ("SSL_ERROR_UNSUPPORTED_CERT_ALERT", "unsupported certificate"),
    ("SSL_ERROR_REVOKED_CERT_ALERT", "certificate revoked"),
    ("SSL_ERROR_EXPIRED_CERT_ALERT", "certificate expired"),
    ("SSL_ERROR_CERTIFICATE_UNKNOWN_ALERT", "certificate unknown"),
    ("SSL_ERROR_UNKNOWN_CA_ALERT", "unknown ca"),
    ("SSL_ERROR_ACCESS_DENIED_ALERT", "access denied"),
    ("SSL_ERROR_HANDSHAKE_FAILURE_ALERT", "handshake failure"),
    ("SSL_ERROR_PROTOCOL_VERSION_ALERT", "protocol version"),
    ("SSL_ERROR_INSUFFICIENT_SECURITY_ALERT", "insufficient security"),
    ("SSL_ERROR_UNRECOGNIZED_NAME_ALERT", "unrecognized name"),
    ("SSL_ERROR_RX_CERTIFICATE_REQUIRED_ALERT", "certificate required"),
    ("SSL_ERROR_DECRYPT_ERROR_ALERT", "decrypt error"),
];
