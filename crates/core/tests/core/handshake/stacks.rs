//! What other stacks say. Texts of OpenSSL 3.0.19 (Python 3.11.7, curl 7.88.1, nginx), Node 20.20.2, Java 17.0.15 and
//! Go 1.26.8 were recorded from clients and servers that refuse each other; those of the others are of the named
//! version's source.

use mtls_watch_core::handshake::{Failure, explain};
use mtls_watch_core::terms::Direction::{self, Inbound, Outbound};
use proptest::prelude::*;

use super::verdict;

fn read(text: &str, direction: Direction) -> Failure {
    explain(text, direction).unwrap_or_else(|| panic!("{text}"))
}

#[track_caller]
fn check(rows: &[(&str, &str)]) {
    for (text, expected) in rows {
        assert_eq!(verdict(&read(text, Inbound)), *expected, "{text}");
    }
}

const EXPIRED: &str = "expired none peer";
const UNKNOWN_CA: &str = "unknown_ca none peer";
const SELF_SIGNED: &str = "self_signed workload peer";
const NAME: &str = "name_mismatch workload peer";
const PURPOSE: &str = "client_auth_missing workload peer";
const NONE: &str = "no_certificate none peer";
const REJECTED: &str = "rejected_by_peer none own";
const GAVE_UP: &str = "rejected_by_peer none none";
const REQUIRED: &str = "certificate_required none own";
const VERSION: &str = "protocol_version none none";
const CIPHER: &str = "no_shared_cipher none none";
const NOT_TLS: &str = "not_tls none none";
const RESET: &str = "reset none none";
const CRITICAL: &str = "critical_extension none peer";
const VERIFY: &str = "verify_failed none none";

#[test]
fn python_3_11() {
    check(&[
        (
            "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: certificate has expired (_ssl.c:1006)",
            EXPIRED,
        ),
        (
            "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: Hostname mismatch, certificate is not valid for 'localhost'. (_ssl.c:1006)",
            NAME,
        ),
        (
            "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: unable to get local issuer certificate (_ssl.c:1006)",
            UNKNOWN_CA,
        ),
        (
            "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed certificate (_ssl.c:1006)",
            SELF_SIGNED,
        ),
        (
            "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: unsuitable certificate purpose (_ssl.c:1006)",
            "client_auth_missing none peer",
        ),
        (
            "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: unhandled critical extension (_ssl.c:1006)",
            CRITICAL,
        ),
        (
            "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed certificate in certificate chain (_ssl.c:1006)",
            "unknown_ca root_ca peer",
        ),
        (
            "[SSL: TLSV1_ALERT_PROTOCOL_VERSION] tlsv1 alert protocol version (_ssl.c:1006)",
            VERSION,
        ),
        (
            "[SSL: UNSUPPORTED_PROTOCOL] unsupported protocol (_ssl.c:1006)",
            VERSION,
        ),
        (
            "[SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:1006)",
            NOT_TLS,
        ),
        ("[SSL: HTTP_REQUEST] http request (_ssl.c:1006)", NOT_TLS),
        (
            "[SSL: NO_SHARED_CIPHER] no shared cipher (_ssl.c:1006)",
            CIPHER,
        ),
        (
            "[SSL: PEER_DID_NOT_RETURN_A_CERTIFICATE] peer did not return a certificate (_ssl.c:1006)",
            NONE,
        ),
        (
            "[SSL: UNEXPECTED_EOF_WHILE_READING] EOF occurred in violation of protocol (_ssl.c:1006)",
            RESET,
        ),
        ("EOF occurred in violation of protocol (_ssl.c:2427)", RESET),
        ("[Errno 104] Connection reset by peer", RESET),
        (
            "[SSL: SSLV3_ALERT_HANDSHAKE_FAILURE] sslv3 alert handshake failure (_ssl.c:1006)",
            GAVE_UP,
        ),
        (
            "[SSL: TLSV1_ALERT_UNKNOWN_CA] tlsv1 alert unknown ca (_ssl.c:1006)",
            REJECTED,
        ),
        (
            "[SSL: SSLV3_ALERT_CERTIFICATE_EXPIRED] sslv3 alert certificate expired (_ssl.c:1006)",
            REJECTED,
        ),
        (
            "[SSL: SSLV3_ALERT_UNSUPPORTED_CERTIFICATE] sslv3 alert unsupported certificate (_ssl.c:2580)",
            REJECTED,
        ),
        (
            "[SSL: SSLV3_ALERT_BAD_CERTIFICATE] sslv3 alert bad certificate (_ssl.c:1006)",
            REJECTED,
        ),
        (
            "[SSL: SSLV3_ALERT_CERTIFICATE_UNKNOWN] sslv3 alert certificate unknown (_ssl.c:1006)",
            REJECTED,
        ),
    ]);
}

