//! The own chain: dates, and what its replacement leaves behind.

use anyhow::{Result, ensure};
use testbed::pki::{DAY, HOUR, Lifetime};
use testbed::{Ca, Client};

use crate::setup::{CONNECTION_FINDINGS, Pki, REQUEST_FINDINGS, ca_label};
use crate::sidecar::{
    NOT_AFTER, NOT_BEFORE, POLLING, PRESENT, PROXY, Rows, TRUSTED, certificates, each, findings,
    polling, rows, soon, start, trust, wait_for_polls, wait_until,
};

const ROTATIONS: &str = "mtls_own_rotations_total";
const ANCHOR: &str = "mtls_own_trust_anchor";
const MARGIN: &str = "mtls_own_rotation_margin_seconds";
const DEFAULT: [(&str, &str); 1] = [("secret", "default")];

/// Envoy tells of each certificate twice, and by its serial number it is known as the same.
const SERIAL_NUMBERS: [&[u8]; 5] = [&[0x0a, 0xbc], &[0x01], &[0xff; 19], &[0x80, 0x00], &[0x7f]];

fn days(from: i64, to: i64) -> Lifetime {
    Lifetime::from_now(from * DAY, to * DAY)
}

/// To the second, by layer, secret and name, and nothing else: leaf and intermediates of the chain, and
/// every root of the bundle, though all have one name.
#[test]
fn every_certificate_has_its_dates() -> Result<()> {
    let cases = [
        ("one root, one worker", (1, 1)),
        ("two roots, four workers", (2, 4)),
        ("five roots, four workers", (5, 4)),
    ];
    each(&cases, |(roots, workers)| {
        let pki = Pki::new()?;
        let dates: Vec<Lifetime> = (0..8).map(|n| days(-10 - n, 600 + n)).collect();
        let roots: Vec<Ca> = dates[3..3 + *roots]
            .iter()
            .zip(SERIAL_NUMBERS)
            .map(|(dates, number)| {
                let root = Ca::root("Root CA").lifetime(*dates);
                root.serial_number(number).issue()
            })
            .collect::<Result<_>>()?;
        let intermediate = roots[0]
            .subordinate("Intermediate CA")
            .lifetime(dates[2])
            .issue()?;
        let issuing = intermediate
            .subordinate("Issuing CA")
            .lifetime(dates[1])
            .issue()?;
        let leaf = issuing.leaf().uri(PROXY).lifetime(dates[0]).issue()?;
        leaf.write_to(pki.directory())?;
        trust(&pki, &roots)?;

        let mut names = vec![
            format!("workload default {PROXY}"),
            format!("issuing_ca default {}", ca_label("Issuing CA", &issuing)),
            format!(
                "intermediate_ca default {}",
                ca_label("Intermediate CA", &intermediate)
            ),
        ];
        let root_names = roots.iter().map(|root| ca_label("Root CA", root));
        names.extend(
            root_names
                .clone()
                .map(|name| format!("root_ca ROOTCA {name}")),
        );
        let table = |value: fn(&Lifetime) -> f64| -> Rows {
            names.iter().cloned().zip(dates.iter().map(value)).collect()
        };
        let proxy = start(polling(&pki)?, *workers)?;
        let ends = table(|dates| dates.not_after as f64);
        let stats = wait_until(&proxy.envoy, &ends, |stats| certificates(stats, NOT_AFTER))?;
        let starts = table(|dates| dates.not_before as f64);
        assert_eq!(certificates(&stats, NOT_BEFORE), starts);
        assert_eq!(certificates(&stats, PRESENT), table(|_| 1.0));
        let trusted: Rows = root_names.map(|name| (name, 1.0)).collect();
        assert_eq!(rows(&stats, TRUSTED, &["ca"]), trusted);
        assert_eq!(findings(&stats), Rows::new());
        let anchor = format!("default {}", ca_label("Root CA", &roots[0]));
        let anchors = rows(&stats, ANCHOR, &["secret", "ca"]);
        assert_eq!(anchors, Rows::from([(anchor, 1.0)]));
        Ok(())
    })
}

