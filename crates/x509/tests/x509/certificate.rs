//! A certificate's facts: what was put in comes out, another parser sees the same, and what is
//! broken is an error.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use mtls_watch_x509::describe::{Description, describe};
use mtls_watch_x509::spiffe::{InvalidSvid, Svid};
use mtls_watch_x509::time::UnixTime;
use mtls_watch_x509::{
    Certificate, KeyAlgorithm, KeyUsage, MAX_DER_BYTES, ParseError, PublicKey, SignatureDigest,
    parse,
};
use pki::KeyUsage::{CrlSign, DigitalSignature, KeyCertSign};
use pki::{Ca, Identity, Lifetime};
use pki::{KeyKind, LeafBuilder};
use sha2::{Digest as _, Sha256};

use crate::facts;
use pki::fixtures::{PAY, PKI, RSA, hex, key_digits, leaf, workload};
use pki::handmade::{
    self as der, AUTHORITY_KEY_ID, BASIC_CONSTRAINTS, BMP_STRING, COMMON_NAME, EXTENDED_KEY_USAGE,
    Handmade, KEY_USAGE, ORGANIZATION, PRINTABLE_STRING, SUBJECT_ALT_NAME, SUBJECT_KEY_ID,
    TELETEX_STRING, UNIVERSAL_STRING, UTF8_STRING,
};

fn issued(builder: LeafBuilder) -> Identity {
    builder.issue().unwrap()
}

#[test]
fn validity_is_read_to_the_second_from_1950_to_9999() {
    const LAST_OF_2049: i64 = 2_524_607_999;
    for (not_before, not_after) in [
        (-631_152_000, -1),
        (-1, 0),
        (0, LAST_OF_2049),
        (LAST_OF_2049, LAST_OF_2049 + 1),
        (LAST_OF_2049 + 1, 253_402_300_799),
        (-631_152_000, 253_402_300_799),
    ] {
        let lifetime = Lifetime {
            not_before,
            not_after,
        };
        let found = facts(issued(leaf().lifetime(lifetime)).der());
        assert_eq!(found.not_before, UnixTime(not_before));
        assert_eq!(found.not_after, UnixTime(not_after));
    }
}

#[test]
fn the_key_is_known_by_kind_and_size() {
    const P224: [u8; 5] = [0x2b, 0x81, 4, 0, 33];
    const P192: [u8; 8] = [0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 1];
    const P521: [u8; 5] = [0x2b, 0x81, 4, 0, 35];
    const BRAINPOOL_P160: [u8; 9] = [0x2b, 0x24, 3, 3, 2, 8, 1, 1, 1];
    let by_testbed = [
        (KeyKind::P256, KeyAlgorithm::Ec, 256),
        (KeyKind::P384, KeyAlgorithm::Ec, 384),
        (KeyKind::Ed25519, KeyAlgorithm::Ed25519, 256),
        (KeyKind::Rsa1024, KeyAlgorithm::Rsa, 1024),
    ]
    .map(|(kind, algorithm, bits)| {
        (
            issued(leaf().key_kind(kind)).der().to_vec(),
            algorithm,
            bits,
        )
    });
    let by_hand = [
        (der::elliptic_curve(&P192, 24), KeyAlgorithm::Ec, 192),
        (der::elliptic_curve(&P224, 28), KeyAlgorithm::Ec, 224),
        (der::elliptic_curve(&P521, 66), KeyAlgorithm::Ec, 521),
        (
            der::elliptic_curve(&BRAINPOOL_P160, 20),
            KeyAlgorithm::Ec,
            160,
        ),
        (der::rsa_key(2047), KeyAlgorithm::Rsa, 2047),
        (der::rsa_key(2048), KeyAlgorithm::Rsa, 2048),
        (
            der::public_key(&[0x2b, 0x65, 0x71], &[], &[7; 57]),
            KeyAlgorithm::Ed448,
            456,
        ),
        (
            der::public_key(&[0x2a, 3], &[], &[7; 9]),
            KeyAlgorithm::Other,
            0,
        ),
        (
            der::public_key(&der::rsa(1), &[5, 0], b"no key"),
            KeyAlgorithm::Rsa,
            0,
        ),
    ]
    .map(|(key, algorithm, bits)| {
        let handmade = Handmade {
            key,
            ..Handmade::default()
        };
        (handmade.der(), algorithm, bits)
    });
    for (der, algorithm, bits) in by_testbed.into_iter().chain(by_hand) {
        assert_eq!(facts(&der).public_key, PublicKey { algorithm, bits });
    }
}

