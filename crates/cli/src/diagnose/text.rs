//! The report for people: 80 columns, colours on a terminal only.

use std::fmt::Write as _;

use super::line::Step;
use super::report::{OfLine, OfStep, Report, Verdict};
use crate::printable::printable;
use crate::terminal::write_wrapped;

/// How many lines of a step are shown of each kind; JSON has all.
const SHOWN: usize = 12;

/// The report in words.
pub(super) fn text(report: &Report, in_colour: bool) -> String {
    let mut text = String::new();
    for target in &report.targets {
        let title = match &*target.identities {
            [] => target.target.clone(),
            [only] => format!("{} ({only})", target.target),
            [first, more @ ..] => format!("{} ({first} and {} more)", target.target, more.len()),
        };
        write_wrapped(&mut text, "", 2, &printable(&title));
        for step in &target.steps {
            write_step(&mut text, step, in_colour);
        }
        text.push('\n');
    }
    for pair in &report.handshakes {
        let title = format!(
            "handshake: {} (cluster {}) to {} (listener {})",
            pair.client, pair.cluster, pair.server, pair.listener
        );
        write_wrapped(&mut text, "", 2, &printable(&title));
        write_lines(&mut text, &pair.lines, in_colour);
        text.push('\n');
    }
    write_verdict(&mut text, report, in_colour);
    text
}

fn write_step(text: &mut String, step: &OfStep, in_colour: bool) {
    let number = Step::ALL
        .iter()
        .position(|it| *it == step.step)
        .unwrap_or_default()
        + 1;
    let head = format!(
        "{} {number} {:16} ",
        step.result.sign(in_colour),
        step.step.title()
    );
    write_wrapped(text, &head, 21, &printable(&step.summary));
    // What the summary says already.
    let lines: Vec<OfLine> = step
        .lines
        .iter()
        .filter(|line| line.text != step.summary && !step.summary.ends_with(&line.text))
        .cloned()
        .collect();
    write_lines(text, &lines, in_colour);
}

fn write_lines(text: &mut String, lines: &[OfLine], in_colour: bool) {
    for line in lines.iter().take(SHOWN) {
        let head = format!("    {} ", line.result.sign(in_colour));
        write_wrapped(text, &head, 6, &printable(&line.text));
    }
    let more = lines.len().saturating_sub(SHOWN);
    if more > 0 {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "      and {more} more: -o json has them");
    }
}

fn write_verdict(text: &mut String, report: &Report, in_colour: bool) {
    let _ = writeln!(text, "{}", report.result.line(in_colour));
    if let Some(verdict) = &report.verdict {
        write_cure(text, verdict);
    }
    if let Some(next) = &report.next {
        write_wrapped(
            text,
            "  next     ",
            11,
            &printable(&format!("{}: {}", next.target, next.text)),
        );
    }
}

fn write_cure(text: &mut String, verdict: &Verdict) {
    let what = format!("{}: {}", verdict.target, verdict.text);
    write_wrapped(text, "  first    ", 11, &printable(&what));
    let Some(cure) = &verdict.cure else { return };
    write_wrapped(text, "  who      ", 11, &printable(&cure.who));
    write_wrapped(text, "  change   ", 11, &printable(&cure.change));
    // Neither is cut: people copy them.
    let _ = writeln!(text, "  command  {}", printable(&cure.command));
    let _ = writeln!(text, "  runbook  {}", cure.runbook);
}
