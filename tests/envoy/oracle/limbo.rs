//! Cases in the format of x509-limbo, each put before a real Envoy and `inspect --trusted`. Its own data are in no
//! package registry: who has its `limbo.json` runs `make limbo LIMBO=FILE`, which asks all of it and writes
//! docs/limbo.md. What runs here always are a few cases of that format, made here.
//!
//! No private key of a case is needed. Envoy verifies a chain before it looks at the peer's signature, so the peer
//! signs with a key of its own: a chain that holds ends in `BAD_SIGNATURE`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::{env, fs};

use anyhow::{Context, Result, ensure};
use mtls_watch_x509::time::UnixTime;
use mtls_watch_x509::{KeyAlgorithm, parse, pem};
use serde_json::{Value, json};
use tempfile::TempDir;
use testbed::pki::{DAY, ExtendedKeyUsage, HOUR, KeyKind, Lifetime, lax, to_pem};
use testbed::{Envoy, Hierarchy, Identity, TrustBundle, workspace_root};

use super::cases::{Case, ID};
use super::{Direction, Refusal, asked, bootstrap, is_same, ours, servers};
use crate::strict;

const PAGE: &str = "docs/limbo.md";

/// A case, as x509-limbo has it.
struct Limbo {
    case: Case,
    direction: Direction,
    /// Now, where it names no time.
    time: Option<UnixTime>,
    /// Whether x509-limbo expects that the chain is accepted.
    is_sound: bool,
    features: Vec<String>,
}

/// A case, and what was said of it: `None` for accepted.
struct Judged {
    limbo: Limbo,
    envoy: Option<Refusal>,
    ours: Option<String>,
}

/// Reads `limbo.json`.
fn read(text: &str) -> Result<Vec<Limbo>> {
    let file: Value = serde_json::from_str(text)?;
    let cases = file["testcases"].as_array().context("testcases")?;
    let read = |case: &Value| one(case).with_context(|| format!("{}", case["id"]));
    cases.iter().map(read).collect()
}

fn one(case: &Value) -> Result<Limbo> {
    let leaf = der(&case["peer_certificate"])?;
    // Of the kind that the leaf's key is of, so that the handshake gets as far.
    let kind = match parse(&leaf) {
        Ok(leaf) if leaf.public_key.algorithm == KeyAlgorithm::Rsa => KeyKind::Rsa2048,
        _ => KeyKind::P256,
    };
    let any = Hierarchy::new()?.leaf().key_kind(kind).issue()?;
    let sent = list(&case["untrusted_intermediates"], der)?;
    let trusted = list(&case["trusted_certs"], der)?;
    Ok(Limbo {
        case: Case {
            name: text(&case["id"])?,
            peer: any.showing(leaf, sent),
            bundle: TrustBundle::of_certificates(trusted.into_iter().map(Into::into)),
        },
        direction: match case["validation_kind"] == "CLIENT" {
            true => Direction::Inbound,
            false => Direction::Outbound,
        },
        time: match &case["validation_time"] {
            Value::Null => None,
            time => Some(text(time)?.parse()?),
        },
        is_sound: case["expected_result"] == "SUCCESS",
        features: list(&case["features"], text)?,
    })
}

fn list<T>(values: &Value, read: impl Fn(&Value) -> Result<T>) -> Result<Vec<T>> {
    let values = values.as_array().context("no list")?;
    values.iter().map(read).collect()
}

fn text(value: &Value) -> Result<String> {
    value.as_str().map(str::to_owned).context("no text")
}

fn der(value: &Value) -> Result<Vec<u8>> {
    let pem = text(value)?;
    let first = pem::certificates(pem.as_bytes()).next();
    Ok(first.context("no certificate")??)
}

/// Puts all before Envoy, those of one time at once, and before `inspect --trusted`.
fn judged(cases: Vec<Limbo>) -> Result<Vec<Judged>> {
    let directory = TempDir::new()?;
    let mut by_time: BTreeMap<Option<UnixTime>, Vec<Limbo>> = BTreeMap::new();
    for case in cases {
        by_time.entry(case.time).or_default().push(case);
    }
    let mut judged = Vec::new();
    for (time, cases) in by_time {
        let at = time.map(|time| time.to_string());
        let (loaded, refused): (Vec<_>, Vec<_>) = cases.into_iter().partition(is_loaded);
        for limbo in refused {
            let ours = ours(&limbo.case, limbo.direction, at.as_deref(), &directory)?;
            let envoy = Some(Refusal {
                words: "the bundle is not loaded".to_owned(),
                reason: "other",
            });
            judged.push(Judged { limbo, envoy, ours });
        }
        judged.extend(asked_at(loaded, time)?);
    }
    judged.sort_by(|a, b| a.limbo.case.name.cmp(&b.limbo.case.name));
    Ok(judged)
}

/// Whether Envoy takes the bundle. Only what this project does not read is asked for itself: else one Envoy has all.
fn is_loaded(limbo: &Limbo) -> bool {
    let mut certificates = limbo.case.bundle.certificates().iter();
    certificates.all(|der| parse(der).is_ok() || strict::load(der).is_ok())
}