#[test]
fn the_digest_of_the_signature_is_known_where_it_is_weak() {
    let ecdsa = |arc: &[u8]| [&[0x2a, 0x86, 0x48, 0xce, 0x3d, 4][..], arc].concat();
    let oiw = |arc| vec![0x2b, 0x0e, 3, 2, arc];
    for (signature_algorithm, digest) in [
        (der::rsa(2), SignatureDigest::Md2),
        (der::rsa(4), SignatureDigest::Md5),
        (der::rsa(5), SignatureDigest::Sha1),
        (der::rsa(11), SignatureDigest::Other),
        (ecdsa(&[1]), SignatureDigest::Sha1),
        (ecdsa(&[3, 2]), SignatureDigest::Other),
        (vec![0x2b, 0x65, 0x70], SignatureDigest::Other),
        (oiw(3), SignatureDigest::Md5),
        (oiw(29), SignatureDigest::Sha1),
        (oiw(27), SignatureDigest::Sha1),
    ] {
        let handmade = Handmade {
            signature_algorithm,
            ..Handmade::default()
        };
        assert_eq!(facts(&handmade.der()).signature_digest, digest);
    }
    let sha256 = [&[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2][..], &[1]].concat();
    let md5 = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 2, 5].to_vec();
    let hash = |oid| der::tlv(0xa0, der::sequence(&[der::tlv(6, oid)]));
    for (parameters, digest) in [
        (vec![], SignatureDigest::Sha1),
        (der::sequence(&[]), SignatureDigest::Sha1),
        // saltLength only: the digest is the default.
        (
            der::sequence(&[der::tlv(0xa2, der::tlv(2, [32]))]),
            SignatureDigest::Sha1,
        ),
        (der::sequence(&[hash(oiw(26))]), SignatureDigest::Sha1),
        (der::sequence(&[hash(md5)]), SignatureDigest::Md5),
        (der::sequence(&[hash(sha256)]), SignatureDigest::Other),
    ] {
        let handmade = Handmade {
            signature_algorithm: der::rsa(10),
            signature_parameters: parameters.clone(),
            ..Handmade::default()
        };
        let found = facts(&handmade.der()).signature_digest;
        assert_eq!(found, digest, "{parameters:?}");
    }
    let ca = Ca::root("RSA CA").key(&RSA).issue().unwrap();
    let sha1 = issued(ca.leaf().sha1_signature());
    assert_eq!(facts(sha1.der()).signature_digest, SignatureDigest::Sha1);
}

#[test]
fn the_identity_is_the_first_name_of_the_best_kind() {
    for (builder, identity) in [
        (workload().common_name("cn").dns("a.test"), PAY),
        (leaf().dns("a.test").uri("https://a.test/").uri(PAY), PAY),
        (
            leaf().uri("SPIFFE://Loud/x").uri("urn:x"),
            "SPIFFE://Loud/x",
        ),
        (leaf().dns("a.test").uri("urn:a").uri("urn:b"), "urn:a"),
        (
            leaf().common_name("cn").dns("a.test").dns("b.test"),
            "a.test",
        ),
        (leaf().organization("org").common_name("cn"), "cn"),
        (leaf().email("a@a.test").common_name("cn"), "cn"),
        (leaf().uri("").uri("urn:a").dns("a.test"), "urn:a"),
        (leaf().uri("").dns("").dns("a.test"), "a.test"),
        (leaf().dns("").common_name("").email("a@a.test"), "a@a.test"),
        (leaf().serial_attribute("4711").ip(V4), "10.1.2.3"),
        (leaf().ip(V6).email("a@a.test"), "2001:db8::1"),
        (
            leaf().serial_attribute("4711").email("a@a.test"),
            "a@a.test",
        ),
        (leaf().user_principal_name("pay@ad.test"), "pay@ad.test"),
        (
            leaf().user_principal_name("").email("").organization("org"),
            "org",
        ),
        (leaf().organization("org").serial_attribute("4711"), "4711"),
        (leaf().organization("org").common_name(""), "org"),
        (leaf(), "unknown"),
    ] {
        assert_eq!(facts(issued(builder).der()).identity, identity);
    }
}

