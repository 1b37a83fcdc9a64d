//! Step 1: what has expired, what will, and what should have been renewed by now.

use mtls_watch_core::own::admin::CertificateKey;
use mtls_watch_core::policy::Judgement;
use mtls_watch_core::terms::{Finding, Findings, Layer};
use mtls_watch_x509 as x509;
use mtls_watch_x509::crl;
use mtls_watch_x509::time::{Seconds, UnixTime};

use super::Subject;
use crate::diagnose::cure;
use crate::diagnose::line::{Line, Mark, Said, Step, end, of_dates};
use crate::diagnose::target::{Bundle, Chain, Dated, PlacedList, Seen};

const OF_DATES: [Finding; 5] = [
    Finding::Expired,
    Finding::NotYetValid,
    Finding::ValidityReversed,
    Finding::ExpiresCritical,
    Finding::ExpiresWarning,
];

pub(super) fn said(subject: &Subject<'_>) -> Said {
    let target = subject.target;
    let mut lines = Vec::new();
    for chain in target.chains() {
        lines.extend(of_chain(subject, chain));
        lines.extend(rejected(subject, chain));
    }
    for bundle in target.bundles() {
        lines.extend(of_bundle(subject, bundle));
    }
    lines.extend(of_lists(subject));
    if let Seen::Yes(served) = &target.served {
        lines.extend(served.dated.iter().map(|dated| of_dated(subject, dated)));
    }
    for (name, why) in &target.missing {
        let text = format!("{name}: {why}");
        let line = Line::new(Mark::Broken, text).word(Finding::SecretWarming.as_str());
        lines.push(line.cure(cure::of_missing(target)));
    }
    lines.extend(subject.refusals(Step::Expiry, &lines));
    lines.extend(unseen(subject, lines.is_empty()));
    let nothing = match lines.iter().all(|line| line.mark == Mark::Unseen) {
        true => "no certificate was seen",
        false => "nothing has expired",
    };
    Said {
        step: Step::Expiry,
        summary: of_dates(&lines, subject.now, nothing),
        lines,
    }
}

fn of_chain(subject: &Subject<'_>, chain: &Chain) -> Vec<Line> {
    let judgements = subject.judgements(chain);
    let lines = judgements.iter().map(|judgement| {
        let member = &judgement.member;
        let certificate = &member.certificate;
        let name = match member.layer {
            Layer::Workload => format!("leaf {}", certificate.identity),
            layer => format!("{} {}", words(layer), certificate.subject_ca()),
        };
        dated_line(
            subject,
            &name,
            member.layer,
            judgement.findings,
            Validity::of(certificate),
            judgement.is_used,
        )
    });
    lines.collect()
}

#[derive(Clone, Copy)]
struct Validity {
    not_before: UnixTime,
    not_after: UnixTime,
}

impl Validity {
    const fn of(certificate: &x509::Certificate) -> Self {
        Self {
            not_before: certificate.not_before,
            not_after: certificate.not_after,
        }
    }
}

fn dated_line(
    subject: &Subject<'_>,
    name: &str,
    layer: Layer,
    findings: Findings,
    validity: Validity,
    is_used: bool,
) -> Line {
    let now = subject.now;
    let finding = OF_DATES
        .iter()
        .copied()
        .find(|finding| findings.contains(*finding));
    let ends = end(validity.not_after, now);
    let Some(finding) = finding else {
        return Line::new(Mark::Ok, format!("{name} {ends}"))
            .layer(Some(layer))
            .at(validity.not_after);
    };
    if !is_used {
        let text = format!("{name} {ends}; nobody who verifies the leaf needs it");
        return Line::new(Mark::Note, text).layer(Some(layer));
    }
    match finding {
        Finding::ExpiresCritical | Finding::ExpiresWarning => {
            let lifetime = validity.not_after.since(validity.not_before);
            let renewed = match layer {
                Layer::Workload if lifetime <= Seconds::DAY.times(90) => {
                    "; it should have been renewed by now"
                }
                _ => "",
            };
            let line = subject.finding(
                Mark::Warning,
                finding,
                layer,
                format!("{name} {ends}{renewed}"),
            );
            line.at(validity.not_after)
        }
        Finding::NotYetValid => {
            let text = format!("{name} is not valid before {}", validity.not_before);
            subject.finding(Mark::Broken, finding, layer, text)
        }
        finding => subject.finding(Mark::Broken, finding, layer, format!("{name} {ends}")),
    }
}

