//! All proxies of a Prometheus, by a handful of instant queries.
//!
//! What thousands of proxies have in common is asked for once: Prometheus counts who has it ([`facts`]). Of each proxy it is
//! asked for its name and its leaves, and for what it does not share with all. Proxies of which everything that a gate looks
//! at is the same are one: of thousands there are few kinds, and a gate says the same of each of a kind.

mod dates;
mod facts;
mod kinds;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use exposition::Sample;
use mtls_watch_core::metrics::{
    HANDSHAKE_FAILURES, HIERARCHY_POLL_AGE, INFO, LAST_TICK, NOT_AFTER, NOT_BEFORE,
    OWN_CRL_NEXT_UPDATE, OWN_CRL_THIS_UPDATE, OWN_FINDINGS, OWN_NOT_AFTER, OWN_NOT_BEFORE,
    OWN_PRESENT, TRUST_BUNDLE_CA,
};
use mtls_watch_x509::time::{Seconds, UnixTime};

use super::proxy::Proxy;
use crate::prometheus::{Prometheus, QueryError};

pub(crate) use dates::{Dates, current};
use facts::Facts;
pub(crate) use kinds::{Kind, Member, name};

/// Labels that tell one proxy from another, as far as a scrape configuration sets them.
const OF_PROXY: [&str; 4] = ["cluster", "namespace", "pod", "instance"];
/// The same in an aggregation.
pub(crate) const BY_PROXY: &str = "cluster, namespace, pod, instance";

/// Prometheus scrapes a proxy now and then: in less than this there may be one scrape only.
const OBSERVED: Duration = Duration::from_secs(300);

/// All proxies of a Prometheus.
pub(crate) struct Store {
    pub(crate) kinds: Vec<Kind>,
    /// Every CA certificate that a proxy holds, or has seen at a peer.
    pub(crate) dates: Vec<Dates>,
}

/// When the proxies are judged.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub(crate) now: UnixTime,
    /// A CA that signed a peer's leaf in the last so many seconds still signs.
    pub(crate) recent: Seconds,
    /// What the module said longer ago is unknown.
    pub(crate) stale: Seconds,
}

/// A proxy by its labels, and its samples.
type ByProxy = BTreeMap<Key, Vec<Sample>>;

/// Values of [`OF_PROXY`].
pub(crate) type Key = [String; 4];

pub(crate) fn key(sample: &Sample) -> Key {
    OF_PROXY.map(|label| sample.label(label).to_owned())
}

/// Asks for what the gates need. Handshakes that were refused since `observe` ago, or in the last five minutes, go on.
///
/// # Errors
/// [`QueryError`], also if there is no proxy.
pub(crate) fn read(
    prometheus: &Prometheus<'_>,
    observe: Duration,
    moment: &Moment,
) -> Result<Store, QueryError> {
    let ask = Queries::new(observe, moment);
    let [
        leaves,
        others,
        silent,
        beyond,
        failed,
        earlier,
        dated,
        undated,
        peers,
        shared,
        counts,
    ] = prometheus.query([
        &ask.leaves,
        &ask.others,
        &ask.silent,
        &ask.beyond,
        &ask.failed,
        &ask.earlier,
        &ask.dated,
        &ask.undated,
        &ask.peers,
        &ask.shared,
        &ask.counts,
    ])?;
    let count = |samples: [&[Sample]; 2]| {
        let keys = samples.into_iter().flatten().map(key);
        keys.collect::<BTreeSet<Key>>().len()
    };
    let all = count([&leaves, &others]);
    let telling = all.saturating_sub(count([&silent, &[]]));
    let facts = Facts::new(&shared, &counts, all, telling);
    let apart = facts.apart(prometheus)?;

    let mut proxies = kinds::Proxies::default();
    proxies.latest.with(named(
        leaves,
        OWN_PRESENT.description.name,
        &[("layer", "workload")],
    ));
    proxies
        .latest
        .with(named(others, INFO.description.name, &[]));
    let undated_of_proxies = undated.clone();
    for samples in [beyond, undated_of_proxies, apart] {
        proxies.latest.with(samples);
    }
    let failures = HANDSHAKE_FAILURES.description.name;
    proxies.latest.with(named(failed, failures, &[]));
    proxies.earlier.with(named(earlier, failures, &[]));
    if proxies.latest.is_empty() {
        return Err(QueryError::Empty(prometheus.url().to_owned()));
    }
    proxies.silent = silent.iter().map(key).collect();
    let all: Vec<Sample> = [&dated, &undated, &peers]
        .into_iter()
        .flatten()
        .cloned()
        .collect();
    proxies.of_all = [dated, facts.of_all].concat();
    proxies.seen_by_all = facts.seen_by_all;
    proxies.of_peers = peers;
    Ok(Store {
        kinds: proxies.kinds(moment),
        dates: dates::of(&all),
    })
}

