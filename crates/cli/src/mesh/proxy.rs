//! What one proxy's metrics say of its hierarchy.

use std::collections::{BTreeMap, BTreeSet};

use exposition::Sample;
use mtls_watch_core::metrics::{
    CATALOGUE, HIERARCHY_POLL_AGE, ISSUER_LAST_SEEN, LAST_TICK, NOT_BEFORE, OWN_FINDINGS,
    OWN_NOT_BEFORE, OWN_PRESENT, TRUST_BUNDLE_CA,
};
use mtls_watch_x509::time::{Seconds, UnixTime};

use super::bundle::{Bundle, bundles};
use super::chain::{Chain, chains};
use super::refusals::Refusals;
use super::series::{FOLDED, Presence, Processes, Row, nameless, of, time};

/// A proxy, as far as its metrics tell.
#[derive(Clone, Debug, Default)]
pub(crate) struct Proxy {
    /// As named on the command line.
    pub(crate) name: String,
    /// How many proxies it stands for: of many that say the same, one is judged.
    pub(crate) count: usize,
    /// Why nothing is known of its hierarchy; `None`: it is known.
    pub(crate) blind: Option<Blind>,
    /// Its trust bundles.
    pub(crate) bundles: Vec<Bundle>,
    /// Its own leaves with what signed them.
    pub(crate) chains: Vec<Chain>,
    /// When peers' leaves were last seen, by the CA that signed them.
    pub(crate) seen: BTreeMap<String, Seen>,
    /// When a peer was last seen whose CA has no series of its own.
    pub(crate) folded_seen: Option<UnixTime>,
    /// Start of validity of the CAs, where known.
    pub(crate) not_before: BTreeMap<String, UnixTime>,
    /// The CAs that are self-issued.
    pub(crate) roots: BTreeSet<String>,
    /// CAs with a certificate, by its digits, that another CA has signed.
    pub(crate) issued: BTreeSet<(String, Option<String>)>,
    /// CAs that have left its own chains.
    pub(crate) left: BTreeSet<String>,
    /// Handshakes that were refused.
    pub(crate) refusals: Refusals,
}

/// A proxy's metrics.
#[derive(Clone, Debug)]
pub(crate) struct Scrapes {
    /// The newest.
    pub(crate) latest: Vec<Sample>,
    /// One taken before that.
    pub(crate) earlier: Option<Vec<Sample>>,
}

/// Why nothing is known of a proxy's hierarchy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Blind {
    /// There is no metric of the module.
    NotLoaded,
    /// Envoy has left the labels in the names.
    Untagged,
    /// The module does not read the hierarchy, or has not yet.
    NotRead,
    /// The module has read it, and not of late.
    Stale,
    /// No VM of the module runs any more.
    Stopped,
}

impl Blind {
    /// What is missing, and what to do.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::NotLoaded => "no mtls-watch metrics: the module is not loaded",
            Self::Untagged => {
                "labels are part of the names: add the stats tags (mtls-watch stats-tags)"
            }
            Self::NotRead => {
                "no mtls_trust_bundle_ca: set \"hierarchy\", and see mtls_watch_hierarchy_polls_total"
            }
            Self::Stale => {
                "its hierarchy was not read lately: see mtls_watch_hierarchy_poll_age_seconds and mtls_watch_hierarchy_polls_total"
            }
            Self::Stopped => {
                "the module has stopped: see mtls_watch_last_tick_timestamp_seconds, and restart the proxy"
            }
        }
    }
}

/// When peers with leaves of a CA were last seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Seen {
    /// As clients.
    pub(crate) inbound: Option<UnixSeconds>,
    /// As servers.
    pub(crate) outbound: Option<UnixSeconds>,
}

/// A time in JSON: Unix seconds.
pub(crate) type UnixSeconds = i64;

impl Seen {
    /// The later of the two.
    pub(crate) fn latest(self) -> Option<UnixTime> {
        self.inbound.max(self.outbound).map(UnixTime)
    }
}

impl Proxy {
    /// The facts in a proxy's scrapes at a time. What was read longer ago than `stale` is not known.
    pub(crate) fn new(name: &str, scrapes: &Scrapes, now: UnixTime, stale: Seconds) -> Self {
        let samples = scrapes.latest.as_slice();
        let processes = Processes::of(samples);
        let rows: Vec<Row<'_>> = of(samples, &OWN_PRESENT)
            .filter_map(|sample| Row::new(sample, processes))
            .collect();
        let is_gone = |row: &&Row<'_>| row.presence == Presence::Gone;
        let mut proxy = Self {
            name: name.to_owned(),
            count: 1,
            blind: blind(samples, now, stale),
            bundles: bundles(samples, &rows, now),
            chains: chains(samples, &rows, now),
            not_before: not_before(samples),
            roots: names_of(rows.iter().filter(|row| row.layer == "root_ca")),
            issued: rows
                .iter()
                .filter(|row| matches!(row.layer, "issuing_ca" | "intermediate_ca"))
                .map(|row| (row.identity.to_owned(), row.certificate.map(str::to_owned)))
                .collect(),
            left: names_of(rows.iter().filter(|row| row.is_ca()).filter(is_gone)),
            refusals: Refusals::new(samples, scrapes.earlier.as_deref()),
            ..Self::default()
        };
        proxy.add_seen(samples);
        proxy.add_unreadable(samples);
        proxy
    }

