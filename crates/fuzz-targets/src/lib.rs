//! What the fuzzer calls with whatever it makes up, and `make test` again with seeds and findings.
//!
//! A target must hold for any bytes: it panics where it does not. Each is a binary of its own in
//! `fuzz/fuzz_targets/`, so that libFuzzer learns what its inputs look like.

pub mod oracle;

use std::collections::BTreeSet;

use mtls_watch_core::config::{Config, MAX_ERRORS};
use mtls_watch_core::handshake;
use mtls_watch_core::metrics::name::label_value;
use mtls_watch_core::own::admin;
use mtls_watch_core::policy;
use mtls_watch_core::source::xfcc;
use mtls_watch_core::terms::Direction;
use mtls_watch_core::terms::Thresholds;
use mtls_watch_x509::chain::{self, Layer};
use mtls_watch_x509::describe::{describe, serial_number};
use mtls_watch_x509::pem::{self, MAX_CERTIFICATES};
use mtls_watch_x509::time::{Seconds, UnixTime};
use mtls_watch_x509::{self as x509, MAX_DER_BYTES, spiffe};

use oracle::Oracle;

/// A target and its name.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: [Target; 8] = [
    ("admin_reply", admin_reply),
    ("chain", chain),
    ("configuration", configuration),
    ("differential", differential),
    ("failure_text", failure_text),
    ("label", label),
    ("pem", pem),
    ("xfcc", xfcc),
];

/// Moments before, in and after the lives of most certificates.
const MOMENTS: [i64; 4] = [i64::MIN, 1, 1_800_000_000, i64::MAX];

/// Text as Envoy gives a certificate: percent-encoded PEM or plain.
pub fn pem(input: &[u8]) {
    let text = pem::percent_decode(input);
    let text = text.as_deref().unwrap_or(input);
    let ders: Vec<_> = pem::certificates(text).collect();
    assert!(ders.len() <= MAX_CERTIFICATES);
    for der in ders.into_iter().flatten() {
        // As many bytes as base64 can hold.
        assert!(der.len() <= text.len());
        let _ = x509::parse(&der);
    }
}

/// Certificates, each behind two bytes of its length: read, put in order, judged.
pub fn chain(mut input: &[u8]) {
    let mut certificates = Vec::new();
    while let Some((length, rest)) = input.split_first_chunk::<2>() {
        let length = usize::from(u16::from_be_bytes(*length)).min(rest.len());
        let (der, rest) = rest.split_at(length);
        certificates.extend(x509::parse(der));
        input = rest;
    }
    let known = certificates.clone();
    for sent in 0..=known.len() {
        let mut certificates: Vec<_> = known.iter().take(sent).cloned().collect();
        chain::complete(&mut certificates, &known);
        judge(certificates);
    }
}

fn judge(certificates: Vec<x509::Certificate>) {
    let count = certificates.len();
    let members = chain::link(certificates);
    assert_eq!(members.len(), count);
    for member in &members {
        assert!(member.issuer.is_none_or(|issuer| issuer < count));
        label(member.identity().as_bytes());
    }
    for &direction in Direction::ALL {
        let judgements = policy::judge(&members, direction, &Thresholds::default());
        assert_eq!(judgements.len(), count);
        for judgement in judgements {
            for now in MOMENTS.map(UnixTime) {
                let findings = judgement.at(now);
                let next = judgement.next_change(now);
                assert!(next > now || next == UnixTime::NEVER);
                // Until then nothing changes. (At 0 the clock was never read.)
                let last = next.minus(Seconds::ONE).max(now);
                assert!(last == UnixTime::default() || judgement.at(last) == findings);
            }
        }
    }
}

/// `x-forwarded-client-cert`, which the client may have begun.
pub fn xfcc(input: &[u8]) {
    let _ = xfcc::certificates(input, None);
    let Ok(element) = xfcc::last_element(input) else {
        return;
    };
    let _ = element.hash();
    let stripped = element.without_certificates();
    assert!(stripped.len() <= input.len());
    let again = xfcc::last_element(&stripped);
    assert!(!again.is_ok_and(|element| element.has_certificates()));
    // What Envoy appends is found, whatever the client began.
    let ours = br#"By=spiffe://a/b;Hash=00;Cert="C""#;
    let appended = [input, b",", ours].concat();
    let element = xfcc::last_element(&appended).map(|element| element.certificates());
    assert_eq!(element, Ok(Some(&b"C"[..])));
}

/// The plugin configuration: whatever it is, there are settings, and a line for each mistake.
pub fn configuration(input: &[u8]) {
    let (config, errors) = Config::read(input);
    for threshold in Layer::ALL.iter().map(|layer| config.thresholds.of(*layer)) {
        for lifetime in [i64::MIN, 0, 1, 86_400, i64::MAX] {
            let _ = threshold.of_lifetime(Seconds(lifetime));
        }
    }
    assert!(errors.len() <= MAX_ERRORS + 1, "{} errors", errors.len());
    for error in errors {
        let line = error.log_line();
        assert!(!line.contains(char::is_control), "{line:?}");
        assert!(line.len() < 1500, "{} bytes", line.len());
    }
}

/// Envoy's text for a handshake that failed.
pub fn failure_text(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    for &direction in Direction::ALL {
        let _ = handshake::classify(&text, direction);
        let _ = handshake::explain(&text, direction);
    }
}

/// Replies of the admin interface.
pub fn admin_reply(input: &[u8]) {
    let secrets = admin::secrets(input).unwrap_or_default();
    for secret in &secrets {
        let _ = secret.leaf();
    }
    let _ = admin::certificates(input, &secrets);
}

/// Text of a peer as a label value: in the promised alphabet, and bounded.
pub fn label(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let value = label_value(&text);
    assert!(value.len() <= 200, "{} bytes", value.len());
    let promised = |byte: u8| byte.is_ascii_alphanumeric() || b"._~:/@+-".contains(&byte);
    assert!(value.bytes().all(promised), "{value:?}");
    let _ = spiffe::validate_id(&text);
}

/// A certificate that another parser finds in order is read, and alike.
pub fn differential(input: &[u8]) {
    let ours = x509::parse(input);
    if let Ok(ours) = &ours {
        let words = describe(input).expect("what is read can be described");
        assert_eq!(words.key_usage.is_some(), ours.key_usage.is_some());
        serial_number(input).expect("what is read has a number");
    }
    let Ok(theirs) = Oracle::read(input) else {
        return;
    };
    if input.len() > MAX_DER_BYTES {
        return;
    }
    let ours = ours.expect("what others find in order is read");
    assert_eq!(Oracle::of(&ours), theirs);
    // The command line has names of kinds that the oracle is not asked for.
    let written = describe(input).expect("it was read").subject_alt_names;
    let written: BTreeSet<_> = written.iter().map(String::as_str).collect();
    for name in oracle::subject_alt_names(input) {
        assert!(written.contains(name.as_str()), "{name} not in {written:?}");
    }
}
