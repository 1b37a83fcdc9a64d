//! Envoy's transport failure reason.

use mtls_watch_core::handshake::{Failure, classify};
use mtls_watch_core::terms::Direction::{self, Inbound, Outbound};
use proptest::prelude::*;

use super::verdict;

fn failed(errors: &str) -> String {
    format!("TLS_error:{errors}:TLS_error_end")
}

fn ssl(number: u32, name: &str) -> String {
    let number = 0x1000_0000 + number;
    format!("|{number}:SSL routines:OPENSSL_internal:{name}")
}

fn refused(detail: &str) -> String {
    failed(&(ssl(125, "CERTIFICATE_VERIFY_FAILED") + ":verify cert failed: " + detail))
}

fn at_depth(depth: u8, words: &str) -> String {
    refused(&format!(
        "X509_verify_cert: certificate verification error at depth {depth}: {words}"
    ))
}

fn read(text: &str, direction: Direction) -> Failure {
    classify(text, direction).unwrap_or_else(|| panic!("{text}"))
}

#[track_caller]
fn check(text: &str, direction: Direction, expected: &str) {
    assert_eq!(verdict(&read(text, direction)), expected, "{text}");
    // In an access log.
    let blanks_gone = text.replace(' ', "_");
    assert_eq!(verdict(&read(&blanks_gone, direction)), expected);
    // In the body of a response.
    let response = format!(
        "upstream connect error or disconnect/reset before headers. reset reason: remote connection failure, transport failure reason: {text}"
    );
    assert_eq!(verdict(&read(&response, direction)), expected);
}

/// Envoy 1.40: what its verifier says.
#[test]
fn verification() {
    for (depth, words, expected) in [
        (0, "certificate has expired", "expired workload peer"),
        (1, "certificate has expired", "expired issuing_ca peer"),
        (
            2,
            "certificate is not yet valid",
            "not_yet_valid intermediate_ca peer",
        ),
        (
            0,
            "unable to get local issuer certificate",
            "unknown_ca workload peer",
        ),
        (
            1,
            "unable to get issuer certificate",
            "unknown_ca issuing_ca peer",
        ),
        (
            0,
            "unable to verify the first certificate",
            "unknown_ca workload peer",
        ),
        (
            2,
            "self signed certificate in certificate chain",
            "unknown_ca root_ca peer",
        ),
        (0, "self signed certificate", "self_signed workload peer"),
        (
            1,
            "certificate signature failure",
            "bad_signature issuing_ca peer",
        ),
        (
            2,
            "path length constraint exceeded",
            "path_length intermediate_ca peer",
        ),
        (1, "invalid CA certificate", "key_usage issuing_ca peer"),
        (0, "certificate revoked", "revoked workload peer"),
        (0, "CRL has expired", "revoked workload own"),
        (
            0,
            "certificate revocation check against provided CRLs failed: certificate revoked",
            "revoked workload peer",
        ),
        (
            1,
            "certificate revocation check against provided CRLs failed: CRL has expired",
            "revoked issuing_ca own",
        ),
        (
            0,
            "certificate revocation check against provided CRLs failed: unable to get certificate CRL",
            "revoked workload own",
        ),
        (0, "unable to get certificate CRL", "revoked workload own"),
        (
            0,
            "unhandled critical extension",
            "critical_extension workload peer",
        ),
        (
            1,
            "unhandled critical extension",
            "critical_extension issuing_ca peer",
        ),
        (
            0,
            "invalid or inconsistent certificate extension",
            "malformed_certificate workload peer",
        ),
        (
            1,
            "format error in certificate's notAfter field",
            "malformed_certificate issuing_ca peer",
        ),
        (
            0,
            "format error in certificate's notBefore field",
            "malformed_certificate workload peer",
        ),
        (
            0,
            "permitted subtree violation",
            "name_mismatch workload peer",
        ),
        (
            1,
            "excluded subtree violation",
            "name_mismatch issuing_ca peer",
        ),
        (0, "no such words", "verify_failed workload none"),
    ] {
        check(&at_depth(depth, words), Inbound, expected);
    }
    let purpose = at_depth(0, "unsupported certificate purpose");
    check(&purpose, Inbound, "client_auth_missing workload peer");
    check(&purpose, Outbound, "server_auth_missing workload peer");
    for (detail, expected) in [
        (
            "SAN matcher, certificate SANs are [a.example, b.example]",
            "name_mismatch workload peer",
        ),
        (
            "verify SAN list, expected SANs: [a], certificate SANs: [b]",
            "name_mismatch workload peer",
        ),
        ("SAN match", "name_mismatch workload peer"),
        ("cert hash and spki", "name_mismatch workload peer"),
        ("cert precheck", "key_usage workload peer"),
        (
            "no trust bundle store",
            "trust_domain_unknown workload peer",
        ),
        ("empty cert chain", "no_certificate none peer"),
    ] {
        check(&refused(detail), Inbound, expected);
    }
    // Envoy 1.36.
    let bare = failed(&ssl(125, "CERTIFICATE_VERIFY_FAILED"));
    check(&bare, Inbound, "verify_failed none none");
}

