//! Handshakes that are refused: by whom, why, and what to change, all from the module's own output.

mod cases;
mod logfmt;
mod observe;
mod refusal;
mod table;

use std::fmt::Write as _;

pub use cases::{Case, cases};
pub use observe::Turn;
pub use refusal::ATTEMPTS;

use refusal::Refusal;
use testbed::Style;

/// The table of all refusals, in the order of the cases; `trust_domain` is left out of the
/// identities.
pub fn table(turns: &[Turn], trust_domain: &str, style: Style) -> String {
    let refusals: Vec<&Refusal> = turns.iter().flat_map(|turn| &turn.refusals).collect();
    table::render(&refusals, trust_domain, style)
}

/// The series and the log line behind the first row, in full.
pub fn example(turns: &[Turn], style: Style) -> String {
    let mut text = style.bold("The first row in full") + "\n";
    if let Some(first) = turns.iter().flat_map(|turn| &turn.refusals).next() {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {}", first.series);
        if let Some(report) = &first.report {
            let _ = writeln!(text, "  {}", report.line);
        }
    }
    text
}

/// Whether every refusal was explained as expected; and if not, which were not.
pub fn verdict(turns: &[Turn]) -> (bool, String) {
    let mut text = String::new();
    let mut explained = 0;
    for Turn { case, refusals } in turns {
        if case.is_explained_by(refusals) {
            explained += 1;
            continue;
        }
        let seen: Vec<String> = refusals.iter().map(Refusal::to_string).collect();
        let seen = match seen.as_slice() {
            [] => "nothing".to_owned(),
            seen => seen.join("\n       and "),
        };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "✗ {}: expected {case}\n       saw {seen}", case.name);
    }
    let good = explained == turns.len();
    let mark = if good { '✓' } else { '✗' };
    text += &format!(
        "{mark} {explained} of {} refusals explained as expected",
        turns.len()
    );
    (good, text)
}

#[cfg(test)]
mod tests {
    use anyhow::Result;

    use super::refusal::Report;
    use super::*;
    use crate::workloads::Pki;

    fn plaintext() -> Refusal {
        Refusal {
            direction: "inbound".to_owned(),
            layer: "none".to_owned(),
            reason: "not_tls".to_owned(),
            count: ATTEMPTS,
            series: "series 3".to_owned(),
            report: Some(Report {
                who: "127.0.0.1:4711".to_owned(),
                hint: "let the client use TLS".to_owned(),
                line: "the whole line".to_owned(),
            }),
        }
    }

    #[test]
    fn only_what_is_as_expected_is_explained() -> Result<()> {
        let cases = cases(&Pki::new()?)?;
        let case = cases.iter().find(|case| case.name == "nagios");
        let turn = |refusals| Turn {
            case: case.unwrap(),
            refusals,
        };
        let good = (true, "✓ 1 of 1 refusals explained as expected".to_owned());
        assert_eq!(verdict(&[turn(vec![plaintext()])]), good);
        let wrong = [
            Refusal {
                count: 1,
                ..plaintext()
            },
            Refusal {
                reason: "reset".to_owned(),
                ..plaintext()
            },
            Refusal {
                report: None,
                ..plaintext()
            },
        ];
        let wrong = wrong.map(|refusal| vec![refusal]);
        let wrong = wrong
            .into_iter()
            .chain([vec![], vec![plaintext(), plaintext()]]);
        for refusals in wrong {
            let (good, text) = verdict(&[turn(refusals)]);
            assert!(!good, "{text}");
            assert!(
                text.starts_with("✗ nagios: expected inbound not_tls"),
                "{text}"
            );
            assert!(text.ends_with("\n✗ 0 of 1 refusals explained as expected"));
        }
        Ok(())
    }

    #[test]
    fn the_example_is_what_the_module_wrote() -> Result<()> {
        let cases = cases(&Pki::new()?)?;
        let turns = [Turn {
            case: &cases[0],
            refusals: vec![plaintext()],
        }];
        let text = "The first row in full\n  series 3\n  the whole line\n";
        assert_eq!(example(&turns, Style::PLAIN), text);
        Ok(())
    }
}
