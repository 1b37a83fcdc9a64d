//! Revocation lists of the trust bundle: their dates, and own certificates that are on them.

use pki::fixtures::{NOW, lasting};
use pki::{Ca, DAY, HOUR, Identity};
use serde_json::{Value, json};

use super::*;

const NEXT_UPDATE: &str = "mtls_own_crl_next_update_timestamp_seconds";
const THIS_UPDATE: &str = "mtls_own_crl_this_update_timestamp_seconds";

/// A list of that CA from now until then, in seconds.
fn list(ca: &Ca, (from, to): (i64, i64), revoked: &[&Identity]) -> String {
    ca.revocation_list_for(lasting(from, to), revoked).unwrap()
}

fn bundle_with(cas: &[&Ca], lists: &[String]) -> Value {
    let pem: String = cas.iter().map(|ca| ca.pem()).collect();
    let mut bundle = bundle("ROOTCA", &[&pem]);
    bundle["secret"]["validation_context"]["crl"] = json!({"inline_string": lists.concat()});
    bundle
}

fn found(poller: &Poller) -> Vec<String> {
    poller.rows(FINDINGS, |value| value > 0)
}

fn seconds(moment: i64) -> u64 {
    u64::try_from(NOW + moment).unwrap()
}

#[test]
fn the_dates_of_a_list_are_told_and_judged() {
    let ca = root("Root CA");
    let labels = [format!("ROOTCA {}", label("Root CA", &ca))];
    let mut poller = Poller::new();
    for (lifetime, finding) in [
        ((-DAY, 9 * DAY), None),
        ((-8 * DAY, 2 * DAY), Some("none ROOTCA crl_expiring")),
        ((-9 * DAY, HOUR), Some("none ROOTCA crl_expiring")),
        ((-9 * DAY, -HOUR), Some("none ROOTCA crl_expiring")),
        ((HOUR, DAY), Some("none ROOTCA not_yet_valid")),
    ] {
        poller.poll(&[bundle_with(&[&ca], &[list(&ca, lifetime, &[])])]);
        assert_eq!(poller.with_value(THIS_UPDATE, seconds(lifetime.0)), labels);
        assert_eq!(poller.with_value(NEXT_UPDATE, seconds(lifetime.1)), labels);
        assert_eq!(found(&poller), Vec::from_iter(finding), "{lifetime:?}");
    }
    poller.poll(&[bundle("ROOTCA", &[&ca.pem()])]);
    assert_eq!(poller.with_value(NEXT_UPDATE, 0), labels);
    assert_eq!(found(&poller), [""; 0]);
}

/// BoringSSL goes by one that is valid, and of these by the newest.
#[test]
fn of_several_lists_of_one_ca_one_counts() {
    let (ca, other) = (root("Root CA"), root("Other CA"));
    let [old, new] = [(-9 * DAY, -HOUR), (-DAY, 30 * DAY)];
    let later = (HOUR, 40 * DAY);
    let mut poller = Poller::new();
    for lists in [[old, new], [new, old], [new, later], [later, new]] {
        let mut lists = lists.map(|lifetime| list(&ca, lifetime, &[])).to_vec();
        // Older than those of the first CA, which say nothing of it.
        lists.push(list(&other, (-2 * DAY, 20 * DAY), &[]));
        poller.poll(&[bundle_with(&[&ca, &other], &lists)]);
        assert_eq!(found(&poller), [""; 0]);
        for (name, ca, end) in [("Root CA", &ca, 30), ("Other CA", &other, 20)] {
            let labels = [format!("ROOTCA {}", label(name, ca))];
            assert_eq!(poller.with_value(NEXT_UPDATE, seconds(end * DAY)), labels);
        }
    }
}

