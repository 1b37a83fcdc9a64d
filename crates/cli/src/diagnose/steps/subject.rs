//! What the steps look at: a target, and what was decided of its certificates.

use std::rc::Rc;

use mtls_watch_core::handshake::Reason;
use mtls_watch_core::policy;
use mtls_watch_core::terms::{Direction, Finding, Findings, Layer, Thresholds};
use mtls_watch_x509 as x509;
use mtls_watch_x509::chain::{Member, link};
use mtls_watch_x509::spiffe::Svid;
use mtls_watch_x509::time::UnixTime;

use crate::diagnose::cure;
use crate::diagnose::handshake::{Decision, Refused};
use crate::diagnose::line::{Line, Mark, Step};
use crate::diagnose::target::{Chain, Role, Target};

/// A target, and what was decided of it.
pub(in crate::diagnose) struct Subject<'a> {
    pub(in crate::diagnose) target: &'a Target,
    pub(in crate::diagnose) judged: Vec<Judged<'a>>,
    pub(in crate::diagnose) thresholds: &'a Thresholds,
    pub(in crate::diagnose) now: UnixTime,
}

/// What a bundle says of a chain of the target.
pub(in crate::diagnose) struct Judged<'a> {
    pub(in crate::diagnose) chain: Rc<Chain>,
    pub(in crate::diagnose) by: Judge<'a>,
    pub(in crate::diagnose) decision: Decision,
}

/// Whose bundle it is.
pub(in crate::diagnose) enum Judge<'a> {
    /// That of the target itself, in the place that is named: what its peers trust, if they are of the same mesh.
    Own(String),
    /// That of the other target, in the place that is named.
    Other(&'a Target, String),
}

impl Judge<'_> {
    /// As a line begins with it.
    pub(in crate::diagnose) fn name(&self) -> String {
        match self {
            Self::Own(place) => format!("its own trust bundle ({place})"),
            Self::Other(target, place) => format!("{} ({place})", target.name),
        }
    }

    const fn target<'a>(&'a self, own: &'a Target) -> &'a Target {
        match self {
            Self::Own(_) => own,
            Self::Other(target, _) => target,
        }
    }
}

/// A certificate of a chain, in its place, with what is wrong with it now.
pub(super) struct Judgement {
    pub(super) member: Member,
    pub(super) findings: Findings,
    /// Whether somebody who verifies the leaf meets it.
    pub(super) is_used: bool,
}

