//! Whether the sidecars judged every certificate as expected.

use std::collections::BTreeMap;
use std::fmt;

use crate::table::Row;

/// The rows that are as expected, and those that are not.
pub struct Verdict {
    /// Identity of each workload, and whether all its rows are as expected.
    workloads: BTreeMap<String, bool>,
    /// The same for CAs.
    cas: BTreeMap<String, bool>,
    /// What is otherwise.
    differences: Vec<String>,
}

impl Verdict {
    /// Compares; the order of the rows is of no importance.
    pub fn of(expected: &[Row], observed: &[Row]) -> Self {
        let mut verdict = Self {
            workloads: BTreeMap::new(),
            cas: BTreeMap::new(),
            differences: Vec::new(),
        };
        for row in expected {
            let same = |other: &&Row| other.key() == row.key();
            verdict.add(row, observed.iter().find(same));
        }
        for row in observed {
            if !expected.iter().any(|other| other.key() == row.key()) {
                verdict.differences.push(format!("unexpected: {row}"));
            }
        }
        verdict
    }

    fn add(&mut self, expected: &Row, observed: Option<&Row>) {
        let is_as_expected = observed == Some(expected);
        let of_its_kind = match expected.layer.as_str() {
            "workload" => &mut self.workloads,
            _ => &mut self.cas,
        };
        let all = of_its_kind.entry(expected.identity.clone()).or_insert(true);
        *all &= is_as_expected;
        if !is_as_expected {
            let observed = observed.map_or("nothing".to_owned(), Row::to_string);
            let difference = format!("expected {expected}\n       saw {observed}");
            self.differences.push(difference);
        }
    }

    /// Whether everything is as expected.
    pub fn is_good(&self) -> bool {
        self.differences.is_empty()
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for difference in &self.differences {
            writeln!(f, "✗ {difference}")?;
        }
        let mark = if self.is_good() { '✓' } else { '✗' };
        let (workloads, cas) = (good_of(&self.workloads), good_of(&self.cas));
        write!(
            f,
            "{mark} {workloads} workloads and {cas} CAs judged as expected"
        )
    }
}

fn good_of(judged: &BTreeMap<String, bool>) -> String {
    let good = judged.values().filter(|good| **good).count();
    format!("{good} of {}", judged.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(identity: &str, direction: &str, status: &str) -> Row {
        Row {
            direction: direction.to_owned(),
            identity: identity.to_owned(),
            layer: "workload".to_owned(),
            issuer: None,
            not_after: 0,
            status: status.to_owned(),
            findings: Default::default(),
            requests: None,
        }
    }

    #[test]
    fn counts_workloads_all_of_whose_rows_are_as_expected() {
        let expected = [
            row("a", "inbound", "ok"),
            row("a", "outbound", "ok"),
            row("b", "inbound", "ok"),
        ];
        let mut observed = expected.clone();
        observed.reverse();
        let verdict = Verdict::of(&expected, &observed);
        assert!(verdict.is_good());
        let text = "✓ 2 of 2 workloads and 0 of 0 CAs judged as expected";
        assert_eq!(verdict.to_string(), text);
        observed[1].status = "critical".to_owned();
        let verdict = Verdict::of(&expected, &observed);
        assert!(!verdict.is_good());
        assert!(verdict.to_string().contains("✗ 1 of 2 workloads"));
    }

    #[test]
    fn what_is_missing_and_what_is_too_many_is_named() {
        let verdict = Verdict::of(&[row("a", "inbound", "ok")], &[row("b", "inbound", "ok")]);
        let text = verdict.to_string();
        assert!(text.contains("saw nothing"), "{text}");
        assert!(text.contains("unexpected: inbound b"), "{text}");
    }
}
