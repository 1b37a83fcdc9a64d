//! The answer as data: the JSON of `--format json`, from which the text is written too.

use serde::Serialize;

use super::gate::{Gate, gates};
use crate::mesh::bundle::Bundle;
use crate::mesh::fleet::{Fleet, Signed};
use crate::mesh::proxy::{Proxy, Seen};
use crate::mesh::refusals::Refusals;
use crate::mesh::state::State;
use crate::mesh::trust::Trust;
use crate::mesh::verdict::Verdict;

/// The gate that the cardinal rule is.
const CARDINAL_RULE: u8 = 2;

/// Everything that the command says.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// Unix time of the judgement.
    pub(super) at: i64,
    /// A CA that signed a peer's leaf in the last so many seconds still signs.
    pub(super) recent_seconds: i64,
    /// The rotation that was asked about.
    pub(super) rotation: Option<Names>,
    /// The gate that decides.
    pub(super) gate: u8,
    /// That gate is open, and the cardinal rule is not broken.
    pub(super) passes: bool,
    /// The proxies with each CA.
    pub(super) proxies: Vec<ProxyRow>,
    /// The CAs in the whole fleet.
    pub(super) cas: Vec<CaRow>,
    /// The gates.
    pub(super) gates: Vec<Gate>,
    /// What closes no gate and should be looked at before the next step.
    pub(super) warnings: Vec<Warning>,
}

/// The rotation that was asked about.
#[derive(Debug, Serialize)]
pub(super) struct Names {
    /// The CA that goes.
    pub(super) old: String,
    /// Its certificate, if one was asked about: the first digits of the SHA-256.
    pub(super) old_certificate: Option<String>,
    /// The CA that comes.
    pub(super) new: String,
    /// Its certificate, if one was asked about.
    pub(super) new_certificate: Option<String>,
}

/// What closes no gate.
#[derive(Debug, Serialize)]
pub(super) struct Warning {
    /// The proxy.
    pub(super) proxy: String,
    /// What was seen, in words.
    pub(super) what: String,
}

/// A proxy.
#[derive(Debug, Serialize)]
pub(super) struct ProxyRow {
    /// As named on the command line.
    pub(super) name: String,
    /// How many proxies it stands for.
    pub(super) count: usize,
    /// Why nothing is known of its hierarchy.
    pub(super) unknown: Option<&'static str>,
    /// Handshakes refused for `unknown_ca` since the proxy started.
    pub(super) unknown_ca_failures: u64,
    /// Handshakes that were refused.
    pub(super) refusals: Refusals,
    /// Its trust bundles.
    pub(super) bundles: Vec<String>,
    /// The CAs, seen from it.
    pub(super) cas: Vec<Cell>,
}

/// A CA as one proxy knows it.
#[derive(Debug, Serialize)]
pub(super) struct Cell {
    /// The CA.
    pub(super) ca: String,
    /// In a trust bundle of it; null: cannot be told.
    pub(super) in_bundle: Option<bool>,
    /// The bundles that have it.
    pub(super) bundles: Vec<String>,
    /// It accepts what the CA signs; null: cannot be told.
    pub(super) trusted: Option<bool>,
    /// The CA above it by which it is trusted.
    pub(super) through: Option<String>,
    /// It signed the proxy's own leaf; null: cannot be told.
    pub(super) signs_own_leaf: Option<bool>,
    /// When a peer's leaf of it was last seen.
    pub(super) last_seen: Seen,
}

/// A CA in the whole fleet.
#[derive(Debug, Serialize)]
pub(super) struct CaRow {
    /// The CA.
    pub(super) ca: String,
    /// Its layer, if known.
    pub(super) layer: Option<&'static str>,
    /// The CAs known to stand above it.
    pub(super) above: Vec<String>,
    /// Its state.
    pub(super) state: State,
    /// How many proxies have it in their bundle.
    pub(super) in_bundles: usize,
    /// The proxies whose own leaf it, or a CA under it, has signed.
    pub(super) signs_leaves_of: Vec<String>,
    /// When a peer's leaf of it, or of a CA under it, was last seen.
    pub(super) last_seen: Option<i64>,
}

impl Report {
    /// What can be said of the fleet. `only`: these CAs; empty: all.
    pub(super) fn new(fleet: &Fleet, gate: Option<u8>, only: &[String]) -> Self {
        let cas = columns(fleet, only);
        let gates = gates(fleet, only);
        let deciding = match &fleet.rotation {
            Some(_) => gate.unwrap_or(5),
            None => CARDINAL_RULE,
        };
        let holds = |gate: &Gate| match gate.number {
            number if number == deciding => gate.verdict == Verdict::Open,
            CARDINAL_RULE => gate.verdict != Verdict::Closed,
            _ => true,
        };
        Self {
            at: fleet.now.0,
            recent_seconds: fleet.recent.0,
            gate: deciding,
            passes: gates.iter().all(holds),
            proxies: fleet
                .proxies
                .iter()
                .map(|proxy| proxy_row(fleet, proxy, &cas))
                .collect(),
            cas: cas.iter().map(|ca| ca_row(fleet, ca)).collect(),
            gates,
            warnings: fleet.proxies.iter().filter_map(warning).collect(),
            rotation: fleet.rotation.as_ref().map(|rotation| Names {
                old: rotation.old.ca.clone(),
                old_certificate: rotation.old.certificate.clone(),
                new: rotation.new.ca.clone(),
                new_certificate: rotation.new.certificate.clone(),
            }),
        }
    }
}