#[test]
fn curl_7_88_and_openssl_3_0() {
    check(&[
        (
            "curl: (60) SSL certificate problem: certificate has expired",
            EXPIRED,
        ),
        (
            "curl: (60) SSL: no alternative certificate subject name matches target host name 'localhost'",
            NAME,
        ),
        (
            "curl: (60) SSL certificate problem: unable to get local issuer certificate",
            UNKNOWN_CA,
        ),
        (
            "curl: (60) SSL certificate problem: self-signed certificate",
            SELF_SIGNED,
        ),
        (
            "curl: (35) OpenSSL/3.0.19: error:0A00010B:SSL routines::wrong version number",
            NOT_TLS,
        ),
        ("curl: (35) Recv failure: Connection reset by peer", RESET),
        (
            "curl: (35) OpenSSL SSL_connect: SSL_ERROR_SYSCALL in connection to localhost:23411 ",
            RESET,
        ),
        (
            "curl: (35) OpenSSL/3.0.19: error:0A000410:SSL routines::sslv3 alert handshake failure",
            GAVE_UP,
        ),
        (
            "curl: (35) OpenSSL/3.0.19: error:0A00042E:SSL routines::tlsv1 alert protocol version",
            VERSION,
        ),
        (
            "curl: (35) OpenSSL/3.0.19: error:0A000418:SSL routines::tlsv1 alert unknown ca",
            REJECTED,
        ),
        (
            "curl: (56) OpenSSL SSL_read: OpenSSL/3.0.19: error:0A000415:SSL routines::sslv3 alert certificate expired, errno 0",
            REJECTED,
        ),
        (
            "curl: (56) OpenSSL SSL_read: OpenSSL/3.0.19: error:0A00045C:SSL routines::tlsv13 alert certificate required, errno 0",
            REQUIRED,
        ),
        ("curl: (60) SSL certificate verification failed", VERIFY),
        // OpenSSL 1.1.1, and the commands s_client and verify.
        (
            "139:error:14094412:SSL routines:ssl3_read_bytes:sslv3 alert bad certificate:ssl/record/rec_layer_s3.c:1543:SSL alert number 42",
            REJECTED,
        ),
        ("verify error:num=10:certificate has expired", EXPIRED),
        (
            "Verify return code: 21 (unable to verify the first certificate)",
            UNKNOWN_CA,
        ),
        (
            "error 20 at 0 depth lookup: unable to get local issuer certificate",
            UNKNOWN_CA,
        ),
        // BoringSSL, and Envoy's tls_inspector.
        (
            "TLS_error|error:1000009c:SSL_routines:OPENSSL_internal:HTTP_REQUEST:TLS_error_end",
            NOT_TLS,
        ),
        (
            "error:10000412:SSL routines:OPENSSL_internal:SSLV3_ALERT_BAD_CERTIFICATE",
            REJECTED,
        ),
        (
            "error:1000009c:SSL routines:OPENSSL_internal:HTTP_REQUEST",
            NOT_TLS,
        ),
        // nginx 1.26, HAProxy 3.0.
        (
            "2026/11/28 11:00:00 [info] 7#7: *1 client SSL certificate verify error: (10:certificate has expired) while reading client request headers, client: 10.0.0.7, server: alertmanager, host: \"http request\"",
            EXPIRED,
        ),
        (
            "SSL_do_handshake() failed (SSL: error:0A0000C1:SSL routines::no shared cipher) while SSL handshaking, client: 10.0.0.7",
            CIPHER,
        ),
        (
            "client sent no required SSL certificate while reading client request headers",
            NONE,
        ),
        (
            "frontend/1: SSL client CA chain cannot be verified",
            UNKNOWN_CA,
        ),
    ]);
}

