//! The catalogue of metrics, and the series made of it.

pub mod admission;
pub mod counters;
pub mod duplicates;
pub mod heartbeat;
pub mod in_force;
pub mod issuers;
mod labels;
pub mod name;
pub mod presence;
pub mod sightings;
pub mod trust_domains;

use std::marker::PhantomData;

use strum::{IntoStaticStr, VariantArray};

use crate::handshake::{Holder, Reason};
use crate::host::MetricKind;
use crate::terms::{Direction, Finding, Layer, Security, Source, Status};

pub use labels::{
    Ca, Certificate, Identity, Issuer, Labels, PollResult, ReadResult, Secret, TrustDomain,
    Version, write_label,
};

/// Label keys. No key is a suffix of another, because Envoy's tag regexes are not anchored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
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
    /// Whose thing must be changed for a refused handshake to succeed.
    Holder,
    /// Why a handshake failed.
    Reason,
    /// CA that signed the peer's leaf.
    Issuer,
    /// Identity of the peer, or name of a CA.
    Identity,
    /// Name of a secret of this proxy.
    Secret,
    /// A CA of a trust bundle, or above an own certificate.
    Ca,
    /// One of several certificates of a CA.
    Certificate,
    /// SPIFFE trust domain of a peer.
    TrustDomain,
    /// Version of the module.
    Version,
    /// Where a certificate was read.
    Source,
    /// `ok`, and what else there is.
    Result,
}

impl Label {
    /// All label keys.
    pub const ALL: &'static [Self] = Self::VARIANTS;

    /// The key.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// Whether the values come from a closed set: words joined by single underscores, which stay the
    /// same whatever an exposition format makes of other characters.
    #[must_use]
    pub const fn is_closed(self) -> bool {
        !matches!(
            self,
            Self::Issuer
                | Self::Identity
                | Self::Secret
                | Self::Ca
                | Self::Certificate
                | Self::TrustDomain
                | Self::Version
        )
    }
}

/// A metric of the public interface, with the values of its labels as the type `L`.
#[derive(Debug)]
pub struct Metric<L> {
    /// What it is, whatever its labels.
    pub description: Description,
    labels: PhantomData<fn() -> L>,
}

/// What is documented of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Description {
    /// Name, as Prometheus sees it.
    pub name: &'static str,
    /// Kind.
    pub kind: MetricKind,
    /// Label keys, in the order of the encoding.
    pub labels: &'static [Label],
    /// What it counts or holds, with its unit.
    pub help: &'static str,
}

impl<L: Labels> Metric<L> {
    const fn new(kind: MetricKind, name: &'static str, help: &'static str) -> Self {
        Self {
            description: Description {
                name,
                kind,
                labels: L::KEYS,
                help,
            },
            labels: PhantomData,
        }
    }

    const fn counter(name: &'static str, help: &'static str) -> Self {
        Self::new(MetricKind::Counter, name, help)
    }

    const fn gauge(name: &'static str, help: &'static str) -> Self {
        Self::new(MetricKind::Gauge, name, help)
    }

    const fn histogram(name: &'static str, help: &'static str) -> Self {
        Self::new(MetricKind::Histogram, name, help)
    }

    /// Name of one series in Istio's encoding: `key=.=value;.;` for each label, then the metric's name.
    #[must_use]
    pub fn series(&self, labels: L) -> String {
        let mut series = String::with_capacity(TYPICAL_SERIES_BYTES);
        labels.write(&mut series);
        series.push_str(self.description.name);
        series
    }
}

/// Room for the name of nearly every series.
const TYPICAL_SERIES_BYTES: usize = 128;

