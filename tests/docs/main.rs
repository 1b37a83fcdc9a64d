//! The documentation says what the code says. `make docs` rewrites the generated parts.

mod contributing;
mod crates;
mod reference;
mod regressions;

use std::fs;
use std::path::{Path, PathBuf};

use mtls_watch_core::config::{Config, Hierarchy};
use mtls_watch_core::handshake::{Failure, Reason, phrases};
use mtls_watch_core::host::MetricKind;
use mtls_watch_core::metrics::{CATALOGUE, HANDSHAKE_FAILURES};
use mtls_watch_core::report::{Refused, failure_line};
use mtls_watch_core::terms::{Direction, Finding, Status};
use mtls_watch_x509::chain::Layer;
use mtls_watch_x509::spiffe::Svid;
use mtls_watch_x509::{Certificate, KeyAlgorithm, Links, PublicKey, SignatureDigest};

fn project(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(file)
}

/// Compares the part of a file between `<!-- name:begin -->` and `<!-- name:end -->` with what it
/// should be, or, with UPDATE_DOCS set, makes it so.
fn check_generated(file: &str, name: &str, expected: &str) {
    let path = project(file);
    let text = fs::read_to_string(&path).unwrap();
    let (begin, end) = (
        format!("<!-- {name}:begin -->\n"),
        format!("<!-- {name}:end -->"),
    );
    let (before, rest) = text.split_once(&begin).expect("begin marker");
    let (found, after) = rest.split_once(&end).expect("end marker");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, format!("{before}{begin}{expected}{end}{after}")).unwrap();
    } else {
        assert_eq!(found, expected, "{file} is stale: run `make docs`");
    }
}

fn part<'a>(text: &'a str, begin: &str, end: &str) -> &'a str {
    let (_, rest) = text.split_once(begin).expect(begin);
    rest.split_once(end).expect(end).0
}

#[test]
fn the_metrics_are_listed() {
    let rows = CATALOGUE.iter().map(|metric| {
        let kind = match metric.kind {
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
            MetricKind::Histogram => "histogram",
        };
        let labels: Vec<_> = metric.labels.iter().map(|label| label.as_str()).collect();
        format!(
            "| `{}` | {kind} | {} | {} |\n",
            metric.name,
            labels.join(", "),
            metric.help
        )
    });
    let table = format!(
        "| metric | type | labels | what |\n|---|---|---|---|\n{}",
        rows.collect::<String>()
    );
    check_generated("docs/metrics.md", "metrics", &table);
}

#[test]
fn the_findings_are_listed() {
    let rows = Finding::ALL.iter().copied().map(|finding| {
        format!(
            "| `{}` | {} | {} |\n",
            finding.as_str(),
            Status::of_finding(finding).as_str(),
            finding.hint()
        )
    });
    let table = format!(
        "| finding | makes the status | what to do |\n|---|---|---|\n{}",
        rows.collect::<String>()
    );
    check_generated("docs/findings.md", "findings", &table);
}

#[test]
fn every_reason_is_documented() {
    let rows = Reason::ALL.iter().copied().map(|reason| {
        format!(
            "| `{}` | {} | {} | {} | {} |\n",
            reason.as_str(),
            reason.meaning(),
            reason.symptom(),
            reason.first_check(),
            reason.hint()
        )
    });
    let table = format!(
        "| reason | meaning | symptom | first check | fix |\n|---|---|---|---|---|\n{}",
        rows.collect::<String>()
    );
    check_generated("docs/handshake-failures.md", "reasons", &table);
}

#[test]
fn what_explain_knows_is_listed() {
    let rows = phrases().map(|(stack, text, reason)| {
        format!("| {stack} | `{}` | `{}` |\n", text.trim(), reason.as_str())
    });
    let table = format!(
        "| stack | text | reason |\n|---|---|---|\n{}",
        rows.collect::<String>()
    );
    check_generated("docs/explain.md", "phrases", &table);
}

#[test]
fn every_reason_has_its_series_and_its_line() {
    let lines = Reason::ALL.iter().copied().map(|reason| {
        let direction = match reason {
            Reason::ServerAuthMissing
            | Reason::RejectedByPeer
            | Reason::CertificateRequired
            | Reason::SecretMissing => Direction::Outbound,
            _ => Direction::Inbound,
        };
        let layer = match reason {
            Reason::NoCertificate
            | Reason::VerifyFailed
            | Reason::RejectedByPeer
            | Reason::CertificateRequired
            | Reason::SecretMissing => None,
            _ => reason.concerns_certificates().then_some(Layer::Workload),
        };
        let failure = Failure::new(reason, layer);
        let leaf = refused_leaf();
        let refused = Refused {
            leaf: &leaf,
            fingerprint: &[0xf3; 32],
            identity: &leaf.identity,
        };
        let refused = (layer.is_some() && direction == Direction::Inbound).then_some(refused);
        let series = format!(
            "{}{{direction=\"{}\",layer=\"{}\",holder=\"{}\",reason=\"{}\"}}",
            HANDSHAKE_FAILURES.description.name,
            direction.as_str(),
            failure.layer_label(),
            failure.holder.as_str(),
            reason.as_str()
        );
        let line = failure_line(direction, &failure, refused, Some("10.0.0.7:43512"));
        format!("```\n{series}\n{line}\n```\n")
    });
    check_generated(
        "docs/handshake-failures.md",
        "lines",
        &lines.collect::<String>(),
    );
}

/// A certificate as an operator would meet it, for the examples.
fn refused_leaf() -> Certificate {
    Certificate {
        identity: "spiffe://cluster.local/ns/shop/sa/pay".to_owned(),
        other_uris: Vec::new(),
        signer: Some("Intermediate CA:1f2e3d4c".to_owned()),
        serial: [1].into(),
        links: Links {
            subject: [].into(),
            issuer: [].into(),
            subject_key_id: None,
            authority_key_id: None,
        },
        not_before: "2026-11-21T01:25:18Z".parse().unwrap(),
        not_after: "2026-11-22T01:25:18Z".parse().unwrap(),
        version: 3,
        is_ca: false,
        key_usage: None,
        extended_key_usage: None,
        public_key: PublicKey {
            algorithm: KeyAlgorithm::Ec,
            bits: 256,
        },
        signature_digest: SignatureDigest::Other,
        spiffe: Svid::Valid,
        has_alt_names: true,
        has_wildcard: false,
        has_default_issuer: false,
        has_unknown_critical_extension: false,
        key_hash: 0,
    }
}

#[test]
fn the_defaults_are_shown() {
    let page = fs::read_to_string(project("docs/configuration.md")).unwrap();
    let block = part(
        &page,
        "<!-- configuration:begin -->",
        "<!-- configuration:end -->",
    );
    let shown = Config::parse(part(block, "```json\n", "```").as_bytes()).unwrap();
    let defaults = Config {
        hierarchy: Some(Hierarchy::default()),
        ..Config::default()
    };
    assert_eq!(shown, defaults);
}