#[test]
fn node_20() {
    check(&[
        ("CERT_HAS_EXPIRED", EXPIRED),
        (
            "Error [ERR_TLS_CERT_ALTNAME_INVALID]: Hostname/IP does not match certificate's altnames: Host: localhost. is not in the cert's altnames: DNS:alertmanager.example",
            NAME,
        ),
        ("ERR_TLS_CERT_ALTNAME_INVALID", NAME),
        ("{ code: 'UNABLE_TO_VERIFY_LEAF_SIGNATURE' }", UNKNOWN_CA),
        ("UNABLE_TO_GET_ISSUER_CERT_LOCALLY", UNKNOWN_CA),
        ("DEPTH_ZERO_SELF_SIGNED_CERT", SELF_SIGNED),
        ("SELF_SIGNED_CERT_IN_CHAIN", "unknown_ca root_ca peer"),
        ("INVALID_PURPOSE", "client_auth_missing none peer"),
        ("Error: unhandled critical extension", CRITICAL),
        (
            "Error: write EPROTO 80ECF011BC7F0000:error:0A00042E:SSL routines:ssl3_read_bytes:tlsv1 alert protocol version:../deps/openssl/openssl/ssl/record/rec_layer_s3.c:1601:SSL alert number 70",
            VERSION,
        ),
        (
            "Error: write EPROTO 80ECF011BC7F0000:error:0A00010B:SSL routines:ssl3_get_record:wrong version number:../deps/openssl/openssl/ssl/record/ssl3_record.c:350:",
            NOT_TLS,
        ),
        ("Error: read ECONNRESET", RESET),
        ("ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED", REQUIRED),
        ("ERR_SSL_TLSV1_ALERT_UNKNOWN_CA", REJECTED),
        (
            "Error: 80ECF011BC7F0000:error:0A000415:SSL routines:ssl3_read_bytes:sslv3 alert certificate expired:../deps/openssl/openssl/ssl/record/rec_layer_s3.c:1601:SSL alert number 45",
            REJECTED,
        ),
        (
            "Error: write EPROTO 80ECF011BC7F0000:error:0A000410:SSL routines:ssl3_read_bytes:sslv3 alert handshake failure:../deps/openssl/openssl/ssl/record/rec_layer_s3.c:1601:SSL alert number 40",
            GAVE_UP,
        ),
        ("ERR_SSL_PEER_DID_NOT_RETURN_A_CERTIFICATE", NONE),
        ("ERR_SSL_UNSUPPORTED_PROTOCOL", VERSION),
        ("ERR_SSL_HTTP_REQUEST", NOT_TLS),
        ("Error: socket hang up", RESET),
    ]);
}

#[test]
fn java_17() {
    check(&[
        (
            "javax.net.ssl.SSLHandshakeException: PKIX path validation failed: java.security.cert.CertPathValidatorException: validity check failed",
            EXPIRED,
        ),
        (
            "Caused by: java.security.cert.CertificateExpiredException: NotAfter: Fri Nov 27 11:00:00 UTC 2026",
            EXPIRED,
        ),
        (
            "Caused by: java.security.cert.CertificateNotYetValidException: NotBefore: Sun Nov 29 11:00:00 UTC 2026",
            "not_yet_valid none peer",
        ),
        (
            "javax.net.ssl.SSLHandshakeException: No subject alternative DNS name matching localhost found.",
            NAME,
        ),
        (
            "javax.net.ssl.SSLHandshakeException: No subject alternative names present",
            NAME,
        ),
        (
            "javax.net.ssl.SSLHandshakeException: PKIX path building failed: sun.security.provider.certpath.SunCertPathBuilderException: unable to find valid certification path to requested target",
            UNKNOWN_CA,
        ),
        (
            "javax.net.ssl.SSLHandshakeException: Extended key usage does not permit use for TLS client authentication",
            PURPOSE,
        ),
        (
            "javax.net.ssl.SSLHandshakeException: PKIX path validation failed: java.security.cert.CertPathValidatorException: unrecognized critical extension(s)",
            CRITICAL,
        ),
        (
            "javax.net.ssl.SSLHandshakeException: Received fatal alert: protocol_version",
            VERSION,
        ),
        (
            "javax.net.ssl.SSLException: Unsupported or unrecognized SSL message",
            NOT_TLS,
        ),
        ("java.net.SocketException: Connection reset", RESET),
        (
            "javax.net.ssl.SSLHandshakeException: Remote host terminated the handshake",
            RESET,
        ),
        (
            "javax.net.ssl.SSLHandshakeException: Received fatal alert: unknown_ca",
            REJECTED,
        ),
        (
            "javax.net.ssl.SSLHandshakeException: Received fatal alert: bad_certificate",
            REJECTED,
        ),
        (
            "javax.net.ssl.SSLHandshakeException: Received fatal alert: handshake_failure",
            GAVE_UP,
        ),
        (
            "javax.net.ssl.SSLHandshakeException: Empty client certificate chain",
            NONE,
        ),
        ("javax.net.ssl.SSLHandshakeException: null cert chain", NONE),
        (
            "javax.net.ssl.SSLHandshakeException: no cipher suites in common",
            CIPHER,
        ),
        (
            "javax.net.ssl.SSLHandshakeException: Insufficient buffer remaining for AEAD cipher fragment (2). Needs to be more than tag size (16)",
            REJECTED,
        ),
    ]);
}