const V4: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 1, 2, 3));
const V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));

/// A directory begins with what is most general: `DC=test, CN=Users, CN=Jane`.
#[test]
fn of_several_common_names_the_last_is_the_most_specific() {
    let common_name = |text| (&COMMON_NAME[..], UTF8_STRING, text);
    for (names, identity) in [
        (vec![&b"Users"[..], b"Jane"], "Jane"),
        (vec![b"Users", b"Jane", b""], "Jane"),
        (vec![b"", b"Jane"], "Jane"),
    ] {
        let names: Vec<_> = names.into_iter().map(common_name).collect();
        let handmade = Handmade {
            subject: der::name(&names),
            ..Handmade::default()
        };
        let found = facts(&handmade.der());
        assert_eq!(found.identity, identity);
        assert!(found.subject_ca().starts_with(&format!("{identity}:")));
    }
}

#[test]
fn names_that_tools_propose_are_known_as_an_issuer_s() {
    for (kind, text, expected) in [
        (ORGANIZATION, &b"Internet Widgits Pty Ltd"[..], true),
        (ORGANIZATION, b"Acme Co", true),
        (COMMON_NAME, b"Snake Oil CA", true),
        (ORGANIZATION, b"Acme Corporation", false),
        // organizationalUnitName.
        ([0x55, 4, 11], b"Acme Co", false),
    ] {
        let name = der::name(&[
            (&[0x55, 4, 6], PRINTABLE_STRING, b"AU"),
            (&kind, UTF8_STRING, text),
        ]);
        let issued_by = facts(
            &Handmade {
                issuer: name.clone(),
                ..Handmade::default()
            }
            .der(),
        );
        assert_eq!(issued_by.has_default_issuer, expected, "{text:?}");
        let issued_to = facts(
            &Handmade {
                subject: name,
                ..Handmade::default()
            }
            .der(),
        );
        assert!(!issued_to.has_default_issuer, "{text:?}");
    }
}

#[test]
fn a_critical_extension_is_one_that_boringssl_knows_or_not() {
    for (extension, unknown) in [
        (der::critical(KEY_USAGE, &[3, 2, 7, 0x80]), false),
        (der::extension(99, &[5, 0]), false),
        (der::critical(99, &[5, 0]), true),
        // subjectKeyIdentifier, which BoringSSL knows, but not as critical.
        (der::critical(SUBJECT_KEY_ID, &[4, 1, 7]), true),
        // nameConstraints, of no names.
        (der::critical(30, &[0x30, 0]), false),
    ] {
        let handmade = Handmade {
            extensions: vec![extension],
            ..Handmade::default()
        };
        let found = facts(&handmade.der());
        assert_eq!(found.has_unknown_critical_extension, unknown);
    }
}

#[test]
fn usages_beyond_a_handshake_s_are_known() {
    let both = KeyUsage {
        crl_sign: true,
        critical: true,
        ..KeyUsage::default()
    };
    let handmade = Handmade {
        extensions: vec![
            der::critical(KEY_USAGE, &[3, 2, 1, 2]),
            der::purposes(&[3, 9]),
        ],
        ..Handmade::default()
    };
    let found = facts(&handmade.der());
    assert_eq!(found.key_usage, Some(both));
    let usage = found.extended_key_usage.unwrap();
    assert!(usage.code_signing && usage.ocsp_signing);
    assert!(!usage.client_auth && !usage.server_auth);
}

