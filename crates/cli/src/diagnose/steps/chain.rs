//! Step 2: whether the chain leads to a CA that is trusted, as BoringSSL builds the path.

use mtls_watch_core::terms::{Finding, Layer};
use mtls_watch_x509 as x509;

use super::subject::is_of_chain;
use super::{Judged, Subject};
use crate::diagnose::handshake::Decision;
use crate::diagnose::line::{Line, Mark, Said, Step, count};
use crate::diagnose::target::{Certificate, Chain, Seen};
use crate::terminal::counted;

pub(super) fn said(subject: &Subject<'_>) -> Said {
    let target = subject.target;
    let mut lines = Vec::new();
    for chain in target.chains() {
        lines.extend(form(chain));
        lines.extend(findings(subject, chain));
    }
    for bundle in target.bundles() {
        for (place, certificate) in bundle.certificates.iter().enumerate() {
            if let Err(why) = &certificate.facts {
                let text = format!(
                    "certificate {} of the bundle {} cannot be read, and Envoy loads no bundle with such a one: {why}",
                    place.saturating_add(1),
                    bundle.place
                );
                lines.push(subject.finding(Mark::Broken, Finding::Unreadable, Layer::RootCa, text));
            }
        }
    }
    let refusals = subject.refusals(Step::Chain, &lines);
    lines.extend(refusals);
    for line in subject.judged.iter().filter_map(decided) {
        // A mesh workload's chain is judged for both sides.
        if lines.iter().all(|known| known.text != line.text) {
            lines.push(line);
        }
    }
    let mut whys: Vec<&String> = Vec::new();
    for context in &target.contexts {
        if let Seen::No(why) = &context.trust
            && !whys.contains(&why)
        {
            whys.push(why);
        }
    }
    let mark = match subject.judged.is_empty() {
        true => Mark::Unseen,
        false => Mark::Note,
    };
    lines.extend(
        whys.into_iter()
            .map(|why| Line::new(mark, format!("trust bundle: {why}"))),
    );
    Said {
        step: Step::Chain,
        summary: summary(&lines, &subject.judged),
        lines,
    }
}

/// What the path takes, or why it is not known.
fn decided(judged: &Judged<'_>) -> Option<Line> {
    match &judged.decision {
        Decision::Refused(refused) if is_of_chain(refused) => None,
        // The path is built first.
        Decision::Refused(refused) => {
            let text = format!(
                "{}: {} has a CA to which it leads; it is refused for {}",
                judged.chain.name(),
                judged.by.name(),
                refused.reason.as_str()
            );
            Some(Line::new(Mark::Ok, text))
        }
        Decision::Unknown(why) => {
            let text = format!("{}: {}: {why}", judged.chain.name(), judged.by.name());
            Some(Line::new(Mark::Unseen, text))
        }
        Decision::Accepted(path) => {
            let anchor = path.last().and_then(|der| x509::parse(der).ok());
            let text = match anchor {
                Some(anchor) => format!(
                    "{}: accepted by {}, through {}",
                    judged.chain.name(),
                    judged.by.name(),
                    anchor.subject_ca()
                ),
                None => format!(
                    "{}: {} verifies nobody",
                    judged.chain.name(),
                    judged.by.name()
                ),
            };
            Some(Line::new(Mark::Ok, text))
        }
    }
}

/// What is said whoever verifies it.
fn form(chain: &Chain) -> Vec<Line> {
    let mut lines = Vec::new();
    for (place, certificate) in chain.certificates.iter().enumerate() {
        if let Err(why) = &certificate.facts {
            let text = format!(
                "certificate {} of {} cannot be read: {why}",
                place.saturating_add(1),
                chain.place
            );
            lines.push(Line::new(Mark::Broken, text).word(Finding::Unreadable.as_str()));
        }
    }
    let is_leaf = |certificate: &Certificate| certificate.read().is_some_and(|it| !it.is_ca);
    let first_is_ca = chain.leaf().is_some_and(|first| first.is_ca);
    if first_is_ca && chain.certificates.iter().skip(1).any(is_leaf) {
        let text = format!(
            "{}: the first certificate is a CA, which Envoy takes for the leaf: the order is reversed",
            chain.place
        );
        lines.push(Line::new(Mark::Broken, text).word("order"));
    }
    let doubles = chain.certificates.iter().enumerate();
    let doubles = doubles.filter(|(at, it)| {
        chain
            .certificates
            .iter()
            .take(*at)
            .any(|other| other == *it)
    });
    let doubles = doubles.count();
    if doubles > 0 {
        lines.push(Line::new(
            Mark::Note,
            format!("{}: {doubles} certificates are in it twice", chain.place),
        ));
    }
    lines
}

fn findings(subject: &Subject<'_>, chain: &Chain) -> Vec<Line> {
    let mut lines = Vec::new();
    for judgement in subject.judgements(chain) {
        let name = judgement.member.identity().into_owned();
        for finding in judgement.findings.iter() {
            let mark = match finding {
                finding if Step::of(finding) != Step::Chain => continue,
                Finding::CriticalExtensionUnknown if judgement.is_used => Mark::Broken,
                // Envoy accepts it.
                _ => Mark::Note,
            };
            let text = format!("{name}: {}: {}", finding.as_str(), finding.hint());
            lines.push(subject.finding(mark, finding, judgement.member.layer, text));
        }
    }
    lines
}

fn summary(lines: &[Line], judged: &[Judged<'_>]) -> String {
    let broken = count(lines, Mark::Broken);
    let accepted = judged
        .iter()
        .filter(|it| matches!(it.decision, Decision::Accepted(_)))
        .count();
    let leads = lines.iter().any(|line| line.mark == Mark::Ok);
    match (broken, accepted) {
        (0, 0) if judged.is_empty() => "there is no trust bundle to verify it with".to_owned(),
        (0, 0) if !leads => "it could not be verified".to_owned(),
        (0, _) => "it leads to a CA that is trusted".to_owned(),
        (broken, _) => counted(broken, "fault", "faults"),
    }
}
