//! A CA with several certificates: issued again, and cross-signed.

use std::fs;

use pki::Ca;
use tempfile::NamedTempFile;

use crate::metrics::{NEW, OLD, OLD_ROOT, Sidecar};
use crate::run::{command, json, reasons, text, verdict, verdicts};

const FIRST: &str = "0f0f0f0f";
const SECOND: &str = "5e5e5e5e";
const AGAIN: [&str; 4] = ["--old", FIRST, "--new", SECOND];

fn with(certificates: &[(&str, bool)]) -> Sidecar {
    let all = certificates.iter();
    let sidecar = all.fold(Sidecar::blind(), |sidecar, (certificate, present)| {
        sidecar.bundle("ROOTCA", OLD_ROOT, certificate, *present)
    });
    sidecar.workload(OLD, &[OLD_ROOT])
}

/// Istio's self-signed root is issued again with its old key. By name and key the two cannot be told apart.
#[test]
fn a_root_that_is_issued_again_is_judged_by_fingerprint() {
    let before = with(&[(FIRST, true)]);
    let both = with(&[(FIRST, true), (SECOND, true)]);
    let after = with(&[(FIRST, false), (SECOND, true)]);
    let (code, report) = json(&AGAIN, &[("web", &both), ("cart", &before)]);
    assert_eq!((code, verdict(&report, 1)), (1, "closed".to_owned()));
    assert_eq!(
        reasons(&report, 1),
        [format!(
            "cart: its bundle ROOTCA has no valid {SECOND} of {OLD_ROOT}"
        )]
    );
    assert_eq!(verdict(&report, 5), "closed");
    assert_eq!(report["rotation"]["old_certificate"], FIRST);
    assert_eq!(report["rotation"]["new"], OLD_ROOT);
    for sidecar in [&both, &after] {
        let (code, report) = json(&AGAIN, &[("web", sidecar)]);
        assert_eq!((code, verdicts(&report)), (0, vec!["open"; 5]));
    }
    // The whole fingerprint, as people copy it.
    let long = |digits: &str| {
        let pairs: Vec<String> = digits
            .as_bytes()
            .chunks(2)
            .cycle()
            .take(32)
            .map(|pair| String::from_utf8_lossy(pair).to_uppercase())
            .collect();
        pairs.join(":")
    };
    let (first, second) = (long(FIRST), long(SECOND));
    assert_eq!(
        json(&["--old", &first, "--new", &second], &[("web", &both)]).0,
        0
    );
}

#[test]
fn a_fingerprint_that_nobody_has_is_told() {
    let both = with(&[(FIRST, true), (SECOND, true)]);
    let run = text(
        &["--old", "12345678", "--new", "87654321"],
        &[("web", &both)],
    );
    assert_eq!(run.code, 2);
    assert!(
        run.stderr.contains("12345678: no series and no --cas"),
        "{}",
        run.stderr
    );
    // Not there yet: no proxy trusts it.
    let (_, report) = json(&["--old", FIRST, "--new", "87654321"], &[("web", &both)]);
    assert_eq!(verdict(&report, 1), "closed");
    // One name for two certificates says nothing.
    let run = text(&["--old", OLD_ROOT, "--new", SECOND], &[("web", &both)]);
    assert_eq!(run.code, 2);
    assert!(
        run.stderr.contains("give the SHA-256 of each"),
        "{}",
        run.stderr
    );
    let run = command(&["--old", FIRST, "--new", FIRST, "x"], b"");
    assert!(run.stderr.contains("are both 0f0f0f0f"), "{}", run.stderr);
}

/// BoringSSL takes the first certificate of the name, expired or not, and no metric tells the order.
#[test]
fn an_expired_twin_in_the_bundle_opens_nothing() {
    let twins = |ended: bool| {
        let end = if ended { -1 } else { 100 };
        with(&[(FIRST, true), (SECOND, true)])
            .dates("ROOTCA", OLD_ROOT, FIRST, (-3650, end))
            .dates("ROOTCA", OLD_ROOT, SECOND, (-10, 3650))
    };
    assert_eq!(json(&[], &[("web", &twins(false))]).0, 0);
    let (code, report) = json(&[], &[("web", &twins(true))]);
    assert_eq!((code, verdict(&report, 2)), (1, "unknown".to_owned()));
    // Alone it refuses everyone for sure.
    let expired = with(&[(FIRST, true)]).dates("ROOTCA", OLD_ROOT, FIRST, (-3650, -1));
    assert_eq!(verdict(&json(&[], &[("web", &expired)]).1, 2), "closed");
    // Nor does a root whose time has not come.
    let early = with(&[(SECOND, true)]).dates("ROOTCA", OLD_ROOT, SECOND, (1, 3650));
    assert_eq!(verdict(&json(&[], &[("web", &early)]).1, 2), "closed");
}

/// A new root that the old one has signed as well: the rotation is done when all trust the new one itself.
#[test]
fn a_cross_certificate_keeps_no_gate_shut() {
    let old = Ca::root("Old Root").issue().unwrap();
    let new = Ca::root("New Root").issue().unwrap();
    let cross = old.subordinate("New Root").key(new.key()).issue().unwrap();
    let issuing = new.subordinate("Issuing CA").issue().unwrap();
    let file = NamedTempFile::new().unwrap();
    let pem = [&old, &new, &cross, &issuing].map(Ca::pem).concat();
    fs::write(file.path(), pem).unwrap();
    let name = |ca: &Ca, name: &str| format!("{name}:{}", &ca.key_identifier()[..8]);
    let (old, new, issuing) = (
        name(&old, "Old_Root"),
        name(&new, "New_Root"),
        name(&issuing, "Issuing_CA"),
    );
    let arguments = [
        "--old",
        &old,
        "--new",
        &new,
        "--cas",
        file.path().to_str().unwrap(),
    ];
    let trusting = |roots: &[&str]| {
        let sidecar = roots.iter().fold(Sidecar::blind(), |sidecar, root| {
            sidecar.bundle("ROOTCA", root, &root[root.len() - 8..], true)
        });
        sidecar.workload(&issuing, &roots[..1])
    };
    let done = trusting(&[&new, &old]);
    let (code, report) = json(&arguments, &[("web", &done), ("cart", &done)]);
    assert_eq!((code, verdicts(&report)), (0, vec!["open"; 5]));
    // A bundle with the old root alone accepts the new leaves only with the cross-certificate in the chain.
    let lacking = trusting(&[&old]);
    let (_, report) = json(&arguments, &[("web", &done), ("cart", &lacking)]);
    assert_eq!(verdict(&report, 1), "unknown");
    assert_eq!(verdict(&report, 3), "closed");
    assert_eq!(verdict(&report, 5), "closed");
}

/// The names of CAs go on as before.
#[test]
fn a_name_is_no_fingerprint() {
    let sidecar = Sidecar::blind()
        .bundle("ROOTCA", OLD_ROOT, FIRST, true)
        .bundle("ROOTCA", "cafe:1a1a1a1a", SECOND, true)
        .workload(NEW, &["cafe:1a1a1a1a"]);
    let rotation = ["--old", OLD_ROOT, "--new", "cafe:1a1a1a1a"];
    assert_eq!(json(&rotation, &[("web", &sidecar)]).0, 0);
}
