//! Secrets in the shapes that control planes give them. docs/own-certificates.md says the same in words.

use std::fs;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use testbed::pki::to_pem;
use testbed::sample::yaml;
use testbed::{Ca, Identity, Stats};

use crate::setup::{Pki, ca_label};
use crate::sidecar::{
    FINDINGS, PRESENT, PROXY, Rows, TRUSTED, certificates, findings, polling, rows, soon, start,
    trust, wait_for_polls, waiting_for,
};

const ISSUER: &str = "mtls_own_issuer";
const ANCHOR: &str = "mtls_own_trust_anchor";
const ROTATIONS: &str = "mtls_own_rotations_total";
const POLL_AGE: &str = "mtls_watch_hierarchy_poll_age_seconds";
const REPLY_BYTES: &str = "mtls_watch_hierarchy_reply_bytes";

/// Puts a file in the place of another at once, as Envoy wants to see it.
fn replace(pki: &Pki, file: &str, text: &str) -> Result<()> {
    let staged = pki.directory().join("staged");
    fs::write(&staged, text)?;
    Ok(fs::rename(&staged, pki.directory().join(file))?)
}

/// The labels of the series that are 1.
fn present(stats: &Stats, name: &str, labels: &[&str]) -> Vec<String> {
    let mut rows = rows(stats, name, labels);
    rows.retain(|_, value| *value == 1.0);
    rows.into_keys().collect()
}

fn signed_by(stats: &Stats) -> [Vec<String>; 2] {
    [ISSUER, ANCHOR].map(|name| present(stats, name, &["secret", "ca"]))
}

/// Step 1 of a rotation as istiod sends it: A signs, the server trusts A alone, and behind the chain comes every root
/// of the mesh.
#[test]
fn roots_behind_istios_chain_are_passengers() -> Result<()> {
    let pki = Pki::new()?;
    let (a, b) = (Ca::root("Root A").issue()?, Ca::root("Root B").issue()?);
    let issuing = a.subordinate("Issuing A").issue()?;
    let leaf = issuing.leaf().uri(PROXY).issue()?;
    leaf.write_to(pki.directory())?;
    let chain = [leaf.chain_pem(), b.pem(), a.pem()].concat();
    fs::write(pki.directory().join("tls.crt"), chain)?;
    trust(&pki, [&a])?;
    let proxy = start(polling(&pki)?, 1)?;
    let [root, issuer] = [ca_label("Root A", &a), ca_label("Issuing A", &issuing)];
    soon(|| {
        let stats = proxy.stats()?;
        let expected = [&issuer, &root].map(|ca| vec![format!("default {ca}")]);
        ensure!(signed_by(&stats) == expected, "{:?}", signed_by(&stats));
        Ok(())
    })?;
    let stats = proxy.stats()?;
    let mut expected = vec![
        format!("issuing_ca default {issuer}"),
        format!("root_ca ROOTCA {root}"),
        format!("root_ca default {root}"),
        format!("root_ca default {}", ca_label("Root B", &b)),
        format!("workload default {PROXY}"),
    ];
    expected.sort();
    let seen: Vec<String> = certificates(&stats, PRESENT).into_keys().collect();
    assert_eq!(seen, expected);
    let trusted = present(&stats, TRUSTED, &["secret", "ca"]);
    assert_eq!(trusted, [format!("ROOTCA {root}")]);
    Ok(())
}

/// A validation context as SPIRE sends it.
fn validator(domains: &[(&str, &[&Ca])]) -> Value {
    let domains = domains.iter().map(|(name, cas)| {
        let pem: String = cas.iter().map(|ca| ca.pem()).collect();
        json!({"name": name, "trust_bundle": {"inline_string": pem}})
    });
    json!({"resources": [{
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
        "name": "ROOTCA",
        "validation_context": {"custom_validator_config": {
            "name": "envoy.tls.cert_validator.spiffe",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.SPIFFECertValidatorConfig",
                "trust_domains": domains.collect::<Vec<_>>(),
            },
        }},
    }]})
}

