//! `mtls-watch inspect`.

mod judge;
mod report;
mod text;

use std::fs;

use mtls_watch_core::config::Config;
use mtls_watch_core::terms::{Direction, Finding, Findings, Status};
use mtls_watch_x509::chain::Layer;
use mtls_watch_x509::describe::{Description, describe, why_unreadable};
use mtls_watch_x509::time::UnixTime;
use mtls_watch_x509::{self as x509, Certificate};

use crate::clock::now;
use crate::input::{self, Group, Purpose};
use crate::verify::{self, Refusal};
use crate::{Error, FOUND, GOOD, Output, Side, UNREADABLE, read};
use judge::Judged;
use report::{Entry, Report, Source, Trust, Untrusted};

/// Inspect certificates as the module would: chains, trust bundles, and the files that other tools write.
///
/// Exit code 0: ok; 1: warning or worse, or not trusted; 2: unreadable or bad usage.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
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
    /// Trust bundle, in any form that is read: also say whether Envoy would accept each chain with it
    #[arg(long, value_name = "BUNDLE")]
    trusted: Option<String>,
    /// File with the password of PKCS#12 files; without it, none is tried
    #[arg(long, value_name = "FILE")]
    password_file: Option<String>,
    /// PEM (several certificates: a chain or a bundle), DER, PKCS#7, PKCS#12, base64; a Secret or ConfigMap (JSON or
    /// YAML), `istioctl proxy-config secret -o json`, an Envoy or ztunnel config dump; the value of a header that
    /// carries a client's certificate (x-forwarded-client-cert, Client-Cert); - for standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<String>,
}

const EXAMPLES: &str = "\
Examples:
  mtls-watch inspect chain.pem
  mtls-watch inspect --trusted root-cert.pem --direction outbound chain.pem
  kubectl get secret -n shop pay-tls -o json | mtls-watch inspect -
  istioctl proxy-config secret deploy/cart -o json | mtls-watch inspect -
  mtls-watch inspect --password-file password.txt keystore.p12";

#[derive(Clone, Copy, clap::ValueEnum)]
enum Format {
    Text,
    Json,
}

/// What everything is judged by.
struct Criteria {
    direction: Direction,
    config: Config,
    now: UnixTime,
    /// The certificates of `--trusted`.
    bundle: Option<Vec<Vec<u8>>>,
}

pub(super) fn run(arguments: &Arguments) -> Result<Output, Error> {
    let password = password(arguments)?;
    let criteria = criteria(arguments, &password)?;
    let mut inspected = Vec::new();
    let mut errors = Vec::new();
    for file in &arguments.files {
        match inspect_file(file, &password, &criteria) {
            Ok(of_file) => inspected.extend(of_file),
            Err(error) => errors.push(error),
        }
    }
    if inspected.is_empty() {
        return Err(errors
            .into_iter()
            .next()
            .unwrap_or_else(|| Error::Content("no certificate".to_owned())));
    }
    let (report, is_good) = report(inspected, arguments.files.len() > 1);
    let text = match arguments.format {
        Format::Text => text::text(&report, criteria.now),
        Format::Json => serde_json::to_string_pretty(&report)
            .map_err(|error| Error::Content(error.to_string()))?,
    };
    let code = match (errors.is_empty(), is_good) {
        (false, _) => UNREADABLE,
        (true, true) => GOOD,
        (true, false) => FOUND,
    };
    let complaint = errors.iter().map(|error| format!("mtls-watch: {error}\n"));
    Ok(Output {
        complaint: complaint.collect(),
        ..Output::new(&text, code)
    })
}

/// Empty without a file. A line break at its end is the editor's.
fn password(arguments: &Arguments) -> Result<String, Error> {
    let Some(file) = &arguments.password_file else {
        return Ok(String::new());
    };
    let password = fs::read_to_string(file).map_err(|error| Error::File(file.clone(), error))?;
    Ok(password.trim_end_matches(['\r', '\n']).to_owned())
}

fn criteria(arguments: &Arguments, password: &str) -> Result<Criteria, Error> {
    let config = match &arguments.config {
        Some(file) => Config::parse(&read(file)?)
            .map_err(|errors| Error::Content(format!("{file}: {errors}")))?,
        None => Config::default(),
    };
    let bundle = arguments
        .trusted
        .as_deref()
        .map(|file| bundle(file, password));
    Ok(Criteria {
        direction: arguments.direction.into(),
        config,
        now: arguments.at.unwrap_or_else(now),
        bundle: bundle.transpose()?,
    })
}

