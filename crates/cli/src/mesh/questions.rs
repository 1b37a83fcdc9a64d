//! What is asked besides what the proxies hold.

use exposition::Sample;
use mtls_watch_core::metrics::{
    CONNECTION_FINDINGS, CONNECTIONS_BY_TRUST_DOMAIN, INFO, OWN_FINDINGS, REQUEST_FINDINGS,
};

use super::store::BY_PROXY;
use crate::prometheus::{Prometheus, QueryError};

/// Envoy's own gauge, of every proxy.
const LIVE: &str = "envoy_server_live";
/// A finding of a peer that was met within this time is one now.
const RECENTLY: &str = "15m";

/// What Prometheus says to it.
pub(crate) struct Answers {
    /// Findings of proxies' own certificates: how many certificates and how many proxies, by the label `what`.
    pub(crate) own: Vec<Sample>,
    /// Some of those proxies.
    pub(crate) examples: Vec<Sample>,
    /// Findings of peers: how many proxies have met some lately.
    pub(crate) peers: Vec<Sample>,
    /// Whom each proxy has met, by trust domain.
    pub(crate) met: Vec<Sample>,
    /// Proxies with and without the module, by namespace and the label `what`.
    pub(crate) coverage: Vec<Sample>,
}

impl Answers {
    /// Asks.
    ///
    /// # Errors
    /// [`QueryError`].
    pub(crate) fn ask(prometheus: &Prometheus<'_>) -> Result<Self, QueryError> {
        let labelled = |what: &str, expression: &str| {
            format!("label_replace({expression}, \"what\", \"{what}\", \"\", \"\")")
        };
        let own = format!("{} > 0", OWN_FINDINGS.description.name);
        let of_proxies = format!("max by ({BY_PROXY}, layer, finding) ({own})");
        let counts = [
            labelled("certificates", &format!("sum by (layer, finding) ({own})")),
            labelled(
                "proxies",
                &format!("count by (layer, finding) ({of_proxies})"),
            ),
        ];
        let examples = format!("topk by (layer, finding) (3, {of_proxies})");
        let lately = [&CONNECTION_FINDINGS, &REQUEST_FINDINGS].map(|metric| {
            let name = metric.description.name;
            let before = format!("{name} offset {RECENTLY}");
            format!("({name} - {before} > 0 or ({name} > 0 unless {before}))")
        });
        let peers = format!(
            "count by (direction, layer, finding) (max by ({BY_PROXY}, direction, layer, finding) ({}))",
            lately.join(" or ")
        );
        let met = CONNECTIONS_BY_TRUST_DOMAIN.description.name;
        let met = format!("max by ({BY_PROXY}, direction, trust_domain) ({met} > 0)");
        let live = format!("max by ({BY_PROXY}) ({LIVE})");
        let without = format!("{live} unless on ({BY_PROXY}) {}", INFO.description.name);
        let by_namespace = |proxies: &str| format!("count by (cluster, namespace) ({proxies})");
        let coverage = [
            labelled("all", &by_namespace(&live)),
            labelled("without", &by_namespace(&without)),
        ];
        let [own, examples, peers, met, coverage] = prometheus.query([
            &counts.join(" or "),
            &examples,
            &peers,
            &met,
            &coverage.join(" or "),
        ])?;
        Ok(Self {
            own,
            examples,
            peers,
            met,
            coverage,
        })
    }
}
