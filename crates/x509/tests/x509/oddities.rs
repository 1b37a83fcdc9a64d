//! Certificates of every kind that CAs have issued, sound and unsound: all are read as OpenSSL reads
//! them, or refused.

use mtls_watch_x509::time::UnixTime;
use mtls_watch_x509::{KeyAlgorithm, parse};

use crate::facts;
use crate::openssl::{self, Facts};
use pki::fixtures::generated;
use pki::handmade::{
    self as der, BMP_STRING, COMMON_NAME, Handmade, ORGANIZATION, PRINTABLE_STRING, TELETEX_STRING,
    UTF8_STRING, generalized_time, name, tlv, utc_time,
};

/// That OpenSSL and mtls-watch agree on a certificate.
fn agree(case: &str, der: &[u8]) {
    let theirs = Facts::by_openssl(der).unwrap_or_else(|| panic!("{case}: OpenSSL refuses it"));
    let ours = Facts::of(der).unwrap_or_else(|error| panic!("{case}: {error}"));
    assert_eq!(ours, theirs, "{case}");
}

#[test]
fn what_the_testbed_issues_is_read_as_openssl_reads_it() {
    for (case, der) in generated() {
        agree(case, &der);
    }
}

/// Keys and signatures that no Rust library makes.
#[test]
fn keys_of_every_kind() {
    let curve = |name| ["-newkey", "ec", "-pkeyopt", name];
    for (case, key, algorithm) in [
        ("Ed448", &["-newkey", "ed448"][..], KeyAlgorithm::Ed448),
        ("Ed25519", &["-newkey", "ed25519"], KeyAlgorithm::Ed25519),
        ("RSA 1024", &["-newkey", "rsa:1024"], KeyAlgorithm::Rsa),
        ("RSA 1031", &["-newkey", "rsa:1031"], KeyAlgorithm::Rsa),
        ("MD5", &["-newkey", "rsa:1024", "-md5"], KeyAlgorithm::Rsa),
        (
            "SHA-1",
            &["-newkey", "rsa:1024", "-sha1"],
            KeyAlgorithm::Rsa,
        ),
        (
            "SHA-512",
            &["-newkey", "rsa:1024", "-sha512"],
            KeyAlgorithm::Rsa,
        ),
        (
            "RSA-PSS key",
            &["-newkey", "rsa-pss", "-pkeyopt", "rsa_keygen_bits:1024"],
            KeyAlgorithm::Rsa,
        ),
        (
            "RSA-PSS signature",
            &["-newkey", "rsa:1024", "-sigopt", "rsa_padding_mode:pss"],
            KeyAlgorithm::Rsa,
        ),
        (
            "P-192",
            &curve("ec_paramgen_curve:prime192v1"),
            KeyAlgorithm::Ec,
        ),
        (
            "P-224",
            &curve("ec_paramgen_curve:secp224r1"),
            KeyAlgorithm::Ec,
        ),
        ("P-256", &curve("ec_paramgen_curve:P-256"), KeyAlgorithm::Ec),
        ("P-521", &curve("ec_paramgen_curve:P-521"), KeyAlgorithm::Ec),
        (
            "secp256k1",
            &curve("ec_paramgen_curve:secp256k1"),
            KeyAlgorithm::Ec,
        ),
        (
            "brainpool",
            &curve("ec_paramgen_curve:brainpoolP384r1"),
            KeyAlgorithm::Ec,
        ),
        (
            "explicit curve",
            &[
                &curve("ec_paramgen_curve:P-256")[..],
                &["-pkeyopt", "ec_param_enc:explicit"],
            ]
            .concat(),
            KeyAlgorithm::Ec,
        ),
    ] {
        let der = openssl::issue(key);
        agree(case, &der);
        assert_eq!(facts(&der).public_key.algorithm, algorithm, "{case}");
    }
}

#[test]
fn extensions_as_openssl_writes_them() {
    let many = (0..900).map(|number| format!("DNS:{number}.example.test"));
    let many = format!("subjectAltName={}", many.collect::<Vec<_>>().join(","));
    for (case, extensions) in [
        ("900 names", &[&*many][..]),
        (
            "names of every kind",
            &[
                "subjectAltName=email:a@b.test,URI:spiffe://d/a,DNS:a.test,IP:192.0.2.1,IP:2001:db8::1,\
               RID:1.2.3,otherName:1.2.3.4;UTF8:hello",
            ],
        ),
        ("an unknown critical one", &["1.2.3.4=critical,DER:0500"]),
        ("no CA", &["basicConstraints=critical,CA:FALSE"]),
        (
            "a CA with a path length",
            &["basicConstraints=CA:TRUE,pathlen:0"],
        ),
        (
            "all key usages",
            &[
                "keyUsage=digitalSignature,nonRepudiation,keyEncipherment,dataEncipherment,keyAgreement,\
               keyCertSign,cRLSign,encipherOnly,decipherOnly",
            ],
        ),
        ("the ninth usage alone", &["keyUsage=decipherOnly"]),
        (
            "purposes",
            &[
                "extendedKeyUsage=serverAuth,clientAuth,codeSigning,emailProtection,timeStamping,\
               OCSPSigning,anyExtendedKeyUsage,1.2.3.4",
            ],
        ),
        (
            "critical usages",
            &[
                "keyUsage=critical,keyCertSign",
                "extendedKeyUsage=critical,clientAuth",
            ],
        ),
        (
            "policies and constraints",
            &[
                "certificatePolicies=1.2.3",
                "nameConstraints=critical,permitted;DNS:.test",
                "policyConstraints=requireExplicitPolicy:0",
                "inhibitAnyPolicy=0",
            ],
        ),
        ("must staple", &["tlsfeature=status_request"]),
        (
            "no key identifiers",
            &["subjectKeyIdentifier=none", "authorityKeyIdentifier=none"],
        ),
    ] {
        let flags = extensions
            .iter()
            .flat_map(|extension| ["-addext", extension]);
        let arguments: Vec<_> = ["-newkey", "ed25519"].into_iter().chain(flags).collect();
        agree(case, &openssl::issue(&arguments));
    }
}

