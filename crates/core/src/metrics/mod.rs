//! The catalogue of metrics, and the series made of it.

pub mod admission;
pub mod counters;
pub mod issuers;
pub mod name;
pub mod sightings;

use crate::host::MetricKind;

/// Label keys. No key is a suffix of another, because Envoy's tag regexes are not anchored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Label {
    /// `inbound`, `outbound`.
    Direction,
    /// Layer of the hierarchy.
    Layer,
    /// Security of a connection.
    Security,
    /// Status of a peer.
    Status,
    /// What is wrong with a certificate.
    Finding,
    /// Why a handshake failed.
    Reason,
    /// CA that signed the peer's leaf.
    Issuer,
    /// Identity of the peer, or name of a CA.
    Identity,
    /// Name of a secret of this proxy.
    Secret,
    /// A CA of the trust bundle.
    Ca,
    /// Version of the module.
    Version,
    /// Where a certificate was read.
    Source,
    /// `ok`, and what else there is.
    Result,
}

impl Label {
    /// All label keys.
    pub const ALL: [Label; 13] = [
        Label::Direction,
        Label::Layer,
        Label::Security,
        Label::Status,
        Label::Finding,
        Label::Reason,
        Label::Issuer,
        Label::Identity,
        Label::Secret,
        Label::Ca,
        Label::Version,
        Label::Source,
        Label::Result,
    ];

    /// The key.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Direction => "direction",
            Self::Layer => "layer",
            Self::Security => "security",
            Self::Status => "status",
            Self::Finding => "finding",
            Self::Reason => "reason",
            Self::Issuer => "issuer",
            Self::Identity => "identity",
            Self::Secret => "secret",
            Self::Ca => "ca",
            Self::Version => "version",
            Self::Source => "source",
            Self::Result => "result",
        }
    }

    /// Whether the values come from a closed set: words joined by single underscores, which stay the
    /// same whatever an exposition format makes of other characters.
    #[must_use]
    pub const fn is_closed(self) -> bool {
        !matches!(
            self,
            Self::Issuer | Self::Identity | Self::Secret | Self::Ca | Self::Version
        )
    }
}

/// A metric of the public interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    /// Name, as Prometheus sees it.
    pub name: &'static str,
    /// Kind.
    pub kind: MetricKind,
    /// Label keys, in the order of the encoding.
    pub labels: &'static [Label],
    /// What it counts or holds, with its unit.
    pub help: &'static str,
}

use Label::{
    Ca, Direction, Finding, Identity, Issuer, Layer, Reason, Result, Secret, Security, Source,
    Status,
};
use MetricKind::{Counter, Gauge, Histogram};

