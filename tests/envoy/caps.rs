//! How many series peers can make: Envoy never deletes one.

use std::collections::BTreeSet;

use anyhow::Result;
use testbed::{Client, Stats};

use crate::setup::{
    BY_ISSUER, CONNECTIONS, INBOUND, NOT_AFTER, NOT_BEFORE, OVERFLOW, PAY, Pki, Proxy,
};

/// The values of a label among all series of the module.
fn values(stats: &Stats, label: &str) -> BTreeSet<String> {
    let series = stats.with_prefix("mtls_").into_iter();
    let values = series.map(|series| series.label(label).to_owned());
    values.filter(|value| !value.is_empty()).collect()
}

/// By default a hundred identities have series of their own; the rest share one, and each of them
/// is counted.
#[test]
fn identity_101_is_other() -> Result<()> {
    let pki = Pki::new()?;
    let proxy = Proxy::tcp(pki.sample("network.yaml")?)?;
    let name = |number| format!("spiffe://cluster.local/ns/shop/sa/{number}");
    for number in 0..103 {
        proxy.echo(&Client::mtls(&pki.cas.leaf().uri(&name(number)).issue()?))?;
        let overflow = f64::from((number - 99).max(0));
        assert_eq!(
            proxy.stats()?.value(OVERFLOW, &[]),
            Some(overflow),
            "{number}"
        );
    }
    let stats = proxy.stats()?;
    let mut identities: BTreeSet<String> = (0..100).map(name).collect();
    identities.insert("other".to_owned());
    assert_eq!(values(&stats, "identity"), identities);
    for gauge in [NOT_AFTER, NOT_BEFORE] {
        assert_eq!(stats.series(gauge).len(), 101);
    }
    assert_eq!(
        stats.value(CONNECTIONS, &[INBOUND, ("security", "mtls")]),
        Some(103.0)
    );
    Ok(())
}

/// As many as are configured; with 0, no identity is a label value.
#[test]
fn are_configurable() -> Result<()> {
    let pki = Pki::new()?;
    let clients = [
        pki.pay(),
        pki.cas.leaf().dns("a.shop"),
        pki.cas.leaf().common_name("c"),
    ];
    let clients = clients
        .into_iter()
        .map(|leaf| Ok(Client::mtls(&leaf.issue()?)));
    let clients = clients.collect::<Result<Vec<_>>>()?;
    for (limit, expected) in [(0, &["other"][..]), (2, &["a.shop", "other", PAY])] {
        let limit = format!(r#"{{"identity_series": {limit}}}"#);
        let proxy = Proxy::http(pki.sample("both.yaml")?.configuration(&limit))?;
        for client in &clients {
            proxy.get(client)?;
        }
        let stats = proxy.stats()?;
        assert_eq!(
            values(&stats, "identity"),
            expected.iter().map(|text| (*text).to_owned()).collect()
        );
        assert_eq!(
            stats.value(CONNECTIONS, &[INBOUND, ("security", "mtls")]),
            Some(3.0)
        );
    }
    Ok(())
}

/// Whoever holds a CA can make any number of CAs: they are bounded as well, and still all counted.
#[test]
fn bound_the_names_of_cas() -> Result<()> {
    const CAS: usize = 130;
    let pki = Pki::new()?;
    let proxy = Proxy::tcp(pki.sample("network.yaml")?)?;
    for _ in 0..CAS {
        let ca = pki.cas.intermediate.subordinate("Issuing CA").issue()?;
        proxy.echo(&Client::mtls(&ca.leaf().uri(PAY).issue()?))?;
    }
    let stats = proxy.stats()?;
    assert!(stats.series(BY_ISSUER).len() < CAS);
    let other = stats.value(BY_ISSUER, &[INBOUND, ("issuer", "other")]);
    assert!(other > Some(0.0), "{other:?}");
    assert_eq!(stats.value(OVERFLOW, &[]), other);
    assert_eq!(stats.sum(BY_ISSUER, &[INBOUND]), CAS as f64);
    Ok(())
}
