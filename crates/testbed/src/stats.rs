//! Envoy's `/stats/prometheus`, and waiting until it says what a test expects.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
pub use exposition::Sample as Series;
use exposition::Sample;

use crate::Envoy;

/// How long [`wait_for`] waits for a metric.
pub const DEADLINE: Duration = Duration::from_secs(10);
/// Between two attempts: longer, the longer it takes, for every scrape costs Envoy and the test some CPU.
const PAUSES: [Duration; 2] = [Duration::from_millis(20), Duration::from_millis(250)];

/// One scrape.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    series: Vec<Sample>,
    kinds: BTreeMap<String, String>,
}

impl Stats {
    /// Parses the Prometheus text format.
    ///
    /// # Errors
    /// If a line is malformed; the error shows it.
    pub fn parse(text: &str) -> Result<Self> {
        let series = exposition::parse(text.as_bytes()).map_err(|malformed| {
            let line = text.lines().nth(malformed.line - 1).unwrap_or_default();
            anyhow!("{malformed}: {line}")
        })?;
        let kinds = exposition::types(text).into_iter();
        let kinds = kinds.map(|(name, kind)| (name.to_owned(), kind.to_owned()));
        Ok(Self {
            series,
            kinds: kinds.collect(),
        })
    }

    /// The value of the one series of this name that has at least these labels; `None` if there
    /// is none.
    ///
    /// # Panics
    /// If several match: the test does not say which it means.
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let mut matching = self.matching(name, labels);
        let first = matching.next()?;
        if let Some(second) = matching.next() {
            panic!("several series match {name} {labels:?}: {first}, {second}");
        }
        Some(first.value)
    }

    /// The sum over all series of this name that have at least these labels; 0 if there is none.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.matching(name, labels).map(|series| series.value).sum()
    }

    /// All series of this name.
    pub fn series(&self, name: &str) -> Vec<&Sample> {
        self.matching(name, &[]).collect()
    }

    /// All series whose name begins with `prefix`. A histogram counts with each of its buckets.
    pub fn with_prefix(&self, prefix: &str) -> Vec<&Sample> {
        let begins = |series: &&Sample| series.name.starts_with(prefix);
        self.series.iter().filter(begins).collect()
    }

    /// The number of series whose name begins with `prefix`, as [`Stats::with_prefix`].
    pub fn count(&self, prefix: &str) -> usize {
        self.with_prefix(prefix).len()
    }

    /// The metric's type: `counter`, `gauge` or `histogram`.
    pub fn kind(&self, name: &str) -> Option<&str> {
        self.kinds.get(name).map(String::as_str)
    }

    /// All series of this name that have at least these labels.
    pub fn matching(&self, name: &str, labels: &[(&str, &str)]) -> impl Iterator<Item = &Sample> {
        self.series.iter().filter(move |s| matches(s, name, labels))
    }
}

fn matches(sample: &Sample, name: &str, labels: &[(&str, &str)]) -> bool {
    let has = |(key, value): &(&str, &str)| sample.find_label(key) == Some(value);
    sample.name == name && labels.iter().all(has)
}

/// Tries until it succeeds, after pauses of a tenth of the time that has passed.
///
/// # Errors
/// The last attempt's error, once `deadline` has passed.
pub fn eventually<T>(deadline: Duration, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    let [shortest, longest] = PAUSES;
    let start = Instant::now();
    loop {
        match attempt() {
            Err(error) if start.elapsed() >= deadline => {
                return Err(error.context(format!("not within {deadline:?}")));
            }
            Err(_) => std::thread::sleep((start.elapsed() / 10).clamp(shortest, longest)),
            success => return success,
        }
    }
}

/// Scrapes `envoy` until the one series of this name and labels has a value that `expected`
/// holds for, and returns that value.
///
/// # Errors
/// After [`DEADLINE`]; the error lists every `mtls_` series that was there instead.
pub fn wait_for(
    envoy: &Envoy,
    name: &str,
    labels: &[(&str, &str)],
    expected: impl Fn(f64) -> bool,
) -> Result<f64> {
    eventually(DEADLINE, || {
        let stats = envoy.stats()?;
        let value = stats.value(name, labels).filter(|value| expected(*value));
        value.ok_or_else(|| unmet(&stats, name, labels))
    })
}

fn unmet(stats: &Stats, name: &str, labels: &[(&str, &str)]) -> anyhow::Error {
    let seen: Vec<String> = stats
        .with_prefix("mtls_")
        .into_iter()
        .filter(|series| !series.name.ends_with("_bucket"))
        .map(|series| format!("\n  {series}"))
        .collect();
    anyhow!(
        "{name} {labels:?} is not as expected; seen:{}",
        seen.concat()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
# TYPE mtls_requests_total counter
mtls_requests_total{direction="inbound",status="ok"} 3
mtls_requests_total{direction="inbound",status="expired"} 1 1700000000
# TYPE mtls_watch_info gauge
mtls_watch_info{} 1
envoy_plain 2
odd{ca="O=x, \"y\"}:1f2e",other="a\\b"} 1e3
"#;

    #[test]
    fn picks_series_by_a_subset_of_their_labels() {
        let stats = Stats::parse(TEXT).unwrap();
        let name = "mtls_requests_total";
        assert_eq!(stats.value(name, &[("status", "ok")]), Some(3.0));
        assert_eq!(stats.value(name, &[("status", "absent")]), None);
        assert_eq!(stats.value("envoy_plain", &[]), Some(2.0));
        assert_eq!(stats.sum(name, &[("direction", "inbound")]), 4.0);
        assert_eq!(stats.kind(name), Some("counter"));
        assert_eq!(stats.count("mtls_"), 3);
    }

    #[test]
    fn reads_any_character_in_a_label_value() {
        let stats = Stats::parse(TEXT).unwrap();
        let labels = [("ca", r#"O=x, "y"}:1f2e"#), ("other", r"a\b")];
        assert_eq!(stats.value("odd", &labels), Some(1000.0));
    }

    #[test]
    #[should_panic(expected = "several series match")]
    fn refuses_to_choose() {
        Stats::parse(TEXT)
            .unwrap()
            .value("mtls_requests_total", &[]);
    }

    #[test]
    fn names_the_line_it_cannot_read() {
        let error = Stats::parse("mtls_x{a=\"b} 1").unwrap_err();
        assert!(format!("{error:#}").contains("mtls_x{a="));
    }
}
