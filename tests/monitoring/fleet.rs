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
const FIRING: [&str; 40] = [
    "MtlsCertificateOutlivesIssuer warning inbound workload legacy outlives_issuer",
    "MtlsCertificateOutlivesIssuer warning own workload ledger outlives_issuer",
    "MtlsCertificateUnsound warning inbound workload legacy weak_key",
    "MtlsCertificateUnsound warning own workload ledger spiffe_id_invalid",
    "MtlsClientAuthMissing critical own workload legacy client_auth_missing",
    "MtlsClientAuthMissing warning outbound workload legacy client_auth_missing",
    "MtlsHandshakeRefused warning inbound issuing_ca legacy unknown_ca",
    "MtlsHandshakeRefused warning inbound none legacy no_certificate",
    "MtlsHandshakeRefused warning inbound workload legacy client_auth_missing",
    "MtlsHandshakeRefused warning inbound workload legacy expired",
    "MtlsHierarchyUnreadable warning waypoint",
    "MtlsIntermediateCaExpiring critical own intermediate_ca Edge_CA",
    "MtlsIntermediateCaExpiring critical peer intermediate_ca Edge_CA",
    "MtlsIntermediateCaExpiring warning own intermediate_ca Edge_CA",
    "MtlsIntermediateCaExpiring warning peer intermediate_ca Edge_CA",
    "MtlsIssuingCaExpiring critical own issuing_ca Old_CA",
    "MtlsIssuingCaExpiring critical peer issuing_ca Old_CA",
    "MtlsIssuingCaExpiring warning own issuing_ca Old_CA",
    "MtlsIssuingCaExpiring warning peer issuing_ca Old_CA",
    "MtlsOldCaInUse warning Old_CA",
    "MtlsPeersNotInspected info inbound waypoint hbone",
    "MtlsPeersNotInspected info inbound waypoint hbone",
    "MtlsPeersNotInspected warning inbound workload ledger unreadable",
    "MtlsPlaintextRefused warning ledger",
    "MtlsPlaintextUnderStrict critical inbound ledger plaintext",
    "MtlsRootCaExpiring critical own root_ca Legacy_Root_CA",
    "MtlsRootCaExpiring critical peer root_ca Legacy_Root_CA",
    "MtlsRootCaExpiring warning own root_ca Legacy_Root_CA",
    "MtlsRootCaExpiring warning peer root_ca Legacy_Root_CA",
    "MtlsRotationStalled warning own workload spiffe://cluster.local/ns/legacy/sa/mainframe",
    "MtlsRotationStalled warning peer workload spiffe://cluster.local/ns/legacy/sa/pay",
    "MtlsSeriesOverflow info legacy",
    "MtlsWatchAbsent critical night",
    "MtlsWatchConfigurationError warning waypoint",
    "MtlsWatchDown warning night",
    "MtlsWatchDuplicatePlugins info waypoint",
    "MtlsWorkloadCertificateExpiring critical own workload spiffe://cluster.local/ns/legacy/sa/mainframe",
    "MtlsWorkloadCertificateExpiring critical peer workload spiffe://cluster.local/ns/legacy/sa/pay",
    "MtlsWorkloadCertificateExpiring warning own workload spiffe://cluster.local/ns/legacy/sa/mainframe",
    "MtlsWorkloadCertificateExpiring warning peer workload spiffe://cluster.local/ns/legacy/sa/pay",
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
    let key = |text: &str| {
        text.rsplit_once(':').map_or_else(
            || text.to_owned(),
            |(name, key)| {
                if key.len() == 8 {
                    name.to_owned()
                } else {
                    text.to_owned()
                }
            },
        )
    };
    let holder = if alert.label("direction").is_empty() {
        "holder"
    } else {
        "direction"
    };
    let who = if alert.label("instance").is_empty() {
        ["identity", "ca"]
    } else {
        ["instance", ""]
    };
    let namespace = if alert.label("instance").is_empty() {
        "namespace"
    } else {
        ""
    };
    let mut words = vec![alert.label("alertname"), alert.label("severity")];
    words.extend([holder, "layer", who[0], who[1], namespace].map(|label| alert.label(label)));
    words.extend(["finding", "reason", "security", "status"].map(|label| alert.label(label)));
    words.retain(|word| !word.is_empty());
    words.into_iter().map(key).collect::<Vec<_>>().join(" ")
}

/// The one that must stay silent here: whoever is refused for an unknown CA is a stranger, whose CA has the name of a
/// trusted one. `make drill` and envoy-config/prometheus/tests provoke it.
const OF_A_ROTATION: &str = "MtlsCardinalRuleBroken critical";

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
    provoked.insert(OF_A_ROTATION.to_owned());
    provoked.extend(OF_REVOCATION.map(str::to_owned));
    let all = alerts();
    let all = all
        .iter()
        .map(|rule| format!("{} {}", rule.alert().unwrap_or_default(), rule.severity()));
    assert_eq!(provoked, all.collect());
}
