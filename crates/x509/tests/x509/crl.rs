//! Revocation lists: what was put in comes out, and what is broken is an error.

use mtls_watch_x509::ParseError;
use mtls_watch_x509::crl::RevocationList;
use mtls_watch_x509::pem;
use mtls_watch_x509::time::UnixTime;
use pki::handmade::{sequence, tlv, utc_time};
use pki::{Ca, DAY, Identity, Lifetime};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::facts;

fn leaves(ca: &Ca, number: usize) -> Vec<Identity> {
    let leaf = |_| ca.leaf().dns("shop").issue().unwrap();
    (0..number).map(leaf).collect()
}

fn der(pem: &str) -> Vec<u8> {
    pem::revocation_lists(pem.as_bytes()).next().unwrap()
}

fn list_of(ca: &Ca, revoked: &[&Identity]) -> RevocationList {
    RevocationList::read(&der(&ca.revocation_list(revoked).unwrap())).unwrap()
}

#[test]
fn dates_issuer_and_entries_are_read() {
    let ca = Ca::root("Root CA").issue().unwrap();
    let leaves = leaves(&ca, 3);
    let lifetime = Lifetime::from_now(-DAY, DAY);
    for revoked in [&[][..], &[&leaves[0]], &[&leaves[2], &leaves[0]]] {
        let pem = ca.revocation_list_for(lifetime, revoked).unwrap();
        let list = RevocationList::read(&der(&pem)).unwrap();
        assert_eq!(list.this_update, UnixTime(lifetime.not_before));
        assert_eq!(list.next_update, Some(UnixTime(lifetime.not_after)));
        assert_eq!(list.issuer_ca(), facts(ca.der()).subject_ca());
        for leaf in &leaves {
            let is_revoked = revoked.iter().any(|it| it.der() == leaf.der());
            assert_eq!(list.revokes(&facts(leaf.der())), is_revoked);
        }
    }
}

/// More than 64 KiB, which is the most that a certificate may have.
#[test]
fn a_long_list_is_read_to_its_end() {
    let ca = Ca::root("Root CA").issue().unwrap();
    let leaf = &leaves(&ca, 1)[0];
    let entry = |number: u32| {
        let serial = [&[1][..], &number.to_be_bytes()].concat();
        sequence(&[tlv(2, serial), utc_time("260101000000Z")])
    };
    let mut entries: Vec<Vec<u8>> = (0..20_000).map(entry).collect();
    let leaf = facts(leaf.der());
    entries.push(sequence(&[tlv(2, &leaf.serial), utc_time("260101000000Z")]));
    let der = handmade(&ca, &[utc_time("260101000000Z")], &entries, None);
    assert!(der.len() > 256 * 1024);
    let list = RevocationList::read(&der).unwrap();
    assert!(list.revokes(&leaf));
    assert_eq!(list.next_update, None);
}

/// A serial number is unique for each CA: another CA of the same name, or another name, has its own.
#[test]
fn a_list_is_about_one_ca() {
    let [ca, namesake] = [(); 2].map(|()| Ca::root("Root CA").issue().unwrap());
    let other = Ca::root("Other CA").issue().unwrap();
    let leaf = &leaves(&ca, 1)[0];
    assert!(list_of(&ca, &[leaf]).revokes(&facts(leaf.der())));
    for other in [namesake, other] {
        assert!(!list_of(&other, &[leaf]).revokes(&facts(leaf.der())));
        assert!(!list_of(&ca, &[]).has_issuer_of(&list_of(&other, &[])));
    }
}

#[test]
fn the_number_is_read_up_to_64_bits() {
    let ca = Ca::root("Root CA").issue().unwrap();
    for (content, number) in [
        (&[0][..], Some(0)),
        (&[1, 0], Some(256)),
        (&[0, 0xff], Some(255)),
        (
            &[0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
            Some(u64::MAX),
        ),
        (&[1, 0, 0, 0, 0, 0, 0, 0, 0], None),
        (&[0xff], None),
    ] {
        let der = handmade(&ca, &[utc_time("260101000000Z")], &[], Some(content));
        let list = RevocationList::read(&der).unwrap();
        assert_eq!(list.number, number, "{content:?}");
        assert_eq!(list.issuer_ca().split(':').next(), Some("Root CA"));
    }
}

/// A list of that CA's name, with these times, entries and CRL number. It has no signature that is one.
fn handmade(ca: &Ca, times: &[Vec<u8>], entries: &[Vec<u8>], number: Option<&[u8]>) -> Vec<u8> {
    let algorithm = sequence(&[tlv(6, [0x2b, 0x65, 0x70])]);
    let mut parts = vec![
        tlv(2, [1]),
        algorithm.clone(),
        facts(ca.der()).links.subject.to_vec(),
    ];
    parts.extend_from_slice(times);
    if !entries.is_empty() {
        parts.push(sequence(entries));
    }
    if let Some(number) = number {
        let extension = sequence(&[tlv(6, [0x55, 0x1d, 20]), tlv(4, tlv(2, number))]);
        parts.push(tlv(0xa0, sequence(&[extension])));
    }
    sequence(&[sequence(&parts), algorithm, tlv(3, [0; 65])])
}

#[test]
fn what_is_no_list_is_an_error() {
    let ca = Ca::root("Root CA").issue().unwrap();
    for bytes in [&b""[..], b"\x30\x00", ca.der()] {
        assert_eq!(RevocationList::read(bytes), Err(ParseError::Der));
    }
    assert_eq!(
        RevocationList::read(&handmade(&ca, &[], &[], None)),
        Err(ParseError::Der)
    );
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_read_without_harm(
        bytes in any::<Vec<u8>>(),
        changes in vec((any::<proptest::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let ca = Ca::root("Root CA").issue().unwrap();
        let leaf = ca.leaf().dns("shop").issue().unwrap();
        let mut list = der(&ca.revocation_list(&[&leaf]).unwrap());
        for (index, byte) in changes {
            let length = list.len();
            list[index.index(length)] = byte;
        }
        for bytes in [bytes, list] {
            if let Ok(list) = RevocationList::read(&bytes) {
                let _ = (list.issuer_ca(), list.revokes(&facts(leaf.der())));
            }
        }
    }
}
