//! Which certificate is at which layer, and which one signed which.

use mtls_watch_x509::chain::{self, Layer, Member};
use pki::Ca;
use pki::{CaBuilder, DAY, LeafBuilder};

use Layer::{IntermediateCa, IssuingCa, RootCa, Workload};

use crate::facts;
use pki::fixtures::{PAY, PKI, key_digits, lasting, leaf, workload};

fn issued(ca: CaBuilder) -> Ca {
    ca.issue().unwrap()
}

fn link(chain: &[&[u8]]) -> Vec<Member> {
    chain::link(chain.iter().map(|der| facts(der)).collect())
}

/// Layer of each certificate, and the position of the one that signed it.
fn places(chain: &[&[u8]]) -> Vec<(Layer, Option<usize>)> {
    let places = link(chain);
    let place = |member: &Member| (member.layer, member.issuer);
    places.iter().map(place).collect()
}

#[test]
fn a_full_chain_has_four_layers() {
    let leaf = workload().issue().unwrap().with_root();
    let chain = leaf.chain();
    let chain: Vec<&[u8]> = chain.iter().map(|der| &**der).collect();
    assert_eq!(
        places(&chain),
        [
            (Workload, Some(1)),
            (IssuingCa, Some(2)),
            (IntermediateCa, Some(3)),
            (RootCa, None),
        ]
    );
}

#[test]
fn a_leaf_alone_has_no_issuer() {
    assert_eq!(
        places(&[workload().issue().unwrap().der()]),
        [(Workload, None)]
    );
    assert_eq!(places(&[]), []);
}

#[test]
fn the_order_of_the_cas_does_not_matter() {
    let leaf = workload().issue().unwrap();
    let cas = [&PKI.issuing, &PKI.intermediate, &PKI.root];
    let layers = [IssuingCa, IntermediateCa, RootCa];
    for order in [
        [0, 1, 2],
        [0, 2, 1],
        [1, 0, 2],
        [1, 2, 0],
        [2, 0, 1],
        [2, 1, 0],
    ] {
        let chain = order.map(|index| &**cas[index].der());
        let found = places(&[&[&**leaf.der()][..], &chain].concat());
        for (position, index) in order.into_iter().enumerate() {
            assert_eq!(found[position + 1].0, layers[index], "{order:?}");
        }
        let place_of = |ca: usize| order.iter().position(|index| *index == ca).unwrap() + 1;
        assert_eq!(found[0].1, Some(place_of(0)), "{order:?}");
        assert_eq!(found[place_of(0)].1, Some(place_of(1)), "{order:?}");
    }
}

#[test]
fn a_self_signed_leaf_is_a_workload_that_nobody_else_signed() {
    let leaf = LeafBuilder::self_signed().common_name("Root CA").uri(PAY);
    let leaf = leaf.issue().unwrap();
    let chain = [&**leaf.der(), PKI.root.der(), PKI.issuing.der()];
    assert_eq!(
        places(&chain),
        [(Workload, None), (RootCa, None), (IntermediateCa, None),]
    );
}

#[test]
fn another_leaf_beside_the_leaf_is_no_ca() {
    let [leaf, other] = [(); 2].map(|()| workload().issue().unwrap());
    assert_eq!(
        places(&[leaf.der(), other.der(), PKI.issuing.der()]),
        [(Workload, Some(2)), (Workload, Some(2)), (IssuingCa, None)]
    );
    // What another certificate names as its issuer is judged as a CA, cA true or not.
    let unflagged = issued(PKI.intermediate.subordinate("CA").without_ca_flag());
    let leaf = unflagged.leaf().issue().unwrap();
    assert_eq!(
        places(&[leaf.der(), unflagged.der(), other.der()]),
        [(Workload, Some(1)), (IssuingCa, None), (Workload, None)]
    );
}

#[test]
fn of_several_certificates_of_one_ca_the_one_that_lasts_longest_counts() {
    let ca = || PKI.intermediate.subordinate("Issuing CA");
    let short = issued(ca().lifetime(lasting(0, DAY)));
    let renewed = issued(ca().key(short.key()).lifetime(lasting(0, 9 * DAY)));
    let crossed = PKI.root.subordinate("Issuing CA").key(short.key());
    let crossed = issued(crossed.lifetime(lasting(0, 5 * DAY)));
    let barred = ca().key(short.key()).without_ca_flag();
    let barred = issued(barred.lifetime(lasting(0, 99 * DAY)));
    let unfit = ca().key(short.key()).key_usages(&[pki::KeyUsage::CrlSign]);
    let unfit = issued(unfit.lifetime(lasting(0, 99 * DAY)));
    let leaf = short.leaf().issue().unwrap();
    let [leaf, short, renewed, crossed, barred, unfit] = [
        leaf.der(),
        short.der(),
        renewed.der(),
        crossed.der(),
        barred.der(),
        unfit.der(),
    ]
    .map(|der| &**der);
    for (chain, issuer) in [
        (vec![leaf, short, renewed], 2),
        (vec![leaf, renewed, short], 1),
        (vec![leaf, short, crossed], 2),
        (vec![leaf, barred, short], 2),
        (vec![leaf, unfit, short], 2),
        // None would be accepted: whichever lasts longest.
        (vec![leaf, barred], 1),
        (vec![leaf, short, short], 1),
    ] {
        assert_eq!(places(&chain)[0].1, Some(issuer));
    }
    let mut certificates = vec![facts(leaf)];
    chain::complete(&mut certificates, &[short, renewed, crossed].map(facts));
    assert_eq!(certificates, [leaf, renewed].map(facts));
}