/// The certificates of a bundle. Where a file has chains as well, such as a Secret, they are left out. Envoy loads no
/// bundle of which it cannot read a certificate.
fn bundle(file: &str, password: &str) -> Result<Vec<Vec<u8>>, Error> {
    let content = |error: &dyn std::fmt::Display| Error::Content(format!("{file}: {error}"));
    let groups = input::read(&read(file)?, password).map_err(|error| content(&error))?;
    let is_bundle = |group: &&Group| group.purpose == Purpose::Bundle;
    let has_bundle = groups.iter().any(|group| is_bundle(&group));
    let wanted = groups
        .iter()
        .filter(|group| !has_bundle || is_bundle(group));
    let mut bundle = Vec::new();
    for certificate in wanted.flat_map(|group| &group.certificates) {
        let der = certificate.as_ref().map_err(|error| content(error))?;
        x509::parse(der).map_err(|error| content(&why_unreadable(der, &error)))?;
        bundle.push(der.clone());
    }
    Ok(bundle)
}

/// A group, judged.
struct Inspected {
    file: String,
    place: Option<String>,
    certificates: Vec<(Judged, Description)>,
    unreadable: Vec<String>,
    notes: Vec<String>,
    status: Status,
    trust: Option<Trust>,
}

fn inspect_file(file: &str, password: &str, criteria: &Criteria) -> Result<Vec<Inspected>, Error> {
    let content = |error: &dyn std::fmt::Display| Error::Content(format!("{file}: {error}"));
    let groups = input::read(&read(file)?, password).map_err(|error| content(&error))?;
    let is_alone = groups.len() == 1;
    let mut found = Vec::new();
    for group in groups {
        // Without its first certificate there is nothing to judge in a chain.
        match inspect_group(file, group, criteria) {
            Ok(inspected) => found.push(inspected),
            Err(error) if is_alone => return Err(content(&error)),
            Err(error) => found.push(error.into_inspected(file)),
        }
    }
    Ok(found)
}

/// A group without a readable leaf.
struct Unreadable {
    place: Option<String>,
    error: String,
}

impl std::fmt::Display for Unreadable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.error)
    }
}

impl Unreadable {
    fn into_inspected(self, file: &str) -> Inspected {
        Inspected {
            file: file.to_owned(),
            place: self.place,
            certificates: Vec::new(),
            unreadable: vec![format!("certificate 1: {}", self.error)],
            notes: Vec::new(),
            status: Status::Unreadable,
            trust: None,
        }
    }
}

fn inspect_group(file: &str, group: Group, criteria: &Criteria) -> Result<Inspected, Unreadable> {
    let mut facts: Vec<Certificate> = Vec::new();
    let mut positions = Vec::new();
    let mut descriptions = Vec::new();
    let mut unreadable = Vec::new();
    for (position, der) in group.certificates.iter().enumerate() {
        match read_certificate(der) {
            Ok((certificate, description)) => {
                facts.push(certificate);
                positions.push(position);
                descriptions.push(description);
            }
            Err(error) if position == 0 => {
                return Err(Unreadable {
                    place: group.place,
                    error,
                });
            }
            Err(error) => unreadable.push(format!("certificate {}: {error}", position + 1)),
        }
    }
    let Criteria {
        direction,
        config,
        now,
        bundle,
    } = criteria;
    let judged = judge::judge(facts, group.purpose, *direction, config, *now);
    let mut notes = Vec::new();
    let mut status = of_findings(&judged, !unreadable.is_empty());
    if judge::is_reversed(&judged) {
        notes.push("the first certificate is a CA: is the order reversed? Envoy takes the first for the leaf".to_owned());
        status = status.max(Status::Warning);
    }
    let trust = bundle.as_ref().filter(|_| group.purpose != Purpose::Bundle);
    let mut leaves = judged
        .iter()
        .zip(&positions)
        .filter(|(judged, _)| judged.member.layer == Layer::Workload);
    for (leaf, position) in leaves.clone() {
        if let Some(Ok(der)) = group.certificates.get(*position) {
            let (words, refused) = refused_keys(der, &leaf.member.certificate, *direction);
            notes.extend(words);
            status = status.max(refused);
        }
    }
    let leaf = leaves.next().map_or(0, |(_, position)| *position);
    let trust = trust.map(|bundle| trust_of(&group, leaf, bundle, criteria));
    Ok(Inspected {
        file: file.to_owned(),
        place: group.place,
        certificates: judged.into_iter().zip(descriptions).collect(),
        unreadable,
        notes,
        status,
        trust,
    })
}