/// A new leaf over SDS is one rotation, not one per worker; with it comes what the old one had left.
#[test]
fn a_new_leaf_is_one_rotation() -> Result<()> {
    let pki = Pki::new()?;
    let leaf = |hours| {
        let lifetime = Lifetime::from_now(-HOUR, hours * HOUR);
        pki.cas.leaf().uri(PROXY).lifetime(lifetime).issue()
    };
    leaf(10)?.write_to(pki.directory())?;
    let proxy = start(polling(&pki)?, 4)?;
    let stats = wait_for_polls(&proxy.envoy, 1.0)?;
    assert_eq!(stats.sum(ROTATIONS, &[]), 0.0);

    leaf(20)?.write_to(pki.directory())?;
    wait_until(&proxy.envoy, &Some(1.0), |stats| {
        stats.value(ROTATIONS, &DEFAULT)
    })?;
    let stats = wait_for_polls(&proxy.envoy, 2.0)?;
    assert_eq!(stats.sum(ROTATIONS, &[]), 1.0);
    assert_eq!(stats.sum(&format!("{MARGIN}_count"), &[]), 1.0);
    let margin = stats.sum(&format!("{MARGIN}_sum"), &DEFAULT);
    let (least, most) = (9.0 * HOUR as f64, 11.0 * HOUR as f64);
    assert!((least..most).contains(&margin), "{margin}");
    Ok(())
}

/// A leaf in the second half of its life that nobody renews, below the thresholds.
#[test]
fn a_leaf_about_to_expire_is_found() -> Result<()> {
    let pki = Pki::new()?;
    let lifetime = Lifetime::from_now(-23 * HOUR, HOUR);
    let leaf = pki.cas.leaf().uri(PROXY).lifetime(lifetime).issue()?;
    leaf.write_to(pki.directory())?;
    let proxy = start(polling(&pki)?, 1)?;
    let found = Rows::from([("workload default expires_critical".to_owned(), 1.0)]);
    wait_until(&proxy.envoy, &found, findings)?;
    Ok(())
}

/// A replica that mounts the same secret, or whoever took the key. The proxy itself, which calls its own service, is none.
#[test]
fn its_own_leaf_presented_by_another_is_found() -> Result<()> {
    let pki = Pki::new()?;
    let own = pki.cas.leaf().uri(PROXY).issue()?;
    own.write_to(pki.directory())?;
    let proxy = start(polling(&pki)?, 1)?;
    wait_for_polls(&proxy.envoy, 1.0)?;
    let own = Client::mtls(&own);
    let (itself, another) = (own.clone(), own.replica(2));
    let other = pki.client()?.replica(2);
    proxy.get(&itself)?;
    proxy.get(&other)?;
    for metric in [CONNECTION_FINDINGS, REQUEST_FINDINGS] {
        assert_eq!(proxy.stats()?.sum(metric, &[]), 0.0, "{metric}");
    }
    // It is asked once in five seconds where a peer is.
    soon(|| {
        proxy.get(&another)?;
        let stats = proxy.stats()?;
        for metric in [CONNECTION_FINDINGS, REQUEST_FINDINGS] {
            let found = [("finding", "own_certificate_presented")];
            ensure!(stats.sum(metric, &found) > 0.0, "{metric}");
            assert_eq!(stats.sum(metric, &[]), stats.sum(metric, &found));
        }
        Ok(())
    })
}

/// `ignore` is for own certificates, too; what it accepts has a name of its own.
#[test]
fn what_is_accepted_of_an_own_certificate_is_counted_apart() -> Result<()> {
    let pki = Pki::new()?;
    let lifetime = Lifetime::from_now(-23 * HOUR, HOUR);
    let leaf = pki.cas.leaf().uri(PROXY).lifetime(lifetime).ca_flag();
    leaf.issue()?.write_to(pki.directory())?;
    let ignore = r#""ignore": [
        {"finding": "leaf_is_ca", "identity_prefix": "spiffe://cluster.local/", "layer": "workload"},
        {"finding": "expires_critical", "identity_prefix": "spiffe://other/"}
    ], "log_repeat""#;
    let configuration = POLLING.replace(r#""log_repeat""#, ignore);
    let proxy = start(pki.sample("sidecar.yaml")?.configuration(&configuration), 1)?;
    let found = ["expires_critical", "spiffe_id_invalid"];
    let found = found.map(|finding| (format!("workload default {finding}"), 1.0));
    let stats = wait_until(&proxy.envoy, &Rows::from(found), findings)?;
    let accepted = rows(
        &stats,
        "mtls_own_ignored_findings",
        &["layer", "secret", "finding"],
    );
    assert_eq!(
        accepted,
        Rows::from([("workload default leaf_is_ca".to_owned(), 1.0)])
    );
    Ok(())
}