impl Subject<'_> {
    /// The certificates of a chain that can be read.
    pub(super) fn judgements(&self, chain: &Chain) -> Vec<Judgement> {
        let readable = || chain.certificates.iter().filter(|it| it.facts.is_ok());
        let facts: Vec<x509::Certificate> =
            readable().filter_map(|it| it.read()).cloned().collect();
        let members = link(facts);
        let judged = match self.direction(chain) {
            Some(direction) => policy::judge(&members, direction, self.thresholds),
            None => policy::judge_own(&members, self.thresholds),
        };
        let used = self.used(chain, &members);
        let ders: Vec<&[u8]> = readable().map(|it| &*it.der).collect();
        members
            .into_iter()
            .zip(judged)
            .enumerate()
            .map(|(index, (member, judgement))| Judgement {
                member,
                findings: judgement.at(self.now),
                is_used: match &used {
                    Used::Path(path) => ders
                        .get(index)
                        .is_some_and(|der| path.iter().any(|it| it == der)),
                    Used::Links(links) => links.contains(&index),
                },
            })
            .collect()
    }

    /// On which side peers meet a chain, if it is on one only, and is no mesh workload's: that is on both.
    fn direction(&self, chain: &Chain) -> Option<Direction> {
        let is_workload = chain.leaf().is_some_and(|leaf| leaf.spiffe != Svid::No);
        let contexts = self.target.contexts.iter();
        let roles = contexts.filter(|it| it.chain.seen().and_then(Option::as_deref) == Some(chain));
        let roles: Vec<Role> = roles.map(|context| context.role).collect();
        match (
            is_workload,
            roles.iter().any(|it| it.is_client()),
            roles.iter().any(|it| it.is_server()),
        ) {
            (false, true, false) => Some(Direction::Inbound),
            (false, false, true) => Some(Direction::Outbound),
            _ => None,
        }
    }

    fn used(&self, chain: &Chain, members: &[Member]) -> Used {
        let of_chain = self.judged.iter().filter(|judged| *judged.chain == *chain);
        let mut paths = of_chain.filter_map(|judged| match &judged.decision {
            Decision::Accepted(path) if !path.is_empty() => Some(path),
            _ => None,
        });
        if let Some(path) = paths.next() {
            return Used::Path(paths.fold(path.clone(), |all, more| [all, more.clone()].concat()));
        }
        let mut links = vec![0];
        while let Some(issuer) = links.last().and_then(|at| members.get(*at)?.issuer)
            && !links.contains(&issuer)
        {
            links.push(issuer);
        }
        Used::Links(links)
    }

    /// Whether the other target accepts a chain.
    pub(super) fn is_accepted(&self, chain: &Chain) -> bool {
        let mut of_chain = self.judged.iter().filter(|judged| *judged.chain == *chain);
        of_chain.any(|judged| {
            matches!(judged.by, Judge::Other(..))
                && matches!(judged.decision, Decision::Accepted(_))
        })
    }

    /// A line about a finding.
    pub(super) fn finding(&self, mark: Mark, finding: Finding, layer: Layer, text: String) -> Line {
        let line = Line::new(mark, text)
            .word(finding.as_str())
            .layer(Some(layer));
        match mark {
            Mark::Broken | Mark::Warning => {
                line.cure(cure::of_finding(finding, layer, self.target))
            }
            _ => line,
        }
    }

    /// What was decided, as far as it belongs to a step: refusals, and what could not be decided.
    pub(super) fn refusals(&self, step: Step, lines: &[Line]) -> Vec<Line> {
        let mut found: Vec<Line> = Vec::new();
        for judged in &self.judged {
            let Decision::Refused(refused) = &judged.decision else {
                continue;
            };
            let is_told = |line: &Line| {
                line.mark == Mark::Broken && line.word == Some(refused.reason.as_str())
            };
            if step_of(refused) != step || lines.iter().any(is_told) {
                continue;
            }
            let text = format!(
                "{}: refused by {}: {}",
                judged.chain.name(),
                judged.by.name(),
                refused.detail
            );
            if found.iter().any(|line| line.text == text) {
                continue;
            }
            let line = Line::new(self.mark_of(judged), text)
                .word(refused.reason.as_str())
                .layer(refused.layer);
            let judge = judged.by.target(self.target);
            found.push(line.cure(cure::of_refusal(refused, self.target, judge)));
        }
        found
    }

    /// A refusal by its own bundle says something where peers have the same one: in a mesh. And only if no other bundle
    /// of its own accepts it.
    fn mark_of(&self, judged: &Judged<'_>) -> Mark {
        let is_workload = judged
            .chain
            .leaf()
            .is_some_and(|leaf| leaf.spiffe != Svid::No);
        let is_own = matches!(judged.by, Judge::Own(_));
        let is_accepted = |other: &Judged<'_>| {
            other.chain == judged.chain
                && matches!(other.by, Judge::Own(_))
                && matches!(other.decision, Decision::Accepted(_))
        };
        match is_own && (!is_workload || self.judged.iter().any(is_accepted)) {
            true => Mark::Note,
            false => Mark::Broken,
        }
    }
}

enum Used {
    /// Paths that were taken, as DER.
    Path(Vec<Vec<u8>>),
    /// By who signed whom: places in the chain.
    Links(Vec<usize>),
}

/// Whether a refusal is about the path itself, or comes before there is one.
pub(super) fn is_of_chain(refused: &Refused) -> bool {
    step_of(refused) == Step::Chain || refused.reason == Reason::TrustDomainUnknown
}

/// To which step a refusal belongs.
fn step_of(refused: &Refused) -> Step {
    match refused.reason {
        Reason::Expired | Reason::NotYetValid => Step::Expiry,
        Reason::NameMismatch if refused.by_name => Step::Names,
        Reason::TrustDomainUnknown => Step::Names,
        Reason::ClientAuthMissing
        | Reason::ServerAuthMissing
        | Reason::KeyUsage
        | Reason::NoSharedCipher => Step::Usage,
        _ => Step::Chain,
    }
}