/// Connections, by security.
pub const CONNECTIONS: Metric<(Direction, Security)> = Metric::counter(
    "mtls_connections_total",
    "Connections inspected (network filter): mtls, tls (the client has no certificate), plaintext, hbone",
);
/// Requests, by the peer's status.
pub const REQUESTS: Metric<(Direction, Status)> = Metric::counter(
    "mtls_requests_total",
    "Requests (HTTP filter) by the peer's status at that moment; refused: the server's handshake was refused by either side, the request never got through",
);
/// Findings per connection.
pub const CONNECTION_FINDINGS: Metric<(Direction, Layer, Finding)> = Metric::counter(
    "mtls_connection_findings_total",
    "Findings of the peer's certificates, per connection (network filter)",
);
/// Findings per request.
pub const REQUEST_FINDINGS: Metric<(Direction, Layer, Finding)> = Metric::counter(
    "mtls_request_findings_total",
    "Findings of the peer's certificates, per request (HTTP filter)",
);
/// Findings that the operator accepts.
pub const IGNORED_FINDINGS: Metric<(Direction, Layer, Finding)> = Metric::counter(
    "mtls_watch_ignored_findings_total",
    "Findings of the peer's certificates that the key ignore accepts, per connection (HTTP filter alone: per connection of a client, per new certificate of a server)",
);
/// Connections by the trust domain of the peer.
pub const CONNECTIONS_BY_TRUST_DOMAIN: Metric<(Direction, TrustDomain<'static>)> = Metric::counter(
    "mtls_connections_by_trust_domain_total",
    "Connections by the SPIFFE trust domain of the peer (network filter); the first 20 of a proxy, then other",
);
/// Handshakes that did not complete.
pub const HANDSHAKE_FAILURES: Metric<(Direction, Option<Layer>, Holder, Reason)> = Metric::counter(
    "mtls_handshake_failures_total",
    "Handshakes that did not complete, by cause (network filter; outbound also HTTP filter); layer none where no certificate is concerned; holder: whose thing must be changed. One count is one connection with a client, one TCP connection with a server, or one request: requests that wait for the same handshake count one each, attempts that are repeated count once",
);
/// Connections by the CA that signed the leaf.
pub const CONNECTIONS_BY_ISSUER: Metric<(Direction, Issuer<'static>)> = Metric::counter(
    "mtls_connections_by_issuer_total",
    "Connections by the CA that signed the peer's leaf (network filter)",
);
/// Last sight of a CA's signature.
pub const ISSUER_LAST_SEEN: Metric<(Direction, Issuer<'static>)> = Metric::gauge(
    "mtls_issuer_last_seen_timestamp_seconds",
    "Unix time at which a leaf signed by this CA was last in use",
);
/// Earliest end of validity of an identity.
pub const NOT_AFTER: Metric<(Direction, Layer, Identity<'static>)> = Metric::gauge(
    "mtls_peer_certificate_not_after_timestamp_seconds",
    "Earliest not-after (Unix time) among the certificates that this identity presents, of those in use in the last 15 minutes, over all workers; a leaf that the same workload instance has replaced does not count, even while an old connection holds it",
);
/// Start of validity of the same certificate.
pub const NOT_BEFORE: Metric<(Direction, Layer, Identity<'static>)> = Metric::gauge(
    "mtls_peer_certificate_not_before_timestamp_seconds",
    "Not-before (Unix time) of the certificate that gives the not-after",
);
/// Last sight of an identity.
pub const LAST_SEEN: Metric<(Direction, Layer, Identity<'static>)> = Metric::gauge(
    "mtls_peer_certificate_last_seen_timestamp_seconds",
    "Unix time at which a certificate of this identity was last in use; distinguishes a workload that is gone from one about to expire",
);
/// Remaining lifetime of leaves.
pub const REMAINING: Metric<(Direction,)> = Metric::histogram(
    "mtls_peer_certificate_remaining_seconds",
    "Remaining lifetime in seconds of the peer's leaf at each connection (HTTP filter alone: at each new certificate); expired: 0",
);
/// Labels of a certificate of this proxy. The layer is not known of a CA of which Envoy tells the dates
/// only; a leaf has no certificate label, for it changes with every rotation.
pub type OwnLabels<'a> = (
    Option<Layer>,
    Secret<'a>,
    Identity<'a>,
    Option<Certificate<'a>>,
);