#[test]
fn a_wildcard_is_found_in_any_dns_name() {
    let wildcard = issued(leaf().dns("a.test").dns("*.b.test"));
    assert!(facts(wildcard.der()).has_wildcard);
    let none = issued(leaf().dns("a.test").common_name("*").uri("urn:*"));
    assert!(!facts(none.der()).has_wildcard);
}

#[test]
fn a_spiffe_id_is_valid_only_alone_and_in_a_leaf() {
    for (builder, svid) in [
        (workload().dns("a.test"), Svid::Valid),
        (leaf().dns("a.test").uri("https://a.test/"), Svid::No),
        (
            workload().uri("urn:x"),
            Svid::Invalid(InvalidSvid::SeveralUris),
        ),
        (workload().ca_flag(), Svid::Invalid(InvalidSvid::IsCa)),
        (
            workload().key_usages(&[]),
            Svid::Invalid(InvalidSvid::KeyUsage),
        ),
        (
            workload().key_usages(&[DigitalSignature, KeyCertSign]),
            Svid::Invalid(InvalidSvid::CaKeyUsage),
        ),
        (
            workload().key_usages(&[DigitalSignature, CrlSign]),
            Svid::Invalid(InvalidSvid::CaKeyUsage),
        ),
        (
            leaf().uri("spiffe://Upper/x"),
            Svid::Invalid(InvalidSvid::TrustDomain),
        ),
        (leaf().uri("spiffe://d"), Svid::Invalid(InvalidSvid::Path)),
    ] {
        assert_eq!(facts(issued(builder).der()).spiffe, svid);
    }
}

#[test]
fn a_ca_is_named_by_its_subject_and_key() {
    let leaf = facts(issued(leaf()).der());
    let ca = facts(PKI.issuing.der());
    let name = format!("Issuing CA:{}", key_digits(&PKI.issuing));
    assert_eq!(ca.subject_ca(), name);
    assert_eq!(leaf.issuer_ca(), name);
    assert_eq!(ca.issuer_ca(), facts(PKI.intermediate.der()).subject_ca());
}

#[test]
fn cas_of_one_name_and_different_keys_have_different_names() {
    let [old, new] = [(); 2].map(|()| Ca::root("Root CA").issue().unwrap());
    assert_ne!(facts(old.der()).subject_ca(), facts(new.der()).subject_ca());
    let renewed = Ca::root("Root CA").key(old.key()).issue().unwrap();
    assert_eq!(
        facts(old.der()).subject_ca(),
        facts(renewed.der()).subject_ca()
    );
}

#[test]
fn a_ca_without_common_name_or_key_identifier_is_named_by_what_it_has() {
    let organization = (&ORGANIZATION[..], UTF8_STRING, &b"Shop"[..]);
    let common_name = (&COMMON_NAME[..], UTF8_STRING, &b"CA"[..]);
    let empty = (&COMMON_NAME[..], UTF8_STRING, &b""[..]);
    for (attributes, text) in [
        (vec![organization, common_name], "CA"),
        (vec![organization], "Shop"),
        (vec![empty], "unnamed"),
        (vec![], "unnamed"),
    ] {
        let subject = der::name(&attributes);
        let digits = &hex(&Sha256::digest(&subject))[..8];
        let without_key_id = Handmade {
            subject: subject.clone(),
            issuer: subject.clone(),
            ..Handmade::default()
        };
        let found = facts(&without_key_id.der());
        assert_eq!(found.subject_ca(), format!("{text}:{digits}"));
        assert_eq!(found.issuer_ca(), format!("{text}:{digits}"));

        let key_id = der::tlv(4, [0xAB, 0xCD, 0xEF, 0x01, 0x23]);
        let with_key_id = Handmade {
            subject,
            extensions: vec![der::extension(SUBJECT_KEY_ID, &key_id)],
            ..Handmade::default()
        };
        assert_eq!(
            facts(&with_key_id.der()).subject_ca(),
            format!("{text}:abcdef01")
        );
    }
}

