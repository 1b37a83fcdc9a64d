//! Prometheus text, as Envoy's `/stats/prometheus` writes it.
//!
//! The parser is our own because label values here hold `=`, `,` and `}`, on which the crates for it stumble, and
//! because a mistake must be told with its line.

#![deny(missing_docs, unsafe_code, unreachable_pub)]

use std::collections::BTreeMap;
use std::fmt;

/// One sample of a scrape.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The metric's name; for histograms with its `_bucket`, `_sum` or `_count`.
    pub name: String,
    /// The labels.
    pub labels: BTreeMap<String, String>,
    /// The value.
    pub value: f64,
}

impl Sample {
    /// The value of a label; empty, as in PromQL, if it is not there.
    #[must_use]
    pub fn label(&self, name: &str) -> &str {
        self.find_label(name).unwrap_or_default()
    }

    /// The value of a label, if it is there.
    #[must_use]
    pub fn find_label(&self, name: &str) -> Option<&str> {
        self.labels.get(name).map(String::as_str)
    }
}

/// As it is written, with the labels in alphabetical order.
impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pair = |(key, value)| format!("{key}={value:?}");
        let labels: Vec<String> = self.labels.iter().map(pair).collect();
        write!(f, "{}{{{}}} {}", self.name, labels.join(","), self.value)
    }
}

/// A line that is no Prometheus text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// Its number, from 1.
    pub line: usize,
    problem: Problem,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Problem {
    NotUtf8,
    Name,
    Labels,
    Value,
    Trailing,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let problem = match self.problem {
            Problem::NotUtf8 => "not UTF-8",
            Problem::Name => "expected the name of a metric",
            Problem::Labels => "expected labels such as {ca=\"Root_CA:1f2e3d4c\"}",
            Problem::Value => "expected a number after the name and the labels",
            Problem::Trailing => "expected nothing but a timestamp after the value",
        };
        write!(f, "line {}: {problem}", self.line)
    }
}

/// Reads the samples of a scrape. Comments are passed over.
///
/// # Errors
/// [`Malformed`] names the first line that is no Prometheus text.
pub fn parse(text: &[u8]) -> Result<Vec<Sample>, Malformed> {
    let lines = text.split(|byte| *byte == b'\n').enumerate();
    lines
        .filter_map(|(index, line)| line_of(index, line))
        .collect()
}

/// The types that a scrape declares (`# TYPE name counter`), by the names of the metrics.
#[must_use]
pub fn types(text: &str) -> BTreeMap<&str, &str> {
    let declarations = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    declarations.filter_map(|it| it.split_once(' ')).collect()
}

fn line_of(index: usize, line: &[u8]) -> Option<Result<Sample, Malformed>> {
    let malformed = |problem| Malformed {
        line: index.saturating_add(1),
        problem,
    };
    let Ok(line) = std::str::from_utf8(line) else {
        return Some(Err(malformed(Problem::NotUtf8)));
    };
    let line = line.trim();
    let is_sample = !line.is_empty() && !line.starts_with('#');
    is_sample.then(|| sample(line).map_err(malformed))
}

fn sample(line: &str) -> Result<Sample, Problem> {
    let (name, rest) = name(line).ok_or(Problem::Name)?;
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => labels(rest).ok_or(Problem::Labels)?,
        None => (Labels::new(), rest),
    };
    // OpenMetrics appends exemplars as a comment.
    let mut words = rest.split('#').next().unwrap_or("").split_whitespace();
    let value = words.next().and_then(|word| word.parse().ok());
    let value = value.ok_or(Problem::Value)?;
    let timestamp = words.next().is_none_or(|word| word.parse::<f64>().is_ok());
    match timestamp && words.next().is_none() {
        true => Ok(Sample {
            name: name.to_owned(),
            labels,
            value,
        }),
        false => Err(Problem::Trailing),
    }
}

/// The name that a text begins with, and the rest.
fn name(text: &str) -> Option<(&str, &str)> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let end = text.find(|c| !is_part(c)).unwrap_or(text.len());
    let (name, rest) = text.split_at_checked(end)?;
    let starts_well = !name.starts_with(|c: char| c.is_ascii_digit());
    (starts_well && !name.is_empty()).then_some((name, rest))
}

type Labels = BTreeMap<String, String>;

/// The labels behind an opening brace, and what follows the closing one.
fn labels(mut text: &str) -> Option<(Labels, &str)> {
    let mut labels = Labels::new();
    loop {
        text = text.trim_start();
        if let Some(rest) = text.strip_prefix('}') {
            return Some((labels, rest));
        }
        let (name, rest) = name(text)?;
        let rest = rest.trim_start().strip_prefix('=')?.trim_start();
        let (value, rest) = quoted(rest.strip_prefix('"')?)?;
        labels.insert(name.to_owned(), value);
        let rest = rest.trim_start();
        text = match rest.strip_prefix(',') {
            Some(rest) => rest,
            None if rest.starts_with('}') => rest,
            None => return None,
        };
    }
}

/// The value behind an opening quote, and what follows the closing one.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((index, character)) = characters.next() {
        match character {
            '"' => return Some((value, text.get(index.saturating_add(1)..)?)),
            '\\' => value.push(match characters.next()?.1 {
                'n' => '\n',
                other => other,
            }),
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(line: &str) -> Sample {
        parse(line.as_bytes()).unwrap().pop().unwrap()
    }

    fn problem(text: &[u8]) -> (usize, Problem) {
        let malformed = parse(text).unwrap_err();
        (malformed.line, malformed.problem)
    }

    #[test]
    fn reads_what_envoy_writes() {
        let text = "# TYPE a counter\na{} 3\n\nb{x=\"1\",y=\"2\"} 4.5 1700000000000\nc NaN\n";
        let samples = parse(text.as_bytes()).unwrap();
        assert_eq!(samples.len(), 3);
        assert_eq!(samples[1].label("y"), "2");
        assert_eq!(samples[1].label("z"), "");
        assert_eq!(samples[1].find_label("z"), None);
        assert!(samples[2].value.is_nan());
        assert_eq!(types(text), BTreeMap::from([("a", "counter")]));
        assert_eq!(samples[1].to_string(), r#"b{x="1",y="2"} 4.5"#);
    }

    #[test]
    fn label_values_may_hold_delimiters() {
        let sample = one(r#"a{ca = "x=}, \"y\"\\n\n", } +Inf # {t="1"} 1"#);
        assert_eq!(sample.label("ca"), "x=}, \"y\"\\n\n");
        assert_eq!(sample.value, f64::INFINITY);
    }

    #[test]
    fn tells_the_line_of_a_mistake() {
        assert_eq!(problem(b"a 1\n<html>"), (2, Problem::Name));
        assert_eq!(problem(b"9a 1"), (1, Problem::Name));
        assert_eq!(problem(b"a{b=\"c} 1"), (1, Problem::Labels));
        assert_eq!(problem(b"a{b=\"c\" d=\"e\"} 1"), (1, Problem::Labels));
        assert_eq!(problem(b"a{b=c} 1"), (1, Problem::Labels));
        assert_eq!(problem(b"a{b=\"c\"}"), (1, Problem::Value));
        assert_eq!(problem(b"a is good"), (1, Problem::Value));
        assert_eq!(problem(b"a 1 2 3"), (1, Problem::Trailing));
        assert_eq!(problem(b"\n\n\xff\xfe"), (3, Problem::NotUtf8));
    }
}
