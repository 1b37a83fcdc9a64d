//! What the own hierarchy tells of peers that show nothing but their leaf.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use serde_json::json;
use testbed::pki::{DAY, Lifetime};
use testbed::sample::{Value, yaml};
use testbed::{Ca, Client, Stats};

use crate::setup::{
    CONNECTION_FINDINGS, CONNECTIONS, Counted, INBOUND, NOT_AFTER, PAY, Pki, Proxy,
    REQUEST_FINDINGS, ca_label, gauge,
};
use crate::sidecar::{POLLING, each, polling, soon, start, trust, wait_for_polls};

/// Enough for each of four workers to get some.
const CONNECTIONS_AT_ONCE: u32 = 40;

/// A PKI whose issuing CA is about to expire, and the leaf that it gives to a peer outlives it.
fn aging() -> Result<(Pki, Client)> {
    let mut pki = Pki::new()?;
    let lifetime = Lifetime::from_now(-1000 * DAY, 5 * DAY);
    let issuing = pki
        .cas
        .intermediate
        .subordinate("Issuing CA")
        .lifetime(lifetime);
    pki.cas.issuing = issuing.issue()?;
    let leaf = pki
        .pay()
        .lifetime(Lifetime::from_now(-DAY, 6 * DAY))
        .issue()?;
    Ok((pki, Client::mtls(&leaf)))
}

fn connect(proxy: &Proxy, client: &Client, times: u32) -> Result<()> {
    (0..times).try_for_each(|_| proxy.get(client).map(drop))
}

fn busy_workers(stats: &Stats) -> usize {
    let connections = stats.series("envoy_listener_worker_downstream_cx_total");
    let busy = connections.iter().filter(|series| series.value > 0.0);
    let ids: BTreeSet<_> = busy.map(|series| series.label("envoy_worker_id")).collect();
    ids.len()
}