#[test]
fn go_1_26() {
    check(&[
        (
            "tls: failed to verify certificate: x509: certificate has expired or is not yet valid: current time 2026-11-28T11:01:35Z is after 2026-11-27T11:00:00Z",
            EXPIRED,
        ),
        (
            "x509: certificate has expired or is not yet valid: current time 2026-11-28T11:01:35Z is before 2026-11-29T11:00:00Z",
            "not_yet_valid none peer",
        ),
        (
            "tls: failed to verify certificate: x509: certificate is valid for alertmanager.example, not localhost",
            NAME,
        ),
        (
            "tls: failed to verify certificate: x509: certificate signed by unknown authority",
            UNKNOWN_CA,
        ),
        (
            "tls: failed to verify certificate: x509: certificate specifies an incompatible key usage",
            "client_auth_missing none peer",
        ),
        (
            "tls: failed to verify certificate: x509: unhandled critical extension",
            CRITICAL,
        ),
        (
            "x509: cannot validate certificate for 10.0.0.7 because it doesn't contain any IP SANs",
            NAME,
        ),
        ("remote error: tls: protocol version not supported", VERSION),
        (
            "tls: first record does not look like a TLS handshake",
            NOT_TLS,
        ),
        (
            "read tcp 127.0.0.1:42512->127.0.0.1:23410: read: connection reset by peer",
            RESET,
        ),
        ("remote error: tls: certificate required", REQUIRED),
        ("remote error: tls: handshake failure", GAVE_UP),
        ("remote error: tls: unknown certificate authority", REJECTED),
        ("remote error: tls: expired certificate", REJECTED),
        ("remote error: tls: unsupported certificate", REJECTED),
        ("remote error: tls: bad certificate", REJECTED),
        ("remote error: tls: unknown certificate", REJECTED),
        ("remote error: tls: revoked certificate", REJECTED),
        ("remote error: tls: internal error", GAVE_UP),
        (
            "remote error: tls: no application protocol",
            "no_application_protocol none none",
        ),
        (
            "remote error: tls: unrecognized name",
            "unrecognized_name none none",
        ),
        ("tls: client didn't provide a certificate", NONE),
        (
            "tls: client offered only unsupported versions: [303]",
            VERSION,
        ),
        (
            "tls: client requested unsupported application protocols ([\"h3x\"])",
            "no_application_protocol none none",
        ),
        (
            "tls: no cipher suite supported by both client and server; client offered: [c02f]",
            CIPHER,
        ),
        (
            "tls: no key exchanges supported by both client and server",
            CIPHER,
        ),
        (
            "Get \"https://127.0.0.1:23409/\": http: server gave HTTP response to HTTPS client",
            NOT_TLS,
        ),
    ]);
    let namesake = "x509: certificate signed by unknown authority (possibly because of \"crypto/rsa: verification error\" while trying to verify candidate authority certificate \"Mesh CA\")";
    check(&[(namesake, UNKNOWN_CA)]);
    assert!(
        read(namesake, Inbound)
            .hint
            .contains("a new key under an old name")
    );
}

