//! The plugin configuration: JSON to settings, with errors that name the path and the value.
//!
//! The module never refuses a configuration: Envoy would leave a hole in the filter chain, which fails
//! every request. A key that is wrong keeps its default, all other keys apply.

mod error;
mod reader;
mod value;

use mtls_watch_x509::time::Seconds;
use serde::Deserialize;

use crate::terms::threshold::{Bound, Bounds};
use crate::terms::{
    Acceptance, Finding, Findings, IdentityForm, Layer, Source, Threshold, Thresholds,
};
use reader::{Field, Reader};
use value::{Count, Duration, HeaderName, Interval, Name, Word};

pub use error::{ConfigError, ConfigErrors, MAX_ERRORS, Problem};

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
#[derive(Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
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

/// The keys of `thresholds`: [`Layer`] by name.
#[derive(Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum LayerKey {
    Workload,
    IssuingCa,
    IntermediateCa,
    RootCa,
}

#[derive(Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ThresholdKey {
    Warning,
    Critical,
}

#[derive(Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum HierarchyKey {
    AdminCluster,
    Interval,
}

#[derive(Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum IgnoreKey {
    Finding,
    IdentityPrefix,
    Layer,
}

#[derive(Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
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
        for (key, field) in reader.members(root).unwrap_or_default() {
            match key {
                Setting::Thresholds => read_thresholds(reader, &field, &mut self.thresholds),
                Setting::IdentitySeries => {
                    if let Some(Count(count)) = reader.value(&field) {
                        self.identity_series = count;
                    }
                }
                Setting::CertificateAddresses => {
                    if let Some(Count(count)) = reader.value(&field) {
                        self.certificate_addresses = count;
                    }
                }
                Setting::CertificateSources => {
                    if let Some(sources) = read_sources(reader, &field) {
                        self.certificate_sources = sources;
                    }
                }
                Setting::FilterStateKey => {
                    if let Some(Name(name)) = reader.value(&field) {
                        self.filter_state_key = name;
                    }
                }
                Setting::StripXfccCertificates => {
                    if let Some(strip) = reader.value(&field) {
                        self.strip_xfcc_certificates = strip;
                    }
                }
                Setting::Hierarchy => self.hierarchy = read_hierarchy(reader, &field),
                Setting::Identity => {
                    if let Some(Word(form)) = reader.value(&field) {
                        self.identity = form;
                    }
                }
                Setting::Ignore => {
                    if let Some(ignore) = read_ignore(reader, &field) {
                        self.ignore = ignore;
                    }
                }
                Setting::Flag => read_flag(reader, &field, &mut self.flag),
                Setting::Deny => {
                    if let Some(findings) = reader.words::<Finding>(&field) {
                        self.deny = findings.into_iter().collect();
                    }
                }
                Setting::LogRepeat => {
                    if let Some(Duration(repeat)) = reader.value(&field) {
                        self.log_repeat = repeat;
                    }
                }
            }
        }
    }
}

// Not inlined: the largest function sets the memory that the module takes to compile.
#[inline(never)]
fn read_thresholds(reader: &mut Reader, field: &Field<'_>, thresholds: &mut Thresholds) {
    for (key, field) in reader.members(field).unwrap_or_default() {
        read_threshold(reader, &field, thresholds.of_mut(layer_of(key)));
    }
}

#[inline(never)]
fn read_threshold(reader: &mut Reader, field: &Field<'_>, threshold: &mut Threshold) {
    let mut written = threshold.clone();
    let mut blamed = None;
    for (key, field) in reader.members(field).unwrap_or_default() {
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

#[inline(never)]
fn read_bounds(reader: &mut Reader, field: &Field<'_>) -> Option<Bounds> {
    let list: Vec<Bound> = match field.is_list() {
        true => reader.list(field)?,
        false => vec![reader.value(field)?],
    };
    if list.is_empty() {
        reader.report(field, Problem::expected("at least one bound"));
        return None;
    }
    let mut bounds = Bounds {
        duration: None,
        share: None,
    };
    for bound in list {
        bounds.add(bound);
    }
    Some(bounds)
}

#[inline(never)]
fn read_sources(reader: &mut Reader, field: &Field<'_>) -> Option<Vec<Source>> {
    let sources = reader.words(field)?;
    if sources.is_empty() {
        reader.report(field, Problem::expected("at least one certificate source"));
        return None;
    }
    Some(sources)
}

#[inline(never)]
fn read_hierarchy(reader: &mut Reader, field: &Field<'_>) -> Option<Hierarchy> {
    if field.is_null() {
        return None;
    }
    let mut hierarchy = Hierarchy::default();
    for (key, field) in reader.members(field)? {
        match key {
            HierarchyKey::AdminCluster => {
                if let Some(Name(name)) = reader.value(&field) {
                    hierarchy.admin_cluster = name;
                }
            }
            HierarchyKey::Interval => {
                if let Some(Interval(interval)) = reader.value(&field) {
                    hierarchy.interval = interval;
                }
            }
        }
    }
    Some(hierarchy)
}

#[inline(never)]
fn read_ignore(reader: &mut Reader, field: &Field<'_>) -> Option<Vec<Acceptance>> {
    let items = reader.items(field)?;
    let read = items.iter().map(|item| read_acceptance(reader, item));
    // All of them, to say all that is wrong.
    let read: Vec<_> = read.collect();
    read.into_iter().collect()
}

#[inline(never)]
fn read_acceptance(reader: &mut Reader, field: &Field<'_>) -> Option<Acceptance> {
    let members = reader.members(field)?;
    let (mut finding, mut layer) = (None, None);
    let mut identity_prefix = String::new();
    let mut is_whole = true;
    for (key, field) in members {
        let read = match key {
            IgnoreKey::Finding => {
                finding = reader.value(&field).map(|Word(finding)| finding);
                finding.is_some()
            }
            IgnoreKey::IdentityPrefix => {
                let prefix = reader.value(&field);
                let read = prefix.is_some();
                identity_prefix = prefix.unwrap_or_default();
                read
            }
            IgnoreKey::Layer => {
                let key = reader.value(&field).map(|Word(key)| layer_of(key));
                layer = key;
                key.is_some()
            }
        };
        is_whole &= read;
    }
    if is_whole && finding.is_none() {
        reader.report(field, Problem::expected("the key finding"));
    }
    // Without what is wrong it would accept more than is meant.
    is_whole.then_some(Acceptance {
        finding: finding?,
        identity_prefix,
        layer,
    })
}

const fn layer_of(key: LayerKey) -> Layer {
    match key {
        LayerKey::Workload => Layer::Workload,
        LayerKey::IssuingCa => Layer::IssuingCa,
        LayerKey::IntermediateCa => Layer::IntermediateCa,
        LayerKey::RootCa => Layer::RootCa,
    }
}

#[inline(never)]
fn read_flag(reader: &mut Reader, field: &Field<'_>, flag: &mut Flag) {
    for (key, field) in reader.members(field).unwrap_or_default() {
        let header = match key {
            FlagKey::RequestHeader => &mut flag.request_header,
            FlagKey::ResponseHeader => &mut flag.response_header,
        };
        if let Some(HeaderName(name)) = reader.value(&field) {
            *header = name;
        }
    }
}
