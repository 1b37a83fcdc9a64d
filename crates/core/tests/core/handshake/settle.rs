//! What the refused leaf and the known CAs add to a text.

use mtls_watch_core::handshake::{Failure, Holder, Known, Reason, settle};
use mtls_watch_core::terms::Direction::{Inbound, Outbound};
use mtls_watch_x509::Certificate;
use mtls_watch_x509::chain::Layer;
use pki::fixtures::{PAY, PKI, lasting};
use pki::{Ca, DAY, HOUR, KeyUsage};

use super::verdict;
use crate::{at, facts};

fn ca(ca: &Ca) -> Certificate {
    facts(ca.der())
}

fn leaf_of(ca: &Ca, identity: &str) -> Certificate {
    let leaf = ca.leaf().uri(identity).lifetime(lasting(-HOUR, HOUR));
    facts(leaf.issue().unwrap().der())
}

fn settled(reason: Reason, layer: Layer, known: &Known<'_>) -> Failure {
    settle(Failure::new(reason, Some(layer)), known, Inbound, at(0))
}

fn years() -> pki::Lifetime {
    lasting(-1000 * DAY, 1000 * DAY)
}

/// A root, and an expired copy of it with the same name and key.
fn twins() -> (Ca, Ca) {
    let root = Ca::root("Twin Root").lifetime(years()).issue().unwrap();
    let expired = Ca::root("Twin Root").key(root.key());
    let expired = expired
        .lifetime(lasting(-1000 * DAY, -DAY))
        .issue()
        .unwrap();
    (expired, root)
}

/// BoringSSL may take the expired copy: that is cured here and not at the peer.
#[test]
fn an_expired_copy_of_a_root_in_the_own_bundle() {
    let (expired, root) = twins();
    let bundle = [ca(&expired), ca(&root)];
    let leaf = leaf_of(&root, PAY);
    let known = Known {
        leaf: Some(&leaf),
        bundle: &bundle,
        ..Known::default()
    };
    let failure = settled(Reason::Expired, Layer::IssuingCa, &known);
    assert_eq!(verdict(&failure), "expired root_ca own");
    assert!(
        failure.hint.contains("remove the expired copy"),
        "{}",
        failure.hint
    );

    // With CAs between, which the proxy has met or has not.
    let middle = root
        .subordinate("Middle CA")
        .lifetime(years())
        .issue()
        .unwrap();
    let leaf = leaf_of(&middle, PAY);
    for others in [&[ca(&middle)][..], &[]] {
        let known = Known {
            leaf: Some(&leaf),
            others: [others, &[]],
            ..known
        };
        let failure = settled(Reason::Expired, Layer::IntermediateCa, &known);
        assert_eq!(verdict(&failure), "expired root_ca own");
    }
    // A server's leaf is never known.
    let known = Known {
        leaf: None,
        ..known
    };
    let failure = Failure::new(Reason::Expired, Some(Layer::IssuingCa));
    let failure = settle(failure, &known, Outbound, at(0));
    assert_eq!(verdict(&failure), "expired root_ca own");
    let of_leaf = Failure::new(Reason::Expired, Some(Layer::Workload));
    let failure = settle(of_leaf, &known, Outbound, at(0));
    assert_eq!(verdict(&failure), "expired workload peer");
}

#[test]
fn a_root_of_the_own_bundle_that_is_not_valid_yet() {
    let root = Ca::root("Early Root").lifetime(lasting(DAY, 100 * DAY));
    let root = root.issue().unwrap();
    let (leaf, bundle) = (leaf_of(&root, PAY), [ca(&root)]);
    let known = Known {
        leaf: Some(&leaf),
        bundle: &bundle,
        ..Known::default()
    };
    let failure = settled(Reason::NotYetValid, Layer::IssuingCa, &known);
    assert_eq!(verdict(&failure), "not_yet_valid root_ca own");
}

/// An expired CA elsewhere in the bundle is not the one.
#[test]
fn an_expired_ca_that_the_peer_has_sent() {
    let (expired_root, _) = twins();
    let root = &PKI.root;
    let old = root
        .subordinate("Old CA")
        .lifetime(lasting(-100 * DAY, -DAY));
    let old = old.issue().unwrap();
    let leaf = leaf_of(&old, PAY);
    let bundle = [ca(root), ca(&expired_root)];
    for others in [&[ca(&old)][..], &[]] {
        let known = Known {
            leaf: Some(&leaf),
            bundle: &bundle,
            others: [others, &[]],
            ..Known::default()
        };
        let failure = settled(Reason::Expired, Layer::IssuingCa, &known);
        assert_eq!(verdict(&failure), "expired issuing_ca peer");
    }
}

fn hint_of_unknown_ca(known: &Known<'_>) -> String {
    let failure = settled(Reason::UnknownCa, Layer::Workload, known);
    assert_eq!(failure.reason, Reason::UnknownCa);
    assert_eq!(failure.holder, Holder::Peer);
    failure.hint.into_owned()
}

