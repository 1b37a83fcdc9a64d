//! What is told of a refused handshake.

use std::fmt;

use crate::table::UNKNOWN;

/// How often each case tries.
pub const ATTEMPTS: u64 = 3;

/// Refused handshakes of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// `inbound`, `outbound`.
    pub direction: String,
    /// The layer of the certificate at fault.
    pub layer: String,
    /// Why.
    pub reason: String,
    /// How many there were.
    pub count: u64,
    /// The series that counted them.
    pub series: String,
    /// What the log says of them; a line is not repeated for each.
    pub report: Option<Report>,
}

/// A log line about a refused handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The peer's identity, or else its address.
    pub who: String,
    /// What to change.
    pub hint: String,
    /// The whole line.
    pub line: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            direction,
            layer,
            reason,
            count,
            report,
            ..
        } = self;
        let report = report.as_ref();
        let (who, hint) = report.map_or((UNKNOWN, UNKNOWN), |r| (&r.who, &r.hint));
        write!(
            f,
            "{direction} {reason} of {layer}, {count} times, {who}: {hint}"
        )
    }
}
