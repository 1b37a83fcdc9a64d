//! Step 4: key usages, extended key usages, and what they are missing for the side on which the certificate is used.

use mtls_watch_core::terms::{Finding, Layer};
use mtls_watch_x509::describe::describe;

use super::Subject;
use crate::diagnose::line::{Line, Mark, Said, Step};
use crate::diagnose::target::Chain;
use crate::terminal::counted;

/// What Envoy refuses.
const REFUSED: [Finding; 5] = [
    Finding::ClientAuthMissing,
    Finding::ServerAuthMissing,
    Finding::DigitalSignatureMissing,
    Finding::CertSignMissing,
    Finding::CaFlagMissing,
];

pub(super) fn said(subject: &Subject<'_>) -> Said {
    let mut lines = Vec::new();
    for chain in subject.target.chains() {
        lines.extend(of_chain(subject, chain));
    }
    let refusals = subject.refusals(Step::Usage, &lines);
    lines.extend(refusals);
    if lines.is_empty() {
        lines.push(Line::new(Mark::Unseen, "own certificate: it was not seen"));
    }
    let faults = lines.iter().filter(|line| line.mark > Mark::Unseen).count();
    let usages = lines
        .iter()
        .find(|line| line.mark == Mark::Ok)
        .map(|line| line.text.clone());
    Said {
        step: Step::Usage,
        summary: match (faults, usages) {
            (0, Some(usages)) => usages,
            (0, None) => "no usages were seen".to_owned(),
            (faults, _) => counted(faults, "fault", "faults"),
        },
        lines,
    }
}

fn of_chain(subject: &Subject<'_>, chain: &Chain) -> Vec<Line> {
    let mut lines = Vec::new();
    for judgement in subject.judgements(chain) {
        let layer = judgement.member.layer;
        let name = judgement.member.identity().into_owned();
        for finding in judgement.findings.iter() {
            let mark = match finding {
                // It is used on the side for which it is fit; on the other it will be refused.
                Finding::ClientAuthMissing | Finding::ServerAuthMissing
                    if subject.is_accepted(chain) =>
                {
                    Mark::Warning
                }
                finding if REFUSED.contains(&finding) && judgement.is_used => Mark::Broken,
                finding if REFUSED.contains(&finding) => Mark::Note,
                Finding::LeafIsCa => Mark::Warning,
                Finding::UsageExcessive | Finding::ExtendedKeyUsageAbsent => Mark::Note,
                _ => continue,
            };
            let text = match finding {
                Finding::ClientAuthMissing => {
                    format!(
                        "{name}: clientAuth is missing: as a client it is refused, as a server it works"
                    )
                }
                Finding::ServerAuthMissing => {
                    format!(
                        "{name}: serverAuth is missing: as a server it is refused, as a client it works"
                    )
                }
                finding => format!("{name}: {}: {}", finding.as_str(), finding.hint()),
            };
            lines.push(subject.finding(mark, finding, layer, text));
        }
        if layer == Layer::Workload {
            lines.extend(usages(chain));
        }
    }
    lines
}

/// What the leaf is for.
fn usages(chain: &Chain) -> Option<Line> {
    let description = describe(&chain.certificates.first()?.der).ok()?;
    let list = |names: Vec<String>| match names.is_empty() {
        true => "none".to_owned(),
        false => names.join(", "),
    };
    let usage = description
        .key_usage
        .map_or("any usage".to_owned(), |names| {
            list(names.into_iter().map(str::to_owned).collect())
        });
    let extended = description
        .extended_key_usage
        .map_or("any purpose".to_owned(), list);
    Some(Line::new(Mark::Ok, format!("{usage}; {extended}")))
}
