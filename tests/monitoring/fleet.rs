//! Alerts and dashboard, as they are, with a real Prometheus that scrapes real Envoys.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, ensure};
use testbed::stats::{Series, eventually};
use testbed::{Fleet, Prometheus};

use crate::dashboard;
use crate::files::alerts;

/// Polls, ticks, scrapes and evaluations, on a machine that is busy with other tests.
const DEADLINE: Duration = Duration::from_secs(60);

/// Every alert can be provoked within a minute, with `for` shortened ([`Fleet::prometheus`] does it):
/// certificates are issued with the past that they need. All other alerts must be silent.
const FIRING: [&str; 33] = [
    "MtlsCertificateOutlivesIssuer warning inbound peer workload legacy outlives_issuer",
    "MtlsCertificateOutlivesIssuer warning own workload Old_CA bank ledger outlives_issuer",
    "MtlsCertificateUnsound warning inbound peer workload legacy weak_key",
    "MtlsCertificateUnsound warning own workload Old_CA bank ledger spiffe_id_invalid",
    "MtlsClientAuthMissing critical own workload Old_CA legacy legacy client_auth_missing",
    "MtlsClientAuthMissing warning outbound peer workload legacy client_auth_missing",
    "MtlsHandshakeRefused warning inbound peer issuing_ca legacy unknown_ca",
    "MtlsHandshakeRefused warning inbound peer none legacy no_certificate",
    "MtlsHandshakeRefused warning inbound peer workload legacy client_auth_missing",
    "MtlsHandshakeRefused warning inbound peer workload legacy expired",
    "MtlsHierarchyUnreadable warning edge",
    "MtlsIntermediateCaExpiring critical own intermediate_ca Edge_CA",
    "MtlsIntermediateCaExpiring warning own intermediate_ca Edge_CA",
    "MtlsIssuingCaExpiring critical own issuing_ca Old_CA",
    "MtlsIssuingCaExpiring warning own issuing_ca Old_CA",
    "MtlsOldCaInUse warning Old_CA",
    "MtlsPeersNotInspected info edge",
    "MtlsPeersNotInspected warning inbound workload bank unreadable",
    "MtlsPlaintextRefused warning bank",
    "MtlsPlaintextUnderStrict critical bank ledger",
    "MtlsRootCaExpiring critical own root_ca Legacy_Root_CA",
    "MtlsRootCaExpiring warning own root_ca Legacy_Root_CA",
    "MtlsRotationStalled warning own workload spiffe://cluster.local/ns/legacy/sa/mainframe",
    "MtlsRotationStalled warning peer workload spiffe://cluster.local/ns/legacy/sa/pay",
    "MtlsSeriesOverflow info legacy",
    "MtlsWatchAbsent warning night",
    "MtlsWatchConfigurationError warning edge",
    "MtlsWatchDown warning night",
    "MtlsWatchDuplicatePlugins info edge",
    "MtlsWorkloadCertificateExpiring critical own workload spiffe://cluster.local/ns/bank/sa/ledger",
    "MtlsWorkloadCertificateExpiring critical own workload spiffe://cluster.local/ns/legacy/sa/mainframe",
    "MtlsWorkloadCertificateExpiring critical peer workload spiffe://cluster.local/ns/legacy/sa/pay",
    "MtlsWorkloadCertificateExpiring warning own workload spiffe://cluster.local/ns/bank/sa/ledger",
];

/// One fleet for all that is to be seen of it: it takes longer to start than to look at.
#[test]
fn is_alerted_on_and_shown() -> Result<()> {
    let mut fleet = Fleet::start()?;
    let prometheus = fleet.prometheus()?;
    fleet.drive()?;
    exactly_the_expected_alerts_fire(&mut fleet, &prometheus)?;
    dashboard::shows(&fleet, &prometheus)
}

fn exactly_the_expected_alerts_fire(fleet: &mut Fleet, prometheus: &Prometheus) -> Result<()> {
    prometheus.wait_for("mtls_watch_info", |found| {
        found.len() == fleet.proxies().len()
    })?;
    fleet.lose_module()?;
    eventually(DEADLINE, || {
        let alerts = prometheus.query("ALERTS{alertstate=\"firing\"}")?;
        let mut firing: Vec<String> = alerts.iter().map(described).collect();
        firing.sort();
        ensure!(firing == FIRING, "{firing:#?}");
        Ok(())
    })
}

/// The alert and those of its labels that tell it from others; CAs without the digits of their keys,
/// which are others each time.
fn described(alert: &Series) -> String {
    let without_key = |text: &str| match text.rsplit_once(':') {
        Some((name, key)) if key.len() == 8 => name.to_owned(),
        _ => text.to_owned(),
    };
    let words = LABELS.map(|label| without_key(alert.label(label)));
    let words = words.into_iter().filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join(" ")
}

const LABELS: [&str; 12] = [
    "alertname",
    "severity",
    "direction",
    "holder",
    "layer",
    "identity",
    "ca",
    "namespace",
    "workload",
    "secret",
    "finding",
    "reason",
];

/// Those that must stay silent here. Whoever is refused for an unknown CA is a stranger, whose CA has the name of a
/// trusted one: `make drill` provokes that alert. No VM dies here: `dead.rs`. Nor has a proxy Istio's agent:
/// `tests/mesh`. All are in envoy-config/prometheus/tests, too.
const ELSEWHERE: [&str; 3] = [
    "MtlsCardinalRuleBroken critical",
    "MtlsWatchDead warning",
    "MtlsWatchNotDelivered warning",
];

/// A proxy with an overdue list refuses everyone. tests/hierarchy provokes their series on a real Envoy, and
/// envoy-config/prometheus/tests the alerts.
const OF_REVOCATION: [&str; 3] = [
    "MtlsCrlExpiring critical",
    "MtlsCrlExpiring warning",
    "MtlsOwnCertificateRevoked critical",
];

#[test]
fn every_alert_is_provoked() {
    let first_two = |text: &str| text.splitn(3, ' ').take(2).collect::<Vec<_>>().join(" ");
    let mut provoked: BTreeSet<String> = FIRING.iter().map(|alert| first_two(alert)).collect();
    provoked.extend(ELSEWHERE.map(str::to_owned));
    provoked.extend(OF_REVOCATION.map(str::to_owned));
    let all = alerts();
    let all = all
        .iter()
        .map(|rule| format!("{} {}", rule.alert().unwrap_or_default(), rule.severity()));
    assert_eq!(provoked, all.collect());
}
