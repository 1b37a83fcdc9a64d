//! The metrics of all proxies from a Prometheus, by six instant queries.
//!
//! Proxies of which everything that a gate looks at is the same are one: of thousands there are few kinds, and a gate
//! says the same of each of a kind.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use exposition::Sample;
use mtls_watch_core::metrics::{
    CATALOGUE, HANDSHAKE_FAILURES, INFO, ISSUER_LAST_SEEN, NOT_BEFORE, OWN_FINDINGS, OWN_ISSUER,
    OWN_NOT_AFTER, OWN_NOT_BEFORE, OWN_PRESENT, OWN_TRUST_ANCHOR, TRUST_BUNDLE_CA,
};
use mtls_watch_x509::time::{Seconds, UnixTime};

use super::proxy::{LAST_TICK, POLL_AGE, Scrapes};
use super::refusals::Refusals;
use crate::http::Http;
use crate::prometheus::{QueryError, query};

/// Labels that tell one proxy from another, as far as a scrape configuration sets them.
const OF_PROXY: [&str; 4] = ["cluster", "namespace", "pod", "instance"];

/// Proxies of which the metrics say the same.
pub(super) struct Kind {
    /// The first of them, and how many more.
    pub(super) name: String,
    pub(super) count: usize,
    pub(super) scrapes: Scrapes,
}

/// What decides whether two scrapes say the same.
pub(super) struct Moment {
    pub(super) now: UnixTime,
    /// Of peers' CAs.
    pub(super) recent: Seconds,
    /// Of what the module says of itself.
    pub(super) stale: Seconds,
}

/// Asks for what the gates need. Handshakes that were refused since `observe` ago go on.
///
/// # Errors
/// [`QueryError`].
pub(super) fn kinds(
    http: &Http,
    url: &str,
    observe: Duration,
    moment: &Moment,
) -> Result<Vec<Kind>, QueryError> {
    let own = [
        INFO.description.name,
        OWN_PRESENT.description.name,
        OWN_ISSUER.description.name,
        OWN_TRUST_ANCHOR.description.name,
        TRUST_BUNDLE_CA.description.name,
        ISSUER_LAST_SEEN.description.name,
        LAST_TICK,
        POLL_AGE,
    ];
    let mut proxies = Proxies::default();
    proxies.add(query(
        http,
        url,
        &format!("{{__name__=~\"{}\"}}", own.join("|")),
    )?);
    let (after, before) = (
        OWN_NOT_AFTER.description.name,
        OWN_NOT_BEFORE.description.name,
    );
    let dates = format!("{{__name__=~\"{after}|{before}\",layer!=\"workload\"}}");
    proxies.add(query(http, url, &dates)?);
    let found = OWN_FINDINGS.description.name;
    proxies.add(query(http, url, &format!("{found} > 0"))?);
    let failures = HANDSHAKE_FAILURES.description.name;
    let failures = format!("{failures}{{reason=~\"unknown_ca|rejected_by_peer\"}}");
    proxies.add(query(http, url, &format!("{failures} > 0"))?);
    let ago = observe.as_secs();
    proxies.add_earlier(query(http, url, &format!("{failures} offset {ago}s > 0"))?);
    let begins = NOT_BEFORE.description.name;
    let cas = format!("max by (layer, identity) ({begins}{{layer!=\"workload\"}})");
    proxies.add_cas(query(http, url, &cas)?, begins);
    Ok(proxies.kinds(moment))
}

/// Samples, by the labels of the proxy.
#[derive(Default)]
struct Proxies {
    latest: BTreeMap<Vec<String>, Vec<Sample>>,
    earlier: BTreeMap<Vec<String>, Vec<Sample>>,
    /// Of peers' CAs: whoever has seen them.
    cas: Vec<Sample>,
}

fn key(sample: &Sample) -> Vec<String> {
    OF_PROXY
        .iter()
        .map(|label| sample.label(label).to_owned())
        .collect()
}

