//! Watches a proxy for handshakes that it refuses: every one that is expected, and no other.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, ensure};
use testbed::stats::{self, eventually};
use testbed::{Client, Envoy, Stats};

pub const FAILURES: &str = "mtls_handshake_failures_total";
const LINE: &str = "mtls-watch: handshake refused ";

/// With it, what cannot be told apart by its identity is logged each time.
pub const REPEATED: &str = r#"{"log_repeat": "0s"}"#;

/// How often handshakes failed, by `direction layer reason`.
pub type Counts = BTreeMap<String, f64>;

pub fn counts(stats: &Stats) -> Counts {
    let series = stats.series(FAILURES).into_iter();
    let key = |s: &testbed::stats::Series| {
        let labels = ["direction", "layer", "reason"].map(|label| s.label(label).to_owned());
        labels.join(" ")
    };
    series.map(|series| (key(series), series.value)).collect()
}

/// Tries to connect, and waits until that has failed.
pub fn be_refused(client: &Client, port: u16) -> Result<()> {
    // In TLS 1.3 the refusal comes after the client's part of the handshake.
    match client.tcp(port) {
        Ok(mut connection) => connection.closed_by_peer().map(drop),
        Err(_) => Ok(()),
    }
}

/// The refused handshakes of a proxy, one after the other.
pub struct Watch<'a> {
    envoy: &'a Envoy,
    counts: Counts,
    lines: usize,
}

impl<'a> Watch<'a> {
    /// From the start of the proxy on.
    pub fn new(envoy: &'a Envoy) -> Self {
        Self {
            envoy,
            counts: Counts::new(),
            lines: 0,
        }
    }

    /// Waits until one more failure is counted, this one (`direction layer reason`) and no other, and
    /// returns its log line.
    pub fn failure(&mut self, what: &str) -> Result<String> {
        self.failure_within(stats::DEADLINE, what)
    }

    pub fn failure_within(&mut self, deadline: Duration, what: &str) -> Result<String> {
        *self.counts.entry(what.to_owned()).or_default() += 1.0;
        eventually(deadline, || self.as_counted())?;
        self.lines += 1;
        let line = eventually(stats::DEADLINE, || self.last_line())?;
        let fields: Vec<&str> = what.split(' ').collect();
        let start = match fields[..] {
            [direction, layer, reason] => {
                format!("direction={direction} reason={reason} layer={layer} ")
            }
            _ => String::new(),
        };
        ensure!(line.starts_with(&start), "{start:?} is not in {line}");
        Ok(line)
    }

    /// That there has been no failure but those expected so far.
    pub fn nothing_else(&self) -> Result<()> {
        self.as_counted()?;
        self.last_line().map(drop)
    }

    fn as_counted(&self) -> Result<()> {
        let counts = counts(&self.envoy.stats()?);
        ensure!(
            counts == self.counts,
            "expected {:?}, counted {counts:?}\n{}",
            self.counts,
            lines(&self.envoy.log()).join("\n")
        );
        Ok(())
    }

    /// The last of exactly as many lines as there were failures; what follows the common beginning.
    fn last_line(&self) -> Result<String> {
        let log = self.envoy.log();
        let lines = lines(&log);
        ensure!(
            lines.len() == self.lines,
            "expected {} log lines:\n{}",
            self.lines,
            lines.join("\n")
        );
        Ok(lines.last().copied().unwrap_or_default().to_owned())
    }
}

/// The lines about refused handshakes.
pub fn lines(log: &str) -> Vec<&str> {
    let after = |line: &'_ str| line.find(LINE).map(|at| at + LINE.len());
    log.lines()
        .filter_map(|line| after(line).and_then(|at| line.get(at..)))
        .collect()
}