#[test]
fn serial_numbers_of_every_sign_and_length() {
    for serial in [
        &[0][..],
        &[1],
        &[0x7f],
        &[0, 0x80],
        &[0xff],
        &[0x80],
        &[0x80, 0],
        &[0xff, 0x7f],
        &[0xf0, 0, 0, 0],
        &[0x7f; 20],
        &[0x7f; 100],
    ] {
        let serial = serial.to_vec();
        let case = format!("{serial:02x?}");
        let handmade = Handmade {
            serial,
            ..Handmade::default()
        };
        agree(&case, &handmade.der());
    }
}

/// RFC 5280, section 4.1.2.5: two digits of a year below 50 are of this century.
#[test]
fn times_at_the_edges() {
    for (time, seconds) in [
        (utc_time("500101000000Z"), -631_152_000),
        (utc_time("691231235959Z"), -1),
        (utc_time("700101000000Z"), 0),
        (utc_time("000229120000Z"), 951_825_600),
        (utc_time("491231235959Z"), 2_524_607_999),
        (generalized_time("20500101000000Z"), 2_524_608_000),
        (generalized_time("21000228235959Z"), 4_107_542_399),
        (generalized_time("99991231235959Z"), 253_402_300_799),
    ] {
        let handmade = Handmade {
            validity: [time.clone(), time],
            ..Handmade::default()
        };
        let found = facts(&handmade.der());
        assert_eq!(
            (found.not_before, found.not_after),
            (UnixTime(seconds), UnixTime(seconds))
        );
        agree(&seconds.to_string(), &handmade.der());
    }
}

/// A time that is none is never taken for another one.
#[test]
fn times_that_are_none_are_refused() {
    for time in [
        utc_time(""),
        utc_time("270101Z"),
        utc_time("270230000000Z"),
        utc_time("271301000000Z"),
        utc_time("270101240000Z"),
        utc_time("27010100000AZ"),
        utc_time("2701010000Z"),
        generalized_time("20270229000000Z"),
        generalized_time("00000000000000Z"),
        tlv(22, "270101000000Z"),
    ] {
        for validity in [
            [time.clone(), utc_time("280101000000Z")],
            [utc_time("270101000000Z"), time.clone()],
        ] {
            let handmade = Handmade {
                validity,
                ..Handmade::default()
            };
            assert!(parse(&handmade.der()).is_err(), "{time:02x?}");
        }
    }
}

#[test]
fn names_and_versions_of_old() {
    let named = |tag, text: &[u8]| Handmade {
        subject: name(&[
            (&ORGANIZATION, PRINTABLE_STRING, b"org"),
            (&COMMON_NAME, tag, text),
        ]),
        ..Handmade::default()
    };
    let version = |version| Handmade {
        version,
        ..Handmade::default()
    };
    let empty = || name(&[]);
    for (case, handmade) in [
        ("BMPString", named(BMP_STRING, b"\0Z\0\xfc\x27\x13")),
        ("TeletexString", named(TELETEX_STRING, b"Z\xfcrich")),
        ("UTF8String", named(UTF8_STRING, "Zürich".as_bytes())),
        ("UniversalString", named(28, b"\0\0\0Z")),
        ("64 KB of name", named(UTF8_STRING, &[b'x'; 60_000])),
        (
            "no subject",
            Handmade {
                subject: empty(),
                ..Handmade::default()
            },
        ),
        (
            "no names at all",
            Handmade {
                subject: empty(),
                issuer: empty(),
                ..Handmade::default()
            },
        ),
        ("version 1", version(None)),
        ("version 2", version(Some(1))),
    ] {
        agree(case, &handmade.der());
    }
}

#[test]
fn an_unknown_critical_extension_is_no_matter_of_ours() {
    let handmade = Handmade {
        extensions: vec![der::critical(99, b"\x05\x00"), der::uris(&["spiffe://d/a"])],
        ..Handmade::default()
    };
    agree("critical", &handmade.der());
    assert_eq!(facts(&handmade.der()).identity, "spiffe://d/a");
}
