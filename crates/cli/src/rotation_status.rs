//! `mtls-watch rotation-status`.
//!
//! Text becomes samples ([`exposition`]), samples the facts of a proxy ([`proxy`]), proxies a fleet with
//! its hierarchy ([`fleet`], [`ancestry`]), and that the states of the CAs ([`state`]) and the gates
//! ([`gate`]). Only [`source`] reads anything.

mod ancestry;
mod fleet;
mod gate;
mod proxy;
mod report;
mod source;
mod state;
mod table;

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mtls_watch_core::metrics::name::label_value;
use mtls_watch_x509::time::{Seconds, UnixTime};
use mtls_watch_x509::{self as x509, Certificate, pem};

use self::fleet::{Fleet, Rotation};
use self::proxy::Proxy;
use self::report::Report;
use self::source::Source;
use crate::{Error, FOUND, GOOD, Output, read};

/// Show which CA is trusted and which signs, in a fleet of proxies, and which step of a CA rotation is safe.
///
/// Reads the Prometheus text of proxies with the module and its "hierarchy". Prints proxies and CAs, the
/// state of each CA, and whether everything that is signed is trusted by every proxy (the cardinal rule).
/// With --old and --new also the gates of the rotation, docs/ca-rotation.md:
///
/// 1  the new CA is trusted by every proxy: it may sign
/// 2  whatever is signed now is trusted by every proxy (the cardinal rule)
/// 3  every proxy's own leaf has moved off the old CA
/// 4  the old CA has not been seen recently, on own leaves or on peers
/// 5  the old CA may be removed: gates 1 to 4 are open
///
/// States of a CA: prepared (trusted, signs nothing), active (signs), old (trusted or signing while a newer
/// CA of the rotation is active), retired (in no bundle, signs nothing), unseen (no series names it).
/// Without --old and --new, a newer CA is one of the same common name that is valid from later.
///
/// A CA's name is the value of the labels "ca" and "issuer", such as Root_CA:1f2e3d4c.
///
/// Which issuing CA signed a leaf is known exactly. An issuing CA is rarely in a bundle: it is trusted
/// through the root above it. A root or an intermediate signs through the issuing CAs under it. Which ones
/// these are is known where a proxy's own chain and trust bundle show it, else from the certificates given
/// with --cas. Use --cas to get answers before the new CA signs, and for chains that end in no bundle. What
/// is unknown opens no gate.
///
/// Exit code 0: the gate is open (without a rotation: nothing is wrong); 1: it is not, or the cardinal rule
/// is broken; 2: unreadable or bad usage.
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Arguments {
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    /// Look at this CA and those under it only; may be repeated
    #[arg(long = "ca", value_name = "NAME")]
    only: Vec<String>,
    /// The old CA, which will be removed
    #[arg(long, value_name = "NAME", requires = "new")]
    old: Option<String>,
    /// The new CA
    #[arg(long, value_name = "NAME", requires = "old")]
    new: Option<String>,
    /// The gate that decides the exit code; 5 if none is given
    #[arg(long, value_name = "1-5", requires = "old", value_parser = clap::value_parser!(u8).range(1..=5))]
    gate: Option<u8>,
    /// PEM with certificates of the CAs, old and new: shows which CA is under which; may be repeated
    #[arg(long, value_name = "FILE")]
    cas: Vec<String>,
    /// A CA that signed a peer's leaf within this time still signs
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = duration)]
    recent: Duration,
    /// Judge as of this time instead of now, such as 2026-11-22T01:25:18Z
    #[arg(long, value_name = "RFC3339")]
    at: Option<UnixTime>,
    /// How long to wait for each URL
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    timeout: Duration,
    /// Metrics of one proxy each: a file, - for standard input, or a URL such as http://127.0.0.1:15000
    /// (/stats/prometheus is added where there is no path); NAME= in front names the proxy
    #[arg(required = true, value_name = "[NAME=]FILE|URL")]
    sources: Vec<String>,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Format {
    Text,
    Json,
}

