//! Where the metrics of a proxy come from: a file, standard input, or its `/stats/prometheus`.

use std::fmt;
use std::time::Duration;

use exposition::{Malformed, Sample};

/// Envoy's path of Prometheus text, for a URL without one.
const STATS: &str = "/stats/prometheus";
/// Longest reply. A gateway with ten thousand clusters has some ten MB.
const MAX_REPLY_BYTES: u64 = 256 * 1024 * 1024;

/// A proxy's metrics, as named on the command line: `[NAME=]FILE|-|URL`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Source {
    /// What the proxy is called in the report.
    pub(super) name: String,
    /// The file, `-`, or URL.
    place: String,
}

impl From<&str> for Source {
    /// A name has neither `/` nor `:`: a file with `=` in its name is written `./a=b`.
    fn from(argument: &str) -> Self {
        let is_name = |name: &str| !name.is_empty() && !name.contains(['/', ':']);
        let (name, place) = match argument.split_once('=') {
            Some((name, place)) if is_name(name) => (name, place),
            _ => (argument, argument),
        };
        Self {
            name: name.to_owned(),
            place: place.to_owned(),
        }
    }
}

/// Why a source says nothing.
#[derive(Debug)]
pub(super) enum SourceError {
    /// The file cannot be read.
    File(crate::Error),
    /// Only http is spoken.
    Https(String),
    /// The URL cannot be fetched.
    Http(String, Box<ureq::Error>),
    /// A line is no Prometheus text.
    Malformed(String, Malformed),
    /// There is no metric in it at all.
    Empty(String),
}

impl fmt::Display for SourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(error) => error.fmt(f),
            Self::Https(url) => write!(
                f,
                "{url}: https is not spoken here: forward a local port to the proxy and use http"
            ),
            Self::Http(url, error) => write!(f, "{url}: {error}"),
            Self::Malformed(place, malformed) => write!(f, "{place}: {malformed}"),
            Self::Empty(place) => write!(
                f,
                "{place}: no metrics: expected the text of a proxy's {STATS}"
            ),
        }
    }
}

impl From<SourceError> for crate::Error {
    fn from(error: SourceError) -> Self {
        Self::Content(error.to_string())
    }
}

impl Source {
    /// Whether it says something else when it is read again.
    pub(super) fn is_live(&self) -> bool {
        self.place.starts_with("http://")
    }

    /// Reads the samples.
    pub(super) fn read(&self, timeout: Duration) -> Result<Vec<Sample>, SourceError> {
        let place = self.place.as_str();
        let text = match (place.starts_with("http://"), place.starts_with("https://")) {
            (true, _) => fetch(place, timeout)?,
            (_, true) => return Err(SourceError::Https(place.to_owned())),
            _ => crate::read(place).map_err(SourceError::File)?,
        };
        let samples = exposition::parse(&text);
        let samples =
            samples.map_err(|malformed| SourceError::Malformed(place.to_owned(), malformed))?;
        match samples.is_empty() {
            true => Err(SourceError::Empty(place.to_owned())),
            false => Ok(samples),
        }
    }
}

fn fetch(url: &str, timeout: Duration) -> Result<Vec<u8>, SourceError> {
    let fail = |error| SourceError::Http(url.to_owned(), Box::new(error));
    let agent = ureq::Agent::config_builder()
        .timeout_global(Some(timeout))
        .user_agent(concat!("mtls-watch/", env!("CARGO_PKG_VERSION")))
        // The proxies are asked themselves, whatever http_proxy says.
        .proxy(None)
        .build()
        .new_agent();
    let mut response = agent.get(with_path(url)).call().map_err(fail)?;
    let body = response.body_mut().with_config().limit(MAX_REPLY_BYTES);
    body.read_to_vec().map_err(fail)
}

/// `http://host:port` becomes `http://host:port/stats/prometheus`.
fn with_path(url: &str) -> String {
    let host = url.strip_prefix("http://").unwrap_or(url);
    match host.split_once('/') {
        None => format!("{url}{STATS}"),
        Some((_, "")) => format!("{}{STATS}", url.trim_end_matches('/')),
        Some(_) => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_may_have_a_name() {
        let source = |text: &str| {
            let Source { name, place } = Source::from(text);
            (name, place)
        };
        let pair = |name: &str, place: &str| (name.to_owned(), place.to_owned());
        assert_eq!(source("a.prom"), pair("a.prom", "a.prom"));
        assert_eq!(source("web=a.prom"), pair("web", "a.prom"));
        assert_eq!(source("web=http://h:1/x"), pair("web", "http://h:1/x"));
        assert_eq!(source("./a=b"), pair("./a=b", "./a=b"));
        assert_eq!(
            source("http://h/?a=b"),
            pair("http://h/?a=b", "http://h/?a=b")
        );
        assert_eq!(source("=x"), pair("=x", "=x"));
    }

    #[test]
    fn a_url_without_a_path_is_completed() {
        assert_eq!(with_path("http://h:1"), "http://h:1/stats/prometheus");
        assert_eq!(with_path("http://h:1/"), "http://h:1/stats/prometheus");
        assert_eq!(with_path("http://h:1/metrics"), "http://h:1/metrics");
    }
}