fn asked_at(cases: Vec<Limbo>, time: Option<UnixTime>) -> Result<Vec<Judged>> {
    // Envoy's logs, one of each case, and what is inspected.
    let directory = &TempDir::new()?;
    // Whose certificate is Envoy's own.
    let h = Hierarchy::new()?;
    let own = Case {
        name: "sound".to_owned(),
        peer: h.leaf().uri(ID).issue()?,
        bundle: h.trust_bundle(),
    };
    let both = |limbo: &Limbo| (limbo.case.clone(), limbo.direction);
    let all: Vec<_> = [(own, Direction::Inbound)]
        .into_iter()
        .chain(cases.iter().map(both))
        .collect();
    let servers = servers(&all)?;
    let bootstrap = bootstrap(&all, &servers, directory).to_string();
    let arguments = ["--file-flush-interval-msec", "50"];
    let envoy = match time {
        None => Envoy::start_with(&bootstrap, 1, &arguments)?,
        Some(time) => {
            let program = program_at(time, directory)?;
            Envoy::start_program(&program, &bootstrap, 1, &arguments)?
        }
    };
    let at = time.map(|time| time.to_string());
    let mut judged = Vec::new();
    for (index, limbo) in cases.into_iter().enumerate() {
        let context = limbo.case.name.clone();
        let (case, direction) = (&limbo.case, limbo.direction);
        let refusal = asked(&envoy, index + 1, case, direction, directory).context(context)?;
        let envoy = refusal.filter(|refusal| refusal.words != "BAD_SIGNATURE");
        let ours = ours(case, direction, at.as_deref(), directory)?;
        judged.push(Judged { limbo, envoy, ours });
    }
    Ok(judged)
}

/// Envoy, verifying as of another time.
fn program_at(time: UnixTime, directory: &TempDir) -> Result<PathBuf> {
    let source = workspace_root().join("tests/envoy/oracle/time.c");
    let [clock, program] = ["time.so", "envoy"].map(|name| directory.path().join(name));
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-o"]).arg(&clock);
    let status = compiler.arg(source).status().context("cc")?;
    ensure!(status.success(), "cc: {status}");
    let (clock, envoy) = (clock.display(), Envoy::binary()?);
    let run = format!(
        "env LD_PRELOAD={clock} VERIFY_AT={} {}",
        time.0,
        envoy.display()
    );
    fs::write(&program, format!("#!/bin/sh\nexec {run} \"$@\"\n"))?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    Ok(program)
}

/// Where the two do not say the same.
fn disagreements(judged: &[Judged]) -> Vec<String> {
    let differ = judged.iter().filter(|case| {
        let reason = case.envoy.as_ref().map(|refusal| refusal.reason);
        !is_same(reason, case.ours.as_deref())
    });
    let line = |case: &Judged| {
        let words = case.envoy.as_ref().map(|refusal| &refusal.words);
        let name = &case.limbo.case.name;
        format!("{name}: Envoy {words:?}, mtls-watch {:?}", case.ours)
    };
    differ.map(line).collect()
}

/// Why Envoy does not say what x509-limbo expects, by a feature or by what a case's name begins with. The first that
/// fits counts.
const DIFFERENCES: &[(&str, &str)] = &[
    (
        "has-crl",
        "no revocation list is configured here (`diagnose` judges by those of Envoy's configuration)",
    ),
    ("max-chain-depth", "`max_verify_depth` is not set here"),
    ("webpki::cn::", NAMES),
    ("webpki::san::san-critical", ISSUERS),
    ("webpki::san::", NAMES),
    ("rfc5280::nc::nc-permits-invalid-dns-san", NAMES),
    (
        "rfc5280::nc::nc-forbids-",
        "BoringSSL builds one path and does not go back for another",
    ),
    (
        "rfc5280::nc::permitted-ip",
        "BoringSSL has no name constraints on IP addresses: a name of the type is refused",
    ),
    (
        "rfc5280::validity::notafter-",
        "BoringSSL's validity ends before that second",
    ),
    (
        "rfc5280::ca-as-leaf",
        "the handshake takes a key usage with digitalSignature",
    ),
    (
        "pathlen::validation-ignores-",
        "the handshake takes a key usage with digitalSignature",
    ),
    ("rfc5280::root-", ANCHORS),
    ("rfc5280::unknown-critical-extension-root", ANCHORS),
    ("rfc5280::ski::root-", ANCHORS),
    ("webpki::aki::root-", ANCHORS),
    ("webpki::eku::root-", ANCHORS),
    ("webpki::forbidden-rsa-not-divisible-by-8-in-root", ANCHORS),
    ("webpki::forbidden-weak-rsa-key-in-root", ANCHORS),
    ("rfc5280::", ISSUERS),
    ("webpki::", ISSUERS),
];
const NAMES: &str =
    "names are compared by the matchers of Envoy's configuration alone, and none are set here";
const ANCHORS: &str = "of a trusted certificate BoringSSL looks at dates and name constraints only";
const ISSUERS: &str = "a rule for issuers, which BoringSSL's verifier does not check";

