//! Certificates that were damaged: no harm is done, and what is read is what x509-cert and OpenSSL read.

use std::fmt;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use mtls_watch_x509::describe::{describe, serial_number};
use mtls_watch_x509::time::UnixTime;
use mtls_watch_x509::{Certificate, ExtendedKeyUsage, KeyUsage, parse};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use fuzz_targets::oracle::{self, Oracle};
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

/// Serial number and dates by OpenSSL's command line, if it reads the certificate.
fn by_openssl(der: &[u8]) -> Option<String> {
    let mut child = Command::new("openssl")
        .args(["x509", "-inform", "DER", "-noout", "-serial", "-dates"])
        .args(["-dateopt", "iso_8601"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("no openssl: apt-get install openssl");
    // Whoever does not want it all has closed the pipe.
    let _ = child.stdin.take().expect("a pipe").write_all(der);
    let output = child.wait_with_output().expect("output");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    output.status.success().then_some(text)
}

/// The same as it is read here.
fn as_openssl_writes(facts: &Certificate, serial: &str) -> String {
    let date = |time: UnixTime| time.to_string().replace('T', " ");
    let (start, end) = (date(facts.not_before), date(facts.not_after));
    format!(
        "serial={}\nnotBefore={start}\nnotAfter={end}\n",
        serial.to_uppercase()
    )
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
                crl_sign: has(&names, "cRLSign"),
                critical: facts.key_usage.is_some_and(|usage| usage.critical),
            });
            prop_assert_eq!(facts.key_usage, usage);
            let extended = words.extended_key_usage.map(|names| {
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                ExtendedKeyUsage {
                    server_auth: has(&names, "serverAuth"),
                    client_auth: has(&names, "clientAuth"),
                    code_signing: has(&names, "codeSigning"),
                    ocsp_signing: has(&names, "OCSPSigning"),
                }
            });
            prop_assert_eq!(facts.extended_key_usage, extended);
        }
    }

    #[test]
    fn what_another_parser_finds_in_order_is_read_alike(Damaged(der) in damaged()) {
        let Ok(strict) = Oracle::read(&der) else {
            return Ok(());
        };
        let ours = match parse(&der) {
            Ok(ours) => ours,
            // The other parser passes over what follows the last field that it knows: extensions with the tag [0].
            Err(_) if by_openssl(&der).is_none() => return Ok(()),
            Err(error) => return Err(TestCaseError::fail(error.to_string())),
        };
        prop_assert_eq!(Oracle::of(&ours), strict);
        let names = oracle::subject_alt_names(&der);
        let mut uris = names.iter().filter_map(|name| name.strip_prefix("URI:"));
        if let Some(id) = uris.find(|uri| uri.starts_with("spiffe:")) {
            prop_assert_eq!(ours.identity, id);
        }
    }
}

proptest! {
    // Each is a process.
    #![proptest_config(ProptestConfig {
        cases: 300,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn what_is_read_is_read_by_openssl_alike(Damaged(der) in damaged()) {
        if let Ok(facts) = parse(&der) {
            let serial = serial_number(&der).expect("it was read");
            let theirs = by_openssl(&der);
            let odd = theirs.is_none() && oracle::has_odd_names(&der);
            prop_assert!(odd || theirs == Some(as_openssl_writes(&facts, &serial)), "{:?}", theirs);
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