#[test]
fn a_root_that_signed_the_leaf_is_a_root() {
    let leaf = PKI.root.leaf().issue().unwrap();
    assert_eq!(
        places(&[leaf.der(), PKI.root.der()]),
        [(Workload, Some(1)), (RootCa, None)]
    );
}

#[test]
fn of_two_cas_with_one_name_the_one_with_the_key_signed() {
    let [old, new] = [(); 2].map(|()| issued(PKI.intermediate.subordinate("Issuing CA")));
    let leaf = new.leaf().issue().unwrap();
    for (chain, new_at) in [
        ([&**leaf.der(), old.der(), new.der()], 2),
        ([&**leaf.der(), new.der(), old.der()], 1),
    ] {
        let found = places(&chain);
        assert_eq!(found[0].1, Some(new_at));
        assert_eq!(found[new_at].0, IssuingCa);
        assert_eq!(found[3 - new_at].0, IntermediateCa);
    }
}

#[test]
fn without_a_key_identifier_the_name_decides() {
    let leaf = leaf().without_authority_key_identifier().issue().unwrap();
    let chain = [&**leaf.der(), PKI.intermediate.der(), PKI.issuing.der()];
    assert_eq!(
        places(&chain),
        [
            (Workload, Some(2)),
            (IntermediateCa, None),
            (IssuingCa, Some(1)),
        ]
    );
}

#[test]
fn a_name_alone_does_not_make_an_issuer() {
    let stranger = issued(issued(Ca::root("Stranger")).subordinate("Issuing CA"));
    let leaf = leaf().issue().unwrap();
    assert_eq!(
        places(&[leaf.der(), stranger.der()]),
        [(Workload, None), (IntermediateCa, None)]
    );
}

#[test]
fn certificates_off_the_path_are_cas_like_any_other() {
    let leaf = workload().issue().unwrap();
    let stranger = issued(Ca::root("Stranger"));
    let below = issued(stranger.subordinate("Below"));
    let chain = [
        &**leaf.der(),
        stranger.der(),
        PKI.issuing.der(),
        below.der(),
    ];
    assert_eq!(
        places(&chain),
        [
            (Workload, Some(2)),
            (RootCa, None),
            (IssuingCa, None),
            (IntermediateCa, Some(1)),
        ]
    );
}

#[test]
fn every_certificate_of_a_cross_signed_ca_that_signed_the_leaf_is_issuing() {
    let other = issued(Ca::root("Other Root"));
    let crossed = issued(other.subordinate("Issuing CA").key(PKI.issuing.key()));
    let leaf = leaf().issue().unwrap();
    for chain in [
        [&**leaf.der(), PKI.issuing.der(), crossed.der()],
        [&**leaf.der(), crossed.der(), PKI.issuing.der()],
    ] {
        let found = places(&chain);
        assert_eq!([found[1].0, found[2].0], [IssuingCa, IssuingCa]);
        assert!(matches!(found[0].1, Some(1 | 2)));
    }
}

#[test]
fn a_cross_signed_root_is_issuing_beside_its_self_signed_self() {
    let new = issued(Ca::root("New Root"));
    let crossed = issued(PKI.root.subordinate("New Root").key(new.key()));
    let leaf = new.leaf().issue().unwrap();
    for (chain, crossed_at) in [
        ([&**leaf.der(), crossed.der(), new.der()], 1),
        ([&**leaf.der(), new.der(), crossed.der()], 2),
    ] {
        let found = places(&chain);
        assert_eq!(found[crossed_at].0, IssuingCa);
        assert_eq!(found[3 - crossed_at].0, RootCa);
    }
}

#[test]
fn cas_that_signed_each_other_end_nowhere_and_hang_nothing() {
    let [a, b] = ["A", "B"].map(|name| issued(Ca::root(name)));
    let a_by_b = issued(b.subordinate("A").key(a.key()));
    let b_by_a = issued(a.subordinate("B").key(b.key()));
    let leaf = a.leaf().issue().unwrap();
    assert_eq!(
        places(&[leaf.der(), a_by_b.der(), b_by_a.der()]),
        [
            (Workload, Some(1)),
            (IssuingCa, Some(2)),
            (IntermediateCa, Some(1)),
        ]
    );
}

#[test]
fn a_leaf_that_signed_something_is_still_nobody_s_issuer() {
    let rogue = issued(PKI.root.subordinate("Rogue"));
    let below = issued(rogue.subordinate("Below"));
    assert_eq!(
        places(&[rogue.der(), below.der()]),
        [(Workload, None), (IntermediateCa, None)]
    );
}

#[test]
fn a_leaf_goes_by_its_identity_and_a_ca_by_its_name() {
    let leaf = workload().issue().unwrap();
    let chain = link(&[leaf.der(), PKI.issuing.der()]);
    let issuing = format!("Issuing CA:{}", key_digits(&PKI.issuing));
    assert_eq!([chain[0].identity(), chain[1].identity()], [PAY, &issuing]);
}

#[test]
fn a_ca_that_is_there_is_named_by_its_own_key_identifier() {
    let leaf = leaf().without_authority_key_identifier().issue().unwrap();
    let issuing = format!("Issuing CA:{}", key_digits(&PKI.issuing));
    assert_ne!(facts(leaf.der()).issuer_ca(), issuing);
    let chain = link(&[leaf.der(), PKI.issuing.der()]);
    assert_eq!(chain[0].certificate.issuer_ca(), issuing);
}
