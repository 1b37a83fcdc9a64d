//! Certificates that were damaged: no harm is done, and what is read is what another parser reads.

use std::fmt;
use std::sync::LazyLock;

use mtls_watch_x509::describe::describe;
use mtls_watch_x509::{ExtendedKeyUsage, KeyUsage, parse};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use x509_parser::extensions::GeneralName;
use x509_parser::nom;
use x509_parser::prelude::{FromDer as _, X509Certificate, X509Error};

use fuzz_targets::oracle::Oracle;
use pki::fixtures::{generated, hex};

static ORIGINALS: LazyLock<Vec<Vec<u8>>> =
    LazyLock::new(|| generated().into_iter().map(|(_, der)| der).collect());

#[derive(Clone, Debug)]
enum Damage {
    Flip(Index, u8),
    Remove(Index, usize),
    Insert(Index, Vec<u8>),
    Repeat(Index, usize),
}

impl Damage {
    fn any() -> impl Strategy<Value = Damage> {
        let at = any::<Index>;
        prop_oneof![
            6 => (at(), 1..=255u8).prop_map(|(at, bits)| Damage::Flip(at, bits)),
            1 => (at(), 1..40usize).prop_map(|(at, bytes)| Damage::Remove(at, bytes)),
            1 => (at(), vec(any::<u8>(), 1..5)).prop_map(|(at, bytes)| Damage::Insert(at, bytes)),
            1 => (at(), 1..40usize).prop_map(|(at, bytes)| Damage::Repeat(at, bytes)),
        ]
    }

    fn apply(&self, der: &mut Vec<u8>) {
        if der.is_empty() {
            return;
        }
        let (Damage::Flip(at, _)
        | Damage::Remove(at, _)
        | Damage::Insert(at, _)
        | Damage::Repeat(at, _)) = self;
        let at = at.index(der.len());
        match self {
            Damage::Flip(_, bits) => der[at] ^= bits,
            Damage::Remove(_, bytes) => drop(der.drain(at..(at + bytes).min(der.len()))),
            Damage::Insert(_, bytes) => drop(der.splice(at..at, bytes.iter().copied())),
            Damage::Repeat(_, bytes) => {
                let again = der[at..(at + bytes).min(der.len())].to_vec();
                der.splice(at..at, again);
            }
        }
    }
}

/// A certificate with up to three damages, shown in hex where a test fails.
#[derive(Clone)]
struct Damaged(Vec<u8>);

impl fmt::Debug for Damaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

fn damaged() -> impl Strategy<Value = Damaged> {
    (any::<Index>(), vec(Damage::any(), 0..=3)).prop_map(|(which, damages)| {
        let mut der = which.get(&ORIGINALS).clone();
        for damage in damages {
            damage.apply(&mut der);
        }
        Damaged(der)
    })
}

/// The certificate by x509-parser's own entry point, if it is one and nothing follows.
fn by_x509_parser(der: &[u8]) -> Result<X509Certificate<'_>, X509Error> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) => Err(X509Error::Generic),
        Err(error) => Err(match error {
            nom::Err::Error(error) | nom::Err::Failure(error) => error,
            nom::Err::Incomplete(_) => X509Error::Generic,
        }),
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 2000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_description_is_of_the_same_certificate(Damaged(der) in damaged()) {
        if let Ok(facts) = parse(&der) {
            let words = describe(&der).map_err(|error| TestCaseError::fail(error.to_string()))?;
            let has = |names: &[&str], name| names.contains(&name);
            let usage = words.key_usage.map(|names| KeyUsage {
                digital_signature: has(&names, "digitalSignature"),
                cert_sign: has(&names, "keyCertSign"),
            });
            prop_assert_eq!(facts.key_usage, usage);
            let extended = words.extended_key_usage.map(|names| {
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                ExtendedKeyUsage {
                    server_auth: has(&names, "serverAuth"),
                    client_auth: has(&names, "clientAuth"),
                }
            });
            prop_assert_eq!(facts.extended_key_usage, extended);
        }
    }

    #[test]
    fn what_other_parsers_find_in_order_is_read_alike(Damaged(der) in damaged()) {
        let (Ok(strict), Ok(theirs)) = (Oracle::read(&der), by_x509_parser(&der)) else {
            return Ok(());
        };
        let ours = parse(&der).map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert_eq!(Oracle::of(&ours), strict);
        prop_assert_eq!(ours.version, theirs.version().0 + 1);
        prop_assert_eq!(&*ours.serial, theirs.raw_serial());
        let names = theirs.subject_alternative_name().unwrap();
        let names = names.iter().flat_map(|names| &names.value.general_names);
        let mut spiffe_ids = names.filter_map(|name| match name {
            GeneralName::URI(uri) if uri.starts_with("spiffe:") => Some(*uri),
            _ => None,
        });
        if let Some(id) = spiffe_ids.next() {
            prop_assert_eq!(ours.identity, id);
        }
    }

    #[test]
    fn what_is_read_beyond_another_parser_has_its_fault_where_no_fact_is(
        Damaged(der) in damaged(),
    ) {
        if let (Ok(_), Err(error)) = (parse(&der), by_x509_parser(&der)) {
            prop_assert!(matches!(
                error,
                X509Error::InvalidVersion
                    | X509Error::InvalidIssuerUID
                    | X509Error::InvalidSubjectUID
                    | X509Error::InvalidExtensions
                    | X509Error::InvalidSignatureValue
                    | X509Error::NomError(_)
                    | X509Error::Der(_)
            ), "{:?}", error);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_read_or_refused(bytes in any::<Vec<u8>>()) {
        prop_assert!(parse(&bytes).is_err());
        prop_assert!(describe(&bytes).is_err());
    }
}