/// End of validity of this proxy's own certificates.
pub const OWN_NOT_AFTER: Metric<OwnLabels<'static>> = Metric::gauge(
    "mtls_own_certificate_not_after_timestamp_seconds",
    "Not-after (Unix time) of every certificate of this proxy's own chains and trust bundles that signs there or is trusted; layer none: a CA of which Envoy tells the dates only (needs hierarchy)",
);
/// Start of validity of this proxy's own certificates.
pub const OWN_NOT_BEFORE: Metric<OwnLabels<'static>> = Metric::gauge(
    "mtls_own_certificate_not_before_timestamp_seconds",
    "Not-before (Unix time) of the same certificate: with not-after it gives the lifetime, by which a stalled rotation is detected",
);
/// Whether a certificate of this proxy is still there.
pub const OWN_PRESENT: Metric<OwnLabels<'static>> = Metric::gauge(
    "mtls_own_certificate_present",
    "1 while the certificate is in this proxy's chain or trust bundle, 0 once it has left",
);
/// Findings of this proxy's own certificates.
pub const OWN_FINDINGS: Metric<(Option<Layer>, Secret<'static>, Finding)> = Metric::gauge(
    "mtls_own_findings",
    "Number of this proxy's own certificates with the finding now (needs hierarchy)",
);
/// Findings of this proxy's own certificates that the operator accepts.
pub const OWN_IGNORED_FINDINGS: Metric<(Option<Layer>, Secret<'static>, Finding)> = Metric::gauge(
    "mtls_own_ignored_findings",
    "Number of this proxy's own certificates with a finding that the key ignore accepts (needs hierarchy)",
);
/// Replacements of this proxy's own leaf.
pub const OWN_ROTATIONS: Metric<(Secret<'static>,)> = Metric::counter(
    "mtls_own_rotations_total",
    "Replacements of the own leaf (needs hierarchy)",
);
/// How late the own leaf is replaced.
pub const OWN_ROTATION_MARGIN: Metric<(Secret<'static>,)> = Metric::histogram(
    "mtls_own_rotation_margin_seconds",
    "Seconds that the old leaf had left when it was replaced; expired: 0 (needs hierarchy)",
);
/// The anchor of this proxy's own chain.
pub const OWN_TRUST_ANCHOR: Metric<(Secret<'static>, Ca<'static>)> = Metric::gauge(
    "mtls_own_trust_anchor",
    "1 for the CA of an own trust bundle to which this own chain leads, 0 once it no longer does; ca none: a workload's chain leads to no CA of its bundle; absent where a leaf needs none",
);
/// The CA that signed an own leaf.
pub const OWN_ISSUER: Metric<(Secret<'static>, Ca<'static>)> = Metric::gauge(
    "mtls_own_issuer",
    "1 for the CA that signed this own leaf, by authority key identifier and issuer name, 0 once another did; absent where several may have (needs hierarchy)",
);
/// Until when a revocation list serves.
pub const OWN_CRL_NEXT_UPDATE: Metric<(Secret<'static>, Ca<'static>)> = Metric::gauge(
    "mtls_own_crl_next_update_timestamp_seconds",
    "Next update (Unix time) of the CA's revocation list in that trust bundle: once it has passed, Envoy refuses every peer under this CA; 0 once the list has left, absent if it has none (needs hierarchy)",
);
/// When a revocation list was issued.
pub const OWN_CRL_THIS_UPDATE: Metric<(Secret<'static>, Ca<'static>)> = Metric::gauge(
    "mtls_own_crl_this_update_timestamp_seconds",
    "Time (Unix) at which the same list was issued",
);
/// Which revocation list it is.
pub const OWN_CRL_NUMBER: Metric<(Secret<'static>, Ca<'static>)> = Metric::gauge(
    "mtls_own_crl_number",
    "CRL number of the same list, by which a proxy with an older one is found; absent above 64 bits",
);
/// CAs of this proxy's trust bundles.
pub const TRUST_BUNDLE_CA: Metric<(Secret<'static>, Ca<'static>, Option<Certificate<'static>>)> =
    Metric::gauge(
        "mtls_trust_bundle_ca",
        "1 while this certificate of the CA is in that trust bundle of this proxy, 0 once it has left (needs hierarchy)",
    );
/// The module itself.
pub const INFO: Metric<(Version<'static>,)> = Metric::gauge(
    "mtls_watch_info",
    "1, with the version of the module that is loaded",
);
/// Whether any VM is alive.
pub const LAST_TICK: Metric<()> = Metric::gauge(
    "mtls_watch_last_tick_timestamp_seconds",
    "Unix time at which a VM of this proxy last ticked, which each does every 5 seconds: stands still when all are dead",
);
/// How many workers are watched.
pub const WORKERS: Metric<()> = Metric::gauge(
    "mtls_watch_workers",
    "Workers of this proxy whose VM ticked in the last 20 seconds (the main thread's VM does not count): below Envoy's server.concurrency when one has died, and its traffic passes uninspected",
);
/// Errors of the plugin configuration.
pub const CONFIGURATION_ERRORS: Metric<()> = Metric::gauge(
    "mtls_watch_configuration_errors",
    "Errors in the plugin configuration in force, each with a log line; what is wrong has its default. Of several plugins in one VM the most that one has. A configuration that Envoy takes back within its drain time is told from its next connection on",
);
/// Other plugins of this module in the same place.
pub const DUPLICATE_PLUGINS: Metric<()> = Metric::gauge(
    "mtls_watch_duplicate_plugins",
    "1 while two plugins of this module and of one type see the same connections or requests: one of them counts; 0 once none was seen for 15 minutes, absent before the first",
);
/// Certificates read.
pub const INSPECTIONS: Metric<(Source, ReadResult)> = Metric::counter(
    "mtls_watch_inspections_total",
    "Certificates read, by source, and whether they could be read",
);
/// Polls of the admin interface.
pub const HIERARCHY_POLLS: Metric<(PollResult,)> = Metric::counter(
    "mtls_watch_hierarchy_polls_total",
    "Polls of this proxy's admin interface",
);
/// Age of what is known of this proxy's own certificates.
pub const HIERARCHY_POLL_AGE: Metric<()> = Metric::gauge(
    "mtls_watch_hierarchy_poll_age_seconds",
    "Seconds since the last poll of this proxy's admin interface to which every reply could be read; absent before the first",
);
/// Size of the replies of a poll.
pub const HIERARCHY_REPLY_BYTES: Metric<()> = Metric::gauge(
    "mtls_watch_hierarchy_reply_bytes",
    "Bytes of all replies of that poll; a reply may have 32 MiB, one secret or TLS context in it 1 MiB",
);
/// Identities and CAs without a series of their own.
pub const SERIES_OVERFLOW: Metric<()> = Metric::counter(
    "mtls_watch_series_overflow_total",
    "Identities or CAs without series of their own, counted in \"other\": one for each of their new certificates",
);

/// Every metric of this version.
pub const CATALOGUE: [Description; 36] = [
    CONNECTIONS.description,
    REQUESTS.description,
    CONNECTION_FINDINGS.description,
    REQUEST_FINDINGS.description,
    HANDSHAKE_FAILURES.description,
    CONNECTIONS_BY_ISSUER.description,
    CONNECTIONS_BY_TRUST_DOMAIN.description,
    IGNORED_FINDINGS.description,
    ISSUER_LAST_SEEN.description,
    NOT_AFTER.description,
    NOT_BEFORE.description,
    LAST_SEEN.description,
    REMAINING.description,
    OWN_NOT_AFTER.description,
    OWN_NOT_BEFORE.description,
    OWN_PRESENT.description,
    OWN_FINDINGS.description,
    OWN_IGNORED_FINDINGS.description,
    OWN_ROTATIONS.description,
    OWN_ROTATION_MARGIN.description,
    OWN_TRUST_ANCHOR.description,
    OWN_ISSUER.description,
    OWN_CRL_NEXT_UPDATE.description,
    OWN_CRL_THIS_UPDATE.description,
    OWN_CRL_NUMBER.description,
    TRUST_BUNDLE_CA.description,
    INFO.description,
    LAST_TICK.description,
    WORKERS.description,
    CONFIGURATION_ERRORS.description,
    DUPLICATE_PLUGINS.description,
    INSPECTIONS.description,
    HIERARCHY_POLLS.description,
    HIERARCHY_POLL_AGE.description,
    HIERARCHY_REPLY_BYTES.description,
    SERIES_OVERFLOW.description,
];

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
            NOT_AFTER.series((
                Direction::Inbound,
                Layer::Workload,
                Identity("spiffe://a/b c")
            )),
            "direction=.=inbound;.;layer=.=workload;.;identity=.=spiffe://a/b_c;.;mtls_peer_certificate_not_after_timestamp_seconds"
        );
        assert_eq!(
            SERIES_OVERFLOW.series(()),
            "mtls_watch_series_overflow_total"
        );
    }

    #[test]
    fn no_key_is_a_suffix_of_another() {
        for &a in Label::ALL {
            for &b in Label::ALL {
                assert!(a == b || !a.as_str().ends_with(b.as_str()), "{a:?} {b:?}");
            }
        }
    }
}
