//! What `fleet` found, and its JSON. docs/diagnose.md has the schema.

use std::collections::{BTreeMap, BTreeSet};

use mtls_watch_core::terms::{Finding, Layer, Thresholds};
use serde::Serialize;

use super::census::{Blast, Census, Group};
use super::domains::{self, Across, Domain};
use crate::mark::{Mark, Outcome};
use crate::mesh::cardinal::objections;
use crate::mesh::fleet::Fleet;
use crate::mesh::questions::Answers;
use crate::mesh::state::State;
use crate::mesh::store::{Dates, Store, current, key, name};
use crate::mesh::verdict::Verdict;

/// All that was found.
#[derive(Serialize)]
pub(super) struct Report {
    /// Unix seconds as of which it is judged.
    pub(super) at: i64,
    pub(super) prometheus: String,
    pub(super) result: Outcome,
    pub(super) proxies: Proxies,
    pub(super) cas: Vec<Ca>,
    /// Proxies that do not trust what is signed.
    pub(super) distrust: Vec<Distrust>,
    pub(super) trust_domains: Vec<Domain>,
    pub(super) across: Vec<Across>,
    /// Why it is not known who talks to whom.
    pub(super) across_unknown: Option<String>,
    pub(super) findings: Vec<Found>,
}

/// The proxies, by what is known of them.
#[derive(Serialize)]
pub(super) struct Proxies {
    pub(super) with_module: usize,
    /// Envoys of this Prometheus without the module; `null`: it has no `envoy_server_live`.
    pub(super) without_module: Option<usize>,
    pub(super) without_module_by_namespace: Vec<Uncovered>,
    /// Proxies of which the hierarchy is not known, by the reason.
    pub(super) unknown: BTreeMap<&'static str, usize>,
    pub(super) namespaces: usize,
}

/// A namespace with proxies that have no module.
#[derive(Serialize)]
pub(super) struct Uncovered {
    pub(super) cluster: String,
    pub(super) namespace: String,
    pub(super) without: usize,
    pub(super) all: usize,
}

/// A CA.
#[derive(Serialize)]
pub(super) struct Ca {
    pub(super) ca: String,
    pub(super) layer: Option<&'static str>,
    pub(super) result: Mark,
    /// `expired` and its like.
    pub(super) finding: Option<&'static str>,
    pub(super) state: State,
    /// The CAs known to stand above it.
    pub(super) above: Vec<String>,
    pub(super) certificates: Vec<Certificate>,
    /// When the first of them ends; Unix seconds.
    pub(super) not_after: Option<i64>,
    pub(super) trusted_by: Group,
    /// Workloads that stand under it.
    pub(super) workloads: Group,
    /// When a peer's leaf of it, or of a CA under it, was last seen.
    pub(super) last_seen: Option<i64>,
    /// What breaks when it ends.
    pub(super) when_it_ends: Blast,
}

/// A certificate of a CA.
#[derive(Serialize)]
pub(super) struct Certificate {
    /// The first digits of its SHA-256; `null`: it was seen at peers only.
    pub(super) certificate: Option<String>,
    pub(super) not_before: Option<i64>,
    pub(super) not_after: i64,
}

/// A proxy that does not trust what is signed.
#[derive(Serialize)]
pub(super) struct Distrust {
    pub(super) proxy: Option<String>,
    pub(super) ca: Option<String>,
    pub(super) what: String,
}

/// Certificates with a finding.
#[derive(Serialize)]
pub(super) struct Found {
    /// `own`: of the proxies themselves; `inbound`, `outbound`: of peers, in the last 15 minutes.
    pub(super) whose: String,
    pub(super) layer: String,
    pub(super) finding: String,
    pub(super) result: Mark,
    /// Own ones.
    pub(super) certificates: Option<usize>,
    /// Proxies that have them, or have met them.
    pub(super) proxies: usize,
    pub(super) examples: Vec<String>,
}

