//! What the sidecars say of their peers, in their own series.
//!
//! The counters are by finding, status and issuer, not by identity: a mesh has many of those. To
//! tell who is who all the same, the workloads have their turns one after another; what a scrape
//! after a turn counts more than the one before it belongs to the workload whose turn it was. Its
//! identity is that of the gauges that are new.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use testbed::Stats;
use testbed::progress::was_interrupted;
use testbed::stats::{DEADLINE, Series, eventually};

use crate::mesh::Mesh;
use crate::table::Row;
use crate::workloads::Workload;

/// Requests by status.
pub const REQUESTS: &str = "mtls_requests_total";
/// Findings by layer, per request.
pub const REQUEST_FINDINGS: &str = "mtls_request_findings_total";
/// The end of each identity's certificate.
pub const NOT_AFTER: &str = "mtls_peer_certificate_not_after_timestamp_seconds";
const CONNECTION_FINDINGS: &str = "mtls_connection_findings_total";
const ISSUERS: &str = "mtls_connections_by_issuer_total";

/// Gives `workload` its turn. Returns the certificates that a sidecar saw for the first time.
///
/// # Errors
/// If the traffic fails, is not counted in time, or the demo was interrupted.
pub fn turn(mesh: &Mesh, workload: &Workload) -> Result<Vec<Row>> {
    let before = scrape(mesh)?;
    let sent = mesh.drive(workload)?;
    let counted = eventually(DEADLINE, || {
        if was_interrupted() {
            return Ok(None);
        }
        let after = scrape(mesh)?;
        let changes = before.iter().zip(&after);
        let changes = changes.map(|(before, after)| Change { before, after });
        let changes: Vec<Change> = changes.collect();
        let requests: u64 = changes
            .iter()
            .map(|change| change.rise(REQUESTS, &[]))
            .sum();
        ensure!(requests == sent, "{requests} of {sent} requests counted");
        Ok(Some(changes.iter().flat_map(Change::rows).collect()))
    });
    counted?.context("interrupted")
}

fn scrape(mesh: &Mesh) -> Result<Vec<Stats>> {
    let sidecars = mesh.sidecars().into_iter();
    sidecars.map(|sidecar| sidecar.envoy.stats()).collect()
}

/// Two scrapes of one sidecar.
struct Change<'a> {
    before: &'a Stats,
    after: &'a Stats,
}

impl Change<'_> {
    fn rows(&self) -> Vec<Row> {
        let certificates = self.after.matching(NOT_AFTER, &[]);
        let new = certificates.filter(|series| self.value_before(series).is_none());
        new.map(|series| self.row(series)).collect()
    }

    fn row(&self, certificate: &Series) -> Row {
        let layer = ("layer", certificate.label("layer"));
        let direction = ("direction", certificate.label("direction"));
        let is_leaf = layer.1 == "workload";
        let mut findings = self.risen(REQUEST_FINDINGS, &[direction, layer], "finding");
        findings.extend(self.risen(CONNECTION_FINDINGS, &[direction, layer], "finding"));
        Row {
            direction: direction.1.to_owned(),
            identity: certificate.label("identity").to_owned(),
            layer: layer.1.to_owned(),
            // Which CA signed another is in no series.
            issuer: is_leaf.then(|| joined(&self.risen(ISSUERS, &[direction], "issuer"))),
            not_after: certificate.value as i64,
            // A request has the status of the peer's whole chain. A CA of it in which nothing was
            // found has no part in that.
            status: match is_leaf || !findings.is_empty() {
                true => joined(&self.risen(REQUESTS, &[direction], "status")),
                false => "ok".to_owned(),
            },
            findings,
            requests: is_leaf.then(|| self.rise(REQUESTS, &[direction])),
        }
    }

    /// How much the sum of these counters has risen.
    fn rise(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        (self.after.sum(name, labels) - self.before.sum(name, labels)) as u64
    }

    /// The values of the label `key` of those of these counters that have risen.
    fn risen(&self, name: &str, labels: &[(&str, &str)], key: &str) -> BTreeSet<String> {
        let counters = self.after.matching(name, labels);
        let risen = counters.filter(|now| now.value > self.value_before(now).unwrap_or(0.0));
        risen.map(|series| series.label(key).to_owned()).collect()
    }

    fn value_before(&self, series: &Series) -> Option<f64> {
        let mut before = self.before.matching(&series.name, &[]);
        let same = before.find(|before| before.labels == series.labels);
        same.map(|series| series.value)
    }
}

fn joined(values: &BTreeSet<String>) -> String {
    let values: Vec<&str> = values.iter().map(String::as_str).collect();
    values.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = r#"
mtls_requests_total{direction="inbound",status="ok"} 4
mtls_request_findings_total{direction="inbound",layer="workload",finding="weak_key"} 2
mtls_peer_certificate_not_after_timestamp_seconds{direction="inbound",layer="workload",identity="old"} 5
"#;
    const AFTER: &str = r#"
mtls_requests_total{direction="inbound",status="ok"} 4
mtls_requests_total{direction="inbound",status="warning"} 3
mtls_requests_total{direction="outbound",status="ok"} 1
mtls_request_findings_total{direction="inbound",layer="workload",finding="weak_key"} 2
mtls_connection_findings_total{direction="inbound",layer="issuing_ca",finding="expires_warning"} 1
mtls_connections_by_issuer_total{direction="inbound",issuer="CA:1"} 1
mtls_peer_certificate_not_after_timestamp_seconds{direction="inbound",layer="workload",identity="old"} 5
mtls_peer_certificate_not_after_timestamp_seconds{direction="inbound",layer="workload",identity="new"} 6
mtls_peer_certificate_not_after_timestamp_seconds{direction="inbound",layer="issuing_ca",identity="CA:1"} 7
mtls_peer_certificate_not_after_timestamp_seconds{direction="inbound",layer="root_ca",identity="CA:2"} 8
"#;

    #[test]
    fn what_is_new_belongs_to_the_certificates_that_are_new() -> Result<()> {
        let (before, after) = (Stats::parse(BEFORE)?, Stats::parse(AFTER)?);
        let change = Change {
            before: &before,
            after: &after,
        };
        let row = |identity: &str, layer: &str, not_after, status: &str| Row {
            direction: "inbound".to_owned(),
            identity: identity.to_owned(),
            layer: layer.to_owned(),
            issuer: None,
            not_after,
            status: status.to_owned(),
            findings: BTreeSet::new(),
            requests: None,
        };
        let expected = [
            Row {
                issuer: Some("CA:1".to_owned()),
                requests: Some(3),
                ..row("new", "workload", 6, "warning")
            },
            Row {
                findings: ["expires_warning".to_owned()].into(),
                ..row("CA:1", "issuing_ca", 7, "warning")
            },
            row("CA:2", "root_ca", 8, "ok"),
        ];
        assert_eq!(change.rows(), expected);
        Ok(())
    }
}