/// Clients that are refused may be strangers, so that they close no gate. They may also be of this mesh.
fn warning(proxy: &Proxy) -> Option<Warning> {
    let count = proxy.refusals.of_clients;
    let when = match count.increase {
        Some(0) => return None,
        Some(increase) => format!("{increase} times since the scrape before"),
        None if count.total == 0 => return None,
        None => format!("{} times since it started", count.total),
    };
    Some(Warning {
        proxy: proxy.name.clone(),
        what: format!(
            "has refused clients for unknown_ca {when}: if its log names clients of this mesh, stop"
        ),
    })
}

/// The CAs of the table.
fn columns(fleet: &Fleet, only: &[String]) -> Vec<String> {
    let rotation = fleet.rotation.iter();
    let asked = only
        .iter()
        .chain(rotation.flat_map(|names| [&names.old.ca, &names.new.ca]));
    let mut cas: Vec<String> = asked.cloned().collect();
    let certified = fleet.ancestry.certified.iter().map(String::as_str);
    let found = fleet.cas().into_iter().chain(certified).filter(|ca| {
        let mut tops = only.iter();
        only.is_empty() || tops.any(|top| fleet.ancestry.is_below(ca, top) == Some(true))
    });
    cas.extend(found.map(str::to_owned));
    cas.sort_unstable();
    cas.dedup();
    cas
}

fn proxy_row(fleet: &Fleet, proxy: &Proxy, cas: &[String]) -> ProxyRow {
    ProxyRow {
        name: proxy.name.clone(),
        count: proxy.count,
        unknown: proxy.blind.map(|blind| blind.as_str()),
        unknown_ca_failures: proxy.unknown_ca_failures(),
        refusals: proxy.refusals,
        bundles: names(proxy.bundles.iter()),
        cas: cas.iter().map(|ca| cell(fleet, proxy, ca)).collect(),
    }
}

fn cell(fleet: &Fleet, proxy: &Proxy, ca: &str) -> Cell {
    let trust = fleet.trust(proxy, ca);
    Cell {
        ca: ca.to_owned(),
        in_bundle: proxy.has_in_bundle(ca),
        bundles: names(proxy.bundles.iter().filter(|bundle| bundle.has(ca))),
        trusted: match trust {
            Trust::Unknown(_) => None,
            Trust::No => Some(false),
            Trust::Direct | Trust::Through(_) | Trust::Accepted => Some(true),
        },
        through: match trust {
            Trust::Through(anchor) => Some(anchor),
            _ => None,
        },
        signs_own_leaf: signs_own_leaf(fleet, proxy, ca),
        last_seen: proxy.seen.get(ca).copied().unwrap_or_default(),
    }
}

fn names<'a>(bundles: impl Iterator<Item = &'a Bundle>) -> Vec<String> {
    bundles.map(|bundle| bundle.name.clone()).collect()
}

fn signs_own_leaf(fleet: &Fleet, proxy: &Proxy, ca: &str) -> Option<bool> {
    let chains = proxy
        .chains
        .iter()
        .filter(|chain| !fleet.is_foreign(proxy, chain));
    let mut signers = chains.map(|chain| chain.signer.as_deref());
    if signers.any(|signer| signer == Some(ca)) {
        return Some(true);
    }
    let known = proxy.blind.is_none() && proxy.chains.iter().all(|chain| chain.signer.is_some());
    known.then_some(false)
}

fn ca_row(fleet: &Fleet, ca: &str) -> CaRow {
    let bundles = fleet.proxies.iter();
    let bundles = bundles.filter(|proxy| proxy.has_in_bundle(ca) == Some(true));
    CaRow {
        ca: ca.to_owned(),
        layer: fleet.ancestry.layer(ca),
        above: fleet
            .ancestry
            .above(ca)
            .into_iter()
            .map(str::to_owned)
            .collect(),
        state: State::of(ca, fleet),
        in_bundles: bundles.map(|proxy| proxy.count).sum(),
        signs_leaves_of: signs_leaves_of(fleet, ca),
        last_seen: fleet.last_seen(ca).map(|at| at.0),
    }
}

fn signs_leaves_of(fleet: &Fleet, ca: &str) -> Vec<String> {
    let below = |signer| fleet.ancestry.is_below(signer, ca) == Some(true);
    let own = fleet.signatures().filter(|signature| {
        matches!(signature.on, Signed::OwnLeaf(_)) && signature.ca.is_some_and(below)
    });
    let mut proxies: Vec<String> = own.map(|signature| signature.proxy.name.clone()).collect();
    proxies.dedup();
    proxies
}