/// The steps of a SPIRE rotation, at a leaf that is alone: the bundle is known, and so is who signed. A foreign trust
/// domain is none of this one.
#[test]
fn a_rotation_of_spire_is_followed() -> Result<()> {
    let pki = Pki::new()?;
    let (old, new) = (Ca::root("SPIRE 1").issue()?, Ca::root("SPIRE 2").issue()?);
    let foreign = Ca::root("SPIRE 3").issue()?;
    let sample = polling(&pki)?;
    let [old_name, new_name] = [ca_label("SPIRE 1", &old), ca_label("SPIRE 2", &new)];
    let supply = |signer: &Ca, cas: &[&Ca]| -> Result<()> {
        let leaf = signer.leaf().uri(PROXY).issue()?.leaf_only();
        leaf.write_to(pki.directory())?;
        let domains = [("cluster.local", cas), ("other.org", &[&foreign])];
        replace(&pki, "secret-rootca.yaml", &validator(&domains).to_string())
    };
    supply(&old, &[&old])?;
    let proxy = start(sample, 1)?;
    for (signer, name, cas, trusted) in [
        (&old, &old_name, vec![&old], vec![&old_name]),
        (
            &old,
            &old_name,
            vec![&old, &new],
            vec![&old_name, &new_name],
        ),
        (
            &new,
            &new_name,
            vec![&old, &new],
            vec![&old_name, &new_name],
        ),
        (&new, &new_name, vec![&new], vec![&new_name]),
    ] {
        supply(signer, &cas)?;
        soon(|| {
            let stats = proxy.stats()?;
            let expected = vec![format!("default {name}")];
            let seen = signed_by(&stats);
            ensure!(seen == [expected.clone(), expected], "{seen:?}");
            let seen = present(&stats, TRUSTED, &["secret", "ca"]);
            let own = trusted.iter().map(|ca| format!("ROOTCA {ca}"));
            let foreign = format!("ROOTCA@other.org {}", ca_label("SPIRE 3", &foreign));
            let expected: Vec<String> = own.chain([foreign]).collect();
            ensure!(seen == expected, "{seen:?}, not {expected:?}");
            Ok(())
        })?;
    }
    assert_eq!(findings(&proxy.stats()?), Rows::new());
    Ok(())
}

/// Certificate and key do not match: Envoy goes on with the old leaf and says so nowhere but in a counter.
#[test]
fn a_rotation_that_envoy_refuses_is_found() -> Result<()> {
    let pki = Pki::new()?;
    let proxy = start(polling(&pki)?, 1)?;
    wait_for_polls(&proxy.envoy, 1.0)?;
    let other: Identity = pki.cas.leaf().uri(PROXY).issue()?;
    replace(&pki, "tls.crt", &other.chain_pem())?;
    let rejected = Rows::from([("workload default rotation_rejected".to_owned(), 1.0)]);
    soon(|| {
        let seen = findings(&proxy.stats()?);
        ensure!(seen == rejected, "{seen:?}");
        Ok(())
    })?;
    assert_eq!(proxy.stats()?.sum(ROTATIONS, &[]), 0.0);
    other.write_to(pki.directory())?;
    soon(|| {
        let stats = proxy.stats()?;
        ensure!(findings(&stats).is_empty(), "{:?}", findings(&stats));
        ensure!(stats.sum(ROTATIONS, &[]) == 1.0, "no rotation");
        Ok(())
    })
}

/// A static secret, and the age and the size of what is known.
#[test]
fn a_static_secret_is_known_in_full() -> Result<()> {
    let pki = Pki::new()?;
    let leaf = pki.cas.leaf().uri(PROXY).issue()?;
    let inline = |text: String| json!({"inline_string": text});
    let secret = yaml(json!([{
        "name": "static",
        "tls_certificate": {"certificate_chain": inline(leaf.chain_pem()), "private_key": inline(leaf.key_pem()?)},
    }]));
    let context = yaml(json!([{"name": "static"}]));
    let sample = polling(&pki)?.edit(|node| {
        if node.get("clusters").is_some() && node.get("listeners").is_some() {
            node["secrets"] = secret.clone();
        }
        if node.get("filter_chains").is_some() && node["name"] == "inbound_tcp" {
            let socket = &mut node["filter_chains"][0]["transport_socket"];
            socket["typed_config"]["common_tls_context"]["tls_certificate_sds_secret_configs"] =
                context.clone();
        }
    });
    let proxy = start(sample, 1)?;
    let issuing = ca_label("Issuing CA", &pki.cas.issuing);
    soon(|| {
        let stats = proxy.stats()?;
        let [issuers, _] = signed_by(&stats);
        let expected = ["default", "static"].map(|secret| format!("{secret} {issuing}"));
        ensure!(issuers == expected, "{issuers:?}");
        let age = stats.value(POLL_AGE, &[]);
        ensure!(age.is_some_and(|age| age < 60.0), "{age:?}");
        let bytes = stats.value(REPLY_BYTES, &[]);
        let pem = to_pem(&leaf.chain()).len() as f64;
        ensure!(bytes.is_some_and(|bytes| bytes > pem), "{bytes:?}");
        Ok(())
    })
}

/// A secret that nobody supplies.
#[test]
fn a_secret_that_never_comes_is_found() -> Result<()> {
    let pki = Pki::new()?;
    let sample = waiting_for(&pki, "never")?;
    let proxy = start(sample, 1)?;
    soon(|| {
        let stats = proxy.stats()?;
        let seen = rows(&stats, FINDINGS, &["layer", "secret", "finding"]);
        let expected = Rows::from([("none never secret_warming".to_owned(), 1.0)]);
        ensure!(seen == expected, "{seen:?}");
        Ok(())
    })
}
