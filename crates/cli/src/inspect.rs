//! `mtls-watch inspect`.

use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use mtls_watch_core::config::Config;
use mtls_watch_core::policy;
use mtls_watch_core::source::xfcc;
use mtls_watch_core::terms::{Direction, Finding, Findings, Status};
use mtls_watch_x509::chain::{self, Member};
use mtls_watch_x509::describe::{Description, describe};
use mtls_watch_x509::time::UnixTime;
use mtls_watch_x509::{self as x509, pem};
use serde::Serialize;

use crate::{Error, FOUND, GOOD, Output, Side, read};

/// Inspect a certificate or a chain as the module would.
///
/// Exit code 0: ok; 1: warning or worse; 2: unreadable or bad usage.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// On which side of the proxy the peer is: decides which usages its certificate must allow
    #[arg(long, value_enum, default_value = "inbound")]
    direction: Side,
    /// Plugin configuration (JSON) with the thresholds to judge by
    #[arg(long)]
    config: Option<String>,
    /// Judge as of this time instead of now, such as 2026-11-22T01:25:18Z
    #[arg(long, value_name = "RFC3339")]
    at: Option<UnixTime>,
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    /// PEM (several certificates: a chain, leaf first), DER, or the value of an
    /// x-forwarded-client-cert header; - for standard input
    file: String,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Format {
    Text,
    Json,
}

/// The JSON of `--format json`.
#[derive(Serialize)]
struct Report {
    status: &'static str,
    certificates: Vec<Entry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unreadable: Vec<String>,
}

#[derive(Serialize)]
struct Entry {
    layer: &'static str,
    identity: String,
    issuer: String,
    not_before: i64,
    not_after: i64,
    is_ca: bool,
    public_key: Key,
    findings: Vec<&'static str>,
    #[serde(flatten)]
    description: Description,
}

#[derive(Serialize)]
struct Key {
    algorithm: &'static str,
    bits: u32,
}

pub(super) fn run(arguments: &Arguments) -> Result<Output, Error> {
    let config = match &arguments.config {
        Some(file) => Config::parse(&read(file)?)
            .map_err(|errors| Error::Content(format!("{file}: {errors}")))?,
        None => Config::default(),
    };
    let direction = arguments.direction.into();
    let now = arguments.at.unwrap_or_else(now);
    let (report, status) = inspect(&read(&arguments.file)?, direction, &config, now)
        .map_err(|error| Error::Content(format!("{}: {error}", arguments.file)))?;
    let text = match arguments.format {
        Format::Text => text(&report, now),
        Format::Json => serde_json::to_string_pretty(&report)
            .map_err(|error| Error::Content(error.to_string()))?,
    };
    let code = match status {
        Status::Ok => GOOD,
        _ => FOUND,
    };
    Ok(Output::new(&text, code))
}

fn now() -> UnixTime {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
    let seconds = since_epoch.map_or(0, |since_epoch| since_epoch.as_secs());
    UnixTime(i64::try_from(seconds).unwrap_or(i64::MAX))
}

fn inspect(
    input: &[u8],
    direction: Direction,
    config: &Config,
    now: UnixTime,
) -> Result<(Report, Status), Error> {
    let mut certificates = Vec::new();
    let mut descriptions = Vec::new();
    let mut unreadable = Vec::new();
    for (position, der) in ders(input)?.into_iter().enumerate() {
        let read = der.and_then(|der| {
            let facts = x509::parse(&der).map_err(|error| error.to_string())?;
            let description = describe(&der).map_err(|error| error.to_string())?;
            Ok((facts, description))
        });
        match read {
            Ok((facts, description)) => {
                certificates.push(facts);
                descriptions.push(description);
            }
            // Without the leaf there is nothing to judge.
            Err(error) if position == 0 => return Err(Error::Content(error)),
            Err(error) => {
                unreadable.push(format!(
                    "certificate {}: {error}",
                    position.saturating_add(1)
                ));
            }
        }
    }
    let chain = chain::link(certificates);
    let judgements = policy::judge(&chain, direction, &config.thresholds);
    let found: Vec<Findings> = judgements.iter().map(|judged| judged.at(now)).collect();
    let initial = match unreadable.is_empty() {
        true => Findings::empty(),
        false => Findings::only(Finding::Unreadable),
    };
    let all = found.iter().fold(initial, |all, found| all | *found);
    let entries = chain
        .into_iter()
        .zip(descriptions)
        .zip(found)
        .map(|((member, description), found)| entry(member, description, found));
    let status = Status::of_certified(true, all);
    let report = Report {
        status: status.as_str(),
        certificates: entries.collect(),
        unreadable,
    };
    Ok((report, status))
}

fn entry(member: Member, description: Description, findings: Findings) -> Entry {
    let certificate = &member.certificate;
    Entry {
        layer: member.layer.as_str(),
        identity: member.identity().into_owned(),
        issuer: certificate.issuer_ca().into_owned(),
        not_before: certificate.not_before.0,
        not_after: certificate.not_after.0,
        is_ca: certificate.is_ca,
        public_key: Key {
            algorithm: certificate.public_key.algorithm.as_str(),
            bits: certificate.public_key.bits,
        },
        findings: findings.iter().map(Finding::as_str).collect(),
        description,
    }
}

