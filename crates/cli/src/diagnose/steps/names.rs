//! Step 3: names: the rules of SPIFFE, trust domains, and what the other side asks for.

use mtls_watch_core::terms::{Finding, Layer};
use mtls_watch_x509::describe::describe;
use mtls_watch_x509::spiffe::{self, Svid};

use super::Subject;
use crate::diagnose::handshake::Decision;
use crate::diagnose::line::{Line, Mark, Said, Step};
use crate::diagnose::matcher::{Matched, Matcher, matches};
use crate::diagnose::target::{Anchors, Chain};
use crate::terminal::counted;

pub(super) fn said(subject: &Subject<'_>) -> Said {
    let mut lines = Vec::new();
    for chain in subject.target.chains() {
        lines.extend(of_chain(subject, chain));
    }
    let refusals = subject.refusals(Step::Names, &lines);
    lines.extend(refusals);
    lines.extend(expectations(subject));
    if lines.is_empty() {
        lines.push(Line::new(Mark::Unseen, "own certificate: it was not seen"));
    }
    let broken = lines.iter().filter(|line| line.mark > Mark::Unseen).count();
    let names = lines
        .iter()
        .find(|line| line.mark == Mark::Ok)
        .map(|line| line.text.clone());
    Said {
        step: Step::Names,
        summary: match (broken, names) {
            (0, Some(names)) => names,
            (0, None) => "no names were seen".to_owned(),
            (broken, _) => counted(broken, "fault", "faults"),
        },
        lines,
    }
}

fn of_chain(subject: &Subject<'_>, chain: &Chain) -> Vec<Line> {
    let (Some(leaf), Some(first)) = (chain.leaf(), chain.certificates.first()) else {
        return Vec::new();
    };
    let names = describe(&first.der)
        .map(|it| it.subject_alt_names)
        .unwrap_or_default();
    let mut lines = Vec::new();
    match (&leaf.spiffe, names.is_empty()) {
        (Svid::Invalid(why), _) => {
            let text = format!("{} is no SPIFFE ID by the rules: {why}", leaf.identity);
            lines.push(subject.finding(
                Mark::Warning,
                Finding::SpiffeIdInvalid,
                Layer::Workload,
                text,
            ));
        }
        (_, true) => {
            let text = format!("{}: it has no subject alternative names", leaf.identity);
            lines.push(subject.finding(
                Mark::Note,
                Finding::SubjectAltNameMissing,
                Layer::Workload,
                text,
            ));
        }
        _ => {}
    }
    let judgements = subject.judgements(chain);
    let wildcards = judgements
        .iter()
        .filter(|it| it.findings.contains(Finding::WildcardClient));
    lines.extend(wildcards.map(|it| {
        let finding = Finding::WildcardClient;
        let text = format!("{}: {}", leaf.identity, finding.hint());
        subject.finding(Mark::Note, finding, it.member.layer, text)
    }));
    lines.extend(foreign(subject, chain));
    if !names.is_empty() {
        lines.push(Line::new(Mark::Ok, names.join(", ")));
    }
    lines
}

/// A leaf of a trust domain of which its own proxy accepts nobody: peers of the same mesh will not accept it either.
fn foreign(subject: &Subject<'_>, chain: &Chain) -> Option<Line> {
    let leaf = chain.leaf()?;
    let domain = spiffe::trust_domain(&leaf.identity)?;
    let name = [format!("URI:{}", leaf.identity)];
    let servers = subject
        .target
        .contexts
        .iter()
        .filter(|context| context.role.is_server());
    let trusts: Vec<_> = servers.filter_map(|context| context.trust.seen()).collect();
    let accepts = |matchers: &[Matcher]| matches(matchers, &name) != Matched::No;
    let is_known = |anchors: &Anchors| match anchors {
        Anchors::TrustDomains(domains) => domains.iter().any(|(known, _)| known == domain),
        Anchors::Bundle(_) | Anchors::Anyone => true,
    };
    let none = !trusts.is_empty()
        && !trusts
            .iter()
            .any(|trust| accepts(&trust.matchers) && is_known(&trust.anchors));
    none.then(|| {
        Line::new(
            Mark::Note,
            format!("its own listeners accept no peer of its trust domain {domain}: see trustDomain and trustDomainAliases"),
        )
    })
}

/// What this target asks of its peers' names, each once; only how many where there are many.
fn expectations(subject: &Subject<'_>) -> Vec<Line> {
    const SHOWN: usize = 3;
    let mut wanted: Vec<String> = Vec::new();
    for context in &subject.target.contexts {
        let Some(trust) = context
            .trust
            .seen()
            .filter(|trust| !trust.matchers.is_empty())
        else {
            continue;
        };
        let matchers: Vec<String> = trust.matchers.iter().map(Matcher::to_string).collect();
        let place = context.places.first().map_or("", String::as_str);
        let text = format!("{place} asks its peers for {}", matchers.join(" or "));
        if !wanted.contains(&text) {
            wanted.push(text);
        }
    }
    let more = wanted.len().saturating_sub(SHOWN);
    let mut lines: Vec<Line> = wanted
        .into_iter()
        .take(SHOWN)
        .map(|text| Line::new(Mark::Note, text))
        .collect();
    if more > 0 {
        lines.push(Line::new(
            Mark::Note,
            format!("{more} more listeners and clusters ask for names"),
        ));
    }
    let is_undecided = |decision: &Decision| matches!(decision, Decision::Unknown(why) if why.contains("not judged"));
    if subject
        .judged
        .iter()
        .any(|judged| is_undecided(&judged.decision))
    {
        lines.push(Line::new(
            Mark::Note,
            "some settings are not judged: see step 2",
        ));
    }
    lines
}