/// What Envoy serves is an older leaf than its secret has: it has rejected the newer one.
fn rejected(subject: &Subject<'_>, chain: &Chain) -> Option<Line> {
    let served = subject.target.served.seen()?;
    let leaf = chain.leaf()?;
    let key: CertificateKey = chain.certificates.first()?.key()?;
    if served.leaves.contains(&key) {
        return None;
    }
    let is_older = |dated: &&Dated| {
        dated.is_leaf
            && dated.identity.as_deref() == Some(&leaf.identity)
            && dated.not_before < leaf.not_before
    };
    let old = served.dated.iter().find(is_older)?;
    let text = format!(
        "leaf {}: Envoy serves the one that {}, not the one in secret {}: it has rejected it, or not taken it yet",
        leaf.identity,
        end(old.not_after, subject.now),
        chain.place
    );
    let line = Line::new(Mark::Broken, text).word(Finding::RotationRejected.as_str());
    Some(
        line.layer(Some(Layer::Workload))
            .cure(cure::of_rejected(subject.target)),
    )
}

/// An anchor that has ended breaks what stands under it. Where another of its name or key takes its place, or the own
/// path needs another, it concerns nobody that is seen here.
fn of_bundle(subject: &Subject<'_>, bundle: &Bundle) -> Vec<Line> {
    let facts: Vec<&x509::Certificate> = bundle
        .certificates
        .iter()
        .filter_map(|it| it.read())
        .collect();
    let lines = facts.iter().map(|ca| {
        let layer = match ca.is_self_issued() {
            true => Layer::RootCa,
            false => Layer::IntermediateCa,
        };
        let validity = Validity::of(ca);
        let findings =
            Judgement::of_validity(ca.not_before, ca.not_after, layer, subject.thresholds)
                .at(subject.now);
        let has_successor = facts.iter().any(|other| {
            other.links.subject == ca.links.subject
                && other.not_after > ca.not_after
                && other.not_before <= subject.now
        });
        let is_needed = subject.target.chains().iter().any(|chain| {
            let top = chain.certificates.iter().filter_map(|it| it.read());
            top.filter(|it| !it.is_self_issued())
                .any(|it| it.names_as_issuer(ca))
        });
        let name = format!("anchor {} in {}", ca.subject_ca(), bundle.place);
        let is_used = is_needed || !has_successor;
        let line = dated_line(subject, &name, layer, findings, validity, is_used);
        match (line.mark, is_needed) {
            // Others may stand under it: nobody that is seen.
            (Mark::Broken, false) => Line {
                mark: Mark::Warning,
                text: format!("{}: whoever stands under it is refused", line.text),
                ..line
            },
            _ => line,
        }
    });
    lines.collect()
}

fn of_lists(subject: &Subject<'_>) -> Vec<Line> {
    let trusts = subject
        .target
        .contexts
        .iter()
        .filter_map(|it| it.trust.seen());
    let mut lines: Vec<Line> = Vec::new();
    let in_force = trusts.flat_map(|trust| crl::in_force(&trust.lists, subject.now));
    for PlacedList { place, list } in in_force {
        let Some(next_update) = list.next_update else {
            continue;
        };
        let text = format!(
            "revocation list in {place} {}",
            end(next_update, subject.now)
        );
        let line = match next_update < subject.now {
            true => Line::new(Mark::Broken, text)
                .word("crl_expiring")
                .cure(cure::of_missing(subject.target)),
            false => Line::new(Mark::Ok, text).at(next_update),
        };
        if lines.iter().all(|known| known.text != line.text) {
            lines.push(line);
        }
    }
    lines
}

/// A file's certificate, of which Envoy tells the dates.
fn of_dated(subject: &Subject<'_>, dated: &Dated) -> Line {
    let layer = dated.layer();
    let validity = Validity {
        not_before: dated.not_before,
        not_after: dated.not_after,
    };
    let findings =
        Judgement::of_validity(dated.not_before, dated.not_after, layer, subject.thresholds)
            .at(subject.now);
    let name = match (&dated.identity, dated.is_leaf) {
        (Some(identity), true) => format!("leaf {identity} in {}", dated.place),
        (None, true) => format!("leaf in {}", dated.place),
        (_, false) => format!("CA in {}", dated.place),
    };
    dated_line(subject, &name, layer, findings, validity, true)
}

fn unseen(subject: &Subject<'_>, nothing_else: bool) -> Vec<Line> {
    let target = subject.target;
    let mut why: Vec<String> = target.unseen.clone();
    if let Seen::No(reason) = &target.served {
        why.push(format!("what is served: {reason}"));
    }
    if nothing_else {
        let chains = target
            .contexts
            .iter()
            .filter_map(|context| match &context.chain {
                Seen::No(reason) => Some(format!("own certificate: {reason}")),
                Seen::Yes(_) => None,
            });
        why.extend(chains);
    }
    why.dedup();
    let mark = match nothing_else {
        true => Mark::Unseen,
        false => Mark::Note,
    };
    why.into_iter().map(|why| Line::new(mark, why)).collect()
}

/// A layer as people read it.
const fn words(layer: Layer) -> &'static str {
    match layer {
        Layer::Workload => "leaf",
        Layer::IssuingCa => "issuing CA",
        Layer::IntermediateCa => "intermediate CA",
        Layer::RootCa => "root CA",
    }
}
