//! What the steps say, in the order in which broken mTLS is debugged.

use mtls_watch_core::terms::Layer;
use mtls_watch_x509::time::UnixTime;

use crate::clock::{ago, span};
pub(super) use crate::mark::Mark;

/// A step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Step {
    Expiry,
    Chain,
    Names,
    Usage,
    Counters,
}

impl Step {
    pub(super) const ALL: [Self; 5] = [
        Self::Expiry,
        Self::Chain,
        Self::Names,
        Self::Usage,
        Self::Counters,
    ];

    /// As people read it.
    pub(super) const fn title(self) -> &'static str {
        match self {
            Self::Expiry => "expiry",
            Self::Chain => "chain",
            Self::Names => "names",
            Self::Usage => "key usage",
            Self::Counters => "Envoy's counters",
        }
    }
}

/// One thing that a step says.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) mark: Mark,
    pub(super) text: String,
    /// The word for it: a finding, or a reason of `mtls_handshake_failures_total`.
    pub(super) word: Option<&'static str>,
    pub(super) layer: Option<Layer>,
    /// When it breaks, if it has not.
    pub(super) at: Option<UnixTime>,
    pub(super) cure: Option<Cure>,
}

/// Who must change what.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub(super) struct Cure {
    /// Whose thing must be changed, in words.
    pub(super) who: String,
    pub(super) change: String,
    /// A command that does it, or that leads to it.
    pub(super) command: String,
    /// Address of the runbook.
    pub(super) runbook: String,
}

impl Line {
    pub(super) fn new(mark: Mark, text: impl Into<String>) -> Self {
        Self {
            mark,
            text: text.into(),
            word: None,
            layer: None,
            at: None,
            cure: None,
        }
    }

    pub(super) fn word(self, word: &'static str) -> Self {
        Self {
            word: Some(word),
            ..self
        }
    }

    pub(super) fn layer(self, layer: Option<Layer>) -> Self {
        Self { layer, ..self }
    }

    pub(super) fn at(self, at: UnixTime) -> Self {
        Self {
            at: Some(at),
            ..self
        }
    }

    pub(super) fn cure(self, cure: Cure) -> Self {
        Self {
            cure: Some(cure),
            ..self
        }
    }
}

/// All that a step says of a target.
#[derive(Clone, Debug)]
pub(super) struct Said {
    pub(super) step: Step,
    /// In one line.
    pub(super) summary: String,
    pub(super) lines: Vec<Line>,
}

impl Said {
    /// The worst of its lines.
    pub(super) fn mark(&self) -> Mark {
        let marks = self.lines.iter().map(|line| line.mark);
        marks.max().unwrap_or(Mark::Ok).max(Mark::Ok)
    }
}

/// `expires in 3d 4h, 2026-…`, `expired 5m ago, 2026-…`.
pub(super) fn end(not_after: UnixTime, now: UnixTime) -> String {
    let left = not_after.since(now).0;
    match left < 0 {
        true => format!("expired {}, {not_after}", ago(left.saturating_neg())),
        false => format!("expires in {}, {not_after}", span(left)),
    }
}