fn difference(limbo: &Limbo) -> Option<&'static str> {
    let fits = |(key, _): &&(&str, &str)| {
        limbo.features.iter().any(|feature| feature == key) || limbo.case.name.starts_with(key)
    };
    DIFFERENCES.iter().find(fits).map(|(_, why)| *why)
}

/// Those of bettertls are thousands: more than one Envoy has listeners for.
fn is_asked(limbo: &Limbo) -> bool {
    !limbo.case.name.starts_with("bettertls::")
}

#[test]
#[ignore = "takes x509-limbo's data: make limbo LIMBO=FILE"]
fn all_of_x509_limbo() -> Result<()> {
    let file = env::var_os("LIMBO").context("LIMBO names no file")?;
    let mut cases = read(&fs::read_to_string(file)?)?;
    cases.retain(is_asked);
    let judged = judged(cases)?;
    let disagreements = disagreements(&judged);
    ensure!(disagreements.is_empty(), "{}", disagreements.join("\n"));
    document(&table(&judged)?)
}

/// How many agree, and those where Envoy says something else than x509-limbo expects.
fn table(judged: &[Judged]) -> Result<String> {
    let word = |is_accepted| if is_accepted { "accepted" } else { "refused" };
    let (mut rows, mut number) = (String::new(), 0);
    for Judged { limbo, envoy, .. } in judged {
        if limbo.is_sound == envoy.is_none() {
            continue;
        }
        let name = &limbo.case.name;
        let why = difference(limbo).with_context(|| format!("{name}: Envoy does otherwise"))?;
        let (expected, seen) = (word(limbo.is_sound), word(envoy.is_none()));
        let features = limbo.features.join(", ");
        writeln!(
            rows,
            "| `{name}` | {features} | {expected} | {seen} | {why} |"
        )?;
        number += 1;
    }
    Ok(format!(
        "Of {} cases Envoy and `mtls-watch` agree on all. They do otherwise than x509-limbo expects in {number}:\n\n\
         | case | feature | x509-limbo | Envoy, mtls-watch | why |\n|---|---|---|---|---|\n{rows}",
        judged.len()
    ))
}

/// Writes it into the page.
fn document(table: &str) -> Result<()> {
    let path = workspace_root().join(PAGE);
    let page = fs::read_to_string(&path)?;
    let (begin, end) = ("<!-- limbo:begin -->\n", "<!-- limbo:end -->");
    let (before, rest) = page.split_once(begin).context("begin marker")?;
    let (_, after) = rest.split_once(end).context("end marker")?;
    fs::write(&path, [before, begin, table, end, after].concat())?;
    Ok(())
}

/// A case of the format, of chains that are made here.
fn made(id: &str, kind: &str, trusted: &str, peer: &Identity, time: Option<i64>) -> Value {
    let pem = |der| to_pem([der]);
    let chain = peer.chain();
    json!({
        "id": id,
        "features": [],
        "validation_kind": kind,
        "trusted_certs": [trusted],
        "untrusted_intermediates": chain[1..].iter().map(pem).collect::<Vec<_>>(),
        "peer_certificate": pem(&chain[0]),
        "validation_time": time.map(|time| UnixTime(time).to_string()),
        "expected_result": if id.starts_with("sound") { "SUCCESS" } else { "FAILURE" },
    })
}

#[test]
fn cases_in_the_format_of_x509_limbo() -> Result<()> {
    let h = Hierarchy::new()?;
    let peer = h.leaf().uri(ID).issue()?;
    let client = h
        .leaf()
        .uri(ID)
        .extended_key_usages(&[ExtendedKeyUsage::ClientAuth]);
    let client = client.issue()?;
    let tomorrow = Lifetime::from_now(DAY, 2 * DAY);
    let later = h.leaf().uri(ID).lifetime(tomorrow).issue()?;
    let at = Some(tomorrow.not_after - HOUR);
    let over = Some(tomorrow.not_after);
    let (root, stranger) = (
        h.trust_bundle().pem(),
        Hierarchy::new()?.trust_bundle().pem(),
    );
    let (_, unread) = lax::long_lengths(h.root.der()).remove(0);
    let unread = to_pem([&unread.into()]);
    let cases = json!({"testcases": [
        made("sound server", "SERVER", &root, &peer, None),
        made("sound client", "CLIENT", &root, &client, None),
        made("sound tomorrow", "SERVER", &root, &later, at),
        made("usage", "SERVER", &root, &client, None),
        made("unknown root", "CLIENT", &stranger, &peer, None),
        made("not yet", "SERVER", &root, &later, None),
        made("expired", "CLIENT", &root, &later, over),
        made("bundle", "SERVER", &unread, &peer, None),
    ]});
    let judged = judged(read(&cases.to_string())?)?;
    assert_eq!(judged.len(), 8);
    let disagreements = disagreements(&judged);
    ensure!(disagreements.is_empty(), "{}", disagreements.join("\n"));
    for Judged { limbo, envoy, ours } in &judged {
        let said = (envoy.is_none(), ours.is_none());
        assert_eq!(
            said,
            (limbo.is_sound, limbo.is_sound),
            "{}",
            limbo.case.name
        );
    }
    Ok(())
}
