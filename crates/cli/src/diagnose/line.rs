//! What the steps say, in the order in which broken mTLS is debugged.

use mtls_watch_core::terms::{Finding, Layer};
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

    /// The step that tells of a finding.
    pub(super) const fn of(finding: Finding) -> Self {
        match finding {
            Finding::Expired
            | Finding::ExpiresCritical
            | Finding::ExpiresWarning
            | Finding::NotYetValid
            | Finding::ValidityReversed
            | Finding::RotationRejected
            | Finding::SecretWarming
            | Finding::CrlExpiring => Self::Expiry,
            Finding::SpiffeIdInvalid | Finding::SubjectAltNameMissing | Finding::WildcardClient => {
                Self::Names
            }
            Finding::ClientAuthMissing
            | Finding::ServerAuthMissing
            | Finding::ExtendedKeyUsageAbsent
            | Finding::DigitalSignatureMissing
            | Finding::CertSignMissing
            | Finding::LeafIsCa
            | Finding::CaFlagMissing
            | Finding::UsageExcessive => Self::Usage,
            Finding::OutlivesIssuer
            | Finding::WeakKey
            | Finding::WeakSignature
            | Finding::Unreadable
            | Finding::ValidityTooLong
            | Finding::DefaultIssuer
            | Finding::SelfSignedLeaf
            | Finding::Version1
            | Finding::CriticalExtensionUnknown
            | Finding::CertificateShared
            | Finding::OwnCertificatePresented
            | Finding::SerialReused
            | Finding::SessionUnverified
            | Finding::ConnectionOutlivesCertificate
            | Finding::RevokedOwn => Self::Chain,
        }
    }

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

/// How many lines have that mark.
pub(super) fn count(lines: &[Line], mark: Mark) -> usize {
    lines.iter().filter(|line| line.mark == mark).count()
}

/// The first step in one line: the worst, else what ends first, else `nothing`.
pub(super) fn of_dates(lines: &[Line], now: UnixTime, nothing: &str) -> String {
    let ends = lines
        .iter()
        .filter(|line| line.at.is_some_and(|at| at >= now));
    let first = ends.min_by_key(|line| line.at);
    match (
        count(lines, Mark::Broken),
        count(lines, Mark::Warning),
        first,
    ) {
        (0, 0, Some(first)) => format!("first: {}", first.text),
        (0, 0, None) => nothing.to_owned(),
        (0, soon, _) => format!("{soon} will end soon"),
        (broken, _, _) => format!("{broken} not valid"),
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
