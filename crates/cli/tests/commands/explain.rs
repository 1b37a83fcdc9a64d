//! `explain`: any text gives an answer and an exit status.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;

use mtls_watch_cli::execute;
use proptest::prelude::*;

use crate::cli::run;

const GO: &str = "remote error: tls: bad certificate";

fn answers(text: OsString) -> (u8, bool) {
    let output = execute([OsString::from("mtls-watch"), "explain".into(), text]);
    let has_answer = !output.text.is_empty() || !output.complaint.is_empty();
    (output.code, has_answer)
}

proptest! {
    #[test]
    fn any_bytes_are_answered(bytes in any::<Vec<u8>>(), text in "\\PC{0,300}", length in 0_usize..5000) {
        // No operating system passes on a zero.
        let bytes: Vec<u8> = bytes.into_iter().filter(|byte| *byte != 0).collect();
        let known = [GO.as_bytes(), &bytes].concat();
        for text in [bytes.clone(), known, text.into_bytes(), b"tls: ".repeat(length)] {
            if matches!(&text[..], b"-" | b"--") {
                continue;
            }
            let shown = String::from_utf8_lossy(&text).into_owned();
            let (code, has_answer) = answers(OsString::from_vec(text));
            prop_assert!(code == 0 || code == 2, "{code}: {shown:?}");
            prop_assert!(has_answer, "{shown:?}");
        }
    }
}

/// mbedTLS and wolfSSL begin with the number of an error.
#[test]
fn a_text_may_begin_with_a_hyphen() {
    let text = "-0x7780 - SSL - A fatal alert message was received from our peer";
    let run = run(&["explain", text], b"");
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(run.stdout.contains("rejected_by_peer"), "{}", run.stdout);
}

/// PowerShell writes UTF-16.
#[test]
fn a_text_may_come_in_any_encoding() {
    let utf_16 = |text: &str, unit: fn(u16) -> [u8; 2]| -> Vec<u8> {
        text.encode_utf16().flat_map(unit).collect()
    };
    let marked = format!("\u{feff}{GO}");
    let latin_1 = [b"caf\xe9: ".as_slice(), GO.as_bytes()].concat();
    for input in [
        GO.as_bytes().to_vec(),
        marked.clone().into_bytes(),
        utf_16(&marked, u16::to_le_bytes),
        utf_16(&marked, u16::to_be_bytes),
        utf_16(GO, u16::to_le_bytes),
        latin_1,
    ] {
        let run = run(&["explain", "-"], &input);
        assert_eq!(run.code, 0, "{input:?}: {}", run.stderr);
        assert!(run.stdout.contains("rejected_by_peer"), "{}", run.stdout);
    }
}

#[test]
fn nothing_and_too_much_are_answered() {
    let megabytes = GO.repeat(100_000);
    for (input, code) in [("", 2), ("\0\0", 2), (&megabytes, 0)] {
        let run = run(&["explain", "-"], input.as_bytes());
        assert_eq!(run.code, code, "{}", run.stderr);
        assert_eq!(run.stdout.is_empty(), code != 0);
    }
}

/// The server's cause and the alert that its client got, as they are pasted.
#[test]
fn of_two_pasted_lines_the_cause_counts() {
    let cause = "tls: failed to verify certificate: x509: certificate has expired or is not yet valid: \
                 current time 2026-11-26T12:57:24Z is after 2026-11-25T12:57:24Z";
    for lines in [[cause, GO], [GO, cause]] {
        let text = lines.join("\n");
        for run in [
            run(&["explain", &text], b""),
            run(&["explain", "-"], text.as_bytes()),
        ] {
            assert_eq!(run.code, 0, "{}", run.stderr);
            assert!(
                run.stdout.contains("reason       expired"),
                "{}",
                run.stdout
            );
        }
    }
}