/// Connections, by security.
pub const CONNECTIONS: Metric = Metric {
    name: "mtls_connections_total",
    kind: Counter,
    labels: &[Direction, Security],
    help: "Connections inspected (network filter): mtls, tls (no peer certificate), plaintext, hbone",
};
/// Requests, by the peer's status.
pub const REQUESTS: Metric = Metric {
    name: "mtls_requests_total",
    kind: Counter,
    labels: &[Direction, Status],
    help: "Requests (HTTP filter) by the peer's status at that moment",
};
/// Findings per connection.
pub const CONNECTION_FINDINGS: Metric = Metric {
    name: "mtls_connection_findings_total",
    kind: Counter,
    labels: &[Direction, Layer, Finding],
    help: "Findings of the peer's certificates, per connection (network filter)",
};
/// Findings per request.
pub const REQUEST_FINDINGS: Metric = Metric {
    name: "mtls_request_findings_total",
    kind: Counter,
    labels: &[Direction, Layer, Finding],
    help: "Findings of the peer's certificates, per request (HTTP filter)",
};
/// Handshakes that did not complete.
pub const HANDSHAKE_FAILURES: Metric = Metric {
    name: "mtls_handshake_failures_total",
    kind: Counter,
    labels: &[Direction, Layer, Reason],
    help: "Handshakes that did not complete, by cause (network filter; outbound also HTTP filter); layer none where no certificate is concerned",
};
/// Connections by the CA that signed the leaf.
pub const CONNECTIONS_BY_ISSUER: Metric = Metric {
    name: "mtls_connections_by_issuer_total",
    kind: Counter,
    labels: &[Direction, Issuer],
    help: "Connections by the CA that signed the peer's leaf (network filter)",
};
/// Last sight of a CA's signature.
pub const ISSUER_LAST_SEEN: Metric = Metric {
    name: "mtls_issuer_last_seen_timestamp_seconds",
    kind: Gauge,
    labels: &[Direction, Issuer],
    help: "Unix time at which a leaf signed by this CA was last in use",
};
/// Earliest end of validity of an identity.
pub const NOT_AFTER: Metric = Metric {
    name: "mtls_peer_certificate_not_after_timestamp_seconds",
    kind: Gauge,
    labels: &[Direction, Layer, Identity],
    help: "Earliest not-after (Unix time) among the certificates seen from this identity in the last 15 minutes, over all workers",
};
/// Start of validity of the same certificate.
pub const NOT_BEFORE: Metric = Metric {
    name: "mtls_peer_certificate_not_before_timestamp_seconds",
    kind: Gauge,
    labels: &[Direction, Layer, Identity],
    help: "Not-before (Unix time) of the certificate that gives the not-after",
};
/// Last sight of an identity.
pub const LAST_SEEN: Metric = Metric {
    name: "mtls_peer_certificate_last_seen_timestamp_seconds",
    kind: Gauge,
    labels: &[Direction, Layer, Identity],
    help: "Unix time at which a certificate of this identity was last in use; tells a workload that is gone from one about to expire",
};
/// Remaining lifetime of leaves.
pub const REMAINING: Metric = Metric {
    name: "mtls_peer_certificate_remaining_seconds",
    kind: Histogram,
    labels: &[Direction],
    help: "Remaining lifetime in seconds of the peer's leaf at each connection (HTTP filter alone: at each new certificate); expired: 0",
};
/// End of validity of this proxy's own certificates.
pub const OWN_NOT_AFTER: Metric = Metric {
    name: "mtls_own_certificate_not_after_timestamp_seconds",
    kind: Gauge,
    labels: &[Layer, Secret, Identity],
    help: "Not-after (Unix time) of every certificate of this proxy's own chain and trust bundle (needs hierarchy)",
};
/// Start of validity of this proxy's own certificates.
pub const OWN_NOT_BEFORE: Metric = Metric {
    name: "mtls_own_certificate_not_before_timestamp_seconds",
    kind: Gauge,
    labels: &[Layer, Secret, Identity],
    help: "Not-before (Unix time) of the same certificate: with not-after its lifetime, by which a stalled rotation is told",
};
/// Whether a certificate of this proxy is still there.
pub const OWN_PRESENT: Metric = Metric {
    name: "mtls_own_certificate_present",
    kind: Gauge,
    labels: &[Layer, Secret, Identity],
    help: "1 while the certificate is in this proxy's chain or trust bundle, 0 once it has left",
};
/// Findings of this proxy's own certificates.
pub const OWN_FINDINGS: Metric = Metric {
    name: "mtls_own_findings",
    kind: Gauge,
    labels: &[Layer, Secret, Finding],
    help: "Number of this proxy's own certificates with the finding now (needs hierarchy)",
};
/// Replacements of this proxy's own leaf.
pub const OWN_ROTATIONS: Metric = Metric {
    name: "mtls_own_rotations_total",
    kind: Counter,
    labels: &[Secret],
    help: "Own leaf replaced (needs hierarchy)",
};
/// How late the own leaf is replaced.
pub const OWN_ROTATION_MARGIN: Metric = Metric {
    name: "mtls_own_rotation_margin_seconds",
    kind: Histogram,
    labels: &[Secret],
    help: "Seconds that the old leaf had left when it was replaced; expired: 0 (needs hierarchy)",
};
/// The anchor of this proxy's own chain.
pub const OWN_TRUST_ANCHOR: Metric = Metric {
    name: "mtls_own_trust_anchor",
    kind: Gauge,
    labels: &[Secret, Ca],
    help: "1 for the CA of the trust bundle that stands above this proxy's own chain, 0 once it does no more; ca none: no CA of the bundle does",
};
/// CAs of this proxy's trust bundle.
pub const TRUST_BUNDLE_CA: Metric = Metric {
    name: "mtls_trust_bundle_ca",
    kind: Gauge,
    labels: &[Ca],
    help: "1 while the CA is in this proxy's trust bundle, 0 once it has left (needs hierarchy)",
};
/// The module itself.
pub const INFO: Metric = Metric {
    name: "mtls_watch_info",
    kind: Gauge,
    labels: &[Label::Version],
    help: "1; the version of the module that is loaded",
};
/// Errors of the plugin configuration.
pub const CONFIGURATION_ERRORS: Metric = Metric {
    name: "mtls_watch_configuration_errors",
    kind: Gauge,
    labels: &[],
    help: "Errors in the plugin configuration that was loaded last, each with a log line; what is wrong has its default. Of several plugin configurations in one proxy, only the last one loaded is told",
};
/// Certificates read.
pub const INSPECTIONS: Metric = Metric {
    name: "mtls_watch_inspections_total",
    kind: Counter,
    labels: &[Source, Result],
    help: "Certificates read, by source, and whether they could be read",
};
/// Polls of the admin interface.
pub const HIERARCHY_POLLS: Metric = Metric {
    name: "mtls_watch_hierarchy_polls_total",
    kind: Counter,
    labels: &[Result],
    help: "Polls of this proxy's admin interface",
};
/// Identities and CAs without a series of their own.
pub const SERIES_OVERFLOW: Metric = Metric {
    name: "mtls_watch_series_overflow_total",
    kind: Counter,
    labels: &[],
    help: "Identities or CAs folded into the series \"other\", at each new certificate of theirs",
};

