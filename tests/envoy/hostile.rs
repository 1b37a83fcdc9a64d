//! Peers that send what nobody should: it is counted or said, traffic flows, and the module lives
//! on.

use anyhow::{Context, Result};
use testbed::pki::{LeafBuilder, Lifetime};
use testbed::{Ca, Client};

use crate::setup::{INBOUND, INSPECTIONS, NOT_AFTER, PAY, Pki, Proxy, REQUESTS, gauge};
use crate::variants::Variant;

const XFCC: &str = "x-forwarded-client-cert";

/// After all that, a sound client is still judged, and nothing has broken.
fn check_alive(pki: &Pki, proxy: &Proxy) -> Result<()> {
    let ok = [INBOUND, ("status", "ok")];
    let before = proxy.stats()?.value(REQUESTS, &ok).unwrap_or_default();
    proxy.get(&pki.client()?)?;
    assert_eq!(proxy.stats()?.value(REQUESTS, &ok), Some(before + 1.0));
    let log = proxy.envoy.log();
    for word in ["bug, please report", "panic", "Wasm VM failed", "Function"] {
        assert!(!log.contains(word), "{log}");
    }
    Ok(())
}

/// Each of these is a certificate that Envoy takes, and that is read.
#[test]
fn odd_certificates_are_read() -> Result<()> {
    let pki = Pki::new()?;
    // With tickets, which hold the client's certificate, Envoy itself fails on one of 60 KB.
    let sample = pki
        .sample("both.yaml")?
        .set(
            "DownstreamTlsContext",
            "disable_stateless_session_resumption",
            true,
        )
        .xfcc("SANITIZE_SET")
        .accepting_untrusted();
    let proxy = Proxy::http(sample)?;
    let leaf = || pki.cas.leaf();
    let with_names = |leaf: LeafBuilder, count| {
        let name = |number| format!("{number}.{}", "x".repeat(50));
        (0..count).fold(leaf, |leaf, number| leaf.dns(&name(number)))
    };
    let with_uris = |leaf: LeafBuilder, count| {
        (0..count).fold(leaf, |leaf, number| leaf.uri(&format!("urn:{number}")))
    };
    let years = Lifetime {
        not_before: -631_152_000,
        not_after: 253_402_300_799,
    };
    let umlaut = leaf().common_name("Müller").issue()?;
    for (peer, identity) in [
        (leaf().issue()?, "unknown"),
        (
            leaf().common_name("").uri("urn:empty-name").issue()?,
            "urn:empty-name",
        ),
        (
            leaf().common_name("a\0\n\r\u{1b}[31mb").issue()?,
            "a_____31mb",
        ),
        (with_uris(leaf(), 100).issue()?, "urn:0"),
        (
            with_names(leaf().uri("urn:100-names"), 100).issue()?,
            "urn:100-names",
        ),
        (
            with_names(leaf().uri("urn:60-kb"), 1000).issue()?,
            "urn:60-kb",
        ),
        (
            leaf().uri("urn:1950-to-9999").lifetime(years).issue()?,
            "urn:1950-to-9999",
        ),
        // As a TeletexString, which BoringSSL takes for Latin-1.
        (
            umlaut.with_replaced(b"\x0c\x07M\xc3\xbcller", b"\x14\x07M\xfc\xfdller"),
            "M__ller",
        ),
    ] {
        proxy.get(&Client::mtls(&peer)).context(identity)?;
        let labels = gauge(INBOUND, "workload", identity);
        let not_after = proxy.stats()?.value(NOT_AFTER, &labels);
        assert!(not_after.is_some(), "{identity}");
        if identity == "urn:1950-to-9999" {
            assert_eq!(not_after, Some(years.not_after as f64));
        }
    }
    let unreadable = [("result", "unreadable")];
    assert_eq!(proxy.stats()?.sum(INSPECTIONS, &unreadable), 0.0);
    check_alive(&pki, &proxy)
}

/// BoringSSL does not parse a UTF8String that is not UTF-8: the handshake fails, and the module
/// never hears of the certificate.
#[test]
fn broken_text_does_not_get_through() -> Result<()> {
    let pki = Pki::new()?;
    let proxy = Proxy::http(pki.sample("both.yaml")?.accepting_untrusted())?;
    let broken = pki.cas.leaf().common_name("Müller").issue()?;
    let broken = broken.with_replaced("Müller".as_bytes(), b"M\xfc\xfdller");
    assert!(proxy.get(&Client::mtls(&broken)).is_err());
    assert_eq!(proxy.stats()?.sum(INSPECTIONS, &[]), 0.0);
    check_alive(&pki, &proxy)
}

/// A chain of twenty CAs, all in the header.
#[test]
fn long_chains_are_looked_at_as_far_as_is_sensible() -> Result<()> {
    let pki = Pki::new()?;
    let sample = pki
        .sample("both.yaml")?
        .xfcc("SANITIZE_SET")
        .accepting_untrusted();
    let proxy = Proxy::http(sample)?;
    let mut ca = Ca::root("Root CA").issue()?;
    for number in 0..20 {
        ca = ca.subordinate(&format!("CA {number}")).issue()?;
    }
    proxy.get(&Client::mtls(&ca.leaf().uri(PAY).issue()?))?;
    let stats = proxy.stats()?;
    assert_eq!(
        stats.value(REQUESTS, &[INBOUND, ("status", "ok")]),
        Some(1.0)
    );
    let issuing = [INBOUND, ("layer", "issuing_ca")];
    assert!(stats.value(NOT_AFTER, &issuing).is_some());
    check_alive(&pki, &proxy)
}

/// Headers as long as Envoy takes them, in the header that is read and in another.
#[test]
fn long_headers_go_through() -> Result<()> {
    let pki = Pki::new()?;
    for mode in ["SANITIZE_SET", "APPEND_FORWARD", "FORWARD_ONLY"] {
        let sample = pki.sample("http.yaml")?.xfcc(mode);
        let sample = sample.set("HttpConnectionManager", "max_request_headers_kb", 96);
        let proxy = Proxy::http(sample)?;
        for text in ["\"", ",", "Cert=\"", "%", "\\\"", "[{"] {
            let value = text.repeat(60 * 1024 / text.len());
            for header in [XFCC, "x-other"] {
                proxy
                    .get_with(&pki.client()?, &[(header, &value)])
                    .with_context(|| format!("{mode} {header} {text}"))?;
            }
        }
        let ok = [INBOUND, ("status", "ok")];
        assert_eq!(proxy.stats()?.value(REQUESTS, &ok), Some(12.0), "{mode}");
        check_alive(&pki, &proxy)?;
    }
    Ok(())
}
