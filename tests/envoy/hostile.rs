//! Peers that send what nobody should: it is counted or said, traffic flows, and the module lives
//! on.

use std::io::Write as _;
use std::net::TcpStream;

use anyhow::{Context, Result, ensure};
use testbed::pki::{DAY, HOUR, LeafBuilder, Lifetime};
use testbed::stats::{self, eventually};
use testbed::{Ca, Client};

use crate::setup::{
    CONNECTIONS, INBOUND, INSPECTIONS, NOT_AFTER, PAY, Pki, Proxy, REQUESTS, gauge, with_digits,
};
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
    let control = "a\0\n\r\u{1b}[31mb";
    let plain_control = with_digits("a_____31mb", control);
    let plain_umlaut = with_digits("M__ller", "Müýller");
    let umlaut = leaf().common_name("Müller").issue()?;
    for (peer, identity) in [
        (leaf().issue()?, "unknown"),
        (
            leaf().common_name("").uri("urn:empty-name").issue()?,
            "urn:empty-name",
        ),
        (leaf().common_name(control).issue()?, &plain_control),
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
            &plain_umlaut,
        ),
    ] {
        proxy
            .get(&Client::mtls(&peer))
            .context(identity.to_owned())?;
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

/// Names made to be taken for another peer, for a label, for a line of the log. All are of the trusted
/// CA; their certificates are about to expire, so that each is logged.
#[test]
fn names_that_imitate_are_told_apart() -> Result<()> {
    let pki = Pki::new()?;
    let proxy = Proxy::http(pki.sample("both.yaml")?)?;
    proxy.get(&pki.client()?)?;
    let before = proxy.stats()?;
    let soon = Lifetime::from_now(-90 * DAY, HOUR);
    let uris = [
        format!("{PAY};.;status=.=ok;.;mtls_requests_total"),
        format!("x;.;identity=.={PAY}"),
        format!("{PAY} "),
        format!("{PAY}\u{7f}"),
        format!("{PAY}\n"),
        format!("{PAY}\r\nmtls-watch: handshake refused direction=inbound reason=expired"),
        format!("{PAY}\" hint=\"all is well"),
        format!("{PAY}\u{1b}[2J\u{1b}[31mred"),
        format!("{PAY}\0admin"),
        format!("{PAY}\\"),
        PAY.replace("spiffe://", "SPIFFE://"),
        PAY.replace("/sa/", "//sa/"),
        PAY.replace("pay", "p%61y"),
        format!("{PAY}/../admin"),
        "{\"identity\": \"x\"}".to_owned(),
        "$(reboot)`reboot`".to_owned(),
        "<script>alert(1)</script>".to_owned(),
        "%FILTER_STATE(wasm.mtls_watch.status:PLAIN)%".to_owned(),
    ];
    let common_names = [
        "\u{202e}yap",
        "p\u{430}y",
        "pay\u{200b}",
        "other",
        "unknown",
        "",
    ];
    let by_uri = uris.iter().map(|uri| pki.cas.leaf().uri(uri));
    let by_name = common_names
        .iter()
        .map(|name| pki.cas.leaf().common_name(name));
    let mut taken = 0;
    for leaf in by_uri.chain(by_name) {
        // Some of them BoringSSL itself refuses.
        let leaf = leaf.lifetime(soon).issue()?;
        taken += u32::from(proxy.get(&Client::mtls(&leaf)).is_ok());
    }
    assert!(taken > 15, "{taken} got through");
    let stats = proxy.stats()?;
    // Every one was counted as what it is, and none as the one it imitates.
    let critical = [INBOUND, ("status", "critical")];
    assert_eq!(stats.value(REQUESTS, &critical), Some(f64::from(taken)));
    let pay = gauge(INBOUND, "workload", PAY);
    assert_eq!(stats.value(NOT_AFTER, &pay), before.value(NOT_AFTER, &pay));
    for series in stats.with_prefix("mtls_") {
        for (label, value) in &series.labels {
            let bytes = value
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"._~:/@+-".contains(&b));
            assert!(bytes, "{label}={value:?}");
        }
    }
    let log = proxy.envoy.log();
    let lines: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("mtls-watch: "))
        .collect();
    assert!(lines.len() >= taken as usize, "{} lines", lines.len());
    for line in &lines {
        assert!(!line.contains(char::is_control), "{line:?}");
        // Envoy's own prefix first, then ours, once: nobody else began a line.
        assert!(line.starts_with('['), "{line:?}");
        assert!(
            line.contains("certificate finding direction=inbound"),
            "{line:?}"
        );
    }
    check_alive(&pki, &proxy)
}

/// Hundreds that connect and never speak, that stop in the middle of the handshake, that go without a
/// word: others are served meanwhile, and nothing is left when they have gone.
#[test]
fn clients_that_stop_half_way_hold_nothing() -> Result<()> {
    const EACH: usize = 200;
    let pki = Pki::new()?;
    let proxy = Proxy::http(pki.sample("both.yaml")?)?;
    proxy.get(&pki.client()?)?;
    let before = proxy.stats()?.count("mtls_");
    let hello = pki.client()?.hello()?;
    let mut resident = Vec::new();
    for _ in 0..3 {
        let mut waiting = Vec::new();
        for _ in 0..EACH {
            for beginning in [&[][..], &hello[..hello.len() / 2], &hello] {
                let mut stream = TcpStream::connect(("127.0.0.1", proxy.port))?;
                stream.write_all(beginning)?;
                waiting.push(stream);
            }
        }
        // With all of them there.
        eventually(stats::DEADLINE, || {
            let open = proxy
                .stats()?
                .sum("envoy_listener_downstream_cx_active", &[]);
            ensure!(open >= (3 * EACH) as f64, "{open} open");
            Ok(())
        })?;
        proxy.get(&pki.client()?)?;
        // Those that were answered reset: the answer is left unread.
        drop(waiting);
        eventually(stats::DEADLINE, || {
            let open = proxy
                .stats()?
                .sum("envoy_listener_downstream_cx_active", &[]);
            ensure!(open == 0.0, "{open} open");
            Ok(())
        })?;
        resident.push(proxy.envoy.resident_memory()?);
    }
    let stats = proxy.stats()?;
    println!("resident after each {} of them: {resident:?}", 3 * EACH);
    assert_eq!(stats.sum(CONNECTIONS, &[]), 4.0);
    assert_eq!(
        stats.value(CONNECTIONS, &[INBOUND, ("security", "mtls")]),
        Some(4.0)
    );
    // One series for all that reset, named after nobody.
    let failures = stats.series("mtls_handshake_failures_total");
    assert!(failures.len() <= 1, "{failures:?}");
    assert!(stats.count("mtls_") <= before + 1);
    assert!(resident[2].saturating_sub(resident[1]) < 4 * 1024 * 1024);
    check_alive(&pki, &proxy)
}