/// rustls 0.21 to 0.23.
#[test]
fn rustls() {
    check(&[
        ("received fatal alert: BadCertificate", REJECTED),
        ("received fatal alert: HandshakeFailure", GAVE_UP),
        ("received fatal alert: UnknownCA", REJECTED),
        ("received fatal alert: CertificateExpired", REJECTED),
        ("received fatal alert: CertificateRequired", REQUIRED),
        ("invalid peer certificate: UnknownIssuer", UNKNOWN_CA),
        ("invalid peer certificate: Expired", EXPIRED),
        (
            "invalid peer certificate: certificate expired: verification time 1790000000 (UNIX), but certificate is not valid after 1780000000 (10000000 seconds ago)",
            EXPIRED,
        ),
        (
            "invalid peer certificate: certificate not valid yet: verification time 1 (UNIX), but certificate is not valid before 2",
            "not_yet_valid none peer",
        ),
        (
            "invalid peer certificate: certificate not valid for name \"a.example\"; certificate is only valid for DnsName(\"b.example\")",
            NAME,
        ),
        (
            "invalid peer certificate: certificate does not allow extended key usage for client authentication, allows server authentication",
            PURPOSE,
        ),
        (
            "invalid peer certificate: BadSignature",
            "bad_signature none peer",
        ),
        (
            "invalid peer certificate: Other(OtherError(CaUsedAsEndEntity))",
            "key_usage none peer",
        ),
        ("peer sent no certificates", NONE),
        ("peer is incompatible: NoCipherSuitesInCommon", CIPHER),
        (
            "received corrupt message of type InvalidContentType",
            NOT_TLS,
        ),
        ("tls handshake eof", RESET),
    ]);
}

#[test]
fn gnutls_3_8() {
    check(&[
        (
            "- Status: The certificate is NOT trusted. The certificate issuer is unknown. ",
            UNKNOWN_CA,
        ),
        (
            "- Status: The certificate is NOT trusted. The certificate chain uses expired certificate. ",
            EXPIRED,
        ),
        (
            "- Status: The certificate is NOT trusted. The name in the certificate does not match the expected. ",
            NAME,
        ),
        (
            "*** Fatal error: A TLS fatal alert has been received.\n*** Received alert [48]: CA is unknown",
            REJECTED,
        ),
        ("*** Received alert [40]: Handshake failed", GAVE_UP),
        (
            "*** Fatal error: An unexpected TLS packet was received.",
            NOT_TLS,
        ),
        (
            "*** Fatal error: The TLS connection was non-properly terminated.",
            RESET,
        ),
        (
            "*** Fatal error: Error in the certificate verification.",
            VERIFY,
        ),
        (
            "*** Fatal error: No supported cipher suites have been found.",
            CIPHER,
        ),
    ]);
}

#[test]
fn dotnet_8_and_schannel() {
    check(&[
        (
            "System.Security.Authentication.AuthenticationException: The remote certificate is invalid because of errors in the certificate chain: UntrustedRoot",
            UNKNOWN_CA,
        ),
        (
            "System.Security.Authentication.AuthenticationException: The remote certificate is invalid because of errors in the certificate chain: NotTimeValid",
            EXPIRED,
        ),
        (
            "The remote certificate is invalid according to the validation procedure: RemoteCertificateNameMismatch",
            NAME,
        ),
        (
            "The remote certificate is invalid according to the validation procedure: RemoteCertificateChainErrors",
            VERIFY,
        ),
        (
            "Authentication failed because the remote party sent a TLS alert: 'UnknownCA'.",
            REJECTED,
        ),
        (
            "Authentication failed because the remote party sent a TLS alert: 'HandshakeFailure'.",
            GAVE_UP,
        ),
        (
            "Cannot determine the frame size or a corrupted frame was received.",
            NOT_TLS,
        ),
        (
            "Received an unexpected EOF or 0 bytes from the transport stream.",
            RESET,
        ),
        (
            "schannel: next InitializeSecurityContext failed: SEC_E_UNTRUSTED_ROOT (0x80090325) - The certificate chain was issued by an authority that is not trusted.",
            UNKNOWN_CA,
        ),
        (
            "schannel: next InitializeSecurityContext failed: SEC_E_WRONG_PRINCIPAL (0x80090322) - The target principal name is incorrect.",
            NAME,
        ),
        (
            "schannel: next InitializeSecurityContext failed: CRYPT_E_NO_REVOCATION_CHECK (0x80092012)",
            "revoked none peer",
        ),
    ]);
}

