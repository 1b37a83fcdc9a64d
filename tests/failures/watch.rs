//! Watches a proxy for handshakes that fail: every one that is expected, and no other.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use testbed::stats::{self, Series, eventually};
use testbed::{Client, Envoy, Stats};

use crate::release;

const FAILURES: &str = "mtls_handshake_failures_total";
const LINE: &str = "mtls-watch: handshake refused ";

/// With it, what cannot be told apart by its identity is logged each time.
pub const REPEATED: &str = r#"{"log_repeat": "0s"}"#;

/// How often handshakes failed, by `direction layer reason`.
pub type Counts = BTreeMap<String, f64>;

pub fn counts(stats: &Stats) -> Counts {
    let what = |series: &Series| {
        let labels = ["direction", "layer", "reason"].map(|label| series.label(label));
        labels.join(" ")
    };
    let series = stats.series(FAILURES).into_iter();
    series.map(|series| (what(series), series.value)).collect()
}

/// The lines about refused handshakes, without what they begin with.
pub fn lines(log: &str) -> Vec<&str> {
    let lines = log.lines().filter_map(|line| line.split_once(LINE));
    lines.map(|(_, line)| line).collect()
}

/// Tries to connect, and waits until that has failed.
pub fn be_refused(client: &Client, port: u16) -> Result<()> {
    // In TLS 1.3 the refusal comes after the client's part of the handshake.
    match client.tcp(port) {
        Ok(mut connection) => connection.closed_by_peer().map(drop),
        Err(_) => Ok(()),
    }
}

/// What an operator is to be told of a handshake that failed.
#[derive(Clone, Debug)]
pub struct Failure {
    what: String,
    what_unseen: Option<String>,
    peer: Option<String>,
    holder: Option<&'static str>,
    hint: Vec<String>,
}

impl Failure {
    /// `direction layer reason`, the labels of the one series that moves.
    pub fn new(what: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            what_unseen: None,
            peer: None,
            holder: None,
            hint: Vec::new(),
        }
    }

    /// The log line has this about the certificate. Otherwise it must have no identity.
    pub fn peer(mut self, text: impl Into<String>) -> Self {
        self.peer = Some(text.into());
        self
    }

    /// No Envoy shows the certificate.
    pub fn unnamed(mut self) -> Self {
        self.peer = None;
        self
    }

    /// Whose thing must be changed.
    pub fn holder(mut self, holder: &'static str) -> Self {
        self.holder = Some(holder);
        self
    }

    /// The hint has these words.
    pub fn hint(mut self, words: &[&str]) -> Self {
        self.hint = words.iter().map(|words| (*words).to_owned()).collect();
        self
    }

    /// The labels, where the reason follows from the certificate and Envoy does not show it.
    pub fn unseen(mut self, what: impl Into<String>) -> Self {
        self.what_unseen = Some(what.into());
        self
    }

    /// The labels that the Envoy under test gives cause for.
    pub fn told(&self) -> Option<String> {
        self.as_told().map(|told| told.what)
    }

    /// The same from the Envoy under test; `None` if that tells nothing.
    fn as_told(&self) -> Option<Self> {
        if !release::explains() {
            let outbound = self.labels()[0] == "outbound";
            return outbound.then(|| self.without_detail());
        }
        if self.peer.is_some() && !release::shows_clients() {
            let what = self.what_unseen.as_ref().unwrap_or(&self.what);
            return Some(Self::new(what));
        }
        Some(self.clone())
    }

    /// What the TLS library says without the verifier's words.
    fn without_detail(&self) -> Self {
        match self.labels() {
            [_, "none", _] | [_, "workload", "key_usage"] => self.clone(),
            [_, _, "bad_signature"] => Self::new("outbound none bad_signature"),
            _ => Self::new("outbound none verify_failed"),
        }
    }

    fn check(&self, line: &str) -> Result<()> {
        let [direction, layer, reason] = self.labels();
        let start = format!("direction={direction} reason={reason} layer={layer} holder=");
        ensure!(line.starts_with(&start), "{start:?} is not in {line}");
        if let Some(holder) = self.holder {
            ensure!(
                line.contains(&format!(" holder={holder} ")),
                "not {holder}: {line}"
            );
        }
        let (about, hint) = line.split_once(" hint=").context("no hint")?;
        match &self.peer {
            Some(peer) => ensure!(
                about.contains(peer) && about.contains(" not_after=20"),
                "no {peer} in {line}"
            ),
            None => ensure!(!about.contains(" identity="), "a certificate in {line}"),
        }
        ensure!(
            about.contains(r#" address="127.0.0.1:"#),
            "no address in {line}"
        );
        for words in &self.hint {
            ensure!(hint.contains(words), "no {words:?} in {line}");
        }
        Ok(())
    }

    fn labels(&self) -> [&str; 3] {
        let mut labels = self.what.split(' ');
        [(); 3].map(|()| labels.next().unwrap_or_default())
    }
}

/// The failures of a proxy, one after the other.
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

    /// Waits until one more failure is counted and logged, this one and no other.
    pub fn expect(&mut self, failure: &Failure) -> Result<()> {
        self.expect_within(stats::DEADLINE, failure)
    }

    /// The same, by then.
    pub fn expect_within(&mut self, deadline: Duration, failure: &Failure) -> Result<()> {
        let Some(failure) = failure.as_told() else {
            return self.nothing_else();
        };
        *self.counts.entry(failure.what.clone()).or_default() += 1.0;
        self.lines += 1;
        let line = eventually(deadline, || {
            self.check_counts()?;
            self.last_line()
        })?;
        failure.check(&line)
    }

    /// That there has been no failure but those expected so far.
    pub fn nothing_else(&self) -> Result<()> {
        self.check_counts()?;
        self.last_line().map(drop)
    }

    fn check_counts(&self) -> Result<()> {
        let (counts, expected) = (counts(&self.envoy.stats()?), &self.counts);
        let log = || lines(&self.envoy.log()).join("\n");
        ensure!(
            counts == *expected,
            "{counts:?}, not {expected:?}\n{}",
            log()
        );
        Ok(())
    }

    /// The last line about a failure, of which there must be one each.
    fn last_line(&self) -> Result<String> {
        let log = self.envoy.log();
        let lines = lines(&log);
        let expected = self.lines;
        ensure!(lines.len() == expected, "not {expected} lines: {lines:#?}");
        Ok(lines.last().copied().unwrap_or_default().to_owned())
    }
}
