//! The table: what happens, who is named, why, and on which Envoys.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::scenario::{Limit, Scenario, Truth};

/// The releases that the page has columns for.
const RELEASES: [(&str, (u32, u32)); 5] = [
    ("1.36", (1, 36)),
    ("1.37", (1, 37)),
    ("1.38", (1, 38)),
    ("1.39", (1, 39)),
    ("1.40", (1, 40)),
];

/// What was seen of a scenario on one Envoy.
pub struct Cell {
    pub said: String,
    /// What this Envoy does not tell.
    pub limit: Option<Limit>,
    pub wrong: Option<String>,
}

impl Cell {
    fn mark(&self) -> String {
        match (&self.wrong, self.limit) {
            (Some(_), _) => "WRONG".to_owned(),
            (None, Some(limit)) => limit.letter().to_string(),
            (None, None) => "✓".to_owned(),
        }
    }
}

/// For a terminal: a column for each Envoy; what is wrong in full below.
pub fn printed(scenarios: &[Scenario], columns: &[(String, BTreeMap<String, Cell>)]) -> String {
    let mut lines = vec![heading(columns.iter().map(|(version, _)| version.as_str()))];
    let mut wrong = String::new();
    for scenario in scenarios {
        let key = scenario.key();
        let cells: Vec<&Cell> = columns
            .iter()
            .filter_map(|(_, cells)| cells.get(&key))
            .collect();
        let is_hint_right = cells.iter().all(|cell| cell.wrong.is_none());
        let mut line = described(scenario, is_hint_right);
        line.extend(cells.iter().map(|cell| cell.mark()));
        lines.push(line);
        for ((version, _), cell) in columns.iter().zip(&cells) {
            if let Some(why) = &cell.wrong {
                let said = if cell.said.is_empty() {
                    "nothing"
                } else {
                    &cell.said
                };
                let _ = writeln!(wrong, "Envoy {version}: {key}: said {said}: {why}");
            }
        }
    }
    let widths = columns::widest(lines.iter().map(Vec::as_slice));
    let mut text = String::new();
    for line in &lines {
        let line = columns::aligned(line, &widths, &[]).join("  ");
        let _ = writeln!(text, "{}", line.trim_end());
    }
    for limit in used(scenarios) {
        let _ = writeln!(text, "{}  {}", limit.letter(), limit.text());
    }
    text + &wrong
}

/// For the documentation, in Markdown: what is to be said on each release.
pub fn page(scenarios: &[Scenario]) -> String {
    let mut text = row(&heading(RELEASES.iter().map(|(name, _)| *name)));
    text += &row(&vec!["---".to_owned(); 5 + RELEASES.len()]);
    for scenario in scenarios {
        let mut line = described(scenario, true);
        line.extend(RELEASES.iter().map(|(_, release)| {
            let (_, limit) = scenario.truth.on(*release, scenario.setup.is_inbound);
            limit.map_or("✓".to_owned(), |limit| limit.letter().to_string())
        }));
        text += &row(&line);
    }
    text
}

/// The same of what Envoy does not tell.
pub fn limits(scenarios: &[Scenario]) -> String {
    let mut text = "| | what Envoy does not tell | scenarios |\n|---|---|---|\n".to_owned();
    for limit in used(scenarios) {
        let is_limited = |it: &&Scenario| limits_of(it).any(|it| it == limit);
        let count = scenarios.iter().filter(is_limited).count();
        text += &row(&[
            limit.letter().to_string(),
            limit.text().to_owned(),
            count.to_string(),
        ]);
    }
    text
}

fn row(cells: &[String]) -> String {
    format!("| {} |\n", cells.join(" | "))
}

fn heading<'a>(versions: impl Iterator<Item = &'a str>) -> Vec<String> {
    let what = ["what happens", "who", "reason", "layer", "hint"];
    what.into_iter()
        .chain(versions)
        .map(str::to_owned)
        .collect()
}

/// What happens, and what is said of it: who, reason, layer, and whether the hint is right.
fn described(scenario: &Scenario, is_hint_right: bool) -> Vec<String> {
    let mut line = vec![scenario.key()];
    match &scenario.truth {
        Truth::Sound => line.extend(["–", "nothing", "–", "–"].map(str::to_owned)),
        Truth::Refused(verdict) => {
            line.extend(verdict.says.split(' ').map(str::to_owned));
            line.push(if is_hint_right { "right" } else { "WRONG" }.to_owned());
        }
    }
    line
}

/// What limits a scenario on any release.
fn limits_of(scenario: &Scenario) -> impl Iterator<Item = Limit> {
    let is_inbound = scenario.setup.is_inbound;
    let truth = scenario.truth;
    RELEASES
        .into_iter()
        .filter_map(move |(_, release)| truth.on(release, is_inbound).1)
}

fn used(scenarios: &[Scenario]) -> Vec<Limit> {
    let is_used = |limit: &Limit| scenarios.iter().flat_map(limits_of).any(|it| it == *limit);
    Limit::ALL.into_iter().filter(is_used).collect()
}