#[test]
fn a_self_issued_certificate_names_itself_as_its_issuer() {
    // Go's roots, Istio's among them, have no authority key identifier (RFC 5280, section 4.2.1.1,
    // lets them).
    let root = LeafBuilder::self_signed().common_name("Root CA").ca_flag();
    let found = facts(issued(root.without_authority_key_identifier()).der());
    assert!(found.links.subject_key_id.is_some() && found.links.authority_key_id.is_none());
    assert_eq!(found.issuer_ca(), found.subject_ca());
}

#[test]
fn an_authority_named_by_serial_number_has_no_key_identifier() {
    let by_serial = der::extension(AUTHORITY_KEY_ID, &der::sequence(&[der::tlv(0x82, [9])]));
    let handmade = Handmade {
        extensions: vec![by_serial],
        ..Handmade::default()
    };
    let found = facts(&handmade.der());
    let digits = &hex(&Sha256::digest(&handmade.issuer))[..8];
    assert_eq!(found.issuer_ca(), format!("issuer:{digits}"));
}

#[test]
fn names_are_read_in_the_encodings_that_cas_use() {
    for (tag, bytes, text) in [
        (UTF8_STRING, "Zürich ✓".as_bytes(), "Zürich ✓"),
        (PRINTABLE_STRING, b"plain", "plain"),
        (TELETEX_STRING, b"Z\xfcrich", "Zürich"),
        (TELETEX_STRING, b"plain", "plain"),
        (BMP_STRING, b"\0Z\0\xfc\x27\x13", "Zü✓"),
        (UNIVERSAL_STRING, b"\0\0\0Z\0\x01\xf6\0", "Z😀"),
    ] {
        assert_eq!(facts(&named(tag, bytes)).identity, text);
    }
}

fn named(tag: u8, bytes: &[u8]) -> Vec<u8> {
    let handmade = Handmade {
        subject: der::name(&[(&COMMON_NAME, tag, bytes)]),
        ..Handmade::default()
    };
    handmade.der()
}

#[test]
fn names_with_bytes_that_their_type_does_not_have_are_still_read() {
    for (tag, bytes, readable) in [
        (PRINTABLE_STRING, &b"pay\x80"[..], "pay"),
        (UTF8_STRING, b"pay\0\x1b[2J\r\n", "pay"),
    ] {
        let identity = facts(&named(tag, bytes)).identity;
        assert!(identity.starts_with(readable), "{identity:?}");
        assert!(!describe(&named(tag, bytes)).unwrap().subject.is_empty());
    }
}

#[test]
fn a_version_1_certificate_has_no_extensions() {
    let old = Handmade {
        version: None,
        ..Handmade::default()
    };
    let found = facts(&old.der());
    assert_eq!((found.version, found.is_ca), (1, false));
    assert_eq!((found.key_usage, found.extended_key_usage), (None, None));
}

fn extended(extensions: &[Vec<u8>]) -> Result<Certificate, ParseError> {
    let handmade = Handmade {
        extensions: extensions.to_vec(),
        ..Handmade::default()
    };
    parse(&handmade.der())
}

#[test]
fn an_extension_that_matters_and_is_broken_makes_the_certificate_unreadable() {
    for arc in [
        SUBJECT_KEY_ID,
        KEY_USAGE,
        SUBJECT_ALT_NAME,
        BASIC_CONSTRAINTS,
        AUTHORITY_KEY_ID,
        EXTENDED_KEY_USAGE,
    ] {
        let found = extended(&[der::extension(arc, b"\x30\x7f")]);
        assert!(
            matches!(found, Err(ParseError::Extension(_))),
            "{arc}: {found:?}"
        );
    }
}

