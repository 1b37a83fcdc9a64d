//! Revocation lists of the trust bundle, as a real Envoy tells of them.

use std::fs;

use anyhow::{Result, ensure};
use serde_json::json;
use testbed::pki::{DAY, Lifetime};
use testbed::{Ca, Identity};

use crate::setup::{Pki, ca_label};
use crate::sidecar::{PROXY, Rows, findings, polling, rows, soon, start, trust};

const NEXT_UPDATE: &str = "mtls_own_crl_next_update_timestamp_seconds";

/// A bundle whose lists are renewed as its CAs are: Envoy watches the directory.
fn with_list(pki: &Pki) -> Result<()> {
    let file = |name| json!({"filename": pki.directory().join(name)});
    let secret = json!({"resources": [{
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
        "name": "ROOTCA",
        "validation_context": {
            "trusted_ca": file("ca.crt"),
            "crl": file("ca.crl"),
            "watched_directory": {"path": pki.directory()},
        },
    }]});
    let path = pki.directory().join("secret-rootca.yaml");
    Ok(fs::write(path, secret.to_string())?)
}

fn publish(pki: &Pki, ca: &Ca, lifetime: Lifetime, revoked: &[&Identity]) -> Result<()> {
    let staged = pki.directory().join("staged");
    fs::write(&staged, ca.revocation_list_for(lifetime, revoked)?)?;
    Ok(fs::rename(&staged, pki.directory().join("ca.crl"))?)
}

/// Its list has passed, and then the proxy's leaf is on the new one; then all is well.
#[test]
fn a_list_that_has_passed_and_an_own_leaf_on_one_are_found() -> Result<()> {
    let pki = Pki::new()?;
    let root = Ca::root("Root CA").issue()?;
    let leaf = root.leaf().uri(PROXY).issue()?;
    leaf.write_to(pki.directory())?;
    trust(&pki, [&root])?;
    let sample = polling(&pki)?;
    with_list(&pki)?;
    let past = Lifetime::from_now(-9 * DAY, -60);
    publish(&pki, &root, past, &[])?;
    let proxy = start(sample, 1)?;
    let good = Lifetime::from_now(-DAY, 9 * DAY);
    for (lifetime, revoked, finding) in [
        (past, vec![], Some("none ROOTCA crl_expiring")),
        (good, vec![&leaf], Some("workload default revoked_own")),
        (good, vec![], None),
    ] {
        publish(&pki, &root, lifetime, &revoked)?;
        let label = format!("ROOTCA {}", ca_label("Root CA", &root));
        let dates = Rows::from([(label, lifetime.not_after as f64)]);
        let expected: Rows = finding.iter().map(|it| ((*it).to_owned(), 1.0)).collect();
        soon(|| {
            let stats = proxy.stats()?;
            let seen = (
                rows(&stats, NEXT_UPDATE, &["secret", "ca"]),
                findings(&stats),
            );
            ensure!(seen == (dates.clone(), expected.clone()), "{seen:?}");
            Ok(())
        })?;
    }
    Ok(())
}
