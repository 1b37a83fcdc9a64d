//! Proxies that say the same are one.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use exposition::Sample;
use mtls_watch_core::metrics::{
    CATALOGUE, HANDSHAKE_FAILURES, HIERARCHY_POLL_AGE, ISSUER_LAST_SEEN, LAST_TICK, OWN_PRESENT,
};
use mtls_watch_x509::time::UnixTime;

use super::{ByProxy, Key, Moment};
use crate::mesh::proxy::Scrapes;
use crate::mesh::refusals::Refusals;

/// Proxies of which the metrics say the same.
pub(crate) struct Kind {
    /// The first of them, and how many more.
    pub(crate) name: String,
    pub(crate) members: Vec<Member>,
    pub(super) scrapes: Scrapes,
}

/// A proxy.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    /// `shop/web-1`, else the address that was scraped.
    pub(crate) name: String,
    /// Its labels.
    pub(crate) key: Key,
    /// The names of its own leaves, by their secrets.
    pub(crate) identities: BTreeMap<String, String>,
}

/// Samples, by the labels of the proxy.
#[derive(Default)]
pub(super) struct Proxies {
    pub(super) latest: ByProxy,
    pub(super) earlier: ByProxy,
    /// Those that do not tell what they hold.
    pub(super) silent: BTreeSet<Key>,
    /// What all the others hold, and dates, which are the same at every proxy that has the certificate.
    pub(super) of_all: Vec<Sample>,
    /// CAs that all have seen lately.
    pub(super) seen_by_all: Vec<Sample>,
    /// Dates of peers' CAs: whoever has seen them.
    pub(super) of_peers: Vec<Sample>,
}

impl Proxies {
    pub(super) fn kinds(self, moment: &Moment) -> Vec<Kind> {
        let mut kinds: Vec<Kind> = Vec::new();
        let mut known: HashMap<BTreeSet<String>, usize> = HashMap::new();
        let mut earlier = self.earlier;
        let labels = CATALOGUE.iter().flat_map(|metric| metric.labels.iter());
        let labels: BTreeSet<&str> = labels.map(|label| label.as_str()).collect();
        // In the order of their names.
        for (key, latest) in self.latest {
            let scrapes = Scrapes {
                latest,
                earlier: Some(earlier.remove(&key).unwrap_or_default()),
            };
            let tells = !self.silent.contains(&key);
            let mut facts = facts(&scrapes, moment, &labels);
            facts.insert(format!("hierarchy={tells}"));
            let member = Member::new(key, &scrapes.latest);
            let place = known.get(&facts).copied();
            match place.and_then(|place| kinds.get_mut(place)) {
                Some(kind) => {
                    kind.members.push(member);
                    seen_latest(&mut kind.scrapes, &scrapes);
                }
                None => {
                    known.insert(facts, kinds.len());
                    let mut scrapes = scrapes;
                    scrapes.latest.extend(self.seen_by_all.iter().cloned());
                    if tells {
                        scrapes.latest.extend(self.of_all.iter().cloned());
                    }
                    kinds.push(Kind {
                        name: member.name.clone(),
                        members: vec![member],
                        scrapes,
                    });
                }
            }
        }
        for kind in &mut kinds {
            if let more @ 1.. = kind.members.len().saturating_sub(1) {
                kind.name = format!("{} and {more} like it", kind.name);
            }
        }
        if let Some(first) = kinds.first_mut() {
            first.scrapes.latest.extend(self.of_peers);
        }
        kinds
    }
}

impl Member {
    fn new(key: Key, samples: &[Sample]) -> Self {
        let present = OWN_PRESENT.description.name;
        let leaves = samples.iter();
        let leaves =
            leaves.filter(|sample| sample.name == present && sample.label("layer") == "workload");
        let pair = |leaf: &Sample| {
            (
                leaf.label("secret").to_owned(),
                leaf.label("identity").to_owned(),
            )
        };
        Self {
            name: name(&key),
            identities: leaves.map(pair).collect(),
            key,
        }
    }

    /// The namespace of its scrape; empty if that does not tell.
    pub(crate) fn namespace(&self) -> &str {
        let [_, namespace, ..] = &self.key;
        namespace
    }
}

/// `shop/web-1`, else the address that was scraped.
pub(crate) fn name(key: &Key) -> String {
    match key {
        [cluster, namespace, pod, _] if !pod.is_empty() => {
            let parts = [cluster, namespace, pod].into_iter();
            let parts = parts.filter(|part| !part.is_empty());
            parts.cloned().collect::<Vec<_>>().join("/")
        }
        [.., instance] => instance.clone(),
    }
}

/// When a CA was last seen: by whichever of a kind saw it last.
fn seen_latest(kind: &mut Scrapes, other: &Scrapes) {
    let last_seen = ISSUER_LAST_SEEN.description.name;
    let same = |one: &Sample, other: &Sample| {
        one.name == other.name
            && ["direction", "issuer"]
                .iter()
                .all(|label| one.label(label) == other.label(label))
    };
    for sample in kind
        .latest
        .iter_mut()
        .filter(|sample| sample.name == last_seen)
    {
        let others = other.latest.iter().filter(|other| same(sample, other));
        sample.value = others.map(|other| other.value).fold(sample.value, f64::max);
    }
}

/// What the gates look at, without what tells one proxy from another: of the labels those of the module.
fn facts(scrapes: &Scrapes, moment: &Moment, labels: &BTreeSet<&str>) -> BTreeSet<String> {
    let refusals = Refusals::new(&scrapes.latest, scrapes.earlier.as_deref());
    let goes_on =
        [refusals.as_client, refusals.of_servers, refusals.of_clients].map(|count| count.goes_on());
    let failures = HANDSHAKE_FAILURES.description.name;
    let others = scrapes
        .latest
        .iter()
        .filter(|sample| sample.name != failures);
    let facts = others.map(|sample| fact(sample, moment, labels));
    facts.chain([format!("{goes_on:?}")]).collect()
}

fn fact(sample: &Sample, moment: &Moment, of_module: &BTreeSet<&str>) -> String {
    let is_workload = sample.label("layer") == "workload";
    let mut fact = sample.name.clone();
    for (key, value) in &sample.labels {
        let value = match (key.as_str(), is_workload) {
            (key, _) if !of_module.contains(key) => continue,
            // Whether it is a mesh workload counts, and not which.
            ("identity", true) if value.starts_with("spiffe://") => "spiffe",
            ("identity", true) => "other",
            (_, _) => value,
        };
        fact.extend([" ", key, "=", value]);
    }
    fact.push(' ');
    fact + &value(sample, moment)
}

/// A value as far as it counts: of a time whether it is past. What is asked for only beyond its bound says no more.
fn value(sample: &Sample, moment: &Moment) -> String {
    let time = UnixTime(sample.value as i64);
    let name = sample.name.as_str();
    if name == ISSUER_LAST_SEEN.description.name {
        (moment.now.since(time) < moment.recent).to_string()
    } else if [
        LAST_TICK.description.name,
        HIERARCHY_POLL_AGE.description.name,
    ]
    .contains(&name)
    {
        String::new()
    } else {
        sample.value.to_string()
    }
}
