//! The gauges of the peers' certificates and of the CAs that sign them.

use anyhow::Result;
use sha2::{Digest as _, Sha256};
use testbed::pki::{DAY, Lifetime, now};
use testbed::servers::ServerTls;
use testbed::{Ca, Client, Server};

use crate::setup::{
    BY_ISSUER, INBOUND, ISSUER_LAST_SEEN, NOT_AFTER, NOT_BEFORE, OUTBOUND, PAY, Pki, Proxy,
    ca_label, gauge, with_digits,
};
use crate::variants::Variant;

fn days(from: i64, to: i64) -> Lifetime {
    Lifetime::from_now(from * DAY, to * DAY)
}

/// To the second, by name and layer, in both directions.
#[test]
fn hold_the_dates_of_every_certificate() -> Result<()> {
    let pki = Pki::new()?;
    let dates = [days(-3, 30), days(-20, 200), days(-30, 300), days(-40, 400)];
    let root = Ca::root("Root CA").lifetime(dates[3]).issue()?;
    let intermediate = root
        .subordinate("Intermediate CA")
        .lifetime(dates[2])
        .issue()?;
    let issuing = intermediate
        .subordinate("Issuing CA")
        .lifetime(dates[1])
        .issue()?;
    let leaf = issuing.leaf().uri(PAY).lifetime(dates[0]).issue()?;

    let proxy = Proxy::http(pki.sample("xfcc.yaml")?.accepting_untrusted())?;
    proxy.get(&Client::mtls(&leaf.clone().with_root()))?;
    let stats = proxy.stats()?;
    for ((layer, identity), dates) in [
        ("workload", PAY.to_owned()),
        ("issuing_ca", ca_label("Issuing CA", &issuing)),
        (
            "intermediate_ca",
            ca_label("Intermediate CA", &intermediate),
        ),
        ("root_ca", ca_label("Root CA", &root)),
    ]
    .into_iter()
    .zip(dates)
    {
        let labels = gauge(INBOUND, layer, &identity);
        assert_eq!(
            stats.value(NOT_AFTER, &labels),
            Some(dates.not_after as f64),
            "{layer}"
        );
        assert_eq!(
            stats.value(NOT_BEFORE, &labels),
            Some(dates.not_before as f64),
            "{layer}"
        );
    }
    assert_eq!(stats.series(NOT_AFTER).len(), 4);
    assert_eq!(stats.series(NOT_BEFORE).len(), 4);

    let server = Server::tcp_echo(Some(ServerTls::new(&leaf)))?;
    let sample = pki.sample("upstream.yaml")?.accepting_untrusted();
    let proxy = Proxy::start(sample, ("outbound_tcp", "peer_tcp"), server, 1)?;
    proxy.echo(&Client::plaintext())?;
    let (stats, labels) = (proxy.stats()?, gauge(OUTBOUND, "workload", PAY));
    assert_eq!(
        stats.value(NOT_AFTER, &labels),
        Some(dates[0].not_after as f64)
    );
    assert_eq!(
        stats.value(NOT_BEFORE, &labels),
        Some(dates[0].not_before as f64)
    );
    Ok(())
}

/// Of several certificates in use, the one that ends first; not the one seen last.
#[test]
fn hold_the_earliest_of_an_identity() -> Result<()> {
    let pki = Pki::new()?;
    let proxy = Proxy::tcp(pki.sample("network.yaml")?)?;
    let dates = [days(-1, 20), days(-9, 10), days(-2, 30)];
    let labels = gauge(INBOUND, "workload", PAY);
    for (seen, earliest) in [
        (dates[0], dates[0]),
        (dates[1], dates[1]),
        (dates[2], dates[1]),
    ] {
        let leaf = pki.pay().lifetime(seen).issue()?;
        proxy.echo(&Client::mtls(&leaf))?;
        let stats = proxy.stats()?;
        assert_eq!(
            stats.value(NOT_AFTER, &labels),
            Some(earliest.not_after as f64)
        );
        assert_eq!(
            stats.value(NOT_BEFORE, &labels),
            Some(earliest.not_before as f64)
        );
    }
    assert_eq!(proxy.stats()?.series(NOT_AFTER).len(), 1);
    Ok(())
}

