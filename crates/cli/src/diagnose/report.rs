//! What `diagnose` found, and its JSON. docs/diagnose.md has the schema.

use mtls_watch_core::terms::Layer;
use mtls_watch_x509::time::UnixTime;
use serde::Serialize;

pub(super) use crate::mark::Outcome;

use super::line::{Cure, Line, Mark, Said, Step};

/// All that was found.
#[derive(Serialize)]
pub(super) struct Report {
    /// Unix seconds as of which it is judged.
    pub(super) at: i64,
    pub(super) result: Outcome,
    pub(super) targets: Vec<OfTarget>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) handshakes: Vec<OfPair>,
    /// What breaks first; absent if nothing does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) verdict: Option<Verdict>,
    /// What breaks next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) next: Option<Next>,
}

/// A target.
#[derive(Serialize)]
pub(super) struct OfTarget {
    pub(super) target: String,
    /// Names of its leaves.
    pub(super) identities: Vec<String>,
    pub(super) steps: Vec<OfStep>,
}

/// A step.
#[derive(Serialize)]
pub(super) struct OfStep {
    pub(super) step: Step,
    pub(super) result: Mark,
    pub(super) summary: String,
    pub(super) lines: Vec<OfLine>,
}

/// A line of a step or of a handshake.
#[derive(Clone, Serialize)]
pub(super) struct OfLine {
    pub(super) result: Mark,
    pub(super) text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) word: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) layer: Option<&'static str>,
    /// Unix seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) at: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cure: Option<Cure>,
}

/// A cluster of the client and a listener of the server.
#[derive(Serialize)]
pub(super) struct OfPair {
    pub(super) client: String,
    pub(super) server: String,
    pub(super) cluster: String,
    pub(super) listener: String,
    /// `null`: it cannot be told.
    pub(super) accepted: Option<bool>,
    pub(super) lines: Vec<OfLine>,
}

/// The first thing that breaks.
#[derive(Serialize)]
pub(super) struct Verdict {
    pub(super) target: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) step: Option<Step>,
    pub(super) text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) word: Option<&'static str>,
    #[serde(flatten)]
    pub(super) cure: Option<Cure>,
}

/// What breaks next.
#[derive(Serialize)]
pub(super) struct Next {
    pub(super) target: String,
    pub(super) text: String,
    /// Unix seconds.
    pub(super) at: i64,
}

impl From<&Line> for OfLine {
    fn from(line: &Line) -> Self {
        Self {
            result: line.mark,
            text: line.text.clone(),
            word: line.word,
            layer: line.layer.map(Layer::as_str),
            at: line.at.map(|at| at.0),
            cure: line.cure.clone(),
        }
    }
}

impl From<&Said> for OfStep {
    fn from(said: &Said) -> Self {
        Self {
            step: said.step,
            result: said.mark(),
            summary: said.summary.clone(),
            lines: said.lines.iter().map(OfLine::from).collect(),
        }
    }
}

impl Report {
    /// Draws the conclusion.
    pub(super) fn new(targets: Vec<OfTarget>, handshakes: Vec<OfPair>, now: UnixTime) -> Self {
        let mut report = Self {
            at: now.0,
            result: Outcome::Sound,
            targets,
            handshakes,
            verdict: None,
            next: None,
        };
        report.verdict = report
            .first(Mark::Broken)
            .or_else(|| report.first(Mark::Warning));
        report.result = report.outcome();
        report.next = report.what_ends_next(now);
        report
    }

    fn steps(&self) -> impl Iterator<Item = (&OfTarget, &OfStep)> {
        self.targets
            .iter()
            .flat_map(|target| target.steps.iter().map(move |step| (target, step)))
    }

    /// The first line of that mark, in the order of the steps.
    fn first(&self, mark: Mark) -> Option<Verdict> {
        let of_step = Step::ALL.into_iter().find_map(|step| {
            let mut steps = self.steps().filter(|(_, it)| it.step == step);
            steps.find_map(|(target, it)| {
                let line = it.lines.iter().find(|line| line.result == mark)?;
                Some(verdict(&target.target, Some(step), line))
            })
        });
        // What Envoy has counted is a symptom, and not a cause, where there is one.
        let of_handshake = || {
            let mut pairs = self.handshakes.iter();
            pairs.find_map(|pair| {
                let line = pair.lines.iter().find(|line| line.result == mark)?;
                Some(verdict(
                    &format!("{} and {}", pair.client, pair.server),
                    None,
                    line,
                ))
            })
        };
        match of_step {
            Some(verdict) if verdict.step != Some(Step::Counters) => Some(verdict),
            symptom => of_handshake().or(symptom),
        }
    }

    fn outcome(&self) -> Outcome {
        let worst = self.steps().map(|(_, step)| step.result);
        let refused = self
            .handshakes
            .iter()
            .any(|pair| pair.accepted == Some(false));
        let undecided = self.handshakes.iter().any(|pair| pair.accepted.is_none());
        let judged = |target: &OfTarget| {
            let mut steps = target.steps.iter();
            steps.any(|step| step.step != Step::Counters && step.result != Mark::Unseen)
        };
        match worst.max() {
            _ if refused => Outcome::Broken,
            Some(Mark::Broken) => Outcome::Broken,
            _ if undecided || !self.targets.iter().all(judged) => Outcome::Unknown,
            Some(Mark::Warning) => Outcome::WillBreak,
            _ => Outcome::Sound,
        }
    }

    /// The end that comes first; a leaf's, which is renewed by itself, only if nothing else ends, or if it should have
    /// been renewed.
    fn what_ends_next(&self, now: UnixTime) -> Option<Next> {
        let lines = self.steps().filter(|(_, step)| step.step == Step::Expiry);
        let lines =
            lines.flat_map(|(target, step)| step.lines.iter().map(move |line| (target, line)));
        let ends: Vec<(&OfTarget, &OfLine, i64)> = lines
            .filter_map(|(target, line)| Some((target, line, line.at?)))
            .filter(|(_, _, at)| *at >= now.0)
            .collect();
        let is_renewed =
            |line: &OfLine| line.layer == Some(Layer::Workload.as_str()) && line.result == Mark::Ok;
        let lasting = ends.iter().filter(|(_, line, _)| !is_renewed(line));
        let first = lasting.min_by_key(|(_, _, at)| *at);
        let first = first.or_else(|| ends.iter().min_by_key(|(_, _, at)| *at));
        first.map(|(target, line, at)| Next {
            target: target.target.clone(),
            text: line.text.clone(),
            at: *at,
        })
    }
}

fn verdict(target: &str, step: Option<Step>, line: &OfLine) -> Verdict {
    Verdict {
        target: target.to_owned(),
        step,
        text: line.text.clone(),
        word: line.word,
        cure: line.cure.clone(),
    }
}
