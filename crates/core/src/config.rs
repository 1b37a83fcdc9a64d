//! The plugin configuration: JSON to settings, with errors that name the path and the value.
//!
//! The module never refuses a configuration: Envoy would leave a hole in the filter chain, which fails
//! every request. A key that is wrong keeps its default, all other keys apply.

mod error;
mod reader;

use mtls_watch_x509::time::Seconds;
use strum::{IntoStaticStr, VariantArray};

use crate::host::TICK;
use crate::terms::threshold::{Bound, Bounds, parse_duration};
use crate::terms::{
    Acceptance, Finding, Findings, IdentityForm, Layer, Source, Threshold, Thresholds,
};
use reader::{Field, Reader};

pub use error::{ConfigError, ConfigErrors, MAX_ERRORS, Problem};

/// Most identities that may be given a series of their own.
const MAX_COUNT: u32 = 100_000;

const DURATION: &str = "a duration such as \"90s\", \"30m\", \"36h\" or \"21d\"";

/// Headers by which a message finds its way and its end. With a flag in place of one no request gets through.
const HTTP_HEADERS: [&str; 10] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Everything an operator can set. [`Config::default`] is what an empty configuration means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// When remaining time is flagged, by layer.
    pub thresholds: Thresholds,
    /// At most this many identities get a time series of their own; the rest share `other`.
    pub identity_series: usize,
    /// Where certificates are looked for, in this order.
    pub certificate_sources: Vec<Source>,
    /// Key of the filter state object that holds the peer's certificate.
    pub filter_state_key: String,
    /// Whether `Cert` and `Chain` of this hop are taken out of `x-forwarded-client-cert` before the
    /// request goes on.
    pub strip_xfcc_certificates: bool,
    /// Where this proxy's own certificates are read; off unless given.
    pub hierarchy: Option<Hierarchy>,
    /// How much of the identities of peers is shown.
    pub identity: IdentityForm,
    /// From how many addresses a client's certificate may come within an hour; 0: from any number.
    pub certificate_addresses: usize,
    /// Findings that are known and accepted.
    pub ignore: Vec<Acceptance>,
    /// Headers that carry the peer's status.
    pub flag: Flag,
    /// Findings that refuse the request or the connection.
    pub deny: Findings,
    /// Before the same log line may come again.
    pub log_repeat: Seconds,
}

/// The pods that one node has at most: some issuers give all those of a workload that run on one node the same
/// certificate (ztunnel, SPIRE, Consul). 110 is the kubelet's own limit, 250 that of OpenShift, EKS and AKS, 256 of GKE.
const CERTIFICATE_ADDRESSES: usize = 256;

impl Default for Config {
    fn default() -> Self {
        Self {
            thresholds: Thresholds::default(),
            identity_series: 100,
            certificate_sources: vec![Source::Attribute, Source::FilterState, Source::Xfcc],
            filter_state_key: "mtls_watch.peer_certificate".to_owned(),
            strip_xfcc_certificates: true,
            hierarchy: None,
            identity: IdentityForm::Full,
            certificate_addresses: CERTIFICATE_ADDRESSES,
            ignore: Vec::new(),
            flag: Flag::default(),
            deny: Findings::empty(),
            log_repeat: Seconds::HOUR,
        }
    }
}

/// Where this proxy's own certificates and trust bundle are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hierarchy {
    /// Cluster that leads to this Envoy's admin interface.
    pub admin_cluster: String,
    /// Between two polls.
    pub interval: Seconds,
}

impl Default for Hierarchy {
    fn default() -> Self {
        Self {
            admin_cluster: "prometheus_stats".to_owned(),
            interval: Seconds::MINUTE,
        }
    }
}

/// Headers that carry the peer's status; `None`: no header.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flag {
    /// On the request, towards the upstream.
    pub request_header: Option<String>,
    /// On the response, towards the downstream.
    pub response_header: Option<String>,
}

/// The keys of a configuration.
#[derive(Clone, Copy, PartialEq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
enum Setting {
    Thresholds,
    IdentitySeries,
    CertificateSources,
    FilterStateKey,
    StripXfccCertificates,
    Hierarchy,
    Identity,
    CertificateAddresses,
    Ignore,
    Flag,
    Deny,
    LogRepeat,
}

#[derive(Clone, Copy, PartialEq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
enum ThresholdKey {
    Warning,
    Critical,
}

