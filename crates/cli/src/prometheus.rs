//! Questions to a Prometheus, or to what speaks its HTTP API (Thanos, Mimir, VictoriaMetrics).

use std::collections::BTreeMap;
use std::panic::resume_unwind;
use std::thread;

use exposition::Sample;
use serde::Deserialize;
use thiserror::Error;

use crate::http::{Http, HttpError};

/// Why there is no answer.
#[derive(Debug, Error)]
pub(crate) enum QueryError {
    #[error(transparent)]
    Http(#[from] HttpError),
    #[error("{0}: it answers, and is no Prometheus: {1}")]
    Other(String, String),
    #[error("{0}: Prometheus refuses the query: {1}")]
    Refused(String, String),
    #[error("{0}: Prometheus answers in part only, by which nothing can be judged: {1}")]
    Partial(String, String),
    #[error("{0}: it has no metrics of mtls-watch")]
    Empty(String),
}

/// A reply of `/api/v1/query`.
#[derive(Deserialize)]
struct Reply {
    status: String,
    error: Option<String>,
    /// What Thanos and its like say when a store of theirs has not answered.
    #[serde(default)]
    warnings: Vec<String>,
    data: Option<Data>,
}

#[derive(Deserialize)]
struct Data {
    result: Vec<Series>,
}

#[derive(Deserialize)]
struct Series {
    metric: BTreeMap<String, String>,
    value: (f64, String),
}

/// Where to ask.
#[derive(Clone, Copy)]
pub(crate) struct Prometheus<'a> {
    http: &'a Http,
    base: &'a str,
}

impl<'a> Prometheus<'a> {
    /// `url`: without `/api/v1`.
    pub(crate) fn new(http: &'a Http, url: &'a str) -> Self {
        Self {
            http,
            base: url.trim_end_matches('/'),
        }
    }

    /// As it was named.
    pub(crate) const fn url(&self) -> &'a str {
        self.base
    }

    /// The samples of each of several instant queries now, which are asked at the same time: vectors. A sample without a
    /// name has an empty one.
    ///
    /// # Errors
    /// [`QueryError`] of the first that fails, with what the server says.
    pub(crate) fn query_each<T: AsRef<str> + Sync>(
        &self,
        expressions: &[T],
    ) -> Result<Vec<Vec<Sample>>, QueryError> {
        thread::scope(|scope| {
            let asked = expressions.iter();
            let asked = asked.map(|expression| scope.spawn(move || self.ask(expression.as_ref())));
            let asked: Vec<_> = asked.collect();
            let answers = asked.into_iter();
            let answers = answers.map(|it| it.join().unwrap_or_else(|panic| resume_unwind(panic)));
            answers.collect()
        })
    }

    /// The same of a number that is known.
    ///
    /// # Errors
    /// As [`Prometheus::query_each`].
    pub(crate) fn query<const N: usize>(
        &self,
        expressions: [&str; N],
    ) -> Result<[Vec<Sample>; N], QueryError> {
        let mut answers = self.query_each(&expressions)?.into_iter();
        Ok(expressions.map(|_| answers.next().unwrap_or_default()))
    }

    fn ask(&self, expression: &str) -> Result<Vec<Sample>, QueryError> {
        let base = self.base;
        let encoded: String = expression.bytes().map(encoded).collect();
        let reply = match self
            .http
            .get(&format!("{base}/api/v1/query?query={encoded}"))
        {
            Ok(reply) => reply,
            Err(HttpError::Status { status, text, .. }) => return Err(self.refused(status, &text)),
            Err(error) => return Err(error.into()),
        };
        let other =
            |error: serde_json::Error| QueryError::Other(base.to_owned(), error.to_string());
        let reply: Reply = serde_json::from_slice(&reply).map_err(other)?;
        if let Some(warning) = reply.warnings.first() {
            return Err(QueryError::Partial(base.to_owned(), warning.clone()));
        }
        let series = match (&*reply.status, reply.data) {
            ("success", Some(data)) => data.result,
            (status, _) => {
                let why = reply.error.unwrap_or_else(|| status.to_owned());
                return Err(QueryError::Refused(base.to_owned(), why));
            }
        };
        let samples = series.into_iter().filter_map(|series| {
            let mut labels = series.metric;
            Some(Sample {
                name: labels.remove("__name__").unwrap_or_default(),
                value: series.value.1.parse().ok()?,
                labels,
            })
        });
        Ok(samples.collect())
    }

    /// What the query is like says nothing to whoever has named the URL.
    fn refused(&self, status: u16, text: &str) -> QueryError {
        let base = self.base.to_owned();
        let said: Option<Reply> = serde_json::from_str(text).ok();
        match said.and_then(|reply| reply.error) {
            Some(why) => QueryError::Refused(base, why),
            None => QueryError::Other(base, format!("{status}: {text}")),
        }
    }
}

/// Percent-encoded, but for letters and digits.
fn encoded(byte: u8) -> String {
    match byte.is_ascii_alphanumeric() || byte == b'_' {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    }
}
/// Both answers, asked for at the same time.
pub(crate) fn at_once<A: Send, B>(
    first: impl FnOnce() -> A + Send,
    second: impl FnOnce() -> B,
) -> (A, B) {
    thread::scope(|scope| {
        let first = scope.spawn(first);
        let second = second();
        let first = first.join().unwrap_or_else(|panic| resume_unwind(panic));
        (first, second)
    })
}
