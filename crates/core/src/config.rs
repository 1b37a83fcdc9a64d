//! The plugin configuration: JSON to validated settings, with errors that name the path and the
//! value.

use std::fmt;

use crate::json::Value;
use crate::terms::Source;
use crate::terms::threshold::{Bound, Bounds, parse_duration};
use crate::terms::{Finding, Findings, Threshold, Thresholds};
use mtls_watch_x509::chain::Layer;

/// Most identities that may be given a series of their own.
const MAX_IDENTITY_SERIES: u32 = 100_000;

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
    /// Headers that carry the peer's status.
    pub flag: Flag,
    /// Findings that refuse the request or the connection.
    pub deny: Findings,
    /// Seconds before the same log line may come again.
    pub log_repeat: i64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            thresholds: Thresholds::default(),
            identity_series: 100,
            certificate_sources: vec![Source::Attribute, Source::FilterState, Source::Xfcc],
            filter_state_key: "mtls_watch.peer_certificate".to_owned(),
            strip_xfcc_certificates: true,
            hierarchy: None,
            flag: Flag::default(),
            deny: Findings::empty(),
            log_repeat: 3600,
        }
    }
}

/// Where this proxy's own certificates and trust bundle are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hierarchy {
    /// Cluster that leads to this Envoy's admin interface.
    pub admin_cluster: String,
    /// Seconds between two polls.
    pub interval: i64,
}

impl Default for Hierarchy {
    fn default() -> Self {
        Self {
            admin_cluster: "prometheus_stats".to_owned(),
            interval: 60,
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

/// Why a configuration is refused: where, what stands there, what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// Path in the JSON, e.g. `thresholds.issuing_ca.warning[1]`; empty for the whole.
    pub path: String,
    /// The value as JSON, cut to a readable length.
    pub value: String,
    /// What is wrong.
    pub problem: Problem,
}

/// What is wrong with a value.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Problem {
    /// The text is not JSON; the parser's words.
    NotJson(String),
    /// Another type is wanted: a description of it.
    Expected(&'static str),
    /// The key is not known; those that are.
    UnknownKey(&'static [&'static str]),
    /// The word is not known; those that are.
    UnknownWord(Vec<&'static str>),
    /// The critical threshold is greater than the warning threshold of the same kind.
    CriticalExceedsWarning,
    /// The same word stands in the list before.
    Repeated,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = if self.path.is_empty() {
            "configuration"
        } else {
            &self.path
        };
        write!(f, "{path}: {}: ", self.value)?;
        match &self.problem {
            Problem::NotJson(reason) => write!(f, "not JSON: {reason}"),
            Problem::Expected(what) => write!(f, "expected {what}"),
            Problem::UnknownKey(known) => write!(f, "unknown key; known: {}", known.join(", ")),
            Problem::UnknownWord(known) => write!(f, "unknown; known: {}", known.join(", ")),
            Problem::CriticalExceedsWarning => {
                f.write_str("critical must not exceed warning; set both")
            }
            Problem::Repeated => f.write_str("stands in the list twice"),
        }
    }
}

impl std::error::Error for ConfigError {}

/// Longest value quoted in an error, in characters.
const MAX_QUOTED: usize = 80;

const A_DURATION: &str = "a duration such as \"90s\", \"30m\", \"36h\" or \"21d\"";
const A_BOUND: &str = "a duration such as \"21d\" or a share of the lifetime such as \"25%\"";

impl Config {
    /// Reads the plugin configuration. Nothing, or only white space, means the defaults.
    ///
    /// # Errors
    /// [`ConfigError`] for the first thing that is wrong.
    pub fn parse(text: &[u8]) -> Result<Config, ConfigError> {
        let value = match text.trim_ascii() {
            [] => Value::Object(Vec::new()),
            _ => serde_json::from_slice(text).map_err(|error| ConfigError {
                path: String::new(),
                value: quote(&String::from_utf8_lossy(text)),
                problem: Problem::NotJson(error.to_string()),
            })?,
        };
        Config::read(&Field::root(&value))
    }