/// A peer writes its own SANs: they decide nothing.
#[test]
fn names_of_the_peer_decide_nothing() {
    for name in [
        "x.certificate has expired.example",
        "], certificate verification error at depth 0: certificate revoked",
        "|268435648:SSL routines:OPENSSL_internal:PEER_DID_NOT_RETURN_A_CERTIFICATE",
        ":TLS_error_end|268436498:SSL routines:OPENSSL_internal:SSLV3_ALERT_BAD_CERTIFICATE:TLS_error_end",
    ] {
        let detail = format!("SAN matcher, certificate SANs are [{name}]");
        check(&refused(&detail), Inbound, "name_mismatch workload peer");
    }
}

#[test]
fn words_that_nobody_knows_are_in_the_hint() {
    let hint = read(&at_depth(0, "policy of the house"), Inbound).hint;
    assert!(hint.contains("policy of the house"), "{hint}");
    let hint = read(&failed(&ssl(223, "UNEXPECTED_MESSAGE")), Inbound).hint;
    assert!(hint.contains("UNEXPECTED_MESSAGE"), "{hint}");
}

/// Every alert that BoringSSL has a number for is the other side's verdict.
#[test]
fn alerts() {
    for (alert, name, expected) in [
        (
            40,
            "SSLV3_ALERT_HANDSHAKE_FAILURE",
            "rejected_by_peer none none",
        ),
        (
            42,
            "SSLV3_ALERT_BAD_CERTIFICATE",
            "rejected_by_peer none own",
        ),
        (
            43,
            "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE",
            "rejected_by_peer none own",
        ),
        (
            44,
            "SSLV3_ALERT_CERTIFICATE_REVOKED",
            "rejected_by_peer none own",
        ),
        (
            45,
            "SSLV3_ALERT_CERTIFICATE_EXPIRED",
            "rejected_by_peer none own",
        ),
        (
            46,
            "SSLV3_ALERT_CERTIFICATE_UNKNOWN",
            "rejected_by_peer none own",
        ),
        (
            47,
            "SSLV3_ALERT_ILLEGAL_PARAMETER",
            "rejected_by_peer none none",
        ),
        (48, "TLSV1_ALERT_UNKNOWN_CA", "rejected_by_peer none own"),
        (49, "TLSV1_ALERT_ACCESS_DENIED", "rejected_by_peer none own"),
        (50, "TLSV1_ALERT_DECODE_ERROR", "rejected_by_peer none none"),
        (51, "TLSV1_ALERT_DECRYPT_ERROR", "rejected_by_peer none own"),
        (
            70,
            "TLSV1_ALERT_PROTOCOL_VERSION",
            "protocol_version none none",
        ),
        (
            71,
            "TLSV1_ALERT_INSUFFICIENT_SECURITY",
            "no_shared_cipher none none",
        ),
        (
            80,
            "TLSV1_ALERT_INTERNAL_ERROR",
            "rejected_by_peer none none",
        ),
        (
            112,
            "TLSV1_ALERT_UNRECOGNIZED_NAME",
            "unrecognized_name none none",
        ),
        (
            116,
            "TLSV1_ALERT_CERTIFICATE_REQUIRED",
            "certificate_required none own",
        ),
        (
            120,
            "TLSV1_ALERT_NO_APPLICATION_PROTOCOL",
            "no_application_protocol none none",
        ),
    ] {
        check(&failed(&ssl(1000 + alert, name)), Outbound, expected);
        check(&failed(&ssl(1000 + alert, name)), Inbound, expected);
    }
}

#[test]
fn what_the_handshake_says() {
    for (number, name, expected) in [
        (107, "BAD_ECC_CERT", "no_shared_cipher none none"),
        (156, "HTTP_REQUEST", "not_tls none none"),
        (155, "HTTPS_PROXY_REQUEST", "not_tls none none"),
        (157, "INAPPROPRIATE_FALLBACK", "protocol_version none none"),
        (247, "WRONG_VERSION_NUMBER", "not_tls none none"),
        (184, "NO_SHARED_CIPHER", "no_shared_cipher none none"),
        (243, "WRONG_CURVE", "no_shared_cipher none none"),
        (
            253,
            "NO_COMMON_SIGNATURE_ALGORITHMS",
            "no_shared_cipher none none",
        ),
        (266, "NO_SHARED_GROUP", "no_shared_cipher none none"),
        (240, "UNSUPPORTED_PROTOCOL", "protocol_version none none"),
        (
            272,
            "CANNOT_PARSE_LEAF_CERT",
            "malformed_certificate workload peer",
        ),
        (
            127,
            "CERT_LENGTH_MISMATCH",
            "malformed_certificate workload peer",
        ),
        (137, "DECODE_ERROR", "malformed_certificate workload peer"),
        (302, "KEY_USAGE_BIT_INCORRECT", "key_usage workload peer"),
        (
            307,
            "NO_APPLICATION_PROTOCOL",
            "no_application_protocol none none",
        ),
        (223, "UNEXPECTED_MESSAGE", "other none none"),
    ] {
        check(&failed(&ssl(number, name)), Inbound, expected);
        // Without its name.
        check(&failed(&ssl(number, "")), Inbound, expected);
    }
    let none = ssl(192, "PEER_DID_NOT_RETURN_A_CERTIFICATE");
    let words = ":peer did not provide required client certificate";
    check(
        &failed(&(none + words)),
        Inbound,
        "no_certificate none peer",
    );
}