#[test]
fn mbedtls_3_6_and_wolfssl_5_7() {
    check(&[
        ("  ! The certificate validity has expired", EXPIRED),
        (
            "  ! The certificate is not correctly signed by the trusted CA",
            UNKNOWN_CA,
        ),
        (
            "  ! The certificate Common Name (CN) does not match with the expected CN",
            NAME,
        ),
        (
            "Last error was: -0x7480 - SSL - No client certification received from the client, but required by the authentication mode",
            NONE,
        ),
        (
            "mbedtls_ssl_handshake returned -0x7780: SSL - A fatal alert message was received from our peer",
            REJECTED,
        ),
        (
            "mbedtls_ssl_handshake returned -0x2700: X509 - Certificate verification failed, e.g. CRL, CA or signature check failed",
            VERIFY,
        ),
        ("got an alert message, type: [2:48]", REJECTED),
        (
            "wolfSSL_connect error -188, ASN no signer error to confirm failure",
            UNKNOWN_CA,
        ),
        ("wolfSSL error: ASN date error, current date after", EXPIRED),
        ("wolfSSL error: peer subject name mismatch", NAME),
        ("wolfSSL error: received alert fatal error", REJECTED),
    ]);
}

#[test]
fn nss_3_100_and_chrome_130() {
    check(&[
        ("Error code: SEC_ERROR_UNKNOWN_ISSUER", UNKNOWN_CA),
        ("SEC_ERROR_EXPIRED_CERTIFICATE", EXPIRED),
        (
            "SEC_ERROR_EXPIRED_ISSUER_CERTIFICATE",
            "expired issuing_ca peer",
        ),
        ("SSL_ERROR_BAD_CERT_DOMAIN", NAME),
        ("SSL_ERROR_BAD_CERT_ALERT", REJECTED),
        ("SSL_ERROR_RX_CERTIFICATE_REQUIRED_ALERT", REQUIRED),
        ("SSL_ERROR_NO_CYPHER_OVERLAP", CIPHER),
        ("SSL_ERROR_RX_RECORD_TOO_LONG", NOT_TLS),
        ("MOZILLA_PKIX_ERROR_SELF_SIGNED_CERT", SELF_SIGNED),
        ("PR_END_OF_FILE_ERROR", RESET),
        ("net::ERR_CERT_AUTHORITY_INVALID", UNKNOWN_CA),
        ("net::ERR_CERT_DATE_INVALID", EXPIRED),
        ("net::ERR_CERT_COMMON_NAME_INVALID", NAME),
        ("net::ERR_BAD_SSL_CLIENT_AUTH_CERT", REJECTED),
        ("net::ERR_SSL_CLIENT_AUTH_CERT_NEEDED", REQUIRED),
        ("net::ERR_SSL_VERSION_OR_CIPHER_MISMATCH", CIPHER),
    ]);
}

/// Which side has sent the alert is said in words.
#[test]
fn erlang_27() {
    check(&[
        (
            "TLS :server: In state certify at ssl_handshake.erl:2138 generated SERVER ALERT: Fatal - Certificate Expired",
            EXPIRED,
        ),
        (
            "TLS server: In state wait_cert at ssl_handshake.erl:2138 generated SERVER ALERT: Fatal - Unknown CA",
            UNKNOWN_CA,
        ),
        (
            "TLS client: In state connection received SERVER ALERT: Fatal - Unknown CA",
            REJECTED,
        ),
        (
            "TLS server: In state certify received CLIENT ALERT: Fatal - Bad Certificate",
            REJECTED,
        ),
        (
            "TLS client: In state certify at ssl_handshake.erl:1888 generated CLIENT ALERT: Fatal - Handshake Failure\n - {bad_cert,hostname_check_failed}",
            NAME,
        ),
    ]);
}