#[test]
fn an_extension_that_does_not_matter_may_be_anything() {
    assert!(extended(&[der::extension(32, b"\xff\xff"), der::extension(99, b"")]).is_ok());
}

#[test]
fn other_kinds_of_alternative_names_do_not_hide_those_that_count() {
    let names = der::sequence(&[
        der::tlv(0x87, [192, 0, 2, 1]),
        der::tlv(0x81, "a@b.test"),
        der::tlv(0x88, [0x2a, 3]),
        der::tlv(0x86, PAY),
    ]);
    let handmade = Handmade {
        extensions: vec![der::extension(SUBJECT_ALT_NAME, &names)],
        ..Handmade::default()
    };
    assert_eq!(facts(&handmade.der()).identity, PAY);
    let Description {
        subject_alt_names, ..
    } = describe(&handmade.der()).unwrap();
    let expected = [
        "IP:192.0.2.1",
        "email:a@b.test",
        "RID:1.2.3",
        &format!("URI:{PAY}"),
    ];
    assert_eq!(subject_alt_names, expected);
}

#[test]
fn the_description_names_every_usage() {
    let purposes = der::sequence(&[
        der::tlv(6, [0x2b, 6, 1, 5, 5, 7, 3, 1]),
        der::tlv(6, [0x2b, 6, 1, 5, 5, 7, 3, 9]),
        der::tlv(6, [0x55, 0x1d, 37, 0]),
        der::tlv(6, [0x2a, 0x86, 0x48, 0x82, 0x37]),
    ]);
    let handmade = Handmade {
        extensions: vec![
            der::extension(KEY_USAGE, &der::tlv(3, [7, 0xff, 0x80])),
            der::extension(EXTENDED_KEY_USAGE, &purposes),
        ],
        ..Handmade::default()
    };
    let found = describe(&handmade.der()).unwrap();
    let all = [
        "digitalSignature",
        "nonRepudiation",
        "keyEncipherment",
        "dataEncipherment",
        "keyAgreement",
        "keyCertSign",
        "cRLSign",
        "encipherOnly",
        "decipherOnly",
    ];
    assert_eq!(found.key_usage.unwrap(), all);
    let mut purposes = found.extended_key_usage.unwrap();
    purposes.sort();
    let expected = [
        "1.2.840.311",
        "OCSPSigning",
        "anyExtendedKeyUsage",
        "serverAuth",
    ];
    assert_eq!(purposes, expected);
}

#[test]
fn the_serial_is_the_number_that_openssl_and_access_logs_show() {
    for (encoded, hex) in [
        (vec![1], "01"),
        (vec![0x7f, 0xff], "7fff"),
        // The zero byte in front is there for the sign only.
        (vec![0, 0xc0, 0xff, 0xee], "c0ffee"),
    ] {
        let handmade = Handmade {
            serial: encoded,
            ..Handmade::default()
        };
        assert_eq!(describe(&handmade.der()).unwrap().serial, hex);
    }
}

#[test]
fn a_certificate_is_read_up_to_64_kb() {
    let largest = Handmade::default().of_size(MAX_DER_BYTES);
    assert_eq!(largest.len(), 64 * 1024);
    assert_eq!(facts(&largest).identity, "subject");
    let too_large = Handmade::default().of_size(MAX_DER_BYTES + 1);
    assert_eq!(parse(&too_large), Err(ParseError::TooLarge(64 * 1024 + 1)));
    assert!(parse(&Handmade::default().of_size(1 << 20)).is_err());
}

#[test]
fn what_follows_a_certificate_is_an_error() {
    let der = [issued(workload()).der(), &b"\0\0\0"[..]].concat();
    assert_eq!(parse(&der), Err(ParseError::TrailingBytes(3)));
}

#[test]
fn a_certificate_cut_short_is_an_error() {
    let whole = issued(workload());
    for length in 0..whole.der().len() {
        assert!(parse(&whole.der()[..length]).is_err(), "{length} bytes");
    }
}
