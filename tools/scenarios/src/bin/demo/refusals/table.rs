//! The table of refusals, for people: who, why, how often; and below each what to change.

use super::refusal::Refusal;
use testbed::Style;

use columns::{aligned, widest};

use crate::table::{GAP, UNKNOWN, WIDTH, heading};

const HEADINGS: [&str; 5] = ["who", "direction", "layer", "reason", "count"];
const WHO: usize = 0;
const REASON: usize = 3;
const NUMBERS: [usize; 1] = [4];
/// Before the first line of a hint, and blanks of the same width before the others.
const ARROW: &str = "  → ";

type Cells = [String; HEADINGS.len()];

/// The table; `trust_domain` is left out of the identities.
pub fn render(refusals: &[&Refusal], trust_domain: &str, style: Style) -> String {
    let rows: Vec<Cells> = refusals
        .iter()
        .map(|row| cells(row, trust_domain))
        .collect();
    let headings = HEADINGS.map(str::to_owned);
    let mut widths = widest(rows.iter().chain([&headings]).map(|cells| cells.as_slice()));
    let others: usize = widths.iter().skip(1).map(|width| GAP.len() + width).sum();
    widths[WHO] = widths[WHO].min(WIDTH.saturating_sub(others));
    let mut table = heading(&headings, &widths, &NUMBERS, style);
    for (row, refusal) in rows.iter().zip(refusals) {
        let mut cells = aligned(row, &widths, &NUMBERS);
        cells[REASON] = style.verdict(false, &cells[REASON]);
        table += cells.join(GAP).trim_end();
        table.push('\n');
        let hint = refusal.report.as_ref().map_or(UNKNOWN, |r| &r.hint);
        table += &hanging(hint);
    }
    table
}

fn cells(refusal: &Refusal, trust_domain: &str) -> Cells {
    let who = refusal.report.as_ref().map_or(UNKNOWN, |r| &r.who);
    [
        who.strip_prefix(trust_domain).unwrap_or(who).to_owned(),
        refusal.direction.clone(),
        refusal.layer.clone(),
        refusal.reason.clone(),
        refusal.count.to_string(),
    ]
}

/// The text in lines that fit, behind an arrow. A word is not broken.
fn hanging(text: &str) -> String {
    let indent = ARROW.chars().count();
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        let room =
            |line: &String| line.chars().count() + 1 + word.chars().count() <= WIDTH - indent;
        match lines.last_mut() {
            Some(line) if room(line) => *line += &format!(" {word}"),
            _ => lines.push(word.to_owned()),
        }
    }
    let beginnings = [ARROW.to_owned()].into_iter();
    let beginnings = beginnings.chain(std::iter::repeat(" ".repeat(indent)));
    let lines = beginnings.zip(lines);
    lines
        .map(|(beginning, line)| format!("{beginning}{line}\n"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::refusal::Report;
    use super::*;

    fn refusal(who: &str, hint: &str) -> Refusal {
        Refusal {
            direction: "inbound".to_owned(),
            layer: "workload".to_owned(),
            reason: "expired".to_owned(),
            count: 3,
            series: String::new(),
            report: Some(Report {
                who: who.to_owned(),
                hint: hint.to_owned(),
                line: String::new(),
            }),
        }
    }

    #[test]
    fn the_hint_is_below_its_row() {
        let unexplained = Refusal {
            report: None,
            count: 12,
            ..refusal("", "")
        };
        let rows = [&refusal("spiffe://a/x", "renew it"), &unexplained];
        let expected = "\
who  direction  layer     reason   count
───  ─────────  ────────  ───────  ─────
x    inbound    workload  expired      3
  → renew it
–    inbound    workload  expired     12
  → –
";
        assert_eq!(render(&rows, "spiffe://a/", Style::PLAIN), expected);
    }

    #[test]
    fn everything_fits() {
        let hint = "a word and another ".repeat(20);
        let table = render(&[&refusal(&"long".repeat(50), &hint)], "", Style::PLAIN);
        let lines: Vec<&str> = table.lines().collect();
        let fits = |line: &&str| line.chars().count() <= WIDTH;
        assert!(lines.iter().all(fits), "{table}");
        assert_eq!(
            lines.iter().map(|line| line.chars().count()).max(),
            Some(WIDTH)
        );
        assert!(lines[3].starts_with("  → a word"), "{table}");
        assert!(lines[4].starts_with("    "), "{table}");
        let words = lines[3..].join(" ").replace('→', "");
        assert!(words.split_whitespace().eq(hint.split_whitespace()));
    }

    #[test]
    fn colour_is_added_where_it_is_wanted_only() {
        let row = refusal("x", "renew it");
        assert!(!render(&[&row], "", Style::PLAIN).contains('\x1b'));
        assert!(render(&[&row], "", Style::COLOURED).contains("\x1b[31mexpired\x1b[0m"));
    }
}