fn read_certificate(der: &Result<Vec<u8>, String>) -> Result<(Certificate, Description), String> {
    let der = der.as_ref().map_err(Clone::clone)?;
    let words = |error| why_unreadable(der, &error);
    Ok((
        x509::parse(der).map_err(words)?,
        describe(der).map_err(words)?,
    ))
}

/// What Envoy says of a leaf's key in each role that the leaf may have, and what that makes of the status where it is
/// the role that was asked for.
fn refused_keys(der: &[u8], leaf: &Certificate, asked: Direction) -> (Vec<String>, Status) {
    let mut status = Status::Ok;
    let mut notes = Vec::new();
    for (direction, role) in [
        (Direction::Inbound, "client"),
        (Direction::Outbound, "server"),
    ] {
        let allows = leaf.extended_key_usage.is_none_or(|usage| match direction {
            Direction::Inbound => usage.client_auth,
            Direction::Outbound => usage.server_auth,
        });
        let Some(why) = verify::refused_key(der, direction) else {
            continue;
        };
        if direction == asked {
            status = Status::Critical;
        }
        if direction == asked || allows {
            notes.push(format!("Envoy refuses this certificate of a {role}: {why}"));
        }
    }
    (notes, status)
}

fn of_findings(judged: &[Judged], unreadable: bool) -> Status {
    let initial = match unreadable {
        true => Findings::only(Finding::Unreadable),
        false => Findings::empty(),
    };
    let all = judged
        .iter()
        .fold(initial, |all, judged| all | judged.findings);
    Status::of_certified(true, all)
}

/// What Envoy would say to a peer that sends these, the leaf first, as TLS has it.
fn trust_of(group: &Group, leaf: usize, bundle: &[Vec<u8>], criteria: &Criteria) -> Trust {
    // What is no certificate at all is refused as one that cannot be read.
    let sent = group.certificates.iter();
    let mut sent: Vec<Vec<u8>> = sent.map(|der| der.clone().unwrap_or_default()).collect();
    if let Some(up_to_leaf) = sent.get_mut(..=leaf) {
        up_to_leaf.rotate_right(1);
    }
    match verify::verify(&sent, bundle, criteria.direction, criteria.now) {
        Ok(_) => Trust {
            trusted: true,
            untrusted: None,
        },
        Err(refusal) => Trust {
            trusted: false,
            untrusted: Some(untrusted(&refusal)),
        },
    }
}

fn untrusted(refusal: &Refusal) -> Untrusted {
    Untrusted {
        reason: refusal.reason.as_str(),
        layer: refusal.layer.as_str(),
        holder: refusal.holder.as_str(),
        detail: refusal.detail.clone(),
    }
}

/// One report of all, and whether all is well.
fn report(inspected: Vec<Inspected>, several_files: bool) -> (Report, bool) {
    let several = inspected.len() > 1;
    let status = inspected
        .iter()
        .map(|it| it.status)
        .max()
        .unwrap_or(Status::Ok);
    let trusts: Vec<Trust> = inspected.iter().filter_map(|it| it.trust.clone()).collect();
    let trust = trusts
        .iter()
        .find(|trust| !trust.trusted)
        .or(trusts.first())
        .cloned();
    let is_good = status == Status::Ok && trust.as_ref().is_none_or(|trust| trust.trusted);
    let mut report = Report {
        status: status.as_str(),
        trust,
        certificates: Vec::new(),
        unreadable: Vec::new(),
        notes: Vec::new(),
        sources: Vec::new(),
    };
    for group in inspected {
        let source = several.then(|| source(&group, several_files));
        let at_source = |text: String| match &source {
            Some(source) => format!("{source}: {text}"),
            None => text,
        };
        report
            .unreadable
            .extend(group.unreadable.into_iter().map(at_source));
        report.notes.extend(group.notes.into_iter().map(at_source));
        if let Some(source) = &source {
            report.sources.push(Source {
                source: source.clone(),
                status: group.status.as_str(),
                trust: group.trust,
            });
        }
        let entries = group.certificates.into_iter();
        report.certificates.extend(
            entries.map(|(judged, description)| Entry::new(judged, description, source.clone())),
        );
    }
    (report, is_good)
}

fn source(group: &Inspected, several_files: bool) -> String {
    match (&group.place, several_files) {
        (Some(place), true) => format!("{}: {place}", group.file),
        (Some(place), false) => place.clone(),
        (None, _) => group.file.clone(),
    }
}