type Ders = Vec<Result<Vec<u8>, String>>;

/// The certificates of PEM (also percent-encoded), DER or an XFCC header.
fn ders(input: &[u8]) -> Result<Ders, Error> {
    const SEQUENCE: u8 = 0x30;
    let content = |error: &dyn std::fmt::Display| Error::Content(error.to_string());
    if input.first() == Some(&SEQUENCE) && std::str::from_utf8(input).is_err() {
        return Ok(vec![Ok(input.to_vec())]);
    }
    let header = header_value(input);
    let certificates = match looks_like_xfcc(header) {
        true => xfcc::certificates(header, None)
            .map_err(|error| content(&error))?
            .ok_or_else(|| content(&"no Cert or Chain in the last element of the header"))?,
        false => {
            let text = pem::percent_decode(header).unwrap_or(header.into());
            pem::certificates(&text).collect()
        }
    };
    match certificates.is_empty() {
        true => Err(content(
            &"no certificate: expected PEM, DER or an XFCC header",
        )),
        false => Ok(certificates
            .into_iter()
            .map(|der| der.map_err(|error| error.to_string()))
            .collect()),
    }
}

/// A header as it is pasted: with its name, or without.
fn header_value(input: &[u8]) -> &[u8] {
    const NAME: &[u8] = b"x-forwarded-client-cert:";
    let input = input.trim_ascii();
    match input.split_at_checked(NAME.len()) {
        Some((name, value)) if name.eq_ignore_ascii_case(NAME) => value.trim_ascii(),
        _ => input,
    }
}

fn looks_like_xfcc(text: &[u8]) -> bool {
    let json = matches!(text.first(), Some(b'[' | b'{'));
    let element = xfcc::last_element(text).ok();
    json || element.is_some_and(|element| element.has_certificates() || element.hash().is_some())
}

fn text(report: &Report, now: UnixTime) -> String {
    let mut text = format!("status: {}\n", report.status);
    for entry in &report.certificates {
        // Writing to a String cannot fail.
        let _ = write_entry(&mut text, entry, now);
    }
    for unreadable in &report.unreadable {
        let _ = writeln!(text, "\nunreadable\n  {unreadable}");
    }
    text
}

fn write_entry(text: &mut String, entry: &Entry, now: UnixTime) -> std::fmt::Result {
    let (not_before, not_after) = (UnixTime(entry.not_before), UnixTime(entry.not_after));
    let description = &entry.description;
    writeln!(text, "\n{}  {}", entry.layer, clean(&entry.identity))?;
    writeln!(text, "  subject      {}", clean(&description.subject))?;
    writeln!(text, "  issuer       {}", clean(&entry.issuer))?;
    writeln!(
        text,
        "  valid        {not_before} to {not_after} ({})",
        remaining(not_after.since(now).0)
    )?;
    let usage = |names: Option<Vec<&str>>| {
        names.map_or("any (no extension)".to_owned(), |names| names.join(", "))
    };
    writeln!(
        text,
        "  key usage    {}",
        usage(description.key_usage.clone())
    )?;
    let extended = description.extended_key_usage.as_ref();
    let extended = extended.map(|names| names.iter().map(String::as_str).collect());
    writeln!(text, "  ext. usage   {}", usage(extended))?;
    writeln!(
        text,
        "  key          {} {} bits, signed with {}",
        entry.public_key.algorithm, entry.public_key.bits, description.signature_algorithm
    )?;
    if !description.subject_alt_names.is_empty() {
        let names = description.subject_alt_names.join(", ");
        writeln!(text, "  alt. names   {}", clean(&names))?;
    }
    writeln!(text, "  serial       {}", description.serial)?;
    writeln!(text, "  sha256       {}", description.sha256)?;
    for name in &entry.findings {
        let hint = Finding::from_name(name).map_or("", Finding::hint);
        writeln!(text, "  ! {name}: {hint}")?;
    }
    Ok(())
}

/// What a peer wrote into its certificate must not move the cursor of whoever reads it.
fn clean(text: &str) -> String {
    text.replace(char::is_control, "\u{fffd}")
}

/// `expires in 3d 4h`, `expired 5m ago`.
fn remaining(seconds: i64) -> String {
    let units = [(86_400, "d"), (3600, "h"), (60, "m"), (1, "s")];
    let mut rest = seconds.unsigned_abs();
    let mut parts = Vec::new();
    for (size, unit) in units {
        if rest >= size && parts.len() < 2 {
            parts.push(format!("{}{unit}", rest / size));
        }
        rest %= size;
    }
    let span = match parts.is_empty() {
        true => "0s".to_owned(),
        false => parts.join(" "),
    };
    match seconds < 0 {
        true => format!("expired {span} ago"),
        false => format!("expires in {span}"),
    }
}
