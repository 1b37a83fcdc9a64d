//! Certificates as they are in the world: what is wrong with the form, the issuer or the use of one is found, and
//! nothing is with what default issuers make.

use mtls_watch_core::policy;
use mtls_watch_core::terms::{Direction, Finding, Findings, Thresholds};
use mtls_watch_x509::Certificate;
use mtls_watch_x509::chain;
use mtls_watch_x509::time::UnixTime;
use pki::fixtures::{PKI, lasting, leaf, workload};
use pki::issuers::default_leaves;
use pki::{Ca, DAY, ExtendedKeyUsage, HOUR, KeyUsage, LeafBuilder};

use Direction::{Inbound, Outbound};
use Finding::{
    CaFlagMissing, ClientAuthMissing, CriticalExtensionUnknown, DefaultIssuer, Expired,
    ExtendedKeyUsageAbsent, LeafIsCa, NotYetValid, OutlivesIssuer, SelfSignedLeaf, SpiffeIdInvalid,
    SubjectAltNameMissing, UsageExcessive, ValidityReversed, ValidityTooLong, Version1, WeakKey,
    WildcardClient,
};

use crate::{at, facts};

fn issued(leaf: LeafBuilder) -> Certificate {
    facts(leaf.issue().unwrap().der())
}

fn found(chain: Vec<Certificate>, direction: Direction) -> Vec<Findings> {
    let members = chain::link(chain);
    let judged = policy::judge(&members, direction, &Thresholds::default());
    judged.iter().map(|judgement| judgement.at(at(0))).collect()
}

/// The findings of a leaf whose issuing CA is beside it.
fn of_leaf(leaf: LeafBuilder, direction: Direction) -> Vec<Finding> {
    let chain = vec![issued(leaf), facts(PKI.issuing.der())];
    found(chain, direction)[0].iter().collect()
}

fn named() -> LeafBuilder {
    leaf().dns("pay.test")
}

#[test]
fn the_default_leaves_of_issuers_are_sound() {
    for (issuer, is_client, leaf) in default_leaves() {
        let facts = issued(leaf);
        let direction = if is_client { Inbound } else { Outbound };
        let chain = vec![facts, facts_of(&PKI.issuing)];
        let found = found(chain, direction)[0];
        let accepted = Findings::only(ExtendedKeyUsageAbsent);
        assert_eq!(found.difference(accepted), Findings::empty(), "{issuer}");
        assert_eq!(found == accepted, issuer == "cert-manager", "{issuer}");
    }
}

fn facts_of(ca: &Ca) -> Certificate {
    facts(ca.der())
}

#[test]
fn what_is_wrong_with_a_leaf_is_found() {
    let cases = [
        (named(), vec![]),
        (leaf().common_name("pay"), vec![SubjectAltNameMissing]),
        (named().dns("*.test"), vec![WildcardClient]),
        (named().extension(&[1, 2, 3], false), vec![]),
        (
            named().extension(&[1, 2, 3], true),
            vec![CriticalExtensionUnknown],
        ),
        (
            leaf().version_1(),
            vec![ExtendedKeyUsageAbsent, SubjectAltNameMissing, Version1],
        ),
        (
            named().extended_key_usages(&[
                ExtendedKeyUsage::ClientAuth,
                ExtendedKeyUsage::CodeSigning,
            ]),
            vec![UsageExcessive],
        ),
        (
            named().extended_key_usages(&[ExtendedKeyUsage::OcspSigning]),
            vec![ClientAuthMissing, UsageExcessive],
        ),
        (
            named().key_usages(&[KeyUsage::DigitalSignature, KeyUsage::CrlSign]),
            vec![UsageExcessive],
        ),
        (named().ca_flag(), vec![LeafIsCa]),
    ];
    for (leaf, expected) in cases {
        let case = format!("{leaf:?}");
        assert_eq!(of_leaf(leaf, Inbound), expected, "{case}");
    }
    assert!(of_leaf(named().dns("*.test"), Outbound).is_empty());
}

#[test]
fn an_svid_has_the_key_usage_of_a_leaf() {
    let usages = |more: &[KeyUsage]| {
        let usages = [&[KeyUsage::DigitalSignature], more].concat();
        of_leaf(workload().key_usages(&usages), Inbound)
    };
    assert!(usages(&[KeyUsage::KeyAgreement]).is_empty());
    for usage in [KeyUsage::KeyCertSign, KeyUsage::CrlSign] {
        assert_eq!(usages(&[usage]), [SpiffeIdInvalid, UsageExcessive]);
    }
    let without = of_leaf(workload().key_usages(&[]), Inbound);
    assert_eq!(without, [SpiffeIdInvalid]);
    let mut optional = issued(workload());
    optional.key_usage.as_mut().unwrap().critical = false;
    optional.spiffe = mtls_watch_x509::spiffe::judge(&["spiffe://a/b"], false, optional.key_usage);
    assert!(found(vec![optional], Inbound)[0].contains(SpiffeIdInvalid));
}