/// Every metric of this version.
pub const CATALOGUE: [Metric; 24] = [
    CONNECTIONS,
    REQUESTS,
    CONNECTION_FINDINGS,
    REQUEST_FINDINGS,
    HANDSHAKE_FAILURES,
    CONNECTIONS_BY_ISSUER,
    ISSUER_LAST_SEEN,
    NOT_AFTER,
    NOT_BEFORE,
    LAST_SEEN,
    REMAINING,
    OWN_NOT_AFTER,
    OWN_NOT_BEFORE,
    OWN_PRESENT,
    OWN_FINDINGS,
    OWN_ROTATIONS,
    OWN_ROTATION_MARGIN,
    OWN_TRUST_ANCHOR,
    TRUST_BUNDLE_CA,
    INFO,
    CONFIGURATION_ERRORS,
    INSPECTIONS,
    HIERARCHY_POLLS,
    SERIES_OVERFLOW,
];

impl Metric {
    /// Name of one series in Istio's encoding: `key=.=value;.;` for each label, then the metric's
    /// name. `values` go with [`Metric::labels`].
    #[must_use]
    pub fn series(&self, values: &[&str]) -> String {
        let mut series = String::with_capacity(128);
        for (label, value) in self.labels.iter().zip(values) {
            series.push_str(label.as_str());
            series.push_str("=.=");
            series.push_str(&name::label_value(value));
            series.push_str(";.;");
        }
        series.push_str(self.name);
        series
    }
}

/// The regex by which Envoy turns an encoded label into a tag: group 1 is cut out of the name,
/// group 2 is the value.
#[must_use]
pub fn tag_regex(label: Label) -> String {
    format!(r"({}=\.=(.*?);\.;)", label.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodes_labels_before_the_name() {
        assert_eq!(
            NOT_AFTER.series(&["inbound", "workload", "spiffe://a/b c"]),
            "direction=.=inbound;.;layer=.=workload;.;identity=.=spiffe://a/b_c;.;mtls_peer_certificate_not_after_timestamp_seconds"
        );
        assert_eq!(
            SERIES_OVERFLOW.series(&[]),
            "mtls_watch_series_overflow_total"
        );
    }

    #[test]
    fn no_key_is_a_suffix_of_another() {
        for a in Label::ALL {
            for b in Label::ALL {
                assert!(a == b || !a.as_str().ends_with(b.as_str()), "{a:?} {b:?}");
            }
        }
    }
}
