//! The report for people: 80 columns, colours on a terminal only.

use std::fmt::Write as _;

use super::line::{Mark, Step};
use super::report::{OfLine, OfStep, Outcome, Report, Verdict};
use crate::printable::printable;

const WIDTH: usize = 80;
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
        write_wrapped(&mut text, "", &printable(&title));
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
        write_wrapped(&mut text, "", &printable(&title));
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
        sign(step.result, in_colour),
        step.step.title()
    );
    write_wrapped_after(text, &head, 21, &printable(&step.summary));
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
        let head = format!("    {} ", sign(line.result, in_colour));
        write_wrapped_after(text, &head, 6, &printable(&line.text));
    }
    let more = lines.len().saturating_sub(SHOWN);
    if more > 0 {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "      and {more} more: -o json has them");
    }
}

fn write_verdict(text: &mut String, report: &Report, in_colour: bool) {
    let (mark, word) = match report.result {
        Outcome::Sound => (Mark::Ok, "nothing that was seen is wrong"),
        Outcome::WillBreak => (
            Mark::Warning,
            "it works, and will not for long or not everywhere",
        ),
        Outcome::Broken => (Mark::Broken, "it is broken"),
        Outcome::Unknown => (Mark::Unseen, "what decides could not be seen"),
    };
    let _ = writeln!(text, "{} {word}", sign(mark, in_colour));
    if let Some(verdict) = &report.verdict {
        write_cure(text, verdict);
    }
    if let Some(next) = &report.next {
        write_wrapped_after(
            text,
            "  next     ",
            11,
            &printable(&format!("{}: {}", next.target, next.text)),
        );
    }
}

fn write_cure(text: &mut String, verdict: &Verdict) {
    let what = format!("{}: {}", verdict.target, verdict.text);
    write_wrapped_after(text, "  first    ", 11, &printable(&what));
    let Some(cure) = &verdict.cure else { return };
    write_wrapped_after(text, "  who      ", 11, &printable(&cure.who));
    write_wrapped_after(text, "  change   ", 11, &printable(&cure.change));
    // Neither is cut: people copy them.
    let _ = writeln!(text, "  command  {}", printable(&cure.command));
    let _ = writeln!(text, "  runbook  {}", cure.runbook);
}

fn sign(mark: Mark, in_colour: bool) -> String {
    let colour = match mark {
        Mark::Note => 2,
        Mark::Ok => 32,
        Mark::Unseen => 36,
        Mark::Warning => 33,
        Mark::Broken => 31,
    };
    match in_colour {
        true => format!("\u{1b}[{colour}m{}\u{1b}[0m", mark.sign()),
        false => mark.sign().to_owned(),
    }
}

fn write_wrapped(text: &mut String, head: &str, words: &str) {
    write_wrapped_after(text, head, 2, words);
}

/// Words behind a head, in lines of [`WIDTH`], the further ones indented. A word that is longer stays whole.
fn write_wrapped_after(text: &mut String, head: &str, indent: usize, words: &str) {
    let mut line = head.to_owned();
    let mut width = match head.is_empty() {
        true => 0,
        false => indent,
    };
    let mut is_first = true;
    for word in words.split(' ').filter(|word| !word.is_empty()) {
        let length = word.chars().count();
        if !is_first && width + 1 + length > WIDTH {
            text.push_str(line.trim_end());
            text.push('\n');
            line = " ".repeat(indent);
            width = indent;
            is_first = true;
        }
        if !is_first {
            line.push(' ');
            width += 1;
        }
        line.push_str(word);
        width += length;
        is_first = false;
    }
    text.push_str(line.trim_end());
    text.push('\n');
}
