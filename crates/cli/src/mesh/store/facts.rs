//! What proxies have in common: Prometheus counts who has it, and names those only who differ.

use std::collections::{BTreeMap, BTreeSet};

use exposition::Sample;
use mtls_watch_core::metrics::{
    INFO, ISSUER_LAST_SEEN, OWN_ISSUER, OWN_PRESENT, OWN_TRUST_ANCHOR, TRUST_BUNDLE_CA,
};

use super::{BY_PROXY, Moment, named};
use crate::prometheus::{Prometheus, QueryError};

/// Labels of what a proxy holds and trusts.
const LABELS: &str = "layer, secret, identity, certificate, ca";

const NAMES: [&str; 4] = [
    OWN_PRESENT.description.name,
    OWN_ISSUER.description.name,
    OWN_TRUST_ANCHOR.description.name,
    TRUST_BUNDLE_CA.description.name,
];

/// What a proxy holds and trusts, but for its leaf.
pub(super) fn held() -> String {
    format!("{{__name__=~\"{}\",layer!=\"workload\"}}", NAMES.join("|"))
}

/// How many proxies have each thing.
pub(super) fn shared() -> String {
    format!("count by (__name__, {LABELS}) ({} == 1)", held())
}

/// How many processes there are; by how many each CA was seen lately, and when last.
pub(super) fn counts(moment: &Moment) -> String {
    let info = INFO.description.name;
    let seen = ISSUER_LAST_SEEN.description.name;
    let since = moment.now.minus(moment.recent).0;
    let counts = [
        ("processes", format!("sum({info})")),
        (
            "seen",
            format!("count by (direction, issuer) ({seen} > {since})"),
        ),
        ("last", format!("max by (direction, issuer) ({seen})")),
    ];
    let counts = counts
        .map(|(what, count)| format!("label_replace({count}, \"what\", \"{what}\", \"\", \"\")"));
    counts.join(" or ")
}

/// What was found out by that.
#[derive(Default)]
pub(super) struct Facts {
    /// What every proxy has that tells of what it holds.
    pub(super) of_all: Vec<Sample>,
    /// CAs that every proxy has seen lately, and when any saw them last.
    pub(super) seen_by_all: Vec<Sample>,
    /// What some have, by metric: a label, and its values.
    apart: BTreeMap<&'static str, (&'static str, BTreeSet<String>)>,
    /// CAs that some have seen, or not lately.
    seen_apart: BTreeSet<String>,
}

impl Facts {
    /// Of so many `proxies`, of which so many are `telling` what they trust.
    pub(super) fn new(
        shared: &[Sample],
        counts: &[Sample],
        proxies: usize,
        telling: usize,
    ) -> Self {
        let of = |what: &'static str| {
            counts
                .iter()
                .filter(move |count| count.label("what") == what)
        };
        let processes: f64 = of("processes").map(|count| count.value).sum();
        let (all, telling) = (proxies as f64, telling as f64);
        // What is scraped twice, or restarts, is counted twice, and by such counts nobody is known to have anything.
        let is_exact = processes == all;
        // Those that do not tell what they trust may have leaves all the same.
        let all_tell = telling == all;
        let mut facts = Self::default();
        for fact in shared {
            let is_told_by_all = all_tell || fact.name == TRUST_BUNDLE_CA.description.name;
            if is_exact && is_told_by_all && fact.value == telling {
                facts.of_all.push(Sample {
                    value: 1.0,
                    ..fact.clone()
                });
            } else if let Some((name, label)) = told_apart_by(&fact.name) {
                let (_, values) = facts.apart.entry(name).or_insert((label, BTreeSet::new()));
                values.insert(fact.label(label).to_owned());
            }
        }
        for last in of("last") {
            let same = |count: &&Sample| {
                ["direction", "issuer"]
                    .iter()
                    .all(|label| count.label(label) == last.label(label))
            };
            let count = of("seen").find(same).map_or(0.0, |count| count.value);
            if is_exact && count == all {
                facts.seen_by_all.push(Sample {
                    name: ISSUER_LAST_SEEN.description.name.to_owned(),
                    ..last.clone()
                });
            } else {
                facts.seen_apart.insert(last.label("issuer").to_owned());
            }
        }
        // Asked for by the CA, whatever the direction.
        let Self {
            seen_by_all,
            seen_apart,
            ..
        } = &mut facts;
        seen_by_all.retain(|last| !seen_apart.contains(last.label("issuer")));
        facts
    }

    /// Who has what some have.
    ///
    /// # Errors
    /// [`QueryError`].
    pub(super) fn apart(&self, prometheus: &Prometheus<'_>) -> Result<Vec<Sample>, QueryError> {
        let mut names: Vec<&str> = Vec::new();
        let mut queries: Vec<String> = Vec::new();
        for (name, (label, values)) in &self.apart {
            names.push(name);
            queries.push(format!(
                "max by ({BY_PROXY}, {LABELS}) ({name}{{layer!=\"workload\",{label}=~\"{}\"}})",
                any_of(values)
            ));
        }
        if !self.seen_apart.is_empty() {
            let name = ISSUER_LAST_SEEN.description.name;
            names.push(name);
            queries.push(format!(
                "max by ({BY_PROXY}, direction, issuer) ({name}{{issuer=~\"{}\"}})",
                any_of(&self.seen_apart)
            ));
        }
        let answers = prometheus.query_each(&queries)?;
        let answers = names.into_iter().zip(answers);
        let mut all: Vec<Sample> = answers
            .flat_map(|(name, samples)| named(samples, name, &[]))
            .collect();
        // What all have comes along with what some have of the same CA.
        let is_of_all = |sample: &Sample| {
            let mut facts = self.of_all.iter();
            facts.any(|fact| fact.name == sample.name && has_labels(sample, fact))
        };
        all.retain(|sample| !is_of_all(sample));
        Ok(all)
    }
}

