//! What this proxy's own certificates come to in metrics.

use super::admin::{self, Dates, OwnCertificate, Role};
use super::{anchor, directory};
use crate::hash::HashMap;
use crate::host::{Host, MetricKind, Version};
use crate::metrics::admission::{Admission, Kind, MAX_OWN, OTHER};
use crate::metrics::counters::{Counter, Registry};
use crate::metrics::{
    Ca, Identity, OWN_FINDINGS, OWN_NOT_AFTER, OWN_NOT_BEFORE, OWN_PRESENT, OWN_ROTATION_MARGIN,
    OWN_ROTATIONS, OWN_TRUST_ANCHOR, ReadResult, Secret, TRUST_BUNDLE_CA,
};
use crate::policy::{self, Judgement};
use crate::source::read::fingerprint_of;
use crate::terms::Source;
use crate::terms::Thresholds;
use crate::terms::{Finding, Findings};
use mtls_watch_x509::Certificate;
use mtls_watch_x509::chain::{self, Layer, Member};
use mtls_watch_x509::time::UnixTime;

/// Series that may go back to 0, for whichever VM is elected next, one a line.
const ROSTER: &str = "mtls_watch/own/roster";
/// How many certificates had no series of their own at the last poll.
const FOLDED: &str = "mtls_watch/own/folded";

/// The series of one poll, and their values.
#[derive(Default)]
struct Values(HashMap<String, u64>);

impl Values {
    fn set(&mut self, series: String, value: u64) {
        self.0.insert(series, value);
    }

    fn add(&mut self, series: String, number: u64) {
        let value = self.0.entry(series).or_default();
        *value = value.saturating_add(number);
    }

    /// A series that was 1, or more, before and is not there now.
    fn set_0_if_absent(&mut self, series: &str) {
        self.0.entry(series.to_owned()).or_default();
    }
}

/// Writes the metrics of what was found, and the directory of CAs.
// Not inlined: the largest function sets the memory that the module takes to compile.
#[inline(never)]
pub(super) fn update(
    host: &dyn Host,
    registry: &Registry,
    thresholds: &Thresholds,
    now: UnixTime,
    secrets: &[admin::Secret],
) {
    let mut passing = Values::default();
    let anchors: Vec<Option<String>> = secrets
        .iter()
        .map(|secret| anchor::of(secret, secrets))
        .collect();
    let rows = secrets
        .iter()
        .flat_map(|secret| rows(secret, secrets, thresholds, now));
    let rows = fold(host, registry, rows.collect(), &anchors);
    for row in &rows {
        row.write(&mut passing);
    }
    for (secret, anchor) in secrets.iter().zip(&anchors) {
        count_read(host, registry, secret);
        add_unreadable(host, secret, &mut passing);
        if let Some((leaf, der)) = secret.leaf() {
            let label = label(host, secret, leaf);
            note_rotation(host, registry, (&secret.name, label), leaf, der, now);
            if let Some(ca) = anchor {
                passing.set(OWN_TRUST_ANCHOR.series((Secret(label), Ca(ca))), 1);
            }
        }
    }
    let lasting = dates(&rows);
    write(host, registry, &lasting);
    write_roster(host, registry, passing);
    let is_whole = secrets.iter().all(admin::Secret::is_known_in_full);
    directory::publish(host, cas(secrets), is_whole);
}

/// Whether a certificate is among the first that get series of their own.
fn has_place(host: &dyn Host, layer: Layer, secret: &str, identity: &str) -> bool {
    let series = OWN_PRESENT.series((layer, Secret(secret), Identity(identity)));
    Admission::new(Kind::Own, MAX_OWN).admits(host, &series)
}

/// How a secret with a leaf is called in metrics.
fn label<'a>(host: &dyn Host, secret: &'a admin::Secret, leaf: &Certificate) -> &'a str {
    match has_place(host, Layer::Workload, &secret.name, &leaf.identity) {
        true => &secret.name,
        false => OTHER,
    }
}

/// Has the certificates that get no place share the series of `other`. What this proxy presents comes
/// first, then what stands above that, then what it trusts besides.
#[inline(never)]
fn fold(
    host: &dyn Host,
    registry: &Registry,
    mut rows: Vec<Row>,
    anchors: &[Option<String>],
) -> Vec<Row> {
    let rank = |row: &Row| match row.is_trusted_ca {
        false => 0,
        true if anchors.iter().flatten().any(|ca| *ca == row.identity) => 1,
        true => 2,
    };
    let mut folded: u64 = 0;
    for turn in 0..=2 {
        for row in rows.iter_mut().filter(|row| rank(row) == turn) {
            if !has_place(host, row.layer, &row.secret, &row.identity) {
                row.is_folded = true;
                folded = folded.saturating_add(1);
            }
        }
    }
    let (before, _) = host.shared(FOLDED);
    let before = before.and_then(|bytes| bytes.try_into().ok());
    let before = before.map_or(0, u64::from_le_bytes);
    for _ in before..folded {
        registry.count(host, Counter::SeriesOverflow);
    }
    if folded != before {
        host.share(FOLDED, &folded.to_le_bytes(), Version(0));
    }
    rows
}

