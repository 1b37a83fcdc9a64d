//! Questions to a Prometheus, or to what speaks its HTTP API (Thanos, Mimir, VictoriaMetrics).

use std::collections::BTreeMap;

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
}

/// A reply of `/api/v1/query`.
#[derive(Deserialize)]
struct Reply {
    status: String,
    error: Option<String>,
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

/// The samples of an instant query now: a vector. A sample without a name has an empty one.
///
/// # Errors
/// [`QueryError`], with what the server says.
pub(crate) fn query(http: &Http, base: &str, expression: &str) -> Result<Vec<Sample>, QueryError> {
    let base = base.trim_end_matches('/');
    let encoded: String = expression.bytes().map(encoded).collect();
    let reply = match http.get(&format!("{base}/api/v1/query?query={encoded}")) {
        Ok(reply) => reply,
        // What the query is like says nothing to whoever has named the URL.
        Err(HttpError::Status { status, text, .. }) => {
            return Err(QueryError::Other(
                base.to_owned(),
                format!("{status}: {text}"),
            ));
        }
        Err(error) => return Err(error.into()),
    };
    let other = |error: serde_json::Error| QueryError::Other(base.to_owned(), error.to_string());
    let reply: Reply = serde_json::from_slice(&reply).map_err(other)?;
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

/// Percent-encoded, but for letters and digits.
fn encoded(byte: u8) -> String {
    match byte.is_ascii_alphanumeric() || byte == b'_' {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    }
}
