//! Step 5: what Envoy, and the module in it, have counted.

use super::Subject;
use crate::clock::span;
use crate::diagnose::counters::Count;
use crate::diagnose::cure;
use crate::diagnose::line::{Line, Mark, Said, Step};
use crate::diagnose::target::Seen;

/// Counters of what goes well, too: a listener that asks for no certificate.
const HARMLESS: [&str; 1] = [".no_certificate"];

pub(super) fn said(subject: &Subject<'_>) -> Said {
    let counters = match &subject.target.counters {
        Seen::Yes(counters) => counters,
        Seen::No(why) => {
            return Said {
                step: Step::Counters,
                summary: why.clone(),
                lines: vec![Line::new(Mark::Unseen, why.clone())],
            };
        }
    };
    let counted = counters.counted();
    let watched = counters.before.as_ref().map(|(watched, _)| *watched);
    let seconds = watched.map(|watched| i64::try_from(watched.as_secs()).unwrap_or(i64::MAX));
    let lines: Vec<Line> = counted
        .iter()
        .map(|count| line(subject, count, seconds))
        .collect();
    let goes_on = lines.iter().any(|line| line.mark == Mark::Broken);
    let once = lines.iter().any(|line| line.mark == Mark::Unseen);
    let summary = match (goes_on, once, seconds) {
        (true, _, Some(seconds)) => format!("handshakes have failed in the last {}", span(seconds)),
        (_, _, Some(seconds)) if !lines.is_empty() => {
            format!("nothing has failed in the last {}", span(seconds))
        }
        (_, true, _) => {
            "failures at some time since it started; whether now shows --watch 10s".to_owned()
        }
        _ => "no failure since it started".to_owned(),
    };
    Said {
        step: Step::Counters,
        summary,
        lines,
    }
}

fn line(subject: &Subject<'_>, count: &Count, watched: Option<i64>) -> Line {
    let Count {
        name,
        what,
        total,
        increase,
    } = count;
    let is_harmless = HARMLESS.iter().any(|end| name.ends_with(end));
    let since = match (increase, watched) {
        (Some(increase), Some(watched)) => {
            format!(", {increase} of them in the last {}", span(watched))
        }
        _ => String::new(),
    };
    let text = format!("{name} {total}{since}: {what}");
    match (is_harmless, increase) {
        (true, _) | (false, Some(0)) => Line::new(Mark::Note, text),
        (false, None) => Line::new(Mark::Unseen, text),
        (false, Some(_)) => Line::new(Mark::Broken, text)
            .word("counted")
            .cure(cure::of_count(subject.target)),
    }
}
