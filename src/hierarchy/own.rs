//! What this proxy's own certificates come to in metrics.

use super::admin::{Dates, OwnCertificate, Role, Secret};
use super::directory;
use crate::certificate::{Certificate, spiffe::Svid};
use crate::chain::{self, Layer, Member};
use crate::config::Thresholds;
use crate::host::{Host, MetricKind, Version};
use crate::metrics::counters::{Counter, Outcome, Registry};
use crate::metrics::{
    OWN_FINDINGS, OWN_NOT_AFTER, OWN_NOT_BEFORE, OWN_PRESENT, OWN_ROTATION_MARGIN, OWN_ROTATIONS,
    TRUST_BUNDLE_CA,
};
use crate::policy::{self, Direction, Finding, Findings, Judgement};
use crate::source::Source;
use crate::source::read::fingerprint_of;
use crate::time::UnixTime;

/// Series that may go back to 0, for whichever VM is elected next, one a line.
const ROSTER: &str = "mtls_watch/own/roster";
/// Most of them.
const MAX_ROSTER: usize = 1000;

/// The series of one poll, and their values. Few enough to be searched one by one.
#[derive(Default)]
struct Values(Vec<(String, u64)>);

impl Values {
    fn set(&mut self, series: String, value: u64) {
        self.change(series, |_| value);
    }

    fn add_one(&mut self, series: String) {
        self.change(series, |value| value.saturating_add(1));
    }

    /// A series that was 1, or more, before and is not there now.
    fn set_0_if_absent(&mut self, series: &str) {
        self.change(series.to_owned(), |value| value);
    }

    fn change(&mut self, series: String, change: impl Fn(u64) -> u64) {
        match self.0.iter_mut().find(|(known, _)| *known == series) {
            Some((_, value)) => *value = change(*value),
            None => self.0.push((series, change(0))),
        }
    }
}

/// Writes the metrics of what was found, and the directory of CAs.
pub(super) fn update(
    host: &dyn Host,
    registry: &Registry,
    thresholds: &Thresholds,
    now: UnixTime,
    secrets: &[Secret],
) {
    let mut lasting = Values::default();
    let mut passing = Values::default();
    for secret in secrets {
        count_read(host, registry, secret);
        if let Some((leaf, der)) = secret.leaf() {
            note_rotation(host, registry, &secret.name, leaf, der, now);
        }
        for row in rows(secret, secrets, thresholds, now) {
            row.write(secret, &mut lasting, &mut passing);
        }
        if let Ok(number @ 1..) = u64::try_from(secret.unreadable) {
            let layer = match secret.role {
                Role::Chain if secret.leaf_unreadable => Layer::Workload,
                Role::Chain => Layer::IssuingCa,
                Role::Bundle => Layer::RootCa,
            };
            let labels = [layer.as_str(), &secret.name, Finding::Unreadable.as_str()];
            passing.set(OWN_FINDINGS.series(&labels), number);
        }
    }
    write(host, registry, &lasting);
    write_roster(host, registry, passing);
    directory::publish(host, cas(secrets));
}

/// One certificate of this proxy, judged.
struct Row {
    layer: Layer,
    identity: String,
    not_before: UnixTime,
    not_after: UnixTime,
    findings: Findings,
    is_trusted_ca: bool,
}

impl Row {
    fn write(&self, secret: &Secret, lasting: &mut Values, passing: &mut Values) {
        let layer = self.layer.as_str();
        let labels = [layer, &secret.name, &self.identity];
        lasting.set(OWN_NOT_AFTER.series(&labels), self.not_after.gauge());
        lasting.set(OWN_NOT_BEFORE.series(&labels), self.not_before.gauge());
        passing.set(OWN_PRESENT.series(&labels), 1);
        for finding in self.findings.iter() {
            passing.add_one(OWN_FINDINGS.series(&[layer, &secret.name, finding.as_str()]));
        }
        if self.is_trusted_ca {
            passing.set(TRUST_BUNDLE_CA.series(&[&self.identity]), 1);
        }
    }
}