#[derive(Clone, Copy, PartialEq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
enum HierarchyKey {
    AdminCluster,
    Interval,
}

#[derive(Clone, Copy, PartialEq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
enum IgnoreKey {
    Finding,
    IdentityPrefix,
    Layer,
}

#[derive(Clone, Copy, PartialEq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
enum FlagKey {
    RequestHeader,
    ResponseHeader,
}

impl Config {
    /// Reads the plugin configuration, whatever it is. Nothing, or only white space, means the
    /// defaults. A key that is wrong keeps its default, and is one error or more.
    #[must_use]
    pub fn read(text: &[u8]) -> (Config, Vec<ConfigError>) {
        let mut reader = Reader::default();
        let mut config = Config::default();
        if let Some(root) = reader.root(text) {
            config.apply(&mut reader, &root);
        }
        (config, reader.into_errors())
    }

    /// Reads a configuration that must be free of errors: for a pipeline, not for the module.
    ///
    /// # Errors
    /// Everything that is wrong.
    pub fn parse(text: &[u8]) -> Result<Config, ConfigErrors> {
        match Config::read(text) {
            (config, errors) if errors.is_empty() => Ok(config),
            (_, errors) => Err(ConfigErrors(errors)),
        }
    }

    fn apply(&mut self, reader: &mut Reader, root: &Field<'_>) {
        for (key, field) in reader.members(root, Setting::VARIANTS).unwrap_or_default() {
            match key {
                Setting::Thresholds => read_thresholds(reader, &field, &mut self.thresholds),
                Setting::IdentitySeries => {
                    assign(&mut self.identity_series, reader.count(&field, MAX_COUNT));
                }
                Setting::CertificateAddresses => {
                    let addresses = reader.count(&field, MAX_COUNT);
                    assign(&mut self.certificate_addresses, addresses);
                }
                Setting::CertificateSources => {
                    assign(&mut self.certificate_sources, read_sources(reader, &field));
                }
                Setting::FilterStateKey => {
                    assign(&mut self.filter_state_key, read_name(reader, &field));
                }
                Setting::StripXfccCertificates => {
                    assign(&mut self.strip_xfcc_certificates, reader.boolean(&field));
                }
                Setting::Hierarchy => self.hierarchy = read_hierarchy(reader, &field),
                Setting::Identity => {
                    assign(
                        &mut self.identity,
                        reader.word(&field, IdentityForm::VARIANTS),
                    );
                }
                Setting::Ignore => assign(&mut self.ignore, read_ignore(reader, &field)),
                Setting::Flag => read_flag(reader, &field, &mut self.flag),
                Setting::Deny => {
                    let findings = reader.words(&field, Finding::ALL);
                    let findings = findings.map(|findings| findings.into_iter().collect());
                    assign(&mut self.deny, findings);
                }
                Setting::LogRepeat => {
                    let repeat = reader.parsed(&field, DURATION, parse_duration);
                    assign(&mut self.log_repeat, repeat);
                }
            }
        }
    }
}

/// What cannot be read keeps its default.
fn assign<T>(setting: &mut T, read: Option<T>) {
    if let Some(value) = read {
        *setting = value;
    }
}

fn read_thresholds(reader: &mut Reader, field: &Field<'_>, thresholds: &mut Thresholds) {
    for (layer, field) in reader.members(field, Layer::ALL).unwrap_or_default() {
        read_threshold(reader, &field, thresholds.of_mut(layer));
    }
}

fn read_threshold(reader: &mut Reader, field: &Field<'_>, threshold: &mut Threshold) {
    let mut written = threshold.clone();
    let mut blamed = None;
    let members = reader.members(field, ThresholdKey::VARIANTS);
    for (key, field) in members.unwrap_or_default() {
        let Some(bounds) = read_bounds(reader, &field) else {
            continue;
        };
        match key {
            ThresholdKey::Warning => written.warning = bounds,
            ThresholdKey::Critical => written.critical = bounds,
        }
        // Blame what was written: critical if it was, else the warning that is below the default.
        if key == ThresholdKey::Critical || blamed.is_none() {
            blamed = Some(field);
        }
    }
    match blamed {
        Some(field) if written.critical.exceeds(&written.warning) => {
            reader.report(&field, Problem::CriticalExceedsWarning);
        }
        _ => *threshold = written,
    }
}