impl Report {
    /// What can be said of a fleet, of `only` one CA if it is named.
    ///
    /// # Errors
    /// That nobody knows this CA, in words.
    pub(super) fn new(
        url: &str,
        fleet: &Fleet,
        store: &Store,
        answers: &Answers,
        thresholds: &Thresholds,
        only: Option<&str>,
    ) -> Result<Self, String> {
        let census = Census {
            fleet,
            kinds: &store.kinds,
            with_names: only.is_some(),
        };
        let names = names(fleet, &store.dates, only)
            .map_err(|known| unknown_ca(url, only.unwrap_or_default(), &known))?;
        let mut cas: Vec<Ca> = names
            .iter()
            .map(|ca| row(ca, &census, &store.dates, thresholds))
            .collect();
        cas.sort_by_key(|ca| (ca.not_after.unwrap_or(i64::MAX), ca.ca.clone()));
        let scope: Vec<String> = only.map(str::to_owned).into_iter().collect();
        let refused = objections(fleet, &scope);
        let refused = refused
            .into_iter()
            .filter(|it| it.verdict == Verdict::Closed);
        let distrust = refused.map(|reason| Distrust {
            proxy: reason.proxy,
            ca: reason.ca,
            what: reason.what,
        });
        let mut report = Self {
            at: fleet.now.0,
            prometheus: url.to_owned(),
            result: Outcome::Unknown,
            proxies: proxies(fleet, store, answers),
            cas,
            distrust: distrust.collect(),
            trust_domains: domains::domains(&store.kinds),
            across: domains::across(&store.kinds, answers),
            across_unknown: domains::unseen(answers),
            findings: found(answers),
        };
        report.result = report.outcome(fleet);
        Ok(report)
    }

    fn outcome(&self, fleet: &Fleet) -> Outcome {
        let cas = self.cas.iter().map(|ca| ca.result);
        let worst = cas
            .chain(self.findings.iter().map(|found| found.result))
            .max();
        let nobody_tells = fleet.proxies.iter().all(|proxy| proxy.blind.is_some());
        match worst {
            _ if !self.distrust.is_empty() => Outcome::Broken,
            Some(Mark::Broken) => Outcome::Broken,
            _ if nobody_tells => Outcome::Unknown,
            Some(Mark::Warning) => Outcome::WillBreak,
            _ => Outcome::Sound,
        }
    }
}

fn unknown_ca(url: &str, only: &str, known: &[String]) -> String {
    const SHOWN: usize = 5;
    let shown = known
        .iter()
        .take(SHOWN)
        .cloned()
        .collect::<Vec<_>>()
        .join(", ");
    let more = match known.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("{url}: no series names the CA {only}; known are {shown}{more}")
}

/// The CAs of the table; or those that are known, if it is not among them.
fn names(fleet: &Fleet, dates: &[Dates], only: Option<&str>) -> Result<Vec<String>, Vec<String>> {
    let of_dates = dates.iter().map(|it| it.ca.as_str());
    let all: BTreeSet<&str> = fleet.cas().into_iter().chain(of_dates).collect();
    let all: Vec<String> = all.into_iter().map(str::to_owned).collect();
    match only {
        None => Ok(all),
        Some(only) if all.iter().any(|ca| ca == only) => Ok(vec![only.to_owned()]),
        Some(_) => Err(all),
    }
}