    fn read(root: &Field<'_>) -> Result<Config, ConfigError> {
        let mut config = Config::default();
        for field in root.fields(&[
            "thresholds",
            "identity_series",
            "certificate_sources",
            "filter_state_key",
            "strip_xfcc_certificates",
            "hierarchy",
            "flag",
            "deny",
            "log_repeat",
        ])? {
            match field.key() {
                "thresholds" => read_thresholds(&field, &mut config.thresholds)?,
                "identity_series" => config.identity_series = field.count()?,
                "certificate_sources" => config.certificate_sources = read_sources(&field)?,
                "filter_state_key" => config.filter_state_key = field.name()?.to_owned(),
                "strip_xfcc_certificates" => config.strip_xfcc_certificates = field.boolean()?,
                "hierarchy" => config.hierarchy = read_hierarchy(&field)?,
                "flag" => config.flag = read_flag(&field)?,
                "deny" => config.deny = read_deny(&field)?,
                _ => config.log_repeat = field.duration()?,
            }
        }
        Ok(config)
    }
}

fn read_thresholds(field: &Field<'_>, thresholds: &mut Thresholds) -> Result<(), ConfigError> {
    for layer_field in field.fields(&["workload", "issuing_ca", "intermediate_ca", "root_ca"])? {
        let layer = Layer::ALL
            .iter()
            .copied()
            .find(|layer| layer.as_str() == layer_field.key());
        if let Some(layer) = layer {
            read_threshold(&layer_field, thresholds.of_mut(layer))?;
        }
    }
    Ok(())
}

fn read_threshold(field: &Field<'_>, threshold: &mut Threshold) -> Result<(), ConfigError> {
    let fields = field.fields(&["warning", "critical"])?;
    for bounds in &fields {
        match bounds.key() {
            "warning" => threshold.warning = read_bounds(bounds)?,
            _ => threshold.critical = read_bounds(bounds)?,
        }
    }
    // Blame what was written: critical if it was, else the warning that fell below its default.
    let blamed = fields
        .iter()
        .max_by_key(|bounds| bounds.key() == "critical");
    match blamed {
        Some(bounds) if threshold.critical.exceeds(&threshold.warning) => {
            Err(bounds.error(Problem::CriticalExceedsWarning))
        }
        _ => Ok(()),
    }
}

fn read_bounds(field: &Field<'_>) -> Result<Bounds, ConfigError> {
    let mut bounds = Bounds {
        duration: None,
        share: None,
    };
    let items = match field.value {
        Value::Array(_) => field.items("a bound or a list of bounds")?,
        _ => vec![*field],
    };
    if items.is_empty() {
        return Err(field.error(Problem::Expected("at least one bound")));
    }
    for item in items {
        let bound = item.value.as_str().and_then(Bound::parse);
        bounds.add(bound.ok_or_else(|| item.error(Problem::Expected(A_BOUND)))?);
    }
    Ok(bounds)
}

fn read_sources(field: &Field<'_>) -> Result<Vec<Source>, ConfigError> {
    let mut sources = Vec::new();
    for item in field.items("a list of certificate sources")? {
        let source = item.word(&Source::CONFIGURABLE, Source::as_str)?;
        if sources.contains(&source) {
            return Err(item.error(Problem::Repeated));
        }
        sources.push(source);
    }
    if sources.is_empty() {
        return Err(field.error(Problem::Expected("at least one certificate source")));
    }
    Ok(sources)
}

fn read_hierarchy(field: &Field<'_>) -> Result<Option<Hierarchy>, ConfigError> {
    if matches!(field.value, Value::Null) {
        return Ok(None);
    }
    let mut hierarchy = Hierarchy::default();
    for field in field.fields(&["admin_cluster", "interval"])? {
        match field.key() {
            "admin_cluster" => hierarchy.admin_cluster = field.name()?.to_owned(),
            _ => hierarchy.interval = field.duration()?,
        }
        if hierarchy.interval < 1 {
            return Err(field.error(Problem::Expected("at least \"1s\"")));
        }
    }
    Ok(Some(hierarchy))
}

fn read_flag(field: &Field<'_>) -> Result<Flag, ConfigError> {
    let mut flag = Flag::default();
    for field in field.fields(&["request_header", "response_header"])? {
        let header = field.header()?;
        match field.key() {
            "request_header" => flag.request_header = header,
            _ => flag.response_header = header,
        }
    }
    Ok(flag)
}

fn read_deny(field: &Field<'_>) -> Result<Findings, ConfigError> {
    field
        .items("a list of findings")?
        .iter()
        .map(|item| item.word(&Finding::ALL, Finding::as_str))
        .collect()
}

/// A value and the way to it.
#[derive(Clone, Copy)]
struct Field<'a> {
    parent: Option<&'a Field<'a>>,
    step: Step<'a>,
    value: &'a Value<'a>,
}

