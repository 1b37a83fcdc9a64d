//! What BoringSSL refuses is refused, although OpenSSL and x509-parser read most of it: a certificate that is
//! called ok must load in Envoy. That Envoy refuses each of these is a test of tests/envoy.

use mtls_watch_x509::describe::describe;
use mtls_watch_x509::{ParseError, parse};
use pki::fixtures::{PKI, workload};
use pki::handmade::{BASIC_CONSTRAINTS, Handmade, KEY_USAGE, extension, sequence, tlv, utc_time};
use pki::lax::{self, Case};

use crate::facts;
use crate::openssl::Facts;

/// A leaf, and a CA that has a common name and signs itself.
fn sound() -> [Vec<u8>; 2] {
    let leaf = workload().issue().unwrap();
    [leaf.der().to_vec(), PKI.root.der().to_vec()]
}

fn refused(cases: impl Fn(&[u8]) -> Vec<Case>) {
    for der in sound() {
        facts(&der);
        for (case, der) in cases(&der) {
            assert!(parse(&der).is_err(), "{case}");
            assert!(describe(&der).is_err(), "{case}");
        }
    }
}

#[test]
fn lengths_in_more_bytes_than_needed_at_every_level() {
    refused(lax::long_lengths);
    for (case, der) in lax::long_lengths(&sound()[0]) {
        assert!(Facts::by_openssl(&der).is_some(), "{case}: not even BER");
    }
}

#[test]
fn lengths_in_more_bytes_than_needed_in_the_values_of_extensions() {
    refused(lax::long_lengths_in_values);
    for (case, der) in lax::long_lengths_in_values(&sound()[0]) {
        assert!(
            matches!(parse(&der), Err(ParseError::Extension(_))),
            "{case}"
        );
    }
}

/// BoringSSL makes this one exception, for CAs that have written it (`asn1_parse_bit_string_with_bad_length`).
#[test]
fn the_length_of_the_signature_may_be_longer() {
    for der in sound() {
        assert_eq!(facts(&lax::long_length_of_signature(&der)), facts(&der));
    }
}

#[test]
fn lengths_that_are_not_there() {
    refused(lax::indefinite_lengths);
}

#[test]
fn times_that_rfc_5280_does_not_have() {
    refused(lax::times);
    refused(lax::utc_times_with_offset);
}

#[test]
fn numbers_and_texts_that_are_none() {
    refused(lax::values);
}

#[test]
fn extensions_that_are_there_twice() {
    refused(lax::repeated_extensions);
    let (case, der) = lax::repeated_extensions(&sound()[0]).remove(0);
    assert!(
        matches!(parse(&der), Err(ParseError::RepeatedExtension(_))),
        "{case}"
    );
}

/// BoringSSL calls these extensions invalid, and refuses the peer.
#[test]
fn values_of_extensions_that_contradict_themselves() {
    let path_length = || tlv(2, [0]);
    for (case, extension) in [
        (
            "path length without cA",
            extension(BASIC_CONSTRAINTS, &sequence(&[path_length()])),
        ),
        (
            "path length and cA false",
            extension(BASIC_CONSTRAINTS, &sequence(&[tlv(1, [0]), path_length()])),
        ),
        (
            "something behind the path length",
            extension(
                BASIC_CONSTRAINTS,
                &sequence(&[tlv(1, [0xff]), path_length(), path_length()]),
            ),
        ),
        (
            "a bit that is not used",
            extension(KEY_USAGE, &tlv(3, [7, 0x81])),
        ),
    ] {
        let handmade = Handmade {
            extensions: vec![extension],
            ..Handmade::default()
        };
        assert!(parse(&handmade.der()).is_err(), "{case}");
    }
}

#[test]
fn elements_beyond_the_last() {
    let handmade = Handmade {
        validity: [
            utc_time("270101000000Z"),
            [utc_time("280101000000Z"), utc_time("290101000000Z")].concat(),
        ],
        ..Handmade::default()
    };
    assert_eq!(parse(&handmade.der()), Err(ParseError::Der));
}

/// Nesting costs stack, of which a module has little.
#[test]
fn elements_in_elements_without_end() {
    let nested = |levels| (0..levels).fold(tlv(5, []), |inside, _| tlv(0x30, inside));
    let named = |levels| Handmade {
        subject: sequence(&[tlv(0x31, sequence(&[tlv(6, [0x55, 4, 3]), nested(levels)]))]),
        ..Handmade::default()
    };
    assert!(parse(&named(10).der()).is_ok());
    assert_eq!(parse(&named(10_000).der()), Err(ParseError::Der));
}

#[test]
fn a_tag_in_long_form() {
    let whole = Handmade::default().der();
    let long = [&[0x3f, 0x10], &whole[1..]].concat();
    assert!(Facts::by_openssl(&long).is_some());
    assert_eq!(parse(&long), Err(ParseError::Der));
}