    fn add_seen(&mut self, samples: &[Sample]) {
        for sample in of(samples, &ISSUER_LAST_SEEN) {
            let (Some(issuer), Some(at)) = (sample.find_label("issuer"), time(sample)) else {
                continue;
            };
            if issuer == FOLDED {
                self.folded_seen = self.folded_seen.max(Some(at));
                continue;
            }
            let seen = self.seen.entry(issuer.to_owned()).or_default();
            let side = match sample.find_label("direction") {
                Some("outbound") => &mut seen.outbound,
                _ => &mut seen.inbound,
            };
            *side = (*side).max(Some(at.0));
        }
    }

    /// Certificates of which the metrics say only that they are there. The module gives those of bundles as
    /// `root_ca`, those of chains as `issuing_ca`.
    fn add_unreadable(&mut self, samples: &[Sample]) {
        let unreadable = of(samples, &OWN_FINDINGS)
            .filter(|sample| sample.find_label("finding") == Some("unreadable"));
        for sample in unreadable.filter(|sample| sample.value > 0.0) {
            match sample.find_label("layer") {
                Some("root_ca") => self.set_partial(sample.find_label("secret")),
                Some("issuing_ca") => self.chains.push(Chain::unreadable()),
                _ => {}
            }
        }
    }

    fn set_partial(&mut self, secret: Option<&str>) {
        let is_named = |bundle: &Bundle| secret == Some(bundle.name.as_str());
        let is_known = self.bundles.iter().any(is_named);
        let concerned = self.bundles.iter_mut();
        for bundle in concerned.filter(|bundle| !is_known || is_named(bundle)) {
            bundle.is_partial = true;
        }
    }

    /// Handshakes that it has refused, since it started, because it did not know the peer's CA.
    pub(crate) const fn unknown_ca_failures(&self) -> u64 {
        let Refusals {
            of_servers,
            of_clients,
            ..
        } = &self.refusals;
        of_servers.total.saturating_add(of_clients.total)
    }

    /// Some of its bundles have no name in the metrics.
    pub(crate) fn has_folded_bundles(&self) -> bool {
        let mut bundles = self.bundles.iter();
        bundles.any(|bundle| bundle.name == FOLDED && bundle.is_partial)
    }

    /// Whether a CA is in a bundle now; `None` if that cannot be told.
    pub(crate) fn has_in_bundle(&self, ca: &str) -> Option<bool> {
        if self.bundles.iter().any(|bundle| bundle.has(ca)) {
            return Some(true);
        }
        let is_known = self.blind.is_none() && !self.bundles.iter().any(|it| it.is_partial);
        is_known.then_some(false)
    }

    /// Every CA that its metrics name.
    pub(crate) fn cas(&self) -> impl Iterator<Item = &String> {
        let chains = self.chains.iter().flat_map(|chain| {
            let carried = chain.carried.iter().map(|carried| &carried.ca);
            let carried = carried.filter(|ca| !nameless(ca));
            chain.signer.iter().chain(chain.anchors()).chain(carried)
        });
        let bundles = self.bundles.iter().flat_map(Bundle::cas);
        bundles
            .chain(chains)
            .chain(self.seen.keys())
            .chain(&self.left)
    }
}

fn blind(samples: &[Sample], now: UnixTime, stale: Seconds) -> Option<Blind> {
    let is_ours = |sample: &Sample| {
        CATALOGUE
            .iter()
            .any(|metric| sample.name.starts_with(metric.name))
    };
    let is_untagged = |sample: &Sample| {
        CATALOGUE
            .iter()
            .any(|metric| ends_in(&sample.name, metric.name))
    };
    let age = |sample: &Sample| sample.value > stale.0 as f64;
    let stopped = |sample: &Sample| time(sample).is_some_and(|at| now.since(at) > stale);
    if of(samples, &TRUST_BUNDLE_CA).any(|sample| sample.find_label("ca").is_some()) {
        if of(samples, &LAST_TICK).any(stopped) {
            Some(Blind::Stopped)
        } else if of(samples, &HIERARCHY_POLL_AGE).any(age) {
            Some(Blind::Stale)
        } else {
            None
        }
    } else if samples.iter().any(is_untagged) {
        Some(Blind::Untagged)
    } else if samples.iter().any(is_ours) {
        Some(Blind::NotRead)
    } else {
        Some(Blind::NotLoaded)
    }
}

/// Whether a metric's name is there behind its labels: `ca___x____mtls_trust_bundle_ca`.
fn ends_in(sample: &str, name: &str) -> bool {
    let labels = sample.strip_suffix(name);
    labels.is_some_and(|labels| labels.contains("___"))
}

fn not_before(samples: &[Sample]) -> BTreeMap<String, UnixTime> {
    let all = of(samples, &OWN_NOT_BEFORE).chain(of(samples, &NOT_BEFORE));
    let cas = all.filter(|sample| {
        sample
            .find_label("layer")
            .is_some_and(|layer| layer != "workload")
    });
    cas.filter_map(|sample| Some((sample.find_label("identity")?.to_owned(), time(sample)?)))
        .collect()
}

fn names_of<'a>(rows: impl Iterator<Item = &'a Row<'a>>) -> BTreeSet<String> {
    let names = rows.map(|row| row.identity.to_owned());
    names.filter(|ca| !nameless(ca)).collect()
}
