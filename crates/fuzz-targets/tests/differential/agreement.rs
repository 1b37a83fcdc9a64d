//! Another parser reads the same of every kind of certificate that is issued here.

use fuzz_targets::oracle::{self, Oracle};
use mtls_watch_x509::describe::describe;
use mtls_watch_x509::parse;
use pki::fixtures::{generated, hex};
use sha2::{Digest as _, Sha256};

#[test]
fn another_parser_reads_the_same_facts() {
    for (case, der) in generated() {
        let oracle = Oracle::read(&der).unwrap();
        assert_eq!(Oracle::of(&parse(&der).unwrap()), oracle, "{case}");
        assert_eq!(parse(&der).unwrap().version, 3, "{case}");
    }
}

#[test]
fn another_parser_reads_the_same_description() {
    for (case, der) in generated() {
        let found = describe(&der).unwrap();
        let names = oracle::subject_alt_names(&der);
        assert_eq!(found.subject_alt_names, names, "{case}");
        assert_eq!(found.serial, oracle::serial(&der), "{case}");
        assert_eq!(found.sha256, hex(&Sha256::digest(&der)), "{case}");
    }
}