/// The dates of the certificates; of several of one name those of the one that ends first.
#[inline(never)]
fn dates(rows: &[Row]) -> Values {
    let mut dates = Values::default();
    for row in rows {
        let labels = row.labels();
        let (end, series) = (row.not_after.gauge(), OWN_NOT_AFTER.series(labels));
        if dates.0.get(&series).is_none_or(|known| end < *known) {
            dates.set(series, end);
            dates.set(OWN_NOT_BEFORE.series(labels), row.not_before.gauge());
        }
    }
    dates
}

/// One certificate of this proxy, judged.
struct Row {
    layer: Layer,
    secret: String,
    identity: String,
    not_before: UnixTime,
    not_after: UnixTime,
    findings: Findings,
    is_trusted_ca: bool,
    /// It has no series of its own.
    is_folded: bool,
}

impl Row {
    fn labels(&self) -> (Layer, Secret<'_>, Identity<'_>) {
        let (secret, identity) = match self.is_folded {
            true => (OTHER, OTHER),
            false => (self.secret.as_str(), self.identity.as_str()),
        };
        (self.layer, Secret(secret), Identity(identity))
    }

    fn write(&self, passing: &mut Values) {
        let labels = self.labels();
        let (layer, secret, Identity(identity)) = labels;
        passing.set(OWN_PRESENT.series(labels), 1);
        for finding in self.findings.iter() {
            passing.add(OWN_FINDINGS.series((layer, secret, finding)), 1);
        }
        if self.is_trusted_ca {
            passing.set(TRUST_BUNDLE_CA.series((Ca(identity),)), 1);
        }
    }
}

/// The certificates of a secret that could not be read.
#[inline(never)]
fn add_unreadable(host: &dyn Host, secret: &admin::Secret, passing: &mut Values) {
    let Ok(number @ 1..) = u64::try_from(secret.unreadable) else {
        return;
    };
    let layer = match secret.role {
        Role::Chain if secret.leaf_unreadable => Layer::Workload,
        Role::Chain => Layer::IssuingCa,
        Role::Bundle => Layer::RootCa,
    };
    let unreadable = Finding::Unreadable;
    let label = match has_place(host, layer, &secret.name, unreadable.as_str()) {
        true => secret.name.as_str(),
        false => OTHER,
    };
    passing.add(
        OWN_FINDINGS.series((layer, Secret(label), unreadable)),
        number,
    );
}

#[inline(never)]
fn rows(
    secret: &admin::Secret,
    secrets: &[admin::Secret],
    thresholds: &Thresholds,
    now: UnixTime,
) -> Vec<Row> {
    let full: Vec<Certificate> = secret
        .certificates
        .iter()
        .filter_map(|certificate| match certificate {
            OwnCertificate::Full(facts, _) => Some((**facts).clone()),
            OwnCertificate::Dates(_) => None,
        })
        .collect();
    let members = match secret.role {
        Role::Chain if !secret.leaf_unreadable => chain::link(full),
        // Without the leaf the rest are CAs, as in a bundle.
        Role::Chain | Role::Bundle => trusted(full, secrets),
    };
    let is_trusted_ca = secret.role == Role::Bundle;
    let judgements = policy::judge_own(&members, thresholds);
    let readable = members
        .iter()
        .zip(judgements)
        .map(|(member, judgement)| Row {
            layer: member.layer,
            secret: secret.name.clone(),
            identity: member.identity().into_owned(),
            not_before: member.certificate.not_before,
            not_after: member.certificate.not_after,
            findings: judgement.at(now),
            is_trusted_ca,
            is_folded: false,
        });
    let dated = secret
        .certificates
        .iter()
        .filter_map(|certificate| match certificate {
            OwnCertificate::Dates(dates) => Some(dated(dates, secret, thresholds, now)),
            OwnCertificate::Full(..) => None,
        });
    readable.chain(dated).collect()
}