#[test]
fn a_ca_that_is_not_trusted() {
    let other = Ca::root("Root CA").lifetime(years()).issue().unwrap();
    let leaf = leaf_of(&other, PAY);
    let bundle = [ca(&PKI.root)];
    let known = Known {
        leaf: Some(&leaf),
        bundle: &bundle,
        trust_domain: Some("cluster.local"),
        ..Known::default()
    };
    // Anybody can sign in this name: the first thing is to find out who it is.
    let hint = hint_of_unknown_ca(&known);
    assert!(hint.contains("a new key under the same name"), "{hint}");
    assert!(hint.contains("key identifier"), "{hint}");
    assert!(hint.contains("anyone can use this name"), "{hint}");

    let stranger = Ca::root("Vendor CA").lifetime(years()).issue().unwrap();
    let leaf = leaf_of(&stranger, PAY);
    let hint = hint_of_unknown_ca(&Known {
        leaf: Some(&leaf),
        ..known
    });
    assert!(hint.contains("If this CA is yours"), "{hint}");

    let leaf = leaf_of(&other, "spiffe://far.example/ns/shop/sa/pay");
    let hint = hint_of_unknown_ca(&Known {
        leaf: Some(&leaf),
        ..known
    });
    assert!(
        hint.contains("'far.example'") && hint.contains("'cluster.local'"),
        "{hint}"
    );
    assert!(!hint.contains("new key"), "{hint}");
}

/// Known is what is in the bundle now.
#[test]
fn a_ca_that_has_left_the_bundle() {
    let old = Ca::root("Old Root").lifetime(years()).issue().unwrap();
    let leaf = leaf_of(&old, PAY);
    let accepted = [leaf.issuer_ca().into_owned()];
    let bundle = [ca(&PKI.root)];
    let known = Known {
        leaf: Some(&leaf),
        bundle: &bundle,
        accepted: &accepted,
        ..Known::default()
    };
    let hint = hint_of_unknown_ca(&known);
    assert!(hint.contains("no longer in the trust bundle"), "{hint}");
    assert!(hint.contains("its agent"), "{hint}");
    // Without the hierarchy nobody knows that it has left.
    let hint = hint_of_unknown_ca(&Known {
        bundle: &[],
        ..known
    });
    assert!(hint.contains("send the intermediate CAs"), "{hint}");
}

#[test]
fn a_known_ca_whose_chain_is_not_complete() {
    let leaf = leaf_of(&PKI.issuing, PAY);
    let bundle = [ca(&PKI.root)];
    let others = [ca(&PKI.issuing), ca(&PKI.intermediate)];
    let known = Known {
        leaf: Some(&leaf),
        bundle: &bundle,
        others: [&others, &[]],
        ..Known::default()
    };
    let hint = hint_of_unknown_ca(&known);
    assert!(hint.contains("send the intermediate CAs"), "{hint}");

    // It was sent, and BoringSSL passes over a CA that may not sign.
    let useless = PKI.root.subordinate("Useless CA").lifetime(years());
    let useless = useless
        .key_usages(&[KeyUsage::DigitalSignature])
        .issue()
        .unwrap();
    let leaf = leaf_of(&useless, PAY);
    let others = [ca(&useless)];
    let known = Known {
        leaf: Some(&leaf),
        others: [&others, &[]],
        ..known
    };
    let hint = hint_of_unknown_ca(&known);
    assert!(
        hint.contains("reissue this CA with cA true and keyCertSign"),
        "{hint}"
    );
}

#[test]
fn a_trust_domain_without_a_bundle_is_named() {
    let leaf = leaf_of(&PKI.issuing, "spiffe://clutser.local/ns/shop/sa/pay");
    let known = Known {
        leaf: Some(&leaf),
        trust_domain: Some("cluster.local"),
        ..Known::default()
    };
    let failure = settled(Reason::TrustDomainUnknown, Layer::Workload, &known);
    assert_eq!(verdict(&failure), "trust_domain_unknown workload peer");
    assert!(failure.hint.contains("'clutser.local'"), "{}", failure.hint);
    assert!(failure.hint.contains("'cluster.local'"), "{}", failure.hint);
}

/// A CA without a common name is called after its organization, as every CA of SPIRE is.
#[test]
fn the_name_of_an_organization_is_no_name_of_a_ca() {
    let leaf = facts(
        PKI.leaf()
            .uri(PAY)
            .lifetime(lasting(-HOUR, HOUR))
            .issue()
            .unwrap()
            .der(),
    );
    let name = pki::handmade::name(&[(&[0x55, 4, 10], 12, b"SPIFFE")]);
    let mut of_spire = leaf;
    of_spire.links.issuer = name.into();
    of_spire.links.authority_key_id = Some(vec![1; 20].into());
    let accepted = ["SPIFFE:01234567".to_owned()];
    let known = Known {
        leaf: Some(&of_spire),
        accepted: &accepted,
        ..Known::default()
    };
    let hint = hint_of_unknown_ca(&known);
    assert!(!hint.contains("new key"), "{hint}");
}

/// Envoy does not tell which secret it is. The admin interface tells which were never supplied.
#[test]
fn a_secret_that_is_missing_is_named() {
    let known = Known {
        missing_secrets: Some("default', 'spiffe://far.example-cacert"),
        ..Known::default()
    };
    let failure = settle(
        Failure::new(Reason::SecretMissing, None),
        &known,
        Outbound,
        at(0),
    );
    assert_eq!(verdict(&failure), "secret_missing none own");
    let names = "waits for 'default', 'spiffe://far.example-cacert'";
    assert!(failure.hint.contains(names), "{}", failure.hint);
    let unknown = settle(
        Failure::new(Reason::SecretMissing, None),
        &Known::default(),
        Outbound,
        at(0),
    );
    assert!(unknown.hint.contains("own certificate or the CA bundle"));
}
