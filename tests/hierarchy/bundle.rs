//! The trust bundle as it changes.

use anyhow::{Result, ensure};
use testbed::Ca;
use testbed::pki::{Lifetime, to_pem};
use testbed::stats::wait_for;

use crate::setup::{INSPECTIONS, Pki, ca_label};
use crate::sidecar::{
    FINDINGS, PRESENT, Rows, TRUSTED, certificates, findings, polling, rows, soon, start, trust,
    wait_until,
};

/// A CA that has left is at 0, and so is what was wrong with it.
#[test]
fn a_ca_that_leaves_is_at_0() -> Result<()> {
    let pki = Pki::new()?;
    let root = &pki.cas.root;
    let expired = Ca::root("Root CA").lifetime(Lifetime::days(-3)).issue()?;
    let [root_name, expired_name] = [root, &expired].map(|ca| ca_label("Root CA", ca));
    trust(&pki, [root, &expired])?;
    let proxy = start(polling(&pki)?, 4)?;
    let finding = "root_ca ROOTCA expired".to_owned();
    wait_until(
        &proxy.envoy,
        &Rows::from([(finding.clone(), 1.0)]),
        findings,
    )?;

    trust(&pki, [root])?;
    let trusted = Rows::from([(root_name, 1.0), (expired_name.clone(), 0.0)]);
    let stats = wait_until(&proxy.envoy, &trusted, |stats| {
        rows(stats, TRUSTED, &["ca"])
    })?;
    let left = format!("root_ca ROOTCA {expired_name}");
    assert_eq!(certificates(&stats, PRESENT).get(&left), Some(&0.0));
    let all = rows(&stats, FINDINGS, &["layer", "secret", "finding"]);
    assert_eq!(all, Rows::from([(finding, 0.0)]));

    trust(&pki, [root, &expired])?;
    wait_for(&proxy.envoy, TRUSTED, &[("ca", &expired_name)], |value| {
        value == 1.0
    })?;
    Ok(())
}

/// A block that is no certificate hides no other, and is counted. Envoy refuses such a bundle and goes
/// on with the one it has, but it is the new one that it says it was given.
#[test]
fn a_broken_block_hides_no_other() -> Result<()> {
    let pki = Pki::new()?;
    let other = Ca::root("Root CA").issue()?;
    let proxy = start(polling(&pki)?, 1)?;
    let [first, last] = [&pki.cas.root, &other].map(|ca| to_pem([ca.der()]));
    let broken = "-----BEGIN CERTIFICATE-----\nbroken!\n-----END CERTIFICATE-----\n";
    let staged = pki.directory().join("staged");
    std::fs::write(&staged, [&first, broken, &last].concat())?;
    std::fs::rename(&staged, pki.directory().join("ca.crt"))?;
    let unreadable = [("source", "hierarchy"), ("result", "unreadable")];
    soon(|| {
        let stats = proxy.stats()?;
        let trusted = rows(&stats, TRUSTED, &["ca"]);
        ensure!(stats.sum(INSPECTIONS, &unreadable) >= 1.0, "{trusted:?}");
        let both = [&pki.cas.root, &other].map(|ca| (ca_label("Root CA", ca), 1.0));
        ensure!(trusted == Rows::from(both), "{trusted:?}");
        let found = findings(&stats);
        ensure!(
            found == Rows::from([("root_ca ROOTCA unreadable".to_owned(), 1.0)]),
            "{found:?}"
        );
        Ok(())
    })
}