/// The label that tells facts of a metric apart.
fn told_apart_by(name: &str) -> Option<(&'static str, &'static str)> {
    let labels = [
        (OWN_PRESENT.description.name, "identity"),
        (OWN_ISSUER.description.name, "ca"),
        (OWN_TRUST_ANCHOR.description.name, "ca"),
        (TRUST_BUNDLE_CA.description.name, "ca"),
    ];
    labels.into_iter().find(|(known, _)| *known == name)
}

fn has_labels(sample: &Sample, fact: &Sample) -> bool {
    let labels = ["layer", "secret", "identity", "certificate", "ca"];
    labels
        .iter()
        .all(|label| sample.label(label) == fact.label(label))
}

/// A regular expression in a string of PromQL.
fn any_of(values: &BTreeSet<String>) -> String {
    let values = values.iter().map(|value| regex::escape(value));
    let values: Vec<String> = values
        .map(|value| value.replace('\\', "\\\\").replace('"', "\\\""))
        .collect();
    values.join("|")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(name: &str, labels: &[(&str, &str)], value: f64) -> Sample {
        let labels = labels.iter();
        let labels = labels.map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        Sample {
            name: name.to_owned(),
            labels: labels.collect(),
            value,
        }
    }

    /// How many processes; and by how many CA `a` was seen lately.
    fn counts(processes: f64, seen: f64) -> Vec<Sample> {
        let of_ca = |what| [("what", what), ("direction", "inbound"), ("issuer", "a")];
        vec![
            sample("", &[("what", "processes")], processes),
            sample("", &of_ca("seen"), seen),
            sample("", &of_ca("last"), 1_800_000_000.0),
        ]
    }

    /// How many facts all have, of a leaf's CA and of a bundle's.
    fn of_all(number: f64, proxies: usize, processes: f64, telling: usize) -> [usize; 2] {
        let shared = [
            sample(OWN_ISSUER.description.name, &[("ca", "a")], number),
            sample(TRUST_BUNDLE_CA.description.name, &[("ca", "a")], number),
        ];
        let facts = Facts::new(&shared, &counts(processes, 0.0), proxies, telling);
        let of = |name| facts.of_all.iter().filter(|it| it.name == name).count();
        let found = [
            OWN_ISSUER.description.name,
            TRUST_BUNDLE_CA.description.name,
        ]
        .map(of);
        assert_eq!(found.iter().sum::<usize>() + facts.apart.len(), 2);
        found
    }

    #[test]
    fn what_all_have_is_known_by_its_count() {
        assert_eq!(of_all(3.0, 3, 3.0, 3), [1, 1]);
        assert_eq!(of_all(2.0, 3, 3.0, 3), [0, 0]);
    }

    #[test]
    fn a_proxy_that_is_scraped_twice_stands_for_no_other() {
        // One of three lacks it, and another is counted twice.
        assert_eq!(of_all(3.0, 3, 4.0, 3), [0, 0]);
    }

    #[test]
    fn a_proxy_that_does_not_tell_what_it_trusts_stands_for_no_other() {
        assert_eq!(of_all(2.0, 3, 3.0, 2), [0, 1]);
    }

    #[test]
    fn a_ca_is_seen_by_all_only_if_each_has_seen_it_lately() {
        let seen = |number| Facts::new(&[], &counts(3.0, number), 3, 3);
        assert_eq!(seen(3.0).seen_by_all.len(), 1);
        assert_eq!(seen(2.0).seen_by_all.len(), 0);
        assert!(seen(2.0).seen_apart.contains("a"));
    }

    #[test]
    fn names_are_no_expressions() {
        let names = BTreeSet::from(["Root CA (2):0a".to_owned(), "a.b\"c".to_owned()]);
        assert_eq!(any_of(&names), r#"Root CA \\(2\\):0a|a\\.b\"c"#);
    }
}