fn row(ca: &str, census: &Census<'_>, dates: &[Dates], thresholds: &Thresholds) -> Ca {
    let fleet = census.fleet;
    let dates = current(ca, &fleet.proxies, dates);
    let first = dates.iter().min_by_key(|it| it.not_after);
    let (trusted_by, workloads) = (census.trusting(ca), census.under(ca));
    let when_it_ends = census.blast(ca);
    let finding = first.and_then(|it| it.finding(fleet.now, thresholds));
    let result = match finding {
        None => Mark::Ok,
        // Nobody needs it.
        Some(_) if workloads.count == 0 && trusted_by.count == 0 => Mark::Note,
        Some(Finding::Expired | Finding::NotYetValid) if workloads.count > 0 => Mark::Broken,
        Some(_) => Mark::Warning,
    };
    let layer = first.and_then(|it| it.layer()).map(Layer::as_str);
    Ca {
        ca: ca.to_owned(),
        layer: layer.or_else(|| fleet.ancestry.layer(ca)),
        result,
        finding: finding.map(Finding::as_str),
        state: State::of(ca, fleet),
        above: fleet
            .ancestry
            .above(ca)
            .into_iter()
            .map(str::to_owned)
            .collect(),
        not_after: first.map(|it| it.not_after.0),
        certificates: dates
            .iter()
            .map(|it| Certificate {
                certificate: it.certificate.clone(),
                not_before: it.not_before.map(|at| at.0),
                not_after: it.not_after.0,
            })
            .collect(),
        trusted_by,
        workloads,
        last_seen: fleet.last_seen(ca).map(|at| at.0),
        when_it_ends,
    }
}

fn proxies(fleet: &Fleet, store: &Store, answers: &Answers) -> Proxies {
    let mut unknown: BTreeMap<&'static str, usize> = BTreeMap::new();
    for proxy in &fleet.proxies {
        if let Some(blind) = proxy.blind {
            let count = unknown.entry(blind.as_str()).or_default();
            *count = count.saturating_add(proxy.count);
        }
    }
    let members = || store.kinds.iter().flat_map(|kind| &kind.members);
    let namespaces: BTreeSet<&str> = members().map(|member| member.namespace()).collect();
    let of = |what: &'static str| {
        let coverage = answers.coverage.iter();
        coverage.filter(move |sample| sample.label("what") == what)
    };
    let all: BTreeMap<(&str, &str), usize> = of("all")
        .map(|it| {
            (
                (it.label("cluster"), it.label("namespace")),
                it.value as usize,
            )
        })
        .collect();
    let uncovered = of("without").map(|it| {
        let place = (it.label("cluster"), it.label("namespace"));
        Uncovered {
            cluster: place.0.to_owned(),
            namespace: place.1.to_owned(),
            without: it.value as usize,
            all: all.get(&place).copied().unwrap_or_default(),
        }
    });
    let uncovered: Vec<Uncovered> = uncovered.collect();
    Proxies {
        with_module: members().count(),
        without_module: (!all.is_empty()).then(|| uncovered.iter().map(|it| it.without).sum()),
        without_module_by_namespace: uncovered,
        unknown,
        namespaces: namespaces.len(),
    }
}

fn found(answers: &Answers) -> Vec<Found> {
    let of = |what: &'static str| {
        let own = answers.own.iter();
        own.filter(move |sample| sample.label("what") == what)
    };
    let mut all: Vec<Found> = Vec::new();
    for proxies in of("proxies") {
        let (layer, finding) = (proxies.label("layer"), proxies.label("finding"));
        let same =
            |it: &&exposition::Sample| it.label("layer") == layer && it.label("finding") == finding;
        let examples = answers.examples.iter().filter(same);
        all.push(Found {
            whose: "own".to_owned(),
            layer: layer.to_owned(),
            finding: finding.to_owned(),
            result: mark_of_own(finding),
            certificates: of("certificates").find(same).map(|it| it.value as usize),
            proxies: proxies.value as usize,
            examples: examples.map(|it| name(&key(it))).collect(),
        });
    }
    all.extend(answers.peers.iter().map(|met| Found {
        whose: met.label("direction").to_owned(),
        layer: met.label("layer").to_owned(),
        finding: met.label("finding").to_owned(),
        // They were let in.
        result: mark_of_own(met.label("finding")).min(Mark::Warning),
        certificates: None,
        proxies: met.value as usize,
        examples: Vec::new(),
    }));
    all.sort_by(|one, other| {
        other
            .result
            .cmp(&one.result)
            .then(other.proxies.cmp(&one.proxies))
    });
    all
}

/// What a finding of an own certificate means for it.
fn mark_of_own(finding: &str) -> Mark {
    Finding::from_name(finding).map_or(Mark::Note, Mark::of_finding)
}