pub(super) fn run(arguments: &Arguments) -> Result<Output, Error> {
    let rotation = rotation(arguments)?;
    let only: Vec<String> = arguments.only.iter().map(|ca| ca_name(ca)).collect();
    let certificates = certificates(&arguments.cas)?;
    let proxies = proxies(arguments)?;
    let now = arguments.at.unwrap_or_else(now);
    let recent = Seconds(i64::try_from(arguments.recent.as_secs()).unwrap_or(i64::MAX));
    let fleet = Fleet::new(proxies, &certificates, now, recent);
    let report = Report::new(&fleet, rotation, arguments.gate, &only);
    let text = match arguments.format {
        Format::Text => table::text(&report),
        Format::Json => serde_json::to_string_pretty(&report)
            .map_err(|error| Error::Content(error.to_string()))?,
    };
    let code = if report.passes { GOOD } else { FOUND };
    Ok(Output::new(&text, code))
}

fn rotation(arguments: &Arguments) -> Result<Option<Rotation>, Error> {
    let (Some(old), Some(new)) = (&arguments.old, &arguments.new) else {
        return Ok(None);
    };
    let (old, new) = (ca_name(old), ca_name(new));
    match old == new {
        true => Err(Error::Content(format!("--old and --new are both {old}"))),
        false => Ok(Some(Rotation { old, new })),
    }
}

/// A CA's name as it is in labels. Log lines have it with spaces.
fn ca_name(name: &str) -> String {
    label_value(name).into_owned()
}

fn proxies(arguments: &Arguments) -> Result<Vec<Proxy>, Error> {
    let sources: Vec<Source> = arguments
        .sources
        .iter()
        .map(|text| text.as_str().into())
        .collect();
    let mut names = BTreeSet::new();
    if let Some(twice) = sources.iter().find(|source| !names.insert(&source.name)) {
        return Err(Error::Content(format!("{}: given twice", twice.name)));
    }
    let read = |source: &Source| {
        let samples = source.read(arguments.timeout);
        let samples = samples.map_err(|error| Error::Content(error.to_string()))?;
        Ok(Proxy::new(&source.name, &samples))
    };
    sources.iter().map(read).collect()
}

/// The CAs' certificates in PEM files.
fn certificates(files: &[String]) -> Result<Vec<Certificate>, Error> {
    let mut certificates = Vec::new();
    for file in files {
        let found = cas_of(&read(file)?);
        let found = found.map_err(|reason| Error::Content(format!("{file}: {reason}")))?;
        certificates.extend(found);
    }
    Ok(certificates)
}

fn cas_of(text: &[u8]) -> Result<Vec<Certificate>, String> {
    let read = |(index, der): (usize, Result<Vec<u8>, pem::PemError>)| {
        let certificate = der.map_err(|error| error.to_string());
        let certificate = certificate
            .and_then(|der| x509::parse(&der).map_err(|error| error.to_string()))
            .and_then(|found| match found.is_ca {
                true => Ok(found),
                false => Err("not a CA".to_owned()),
            });
        certificate.map_err(|error| format!("certificate {}: {error}", index.saturating_add(1)))
    };
    let found: Result<Vec<Certificate>, String> =
        pem::certificates(text).enumerate().map(read).collect();
    match found? {
        none if none.is_empty() => Err("no certificate: expected PEM".to_owned()),
        found => Ok(found),
    }
}

fn now() -> UnixTime {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
    let seconds = since_epoch.map_or(0, |since_epoch| since_epoch.as_secs());
    UnixTime(i64::try_from(seconds).unwrap_or(i64::MAX))
}

/// `90s`, `30m`, `36h`, `21d`.
fn duration(text: &str) -> Result<Duration, &'static str> {
    const EXPECTED: &str = "expected a duration such as 90s, 30m, 36h or 21d";
    let unit = match text.chars().next_back() {
        Some('s') => 1,
        Some('m') => 60,
        Some('h') => 3600,
        Some('d') => 86_400,
        _ => return Err(EXPECTED),
    };
    let number = text.get(..text.len().saturating_sub(1)).unwrap_or_default();
    let seconds = number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(unit));
    match seconds {
        None | Some(0) => Err(EXPECTED),
        Some(seconds) => Ok(Duration::from_secs(seconds)),
    }
}