fn rows(secret: &Secret, secrets: &[Secret], thresholds: &Thresholds, now: UnixTime) -> Vec<Row> {
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
    let judgements = judge(&members, thresholds);
    let readable = members
        .iter()
        .zip(judgements)
        .map(|(member, judgement)| Row {
            layer: member.layer,
            identity: member.identity().to_owned(),
            not_before: member.certificate.not_before,
            not_after: member.certificate.not_after,
            findings: judgement.at(now),
            is_trusted_ca,
        });
    let dated = secret
        .certificates
        .iter()
        .filter_map(|certificate| match certificate {
            OwnCertificate::Dates(dates) => Some(dated(dates, secret.role, thresholds, now)),
            OwnCertificate::Full(..) => None,
        });
    readable.chain(dated).collect()
}

/// The CAs of a bundle, each for itself: a bundle is no chain.
fn trusted(cas: Vec<Certificate>, secrets: &[Secret]) -> Vec<Member> {
    let own_leaf = secrets.iter().find_map(Secret::leaf).map(|(leaf, _)| leaf);
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

/// What a proxy's own certificate is used for is not known, unless it is a mesh workload's: a usage is
/// missed only if it is missing both ways.
fn judge(members: &[Member], thresholds: &Thresholds) -> Vec<Judgement> {
    let workload = members
        .first()
        .is_some_and(|leaf| leaf.certificate.spiffe != Svid::No);
    let inbound = policy::judge(members, Direction::Inbound, thresholds);
    let outbound = policy::judge(members, Direction::Outbound, thresholds);
    match workload {
        true => inbound,
        false => inbound
            .into_iter()
            .zip(outbound)
            .map(|(inbound, outbound)| inbound.common(&outbound))
            .collect(),
    }
}

/// A certificate of which only `/certs` is known: of a CA not even the name.
fn dated(dates: &Dates, role: Role, thresholds: &Thresholds, now: UnixTime) -> Row {
    // `/certs` has of each chain the leaf only, and of a bundle CAs.
    let layer = match role {
        Role::Chain => Layer::Workload,
        Role::Bundle => Layer::RootCa,
    };
    let judgement = Judgement::of_validity(dates.not_before, dates.not_after, layer, thresholds);
    Row {
        layer,
        identity: match &dates.identity {
            Some(identity) => identity.clone(),
            None => format!("serial:{}", dates.serial),
        },
        not_before: dates.not_before,
        not_after: dates.not_after,
        findings: judgement.at(now),
        is_trusted_ca: role == Role::Bundle,
    }
}

fn count_read(host: &dyn Host, registry: &Registry, secret: &Secret) {
    for _ in &secret.certificates {
        registry.count(host, Counter::Inspection(Source::Hierarchy, Outcome::Ok));
    }
    for _ in 0..secret.unreadable {
        registry.count(
            host,
            Counter::Inspection(Source::Hierarchy, Outcome::Failed),
        );
    }
}

/// Compares the leaf with the one that was there at the last poll, by whichever VM.
fn note_rotation(
    host: &dyn Host,
    registry: &Registry,
    secret: &str,
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
    let rotations = registry.named(host, MetricKind::Counter, OWN_ROTATIONS.series(&[secret]));
    if let Some(rotations) = rotations {
        host.increment(rotations);
    }
    let not_after = before
        .last_chunk()
        .map(|bytes| UnixTime(i64::from_le_bytes(*bytes)));
    let margin = OWN_ROTATION_MARGIN.series(&[secret]);
    if let (Some(not_after), Some(margin)) = (
        not_after,
        registry.named(host, MetricKind::Histogram, margin),
    ) {
        host.record(margin, u64::try_from(not_after.since(now)).unwrap_or(0));
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
fn write_roster(host: &dyn Host, registry: &Registry, mut values: Values) {
    let (roster, _) = host.shared(ROSTER);
    let roster = String::from_utf8(roster.unwrap_or_default()).unwrap_or_default();
    for series in roster.lines() {
        values.set_0_if_absent(series);
    }
    write(host, registry, &values);
    let names = values.0.iter().take(MAX_ROSTER);
    let mut names: Vec<&str> = names.map(|(series, _)| series.as_str()).collect();
    names.sort_unstable();
    let names = names.join("\n");
    if names != roster {
        host.share(ROSTER, names.as_bytes(), Version(0));
    }
}

/// Every CA of the chains and bundles that is known in full, those of the chains first: a bundle can
/// have more than the directory holds.
fn cas(secrets: &[Secret]) -> impl Iterator<Item = &[u8]> {
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
