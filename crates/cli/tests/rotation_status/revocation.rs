//! Revocation lists of a bundle: Envoy refuses what a CA has signed of which it has none that is valid.

use std::fs;

use pki::Ca;
use tempfile::NamedTempFile;

use crate::metrics::{NEW_ROOT, NOW, OLD_ROOT, Sidecar};
use crate::run::{json, reasons, text, verdicts};

const ROTATION: [&str; 4] = ["--old", OLD_ROOT, "--new", NEW_ROOT];
const HOUR: i64 = 3600;

/// A proxy that trusts both roots, of which the old one signs.
fn web() -> Sidecar {
    Sidecar::blind()
        .bundle("ROOTCA", OLD_ROOT, "0a0a0a0a", true)
        .bundle("ROOTCA", NEW_ROOT, "1a1a1a1a", true)
        .workload(OLD_ROOT, &[OLD_ROOT])
}

fn list(sidecar: Sidecar, ca: &str, (this_update, next_update): (i64, i64)) -> Sidecar {
    let labels = format!("{{secret=\"ROOTCA\",ca=\"{ca}\"}}");
    let line =
        |name: &str, value: i64| format!("mtls_own_crl_{name}_timestamp_seconds{labels} {value}");
    sidecar
        .line(&line("this_update", this_update))
        .line(&line("next_update", next_update))
}

#[test]
fn a_ca_without_a_valid_list_opens_no_gate() {
    let good = (NOW - HOUR, NOW + HOUR);
    let both = |new| list(list(web(), OLD_ROOT, good), NEW_ROOT, new);
    for (case, sidecar, first) in [
        ("no lists", web(), "open"),
        ("a list of each", both(good), "open"),
        ("none of the new CA", list(web(), OLD_ROOT, good), "unknown"),
        ("one that has ended", both((NOW - HOUR, NOW - 1)), "unknown"),
        (
            "one that has not begun",
            both((NOW + 1, NOW + HOUR)),
            "unknown",
        ),
        ("one without an end", both((NOW - HOUR, 0)), "open"),
        ("all have left", list(web(), OLD_ROOT, (0, 0)), "open"),
    ] {
        let (_, report) = json(&ROTATION, &[("web", &sidecar)]);
        assert_eq!(verdicts(&report)[..2], [first, "open"], "{case}");
        if first != "open" {
            let expected = format!(
                "web: trusts {NEW_ROOT}, but has revocation lists there and no valid one of {NEW_ROOT}: Envoy refuses what that CA has signed"
            );
            assert_eq!(reasons(&report, 1), [expected], "{case}");
        }
    }
    // What signs now is refused now.
    let (_, report) = json(&ROTATION, &[("web", &list(web(), NEW_ROOT, good))]);
    assert_eq!(verdicts(&report)[..2], ["open", "unknown"]);
}

/// Its signature tells, where names fit.
#[test]
fn a_certificate_that_its_issuer_has_not_signed_is_refused() {
    let root = Ca::root("Root CA").issue().unwrap();
    let issuing = root.subordinate("Issuing CA").issue().unwrap();
    let mut forged = issuing.der().to_vec();
    *forged.last_mut().unwrap() ^= 1;
    let forged = pki::to_pem(&[forged.into()]);
    for (pem, code) in [(issuing.pem(), 0), (forged, 2)] {
        let file = NamedTempFile::new().unwrap();
        fs::write(file.path(), [root.pem(), pem].concat()).unwrap();
        let file = file.path().to_str().unwrap();
        let run = text(&["--cas", file], &[("web", &web())]);
        assert_eq!(run.code, code, "{}", run.stderr);
        let is_named =
            run.stderr.contains("names Root_CA:") && run.stderr.contains("has not signed it");
        assert_eq!(is_named, code == 2, "{}", run.stderr);
    }
}