/// The CAs of a bundle, each for itself: a bundle is no chain.
fn trusted(cas: Vec<Certificate>, secrets: &[admin::Secret]) -> Vec<Member> {
    let own_leaf = secrets
        .iter()
        .find_map(admin::Secret::leaf)
        .map(|(leaf, _)| leaf);
    let member = |certificate: Certificate| Member {
        layer: if certificate.is_self_issued() {
            Layer::RootCa
        } else if own_leaf.is_some_and(|leaf| leaf.names_as_issuer(&certificate)) {
            Layer::IssuingCa
        } else {
            Layer::IntermediateCa
        },
        issuer: None,
        certificate,
    };
    cas.into_iter().map(member).collect()
}

/// A certificate of which only `/certs` is known: of a CA not even the name.
fn dated(dates: &Dates, secret: &admin::Secret, thresholds: &Thresholds, now: UnixTime) -> Row {
    // `/certs` has of each chain the leaf only, and of a bundle CAs.
    let layer = match secret.role {
        Role::Chain => Layer::Workload,
        Role::Bundle => Layer::RootCa,
    };
    let judgement = Judgement::of_validity(dates.not_before, dates.not_after, layer, thresholds);
    Row {
        layer,
        secret: secret.name.clone(),
        identity: match &dates.identity {
            Some(identity) => identity.clone(),
            None => format!("serial:{}", dates.serial),
        },
        not_before: dates.not_before,
        not_after: dates.not_after,
        findings: judgement.at(now),
        is_trusted_ca: secret.role == Role::Bundle,
        is_folded: false,
    }
}

#[inline(never)]
fn count_read(host: &dyn Host, registry: &Registry, secret: &admin::Secret) {
    for _ in &secret.certificates {
        registry.count(host, Counter::Inspection(Source::Hierarchy, ReadResult::Ok));
    }
    for _ in 0..secret.unreadable {
        registry.count(
            host,
            Counter::Inspection(Source::Hierarchy, ReadResult::Unreadable),
        );
    }
}

/// Compares the leaf of a secret, with its name and its label, with the one that was there at the last
/// poll, by whichever VM.
#[inline(never)]
fn note_rotation(
    host: &dyn Host,
    registry: &Registry,
    (secret, label): (&str, &str),
    leaf: &Certificate,
    der: &[u8],
    now: UnixTime,
) {
    let key = format!("mtls_watch/own/leaf/{secret}");
    let mut current = fingerprint_of(der).to_vec();
    current.extend_from_slice(&leaf.not_after.0.to_le_bytes());
    let (before, _) = host.shared(&key);
    if before.as_deref() == Some(&current) {
        return;
    }
    host.share(&key, &current, Version(0));
    let Some(before) = before else { return };
    let rotations = registry.named(
        host,
        MetricKind::Counter,
        OWN_ROTATIONS.series((Secret(label),)),
    );
    if let Some(rotations) = rotations {
        host.increment(rotations);
    }
    let not_after = before
        .last_chunk()
        .map(|bytes| UnixTime(i64::from_le_bytes(*bytes)));
    let margin = OWN_ROTATION_MARGIN.series((Secret(label),));
    if let (Some(not_after), Some(margin)) = (
        not_after,
        registry.named(host, MetricKind::Histogram, margin),
    ) {
        host.record(margin, not_after.since(now).gauge());
    }
}

fn write(host: &dyn Host, registry: &Registry, values: &Values) {
    for (series, value) in &values.0 {
        if let Some(id) = registry.named(host, MetricKind::Gauge, series.clone()) {
            host.record(id, *value);
        }
    }
}

/// Writes gauges of what is there now, and 0 to those of what is no longer. Which ones were ever
/// written is shared, for a VM that takes over.
#[inline(never)]
fn write_roster(host: &dyn Host, registry: &Registry, mut values: Values) {
    let (roster, _) = host.shared(ROSTER);
    let roster = String::from_utf8(roster.unwrap_or_default()).unwrap_or_default();
    for series in roster.lines() {
        values.set_0_if_absent(series);
    }
    write(host, registry, &values);
    // All of the roster are among the values: if there are more of these, some are new.
    if values.0.len() != roster.lines().count() {
        let names: Vec<&str> = values.0.keys().map(String::as_str).collect();
        host.share(ROSTER, names.join("\n").as_bytes(), Version(0));
    }
}

/// Every CA of the chains and bundles that is known in full, those of the chains first: a bundle can
/// have more than the directory holds.
fn cas(secrets: &[admin::Secret]) -> impl Iterator<Item = &[u8]> {
    let of = |role| secrets.iter().filter(move |secret| secret.role == role);
    of(Role::Chain)
        .chain(of(Role::Bundle))
        .flat_map(|secret| {
            let leaves = usize::from(secret.leaf().is_some());
            secret.certificates.iter().skip(leaves)
        })
        .filter_map(|certificate| match certificate {
            OwnCertificate::Full(_, der) => Some(der.as_slice()),
            OwnCertificate::Dates(_) => None,
        })
}