/// Each connection has the findings of the leaf's issuing CA, which is known from the own chain: on all
/// workers, with the network filter and with an HTTP filter that reads nothing but the attribute.
#[test]
fn an_issuing_ca_about_to_expire_flags_every_connection() -> Result<()> {
    let (pki, client) = aging()?;
    pki.cas
        .leaf()
        .uri("spiffe://cluster.local/ns/shop/sa/proxy")
        .issue()?
        .write_to(pki.directory())?;
    let configuration = POLLING.replacen('{', r#"{"certificate_sources": ["attribute"], "#, 1);
    let proxy = start(polling(&pki)?.configuration(&configuration), 4)?;
    let all = f64::from(CONNECTIONS_AT_ONCE);
    soon(|| {
        let counted = Counted::by(&proxy.envoy, || {
            connect(&proxy, &client, CONNECTIONS_AT_ONCE)
        })?;
        let connections = counted.sum(CONNECTIONS, &[INBOUND]);
        ensure!(connections == all, "{connections} connections");
        for (name, layer, finding) in [
            (CONNECTION_FINDINGS, "issuing_ca", "expires_critical"),
            (CONNECTION_FINDINGS, "workload", "outlives_issuer"),
            (REQUEST_FINDINGS, "issuing_ca", "expires_critical"),
            (REQUEST_FINDINGS, "workload", "outlives_issuer"),
        ] {
            let found = counted.sum(name, &[INBOUND, ("layer", layer), ("finding", finding)]);
            ensure!(found == all, "{name} {layer} {finding}: {found} of {all}");
        }
        Ok(())
    })?;
    let stats = proxy.stats()?;
    assert_eq!(busy_workers(&stats), 4);
    for (layer, name, ca) in [
        ("issuing_ca", "Issuing CA", &pki.cas.issuing),
        ("intermediate_ca", "Intermediate CA", &pki.cas.intermediate),
        ("root_ca", "Root CA", &pki.cas.root),
    ] {
        let name = ca_label(name, ca);
        assert!(
            stats
                .value(NOT_AFTER, &gauge(INBOUND, layer, &name))
                .is_some(),
            "{name}"
        );
    }
    Ok(())
}

/// A CA that was not known when a peer was met first counts from its arrival in the bundle on.
#[test]
fn a_changed_bundle_tells_of_peers_met_before() -> Result<()> {
    let pki = Pki::new()?;
    let other = Ca::root("Other CA")
        .lifetime(Lifetime::from_now(-4000 * DAY, 20 * DAY))
        .issue()?;
    // Envoy takes the peer by the root; the certificate of the same key that ends soon comes later.
    let lasting = Ca::root("Other CA").key(other.key()).issue()?;
    let client = Client::mtls(&lasting.leaf().uri(PAY).issue()?);
    trust(&pki, [&pki.cas.root, &lasting])?;
    let proxy = start(polling(&pki)?, 1)?;
    let labels = [
        INBOUND,
        ("layer", "root_ca"),
        ("finding", "expires_critical"),
    ];
    connect(&proxy, &client, 1)?;
    assert_eq!(proxy.stats()?.sum(CONNECTION_FINDINGS, &labels), 0.0);
    trust(&pki, [&pki.cas.root, &other])?;
    soon(|| {
        let counted = Counted::by(&proxy.envoy, || connect(&proxy, &client, 1))?;
        let found = counted.sum(CONNECTION_FINDINGS, &labels);
        ensure!(found == 1.0, "{found}");
        Ok(())
    })
}

/// A CA that is neither in the own chain nor in the bundle: the first peer that sends it, in HTTP, makes it
/// known to the network filter, which sees leaves only.
#[test]
fn an_issuing_ca_that_a_peer_has_sent_is_known_from_then_on() -> Result<()> {
    let pki = Pki::new()?;
    let lifetime = Lifetime::from_now(-1000 * DAY, 5 * DAY);
    let other = pki.cas.intermediate.subordinate("Other CA");
    let other = other.lifetime(lifetime).issue()?;
    let client = Client::mtls(&other.leaf().uri(PAY).issue()?);
    let proxy = start(polling(&pki)?, 4)?;
    wait_for_polls(&proxy.envoy, 2.0)?;
    let labels = [
        INBOUND,
        ("layer", "issuing_ca"),
        ("finding", "expires_critical"),
    ];
    connect(&proxy, &client, 1)?;
    assert_eq!(proxy.stats()?.sum(CONNECTION_FINDINGS, &labels), 0.0);
    soon(|| {
        let counted = Counted::by(&proxy.envoy, || {
            connect(&proxy, &client, CONNECTIONS_AT_ONCE)
        })?;
        let found = counted.sum(CONNECTION_FINDINGS, &labels);
        ensure!(found == f64::from(CONNECTIONS_AT_ONCE), "{found}");
        Ok(())
    })
}

/// Where Envoy lets in what it has not verified, and says so (1.39 or later), that teaches nothing: the
/// expired leaf would, if it were not for that.
#[test]
fn an_unverified_peer_teaches_nothing() -> Result<()> {
    let pki = Pki::new()?;
    let lifetime = Lifetime::from_now(-1000 * DAY, 5 * DAY);
    let other = pki.cas.intermediate.subordinate("Other CA");
    let other = other.lifetime(lifetime).issue()?;
    let expired = other.leaf().uri(PAY).lifetime(Lifetime::days(-1));
    let client = Client::mtls(&expired.issue()?);
    let validation = json!({
        "default_validation_context": {"trust_chain_verification": "ACCEPT_UNTRUSTED"},
        "validation_context_sds_secret_config": {
            "name": "ROOTCA",
            "sds_config": {"path_config_source": {"path": pki.directory().join("secret-rootca.yaml")}},
        },
    });
    let sample = polling(&pki)?.edit(|node| {
        if let Value::Mapping(context) = node
            && context.contains_key("require_client_certificate")
            && let Some(Value::Mapping(common)) = context.get_mut("common_tls_context")
        {
            common.remove("validation_context_sds_secret_config");
            common.insert(
                "combined_validation_context".into(),
                yaml(validation.clone()),
            );
        }
    });
    let proxy = start(sample, 1)?;
    wait_for_polls(&proxy.envoy, 2.0)?;
    let labels = [INBOUND, ("layer", "issuing_ca")];
    for _ in 0..2 {
        connect(&proxy, &client, 1)?;
        wait_for_polls(&proxy.envoy, 2.0)?;
    }
    let counted = Counted::by(&proxy.envoy, || connect(&proxy, &client, 1))?;
    assert_eq!(counted.sum(CONNECTIONS, &[INBOUND]), 1.0);
    assert_eq!(proxy.stats()?.sum(CONNECTION_FINDINGS, &labels), 0.0);
    Ok(())
}

/// Nobody of the trusted CA has connected: its name comes from the bundle.
#[test]
fn an_unknown_ca_is_told_from_the_trusted_one_of_its_name() -> Result<()> {
    each(&[("one worker", 1), ("four workers", 4)], |workers| {
        let pki = Pki::new()?;
        let impostor = Ca::root("Root CA").issue()?;
        let client = Client::mtls(&impostor.leaf().uri(PAY).issue()?);
        let proxy = start(polling(&pki)?, *workers)?;
        let known = &pki.cas.root.key_identifier()[..8];
        let unknown = &impostor.key_identifier()[..8];
        let hint = format!("'Root CA:{known}' is known here, 'Root CA:{unknown}' is not");
        // The next tick after the first poll; until then each attempt would take a log line.
        wait_for_polls(&proxy.envoy, 2.0)?;
        soon(|| {
            ensure!(proxy.get(&client).is_err(), "accepted");
            let log = proxy.envoy.log();
            let line = log.lines().rfind(|line| line.contains("reason=unknown_ca"));
            ensure!(line.is_some_and(|line| line.contains(&hint)), "{line:?}");
            Ok(())
        })
    })
}