/// From a value to one in it.
#[derive(Clone, Copy)]
enum Step<'a> {
    Key(&'a str),
    Index(usize),
}

impl<'a> Field<'a> {
    fn root(value: &'a Value<'a>) -> Self {
        Self {
            parent: None,
            step: Step::Key(""),
            value,
        }
    }

    fn inner(&'a self, step: Step<'a>, value: &'a Value<'a>) -> Self {
        Self {
            parent: Some(self),
            step,
            value,
        }
    }

    fn key(&self) -> &'a str {
        match self.step {
            Step::Key(key) => key,
            Step::Index(_) => "",
        }
    }

    fn path(&self) -> String {
        let Some(parent) = self.parent else {
            return String::new();
        };
        let path = parent.path();
        match self.step {
            Step::Key(key) if path.is_empty() => quote(key),
            Step::Key(key) => format!("{path}.{}", quote(key)),
            Step::Index(index) => format!("{path}[{index}]"),
        }
    }

    #[inline(never)]
    fn error(&self, problem: Problem) -> ConfigError {
        ConfigError {
            path: self.path(),
            value: quote(&self.value.to_string()),
            problem,
        }
    }

    fn expected<T>(&self, value: Option<T>, what: &'static str) -> Result<T, ConfigError> {
        value.ok_or_else(|| self.error(Problem::Expected(what)))
    }

    /// The fields of an object, all of which must be known.
    fn fields(&'a self, known: &'static [&'static str]) -> Result<Vec<Field<'a>>, ConfigError> {
        let object = self.expected(self.value.as_object(), "an object")?;
        let fields = object.iter();
        let fields = fields.map(|(key, value)| self.inner(Step::Key(key), value));
        let fields: Vec<_> = fields.collect();
        let unknown = fields.iter().find(|field| !known.contains(&field.key()));
        match unknown {
            Some(field) => Err(field.error(Problem::UnknownKey(known))),
            None => Ok(fields),
        }
    }

    fn items(&'a self, what: &'static str) -> Result<Vec<Field<'a>>, ConfigError> {
        let items = self.expected(self.value.as_array(), what)?.iter();
        let items = items.enumerate();
        let items = items.map(|(index, value)| self.inner(Step::Index(index), value));
        Ok(items.collect())
    }

    fn word<T: Copy>(&self, known: &[T], name: fn(T) -> &'static str) -> Result<T, ConfigError> {
        let text = self.value.as_str();
        let found = known.iter().find(|word| Some(name(**word)) == text);
        found.copied().ok_or_else(|| {
            let known = known.iter().map(|word| name(*word));
            self.error(Problem::UnknownWord(known.collect()))
        })
    }

    fn boolean(&self) -> Result<bool, ConfigError> {
        match self.value {
            Value::Bool(value) => Ok(*value),
            _ => Err(self.error(Problem::Expected("true or false"))),
        }
    }

    /// A count. A configuration that came through a protobuf Struct has only doubles.
    fn count(&self) -> Result<usize, ConfigError> {
        let count = self.value.as_count(MAX_IDENTITY_SERIES);
        let count = count.and_then(|count| usize::try_from(count).ok());
        self.expected(count, "a whole number from 0 to 100000")
    }

    fn duration(&self) -> Result<i64, ConfigError> {
        self.expected(self.value.as_str().and_then(parse_duration), A_DURATION)
    }

    fn name(&self) -> Result<&'a str, ConfigError> {
        let name = self.value.as_str().filter(|name| !name.is_empty());
        self.expected(name, "a name that is not empty")
    }

    /// A header's name (RFC 9110, section 5.1), in the lower case of HTTP/2; empty: none.
    fn header(&self) -> Result<Option<String>, ConfigError> {
        let is_token =
            |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        let name = self
            .value
            .as_str()
            .filter(|name| name.bytes().all(is_token));
        let name = self.expected(name, "a header name, or \"\" for none")?;
        Ok((!name.is_empty()).then(|| name.to_ascii_lowercase()))
    }
}

/// One log line, whatever was written.
fn quote(text: &str) -> String {
    shorten(text).replace(char::is_control, " ")
}

fn shorten(text: &str) -> String {
    let mut short: String = text.chars().take(MAX_QUOTED).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}