fn read_bounds(reader: &mut Reader, field: &Field<'_>) -> Option<Bounds> {
    let mut bounds = Bounds {
        duration: None,
        share: None,
    };
    if !field.is_list() {
        bounds.add(read_bound(reader, field)?);
        return Some(bounds);
    }
    let items = reader.items(field)?;
    if items.is_empty() {
        reader.expected(field, "at least one bound");
        return None;
    }
    for item in items {
        bounds.add(read_bound(reader, &item)?);
    }
    Some(bounds)
}

fn read_bound(reader: &mut Reader, field: &Field<'_>) -> Option<Bound> {
    let expected = "a duration such as \"21d\" or a share of the lifetime such as \"25%\"";
    reader.parsed(field, expected, Bound::parse)
}

fn read_sources(reader: &mut Reader, field: &Field<'_>) -> Option<Vec<Source>> {
    let sources = reader.words(field, &Source::CONFIGURABLE)?;
    if sources.is_empty() {
        reader.expected(field, "at least one certificate source");
        return None;
    }
    Some(sources)
}

fn read_name(reader: &mut Reader, field: &Field<'_>) -> Option<String> {
    reader.parsed(field, "a name that is not empty", |text| {
        (!text.is_empty()).then(|| text.to_owned())
    })
}

fn read_hierarchy(reader: &mut Reader, field: &Field<'_>) -> Option<Hierarchy> {
    if field.is_null() {
        return None;
    }
    let mut hierarchy = Hierarchy::default();
    for (key, field) in reader.members(field, HierarchyKey::VARIANTS)? {
        match key {
            HierarchyKey::AdminCluster => {
                assign(&mut hierarchy.admin_cluster, read_name(reader, &field));
            }
            HierarchyKey::Interval => {
                assign(&mut hierarchy.interval, read_interval(reader, &field));
            }
        }
    }
    Some(hierarchy)
}

/// Polls are made at a tick.
fn read_interval(reader: &mut Reader, field: &Field<'_>) -> Option<Seconds> {
    reader.parsed(field, "a duration of at least \"5s\"", |text| {
        parse_duration(text).filter(|interval| *interval >= TICK)
    })
}

fn read_ignore(reader: &mut Reader, field: &Field<'_>) -> Option<Vec<Acceptance>> {
    let items = reader.items(field)?;
    let read = items.iter().map(|item| read_acceptance(reader, item));
    // All of them, to say all that is wrong.
    let read: Vec<_> = read.collect();
    read.into_iter().collect()
}

fn read_acceptance(reader: &mut Reader, field: &Field<'_>) -> Option<Acceptance> {
    let members = reader.members(field, IgnoreKey::VARIANTS)?;
    let (mut finding, mut layer) = (None, None);
    let mut identity_prefix = Some(String::new());
    let mut is_whole = true;
    for (key, field) in members {
        is_whole &= match key {
            IgnoreKey::Finding => {
                finding = reader.word(&field, Finding::ALL);
                finding.is_some()
            }
            IgnoreKey::IdentityPrefix => {
                identity_prefix = reader.parsed(&field, "a text", |text| Some(text.to_owned()));
                identity_prefix.is_some()
            }
            IgnoreKey::Layer => {
                layer = reader.word(&field, Layer::ALL);
                layer.is_some()
            }
        };
    }
    if is_whole && finding.is_none() {
        reader.expected(field, "the key finding");
    }
    // Without what is wrong it would accept more than is meant.
    is_whole.then_some(Acceptance {
        finding: finding?,
        identity_prefix: identity_prefix?,
        layer,
    })
}

fn read_flag(reader: &mut Reader, field: &Field<'_>, flag: &mut Flag) {
    let members = reader.members(field, FlagKey::VARIANTS);
    for (key, field) in members.unwrap_or_default() {
        let header = match key {
            FlagKey::RequestHeader => &mut flag.request_header,
            FlagKey::ResponseHeader => &mut flag.response_header,
        };
        assign(header, read_header(reader, &field));
    }
}

/// A header's name (RFC 9110, section 5.1), in the lower case of HTTP/2; empty: none.
fn read_header(reader: &mut Reader, field: &Field<'_>) -> Option<Option<String>> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let expected = "a header name that is not HTTP's own, or \"\" for none";
    reader.parsed(field, expected, |text| {
        let name = text.to_ascii_lowercase();
        let is_free = name.bytes().all(is_token) && !HTTP_HEADERS.contains(&&*name);
        is_free.then(|| Some(name).filter(|name| !name.is_empty()))
    })
}