#[test]
fn a_leaf_is_too_long_lived_after_two_years() {
    for days in [1, 731, 732] {
        let lifetime = lasting(-HOUR, days * DAY - HOUR);
        assert!(of_leaf(named().lifetime(lifetime), Inbound).is_empty());
    }
    let lifetime = lasting(-HOUR, 732 * DAY - HOUR + 1);
    assert_eq!(
        of_leaf(named().lifetime(lifetime), Inbound),
        [ValidityTooLong]
    );
}

#[test]
fn a_certificate_that_ends_before_it_begins_is_never_valid() {
    let reversed = |from, to| of_leaf(named().lifetime(lasting(from, to)), Inbound);
    assert_eq!(reversed(HOUR, -HOUR), [Expired, ValidityReversed]);
    assert_eq!(reversed(HOUR, 2), [NotYetValid, ValidityReversed]);
    assert_eq!(reversed(HOUR, HOUR), [NotYetValid]);
}

#[test]
fn a_certificate_without_an_end_outlives_nobody() {
    let mut leaf = issued(named());
    leaf.not_after = UnixTime::NO_EXPIRY;
    let chain = vec![leaf, facts_of(&PKI.issuing)];
    assert_eq!(found(chain.clone(), Inbound)[0], ValidityTooLong);
    let mut ends = chain;
    ends[0].not_after = UnixTime(UnixTime::NO_EXPIRY.0 - 1);
    assert!(found(ends, Inbound)[0].contains(OutlivesIssuer));
}

/// A CA that was renewed under the same key, and one that two roots have signed.
#[test]
fn a_leaf_does_not_outlive_a_ca_that_was_renewed() {
    let ca = |days| {
        let ca = PKI.intermediate.subordinate("Issuing CA");
        ca.lifetime(lasting(-DAY, days * DAY))
    };
    let old = ca(5).issue().unwrap();
    let renewed = ca(50).key(old.key()).issue().unwrap();
    let unfit = ca(90).key(old.key()).without_ca_flag().issue().unwrap();
    let leaf = old.leaf().dns("pay.test").lifetime(lasting(-HOUR, 9 * DAY));
    let leaf = issued(leaf);
    let with = |cas: &[&Ca]| {
        let cas = cas.iter().map(|ca| facts_of(ca));
        found([leaf.clone()].into_iter().chain(cas).collect(), Inbound)[0]
    };
    assert!(with(&[&old]).contains(OutlivesIssuer));
    for both in [[&old, &renewed], [&renewed, &old]] {
        assert!(!with(&both).contains(OutlivesIssuer));
    }
    assert!(with(&[&old, &unfit]).contains(OutlivesIssuer));
}

#[test]
fn a_leaf_that_no_ca_has_signed_is_found() {
    let alone = issued(LeafBuilder::self_signed().common_name("a").dns("a"));
    assert!(found(vec![alone], Inbound)[0].contains(SelfSignedLeaf));
    // Issued by a CA of its own name: another key signed it.
    let ca = Ca::root("pay").issue().unwrap();
    let mut leaf = issued(ca.leaf().common_name("pay").dns("pay"));
    assert!(leaf.is_self_issued());
    for subject_key_id in [leaf.links.subject_key_id.clone(), None] {
        leaf.links.subject_key_id = subject_key_id;
        let found = found(vec![leaf.clone()], Inbound);
        assert!(!found[0].contains(SelfSignedLeaf));
    }
}

#[test]
fn who_signed_with_a_default_name_is_found() {
    for name in [
        "Internet Widgits Pty Ltd",
        "Default Company Ltd",
        "Acme Co",
        "Snake Oil CA",
    ] {
        let root = Ca::root(name).issue().unwrap();
        let leaf = issued(root.leaf().dns("pay.test").lifetime(lasting(-HOUR, DAY)));
        let found = found(vec![leaf, facts_of(&root)], Inbound);
        assert!(found.iter().all(|it| it.contains(DefaultIssuer)), "{name}");
    }
}

/// A leaf that is sent twice, or another beside it: neither has signed anything.
#[test]
fn what_is_no_ca_is_not_judged_as_one() {
    let leaf = issued(named());
    let other = issued(named().lifetime(lasting(-HOUR, DAY)));
    for beside in [leaf.clone(), other] {
        let chain = vec![leaf.clone(), beside, facts_of(&PKI.issuing)];
        assert!(found(chain, Inbound).iter().all(|it| it.is_empty()));
    }
    let unflagged = PKI.intermediate.subordinate("CA").without_ca_flag();
    let unflagged = unflagged.issue().unwrap();
    let leaf = issued(
        unflagged
            .leaf()
            .dns("pay.test")
            .lifetime(lasting(-HOUR, DAY)),
    );
    let judged = found(vec![leaf, facts_of(&unflagged)], Inbound);
    assert!(judged[1].contains(CaFlagMissing) && !judged[1].contains(WeakKey));
}