/// The SPIFFE ID, else the first other URI, else the first DNS name, else the common name, else the
/// organization; any character outside the alphabet of label values becomes `_`, what is too long is cut,
/// and either ends in digits of its hash.
#[test]
fn name_the_identity() -> Result<()> {
    let pki = Pki::new()?;
    let proxy = Proxy::tcp(pki.sample("network.yaml")?)?;
    let leaf = || pki.cas.leaf();
    let full = leaf()
        .common_name("cn")
        .dns("b.shop")
        .dns("c.shop")
        .uri("urn:x")
        .uri("urn:y");
    let long = format!("spiffe://cluster.local/{}", "x".repeat(300));
    let exact = format!("spiffe://cluster.local/{}", "x".repeat(177));
    let cut = with_digits(&long[..191], &long);
    let url = "https://shop/a?b=c;.;d=.=e%20f";
    let text = "Zoë \"the\" \\ peer\n=.=;.;";
    let (plain_url, plain_text) = (
        with_digits("https://shop/a_b_c_._d_._e_20f", url),
        with_digits("Zo___the____peer__.__._", text),
    );
    for (leaf, identity) in [
        (full.clone().uri(PAY), PAY),
        (full, "urn:x"),
        (
            leaf().common_name("cn").dns("b.shop").dns("c.shop"),
            "b.shop",
        ),
        (leaf().common_name("cn").organization("Shop"), "cn"),
        (leaf().organization("Shop"), "Shop"),
        (leaf(), "unknown"),
        (leaf().uri(url), &plain_url),
        (leaf().common_name(text), &plain_text),
        (leaf().uri("spiffe://d/A-z_0~9:@+"), "spiffe://d/A-z_0~9:@+"),
        (leaf().uri(&exact), &exact),
        (leaf().uri(&long), &cut),
    ] {
        proxy.echo(&Client::mtls(&leaf.issue()?))?;
        let labels = gauge(INBOUND, "workload", identity);
        assert!(
            proxy.stats()?.value(NOT_AFTER, &labels).is_some(),
            "{identity}"
        );
    }
    assert_eq!(proxy.stats()?.series(NOT_AFTER).len(), 11);
    Ok(())
}

/// The last sight of each CA; two of one name are told apart by their keys, as in a rotation.
#[test]
fn tell_when_a_ca_was_last_seen() -> Result<()> {
    let pki = Pki::new()?;
    let proxy = Proxy::http(pki.sample("http.yaml")?)?;
    assert!(proxy.stats()?.series(ISSUER_LAST_SEEN).is_empty());
    let new = pki.cas.intermediate.subordinate("Issuing CA").issue()?;
    for ca in [&pki.cas.issuing, &new] {
        let start = now();
        proxy.get(&Client::mtls(&ca.leaf().uri(PAY).issue()?))?;
        let labels = [INBOUND, ("issuer", &*ca_label("Issuing CA", ca))];
        let seen = proxy.stats()?.value(ISSUER_LAST_SEEN, &labels);
        assert!(
            seen.is_some_and(|seen| (start..=now()).contains(&(seen as i64))),
            "{seen:?}"
        );
    }
    assert_eq!(proxy.stats()?.series(ISSUER_LAST_SEEN).len(), 2);
    Ok(())
}

/// A CA's name ends in its key identifier; where the leaf does not tell it, in a digest of the
/// CA's subject.
#[test]
fn name_the_ca() -> Result<()> {
    let pki = Pki::new()?;
    let proxy = Proxy::tcp(pki.sample("network.yaml")?)?;
    // RDNSequence { { { id-at-commonName, UTF8String } } }
    let header = b"\x30\x15\x31\x13\x30\x11\x06\x03\x55\x04\x03\x0c\x0a";
    let digest = format!(
        "{:x}",
        Sha256::digest([&header[..], b"Issuing CA"].concat())
    );
    for (leaf, issuer) in [
        (pki.pay(), ca_label("Issuing CA", &pki.cas.issuing)),
        (
            pki.pay().without_authority_key_identifier(),
            format!("Issuing_CA:{}", &digest[..8]),
        ),
    ] {
        proxy.echo(&Client::mtls(&leaf.issue()?))?;
        let labels = [INBOUND, ("issuer", &*issuer)];
        assert_eq!(
            proxy.stats()?.value(BY_ISSUER, &labels),
            Some(1.0),
            "{issuer}"
        );
    }
    assert_eq!(proxy.stats()?.series(BY_ISSUER).len(), 2);
    Ok(())
}