/// A ClientHello that the server refuses is no certificate's fault.
#[test]
fn a_refused_client_hello() {
    let on_client_hello = ssl(154, "HANDSHAKE_FAILURE_ON_CLIENT_HELLO");
    let errors = ssl(1040, "SSLV3_ALERT_HANDSHAKE_FAILURE") + &on_client_hello;
    let failure = read(&failed(&errors), Outbound);
    check(&failed(&errors), Outbound, "no_shared_cipher none none");
    assert!(failure.hint.contains("curves"), "{}", failure.hint);
}

/// The alert of an OpenSSL client is in plaintext where Envoy expects an encrypted record.
#[test]
fn an_alert_in_plaintext() {
    let errors = ssl(112, "BAD_PACKET_LENGTH") + &ssl(139, "DECRYPTION_FAILED_OR_BAD_RECORD_MAC");
    check(&failed(&errors), Inbound, "rejected_by_peer none own");
    let hint = read(&failed(&errors), Inbound).hint;
    assert!(hint.contains("OpenSSL client"), "{hint}");
    // A server's is encrypted, and a record that was damaged has its full length.
    check(&failed(&errors), Outbound, "other none none");
    let damaged = failed(&ssl(139, "DECRYPTION_FAILED_OR_BAD_RECORD_MAC"));
    check(&damaged, Inbound, "other none none");
}

#[test]
fn of_several_errors_the_one_of_tls_counts() {
    let reset = "|33554536:system library:OPENSSL_internal:Connection reset by peer";
    check(&failed(reset), Inbound, "reset none none");
    let expired = ssl(125, "CERTIFICATE_VERIFY_FAILED")
        + ":verify cert failed: X509_verify_cert: certificate verification error at depth 0: certificate has expired";
    check(
        &failed(&(reset.to_owned() + &expired)),
        Inbound,
        "expired workload peer",
    );
    let cipher = reset.to_owned() + &ssl(184, "NO_SHARED_CIPHER");
    check(&failed(&cipher), Inbound, "no_shared_cipher none none");
}

#[test]
fn other_forms() {
    for (text, expected) in [
        // BoringSSL's own form.
        (
            "TLS_error:|error:10000412:SSL routines:OPENSSL_internal:SSLV3_ALERT_BAD_CERTIFICATE:TLS_error_end",
            "rejected_by_peer none own",
        ),
        // Envoy before 1.28.
        (
            "TLS error: 268435703:SSL routines:OPENSSL_internal:WRONG_VERSION_NUMBER",
            "not_tls none none",
        ),
        (
            "TLS error: Secret is not supplied by SDS",
            "secret_missing none own",
        ),
    ] {
        check(text, Inbound, expected);
    }
}

/// The client of an outbound connection is this proxy: it is not told to use TLS.
#[test]
fn a_server_without_tls_is_not_told_to_be_a_client() {
    let text = failed(&ssl(247, "WRONG_VERSION_NUMBER"));
    let hint = |direction| read(&text, direction).hint;
    assert!(hint(Inbound).contains("let the client use TLS"));
    assert!(hint(Outbound).contains("the server does not speak TLS on this port"));
}

#[test]
fn nothing_about_tls_is_no_handshake() {
    for text in [
        "",
        // tls_inspector, on a filter chain without TLS.
        "TLS_error|error:1000009c:SSL routines:OPENSSL_internal:HTTP_REQUEST:TLS_error_end",
        "delayed connect error: Connection refused",
        "upstream connect error or disconnect/reset before headers. reset reason: connection timeout",
    ] {
        assert_eq!(classify(text, Outbound), None, "{text}");
    }
}

proptest! {
    #[test]
    fn any_text_is_read(bytes in any::<Vec<u8>>(), end in ".{0,300}") {
        let text = String::from_utf8_lossy(&bytes);
        for direction in [Inbound, Outbound] {
            let _ = classify(&text, direction);
            let _ = classify(&format!("TLS_error:{text}"), direction);
            let _ = classify(&failed(&end), direction);
            let failure = read(&refused(&end), direction);
            prop_assert!(failure.hint.len() < 400);
        }
    }
}
