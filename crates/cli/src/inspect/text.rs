//! What `inspect` prints for people. Nothing of it can be written by a certificate: its names are escaped.

use std::fmt::Write as _;

use mtls_watch_core::terms::Finding;
use mtls_watch_x509::time::UnixTime;

use super::report::{Entry, Report, Trust};
use crate::clock::{ago, span};
use crate::printable::printable;

/// The report in words.
pub(super) fn text(report: &Report, now: UnixTime) -> String {
    let mut text = format!("status: {}\n", report.status);
    // Writing to a String cannot fail.
    if let (Some(trust), true) = (&report.trust, report.sources.is_empty()) {
        let _ = write_trust(&mut text, trust, "");
    }
    for note in &report.notes {
        let _ = writeln!(text, "note: {}", printable(note));
    }
    let mut source = None;
    for entry in &report.certificates {
        if entry.source != source {
            source.clone_from(&entry.source);
            let _ = write_source(&mut text, report, source.as_deref());
        }
        let _ = write_entry(&mut text, entry, now);
    }
    for unreadable in &report.unreadable {
        let _ = writeln!(text, "\nunreadable\n  {}", printable(unreadable));
    }
    text
}

fn write_source(text: &mut String, report: &Report, source: Option<&str>) -> std::fmt::Result {
    let Some(source) = source else { return Ok(()) };
    let of_source = report.sources.iter().find(|it| it.source == source);
    let status = of_source.map_or("", |it| it.status);
    writeln!(text, "\n== {}: {status}", printable(source))?;
    match of_source.and_then(|it| it.trust.as_ref()) {
        Some(trust) => write_trust(text, trust, ""),
        None => Ok(()),
    }
}

fn write_trust(text: &mut String, trust: &Trust, indent: &str) -> std::fmt::Result {
    match &trust.untrusted {
        None => writeln!(text, "{indent}trusted: yes"),
        Some(why) => writeln!(
            text,
            "{indent}trusted: no: {} layer={} holder={}: {}",
            why.reason,
            why.layer,
            why.holder,
            printable(&why.detail)
        ),
    }
}

fn write_entry(text: &mut String, entry: &Entry, now: UnixTime) -> std::fmt::Result {
    let (not_before, not_after) = (UnixTime(entry.not_before), UnixTime(entry.not_after));
    let description = &entry.description;
    writeln!(text, "\n{}  {}", entry.layer, printable(&entry.identity))?;
    writeln!(text, "  subject      {}", printable(&description.subject))?;
    writeln!(text, "  issuer       {}", printable(&entry.issuer))?;
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
        let names = description.subject_alt_names.iter();
        let names: Vec<String> = names.map(|name| item(name)).collect();
        writeln!(text, "  alt. names   {}", names.join(", "))?;
    }
    writeln!(text, "  serial       {}", description.serial)?;
    writeln!(text, "  sha256       {}", description.sha256)?;
    for name in &entry.findings {
        let hint = Finding::from_name(name).map_or("", Finding::hint);
        writeln!(text, "  ! {name}: {hint}")?;
    }
    Ok(())
}

/// An item of a list: a comma in it is no end of it.
fn item(name: &str) -> String {
    printable(&name.replace('\\', "\\\\").replace(',', "\\,"))
}

/// `expires in 3d 4h`, `expired 5m ago`.
fn remaining(seconds: i64) -> String {
    match seconds < 0 {
        true => format!("expired {}", ago(seconds.saturating_neg())),
        false => format!("expires in {}", span(seconds)),
    }
}