/// `shop/web-1`, else the address that was scraped.
fn name(key: &[String]) -> String {
    match key {
        [cluster, namespace, pod, _] if !pod.is_empty() => {
            let parts = [cluster, namespace, pod]
                .into_iter()
                .filter(|part| !part.is_empty());
            parts.cloned().collect::<Vec<_>>().join("/")
        }
        _ => key.last().cloned().unwrap_or_default(),
    }
}

impl Proxies {
    fn add(&mut self, samples: Vec<Sample>) {
        for sample in samples {
            self.latest.entry(key(&sample)).or_default().push(sample);
        }
    }

    fn add_earlier(&mut self, samples: Vec<Sample>) {
        for sample in samples {
            self.earlier.entry(key(&sample)).or_default().push(sample);
        }
    }

    fn add_cas(&mut self, samples: Vec<Sample>, name: &str) {
        self.cas.extend(samples.into_iter().map(|sample| Sample {
            name: name.to_owned(),
            ..sample
        }));
    }

    fn kinds(self, moment: &Moment) -> Vec<Kind> {
        let mut kinds: BTreeMap<BTreeSet<String>, (Vec<String>, Kind)> = BTreeMap::new();
        let mut earlier = self.earlier;
        let labels = CATALOGUE.iter().flat_map(|metric| metric.labels.iter());
        let labels: BTreeSet<&str> = labels.map(|label| label.as_str()).collect();
        for (proxy, latest) in self.latest {
            let scrapes = Scrapes {
                latest,
                earlier: Some(earlier.remove(&proxy).unwrap_or_default()),
            };
            let facts = facts(&scrapes, moment, &labels);
            match kinds.get_mut(&facts) {
                Some((_, kind)) => {
                    kind.count = kind.count.saturating_add(1);
                    seen_latest(&mut kind.scrapes, &scrapes);
                }
                None => {
                    let kind = Kind {
                        name: name(&proxy),
                        count: 1,
                        scrapes,
                    };
                    kinds.insert(facts, (proxy, kind));
                }
            }
        }
        let mut kinds: Vec<(Vec<String>, Kind)> = kinds.into_values().collect();
        kinds.sort_by(|(one, _), (other, _)| one.cmp(other));
        let mut kinds: Vec<Kind> = kinds.into_iter().map(|(_, kind)| kind).collect();
        for kind in &mut kinds {
            if kind.count > 1 {
                kind.name = format!("{} and {} like it", kind.name, kind.count.saturating_sub(1));
            }
        }
        if let Some(first) = kinds.first_mut() {
            first.scrapes.latest.extend(self.cas);
        }
        kinds
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
    let labels = sample
        .labels
        .iter()
        .filter(|(key, _)| of_module.contains(key.as_str()));
    let labels = labels.map(|(key, value)| match (key.as_str(), is_workload) {
        // Whether it is a mesh workload counts, and not which.
        ("identity", true) => format!("identity={}", value.starts_with("spiffe://")),
        // A leaf's own certificate changes at every rotation.
        ("certificate", true) => String::new(),
        (key, _) => format!("{key}={value}"),
    });
    let labels: Vec<String> = labels.collect();
    format!(
        "{}{{{}}} {}",
        sample.name,
        labels.join(","),
        value(sample, moment)
    )
}

/// A value as far as it counts: of a time often only whether it is past.
fn value(sample: &Sample, moment: &Moment) -> String {
    let time = UnixTime(sample.value as i64);
    let name = sample.name.as_str();
    let is_past = match name {
        name if name == ISSUER_LAST_SEEN.description.name => moment.now.since(time) < moment.recent,
        LAST_TICK => moment.now.since(time) > moment.stale,
        POLL_AGE => sample.value > moment.stale.0 as f64,
        _ => return sample.value.to_string(),
    };
    is_past.to_string()
}