/// What is asked of each proxy, or of all of them together.
struct Queries {
    leaves: String,
    /// Proxies without a leaf.
    others: String,
    /// Proxies that do not tell what they hold.
    silent: String,
    /// What counts only where it is beyond a bound.
    beyond: String,
    failed: String,
    earlier: String,
    dated: String,
    undated: String,
    /// Dates of the CAs of peers.
    peers: String,
    shared: String,
    counts: String,
}

impl Queries {
    fn new(observe: Duration, moment: &Moment) -> Self {
        let names = |names: &[&str]| format!("__name__=~\"{}\"", names.join("|"));
        let [present, info, bundle] = [
            OWN_PRESENT.description.name,
            INFO.description.name,
            TRUST_BUNDLE_CA.description.name,
        ];
        let leaf = format!("{present}{{layer=\"workload\"}} > 0");
        let own = [
            OWN_NOT_AFTER.description.name,
            OWN_NOT_BEFORE.description.name,
        ];
        let dates = format!("{},layer!=\"workload\"", names(&own));
        let of_peers = names(&[NOT_AFTER.description.name, NOT_BEFORE.description.name]);
        let refused = HANDSHAKE_FAILURES.description.name;
        let refused = format!("{refused}{{reason=~\"unknown_ca|rejected_by_peer\"}}");
        let refused = |offset: &str| {
            format!("sum by ({BY_PROXY}, direction, reason) ({refused}{offset} > 0)")
        };
        let lists = names(&[
            OWN_CRL_NEXT_UPDATE.description.name,
            OWN_CRL_THIS_UPDATE.description.name,
        ]);
        let beyond = [
            format!("{info} > 1"),
            format!(
                "{} < {}",
                LAST_TICK.description.name,
                moment.now.minus(moment.stale).0
            ),
            format!(
                "{} > {}",
                HIERARCHY_POLL_AGE.description.name, moment.stale.0
            ),
            format!(
                "{}{{finding=~\"unreadable|rotation_rejected|secret_warming\"}} > 0",
                OWN_FINDINGS.description.name
            ),
            format!("{{{lists}}} > 0"),
        ];
        Self {
            leaves: format!("max by ({BY_PROXY}, secret, identity) ({leaf})"),
            others: format!("max by ({BY_PROXY}) ({info}) unless on ({BY_PROXY}) ({leaf})"),
            silent: format!(
                "max by ({BY_PROXY}) ({info}) unless on ({BY_PROXY}) {bundle}{{ca!=\"\"}}"
            ),
            beyond: beyond.join(" or "),
            failed: refused(""),
            earlier: refused(&format!(" offset {}s", observe.max(OBSERVED).as_secs())),
            // A certificate has the same dates at every proxy. The sum of two processes' gauges is no date: hence the least.
            dated: format!(
                "min by (__name__, layer, secret, identity, certificate) ({{{dates},certificate!=\"\"}})"
            ),
            // Which certificate it is, such a series does not tell.
            undated: format!("{{{dates},certificate=\"\"}}"),
            peers: format!(
                "min by (__name__, layer, identity) ({{{of_peers},layer!=\"workload\"}})"
            ),
            shared: facts::shared(),
            counts: facts::counts(moment),
        }
    }
}

/// An aggregation has lost its name, and labels that are the same everywhere.
fn named(samples: Vec<Sample>, name: &str, labels: &[(&str, &str)]) -> Vec<Sample> {
    let named = samples.into_iter().map(|mut sample| {
        let labels = labels.iter();
        let labels = labels.map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        sample.labels.extend(labels);
        Sample {
            name: name.to_owned(),
            ..sample
        }
    });
    named.collect()
}

impl Store {
    /// A proxy for each kind.
    pub(crate) fn proxies(&self, moment: &Moment) -> Vec<Proxy> {
        let kinds = self.kinds.iter().map(|kind| Proxy {
            count: kind.members.len(),
            ..Proxy::new(&kind.name, &kind.scrapes, moment.now, moment.stale)
        });
        kinds.collect()
    }
}

/// Samples are put to their proxies.
trait With {
    fn with(&mut self, samples: Vec<Sample>);
}

impl With for ByProxy {
    fn with(&mut self, samples: Vec<Sample>) {
        for sample in samples {
            self.entry(key(&sample)).or_default().push(sample);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_query_is_about_metrics_of_the_catalogue() {
        let moment = Moment {
            now: UnixTime(1_800_000_000),
            recent: Seconds(3600),
            stale: Seconds(300),
        };
        let queries = Queries::new(Duration::from_secs(10), &moment);
        assert!(
            queries.earlier.contains(" offset 300s"),
            "{}",
            queries.earlier
        );
        assert!(
            queries.beyond.contains(" < 1799999700 "),
            "{}",
            queries.beyond
        );
    }
}