/// The leaf, and a CA above it; a stranger's certificate of the same serial number is another.
#[test]
fn an_own_certificate_on_a_list_is_found() {
    let ca = root("Root CA");
    let issuing = below(&ca, "Issuing CA");
    let leaf = leaf(&issuing);
    let other = named(&issuing, "spiffe://cluster.local/ns/shop/sa/other");
    let lifetime = (-DAY, 30 * DAY);
    let of_issuing = |revoked: &[&Identity]| list(&issuing, lifetime, revoked);
    let mut poller = Poller::new();
    for (lists, expected) in [
        (vec![of_issuing(&[])], None),
        (vec![of_issuing(&[&other])], None),
        (vec![list(&ca, lifetime, &[&leaf])], None),
        (
            vec![list(&ca, lifetime, &[]), of_issuing(&[&other, &leaf])],
            Some(REVOKED),
        ),
    ] {
        let bundle = bundle_with(&[&ca], &lists);
        poller.poll(&[chain("default", &[&leaf.chain_pem()]), bundle]);
        assert_eq!(found(&poller), Vec::from_iter(expected));
    }
}

const REVOKED: &str = "workload default revoked_own";

/// A SPIFFE validator asks no revocation list.
#[test]
fn a_list_beside_a_spiffe_validator_says_nothing() {
    let ca = root("Root CA");
    let config = json!({"trust_domains": [
        {"name": "cluster.local", "trust_bundle": {"inline_string": ca.pem()}}
    ]});
    let context = json!({
        "custom_validator_config": {"typed_config": config},
        "crl": {"inline_string": list(&ca, (-DAY, -HOUR), &[])},
    });
    let mut poller = Poller::new();
    poller.poll(&[json!({"name": "ROOTCA", "secret": {"validation_context": context}})]);
    assert_eq!(found(&poller), [""; 0]);
    assert_eq!(poller.rows(NEXT_UPDATE, |_| true), [""; 0]);
    assert_eq!(poller.with_value(TRUSTED, 1).len(), 1);
}

/// Of a list that is inline in a TLS context `/certs` does not tell: the contexts are asked for at every poll.
#[test]
fn a_list_in_a_tls_context_is_followed() {
    let ca = root("Root CA");
    let inline = |pem: String| json!({"inline_string": pem});
    let mut poller = Poller::new();
    for lifetime in [(-9 * DAY, -HOUR), (-DAY, 30 * DAY)] {
        let context = json!({"common_tls_context": {"validation_context": {
            "trusted_ca": inline(ca.pem()),
            "crl": inline(list(&ca, lifetime, &[])),
        }}});
        let certs = json!([{"ca_cert": [details(ca.der(), "<inline>", None)]}]);
        poller.ask(&Admin {
            certificates: json!({"certificates": certs}),
            listeners: json!({"configs": [{"static_listeners": [context]}]}).to_string(),
            ..Admin::new(json!({}))
        });
        let labels = [format!("_inline_ {}", label("Root CA", &ca))];
        assert_eq!(poller.with_value(NEXT_UPDATE, seconds(lifetime.1)), labels);
    }
    assert_eq!(found(&poller), [""; 0]);
}

/// OpenSSL's files may have both, and Envoy reads both from `trusted_ca` and from the bundle of a SPIFFE validator.
#[test]
fn a_list_among_the_cas_counts() {
    let ca = root("Root CA");
    let end = 2 * DAY;
    let both = [ca.pem(), list(&ca, (-8 * DAY, end), &[])].concat();
    let mut validator = validator("ROOTCA", &[("cluster.local", &[&ca])]);
    let config =
        &mut validator["secret"]["validation_context"]["custom_validator_config"]["typed_config"];
    config["trust_domains"][0]["trust_bundle"] = json!({"inline_string": both});
    for bundle in [bundle("ROOTCA", &[&both]), validator] {
        let mut poller = Poller::new();
        poller.poll(&[chain("default", &[&leaf(&ca).leaf_pem()]), bundle]);
        let labels = [format!("ROOTCA {}", label("Root CA", &ca))];
        assert_eq!(poller.with_value(NEXT_UPDATE, seconds(end)), labels);
        assert_eq!(found(&poller), ["none ROOTCA crl_expiring"]);
    }
}