#[test]
fn envoy_without_its_reason() {
    let text = "upstream connect error or disconnect/reset before headers. reset reason: remote connection failure";
    let hint = read(text, Outbound).hint;
    assert!(
        hint.contains("%UPSTREAM_TRANSPORT_FAILURE_REASON%"),
        "{hint}"
    );
    let text = text.replace("remote connection failure", "connection termination");
    assert_eq!(verdict(&read(&text, Outbound)), RESET);
    assert!(read(&text, Outbound).hint.contains("the server's log"));
    check(&[(
        "verify cert failed: X509_verify_cert: certificate verification error at depth 1: certificate has expired",
        "expired issuing_ca peer",
    )]);
}

/// Words in names of hosts and programs are no clauses.
#[test]
fn words_elsewhere_in_the_line_decide_nothing() {
    check(&[
        (
            "alertmanager: Post \"https://alert.example/\": x509: certificate signed by unknown authority",
            UNKNOWN_CA,
        ),
        (
            "alert: the http request to alertmanager failed: tls: failed to verify certificate: x509: certificate is valid for a.example, not b.example",
            NAME,
        ),
        (
            "http request failed, SSL certificate problem: certificate has expired",
            EXPIRED,
        ),
        (
            "certificate-has-expired.example: remote error: tls: bad certificate",
            REJECTED,
        ),
        (
            "x509: certificate is valid for unable-to-get-local-issuer-certificate.example, not b.example",
            NAME,
        ),
        (
            "broken-pipe.example: [SSL: NO_SHARED_CIPHER] no shared cipher",
            CIPHER,
        ),
        (
            "2026-11-28T11:00:00Z GET /revoked 503 UF TLS_error:|268435581:SSL_routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED:verify_cert_failed:_SAN_matcher,_certificate_SANs_are_[x.certificate_has_expired.example]:TLS_error_end",
            NAME,
        ),
    ]);
}

/// The cause and the alert that it has sent, in any order.
#[test]
fn of_two_lines_the_cause_counts() {
    let alert = "client: remote error: tls: bad certificate";
    let reset = "proxy: Connection reset by peer";
    for (cause, expected) in [
        (
            "server: tls: failed to verify certificate: x509: certificate signed by unknown authority",
            UNKNOWN_CA,
        ),
        (
            "javax.net.ssl.SSLHandshakeException: Empty client certificate chain",
            NONE,
        ),
        (
            "TLS_error:|268435581:SSL routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED:verify cert failed: X509_verify_cert: certificate verification error at depth 0: certificate has expired:TLS_error_end",
            "expired workload peer",
        ),
    ] {
        for lines in [
            [cause, alert],
            [alert, cause],
            [cause, reset],
            [reset, cause],
        ] {
            for end in ["\n", "\r\n"] {
                assert_eq!(
                    verdict(&read(&lines.join(end), Inbound)),
                    expected,
                    "{lines:?}"
                );
            }
        }
    }
    check(&[(&format!("{reset}\n{alert}"), REJECTED)]);
}

#[test]
fn what_nobody_knows_is_said_as_it_is() {
    let failure = read("the TLS handshake met a dragon", Inbound);
    assert_eq!(verdict(&failure), "other none none");
    assert!(failure.hint.contains("met a dragon"));
    for text in [
        "",
        "\n\n",
        "delayed connect error: Connection refused",
        "all is well",
    ] {
        assert_eq!(explain(text, Inbound), None, "{text}");
    }
}

proptest! {
    #[test]
    fn any_text_is_read(bytes in any::<Vec<u8>>(), text in "\\PC{0,400}") {
        for direction in [Inbound, Outbound] {
            let _ = explain(&String::from_utf8_lossy(&bytes), direction);
            let _ = explain(&text, direction);
            for start in ["error:", "TLS_error:|", "received fatal alert: ", "[SSL: ", " ALERT: Fatal - "] {
                if let Some(failure) = explain(&format!("{start}{text}"), direction) {
                    prop_assert!(failure.hint.len() < 400);
                }
            }
        }
    }
}

/// A megabyte that is all clauses.
#[test]
fn a_long_text_is_read_in_one_pass() {
    for text in [
        "x:".repeat(500_000),
        "TLS_error:|".repeat(100_000),
        " ALERT: Fatal - ".repeat(60_000),
    ] {
        let _ = explain(&text, Inbound);
    }
}
