//! Where certificates are read, in which order, and whose word is taken for them.

use anyhow::{Context, Result};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use testbed::pki::{DAY, Lifetime};
use testbed::{Client, Identity, Stats};

use crate::setup::{INBOUND, INSPECTIONS, NOT_AFTER, PAY, Pki, Proxy, REQUESTS, forwarded, gauge};
use crate::variants::Variant;

const XFCC: &str = "x-forwarded-client-cert";
const DETAILS: &str = "set_current_client_cert_details";
/// How the filter state sample gives the certificate.
const HANDSHAKE: &str = "on_downstream_tls_handshake";
const KEY: &str = "mtls_watch.peer_certificate";
const CERTIFICATE: &str = "%DOWNSTREAM_PEER_CERT%";

/// What was read, as `source result count`, nothing else.
fn inspections(stats: &Stats) -> Vec<String> {
    let read = stats.series(INSPECTIONS).into_iter();
    let read = read.filter(|series| series.value > 0.0);
    read.map(|s| format!("{} {} {}", s.label("source"), s.label("result"), s.value))
        .collect()
}

/// With all three there: the first of the list gives the leaf, and XFCC, if it is in the list at
/// all, the rest of the chain.
#[test]
fn are_asked_in_the_order_of_the_list() -> Result<()> {
    let pki = Pki::new()?;
    for (sources, expected) in [
        (
            r#""attribute", "filter_state", "xfcc""#,
            &["attribute ok 1", "xfcc ok 2"][..],
        ),
        (
            r#""filter_state", "xfcc", "attribute""#,
            &["filter_state ok 1", "xfcc ok 2"],
        ),
        (r#""xfcc", "attribute""#, &["xfcc ok 3"]),
        (r#""attribute""#, &["attribute ok 1"]),
        (r#""filter_state""#, &["filter_state ok 1"]),
        (r#""xfcc""#, &["xfcc ok 3"]),
    ] {
        let sample = pki.sample("http.yaml")?.xfcc("SANITIZE_SET");
        let sample = sample.filter_state(HANDSHAKE, KEY, CERTIFICATE);
        let proxy = Proxy::http(sample.configuration(&configuration(sources)))?;
        proxy.get(&pki.client()?)?;
        let stats = proxy.stats()?;
        assert_eq!(inspections(&stats), expected, "{sources}");
        let ok = stats.value(REQUESTS, &[INBOUND, ("status", "ok")]);
        assert_eq!(ok, Some(1.0), "{sources}");
    }
    Ok(())
}

fn configuration(sources: &str) -> String {
    format!(r#"{{"certificate_sources": [{sources}]}}"#)
}

/// The next is asked where one has nothing, or nothing readable; the latter is counted.
#[test]
fn follow_one_that_gives_nothing() -> Result<()> {
    let pki = Pki::new()?;
    for (moment, value, expected) in [
        // Before the handshake, the certificate is `-`.
        ("on_new_connection", CERTIFICATE, &["attribute ok 1"][..]),
        (
            HANDSHAKE,
            "hello",
            &["attribute ok 1", "filter_state unreadable 1"],
        ),
    ] {
        let sample = pki.sample("http.yaml")?.filter_state(moment, KEY, value);
        let sources = configuration(r#""filter_state", "attribute""#);
        let proxy = Proxy::http(sample.configuration(&sources))?;
        proxy.get(&pki.client()?)?;
        let stats = proxy.stats()?;
        assert_eq!(inspections(&stats), expected, "{value}");
        let ok = stats.value(REQUESTS, &[INBOUND, ("status", "ok")]);
        assert_eq!(ok, Some(1.0), "{value}");
    }
    Ok(())
}

/// The sample for Envoy 1.37, as on that version: without attributes. Both of its filters.
#[test]
fn filter_state_is_enough() -> Result<()> {
    let pki = Pki::new()?;
    let sample = pki.sample("filter-state.yaml")?;
    let proxy = Proxy::http(sample.configuration(&configuration(r#""filter_state""#)))?;
    proxy.get(&pki.client()?)?;
    let stats = proxy.stats()?;
    let read = stats.value(INSPECTIONS, &[("source", "filter_state"), ("result", "ok")]);
    assert_eq!(stats.sum(INSPECTIONS, &[]), read.unwrap_or_default());
    assert!(
        stats
            .value(NOT_AFTER, &gauge(INBOUND, "workload", PAY))
            .is_some()
    );
    Ok(())
}

/// The key is configurable, and no other is read.
#[test]
fn filter_state_is_read_under_the_configured_key() -> Result<()> {
    let pki = Pki::new()?;
    for (key, expected) in [
        ("ours", "filter_state ok 1"),
        ("theirs", "filter_state unreadable 1"),
    ] {
        let sample = pki
            .sample("http.yaml")?
            .filter_state(HANDSHAKE, key, CERTIFICATE);
        let proxy = Proxy::http(sample.configuration(
            r#"{"certificate_sources": ["filter_state"], "filter_state_key": "ours"}"#,
        ))?;
        proxy.get(&pki.client()?)?;
        assert_eq!(inspections(&proxy.stats()?), [expected], "{key}");
    }
    Ok(())
}

/// Of XFCC only what this Envoy wrote counts. A client that writes into the header whatever it
/// likes never gets another identity, another status or a series of its own making: where Envoy
/// adds to the header, its own element is read, and where Envoy only forwards it, nothing is.
#[test]
fn xfcc_of_a_client_is_not_believed() -> Result<()> {
    let pki = Pki::new()?;
    let admin = "spiffe://cluster.local/ns/bank/sa/admin";
    let expired = Lifetime::from_now(-9 * DAY, -DAY);
    let admin_leaf = pki.cas.leaf().uri(admin).lifetime(expired).issue()?;
    let own = pki.pay().issue()?;
    let forged = percent_encoded(&admin_leaf.chain_pem());
    let own_hash = sha256(&own);
    for (mode, status) in [
        ("SANITIZE_SET", "ok"),
        ("APPEND_FORWARD", "ok"),
        ("SANITIZE", "unreadable"),
        ("FORWARD_ONLY", "unreadable"),
        ("ALWAYS_FORWARD_ONLY", "unreadable"),
    ] {
        let sources = configuration(r#""xfcc""#);
        let sample = pki.sample("http.yaml")?.xfcc(mode).configuration(&sources);
        let proxy = Proxy::http(sample)?;
        for header in [
            format!("Cert=\"{forged}\""),
            format!("By=x;Hash={own_hash};Cert=\"{forged}\";Chain=\"{forged}\""),
            // Quotes that are never closed, or are a part of what Envoy appends.
            format!("Cert=\"{forged}"),
            format!("Cert=\"{forged}\",\""),
            format!("Cert=\"{forged}\";Subject=\"\\"),
        ] {
            // For each a client of its own, to which nothing is known of before.
            let client = Client::mtls(&own);
            proxy.get_with(&client, &[(XFCC, &header)])?;
        }
        let stats = proxy.stats()?;
        let requests = stats.value(REQUESTS, &[INBOUND, ("status", status)]);
        assert_eq!(requests, Some(5.0), "{mode}");
        let admins = stats.with_prefix("mtls_");
        let admins = admins
            .iter()
            .filter(|series| series.label("identity") == admin);
        assert_eq!(admins.count(), 0, "{mode}");
        let known = stats
            .value(NOT_AFTER, &gauge(INBOUND, "workload", PAY))
            .is_some();
        assert_eq!(known, status == "ok", "{mode}");
    }
    Ok(())
}

/// Nor is it where the client has shown no certificate at all.
#[test]
fn xfcc_of_an_anonymous_client_is_not_believed() -> Result<()> {
    let pki = Pki::new()?;
    let sample = pki.sample("http.yaml")?.accepting_anonymous();
    let proxy = Proxy::http(sample.xfcc("ALWAYS_FORWARD_ONLY"))?;
    let forged = percent_encoded(&pki.pay().issue()?.leaf_pem());
    proxy.get_with(&Client::tls(), &[(XFCC, &format!("Cert=\"{forged}\""))])?;
    let stats = proxy.stats()?;
    assert_eq!(
        stats.value(REQUESTS, &[INBOUND, ("status", "no_certificate")]),
        Some(1.0)
    );
    assert!(inspections(&stats).is_empty());
    assert!(stats.series(NOT_AFTER).is_empty());
    Ok(())
}

/// The JSON form of the header (Envoy 1.38) is recognised and said to be unreadable, not guessed.
/// Where Envoy adds to the header of a client, the client chooses the form, whatever `format` says.
#[test]
fn xfcc_as_json_is_unreadable() -> Result<()> {
    let pki = Pki::new()?;
    let json = json!({"cert": true, "chain": true, "format": "JSON"});
    let text = json!({"cert": true, "chain": true});
    for (mode, details, before) in [
        ("SANITIZE_SET", json, ""),
        ("APPEND_FORWARD", text, "[{\"hash\": \"00\"}]"),
    ] {
        let sample = pki.sample("http.yaml")?.xfcc(mode);
        let sample = sample.set("HttpConnectionManager", DETAILS, details);
        let proxy = Proxy::http(sample.configuration(&configuration(r#""xfcc""#)))?;
        let response = proxy.get_with(&pki.client()?, &[(XFCC, before)])?;
        let header = forwarded(&response, XFCC)?.context("no header")?;
        assert!(header.ends_with("}]"), "{header}");
        let stats = proxy.stats()?;
        assert_eq!(inspections(&stats), ["xfcc unreadable 1"], "{mode}");
        let unreadable = [INBOUND, ("status", "unreadable")];
        assert_eq!(stats.value(REQUESTS, &unreadable), Some(1.0), "{mode}");
    }
    Ok(())
}

/// The application gets the header without the certificates, which take kilobytes, unless it is
/// configured to. What others wrote into the header stays as it is.
#[test]
fn xfcc_goes_on_without_certificates() -> Result<()> {
    let pki = Pki::new()?;
    let gateway = format!("Hash=00;Cert=\"{}\"", percent_encoded("gateway"));
    for (mode, configuration, before, kept) in [
        ("SANITIZE_SET", "{}", "", false),
        (
            "SANITIZE_SET",
            r#"{"strip_xfcc_certificates": false}"#,
            "",
            true,
        ),
        // Stripped also where the header is no source.
        (
            "SANITIZE_SET",
            r#"{"certificate_sources": ["attribute"]}"#,
            "",
            false,
        ),
        ("APPEND_FORWARD", "{}", &*gateway, false),
        ("APPEND_FORWARD", "{}", "Cert=\"open", false),
        ("FORWARD_ONLY", "{}", &*gateway, false),
    ] {
        let sample = pki
            .sample("http.yaml")?
            .xfcc(mode)
            .configuration(configuration);
        let proxy = Proxy::http(sample)?;
        let mut connection = proxy.open(&pki.client()?)?;
        for _ in 0..2 {
            let response = connection.get("/", &[(XFCC, before)])?;
            let header = forwarded(&response, XFCC)?.context("no header")?;
            let what = format!("{mode} {configuration} {before}: {header}");
            if mode == "FORWARD_ONLY" {
                assert_eq!(header, before, "{what}");
                continue;
            }
            let own = match mode {
                "APPEND_FORWARD" => header
                    .strip_prefix(&format!("{before},"))
                    .context(what.clone())?,
                _ => &header,
            };
            assert_eq!(own.contains("Cert="), kept, "{what}");
            assert_eq!(own.contains("Chain="), kept, "{what}");
            for key in ["By=spiffe://", "Hash=", "Subject=\"\"", "URI=spiffe://"] {
                assert!(own.contains(key), "{what}");
            }
        }
    }
    Ok(())
}

/// As Envoy encodes: every byte that is not unreserved.
fn percent_encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

/// The fingerprint of a leaf, as in `Hash`.
fn sha256(identity: &Identity) -> String {
    format!("{:x}", Sha256::digest(identity.der()))
}
