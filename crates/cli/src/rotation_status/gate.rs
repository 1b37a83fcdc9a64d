//! The gates between the five steps of a CA rotation.

use std::cmp::Reverse;

use super::fleet::{Fleet, Rotation, Signature, Signed, Trust};
use super::proxy::Proxy;

/// A question, its answer, and who stands in the way.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub(super) struct Gate {
    /// Its number, from 1.
    pub(super) number: u8,
    /// Its name in JSON.
    pub(super) name: &'static str,
    /// The question.
    pub(super) question: &'static str,
    /// The answer.
    pub(super) verdict: Verdict,
    /// Who and what stands in the way of `open`.
    pub(super) because: Vec<Reason>,
}

/// The answer at a gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verdict {
    /// Yes.
    Open,
    /// It cannot be told, which is no yes.
    Unknown,
    /// No.
    Closed,
}

impl Verdict {
    /// As the answer to a gate's question.
    pub(super) const fn answer(self) -> &'static str {
        match self {
            Self::Open => "yes",
            Self::Unknown => "unknown",
            Self::Closed => "no",
        }
    }
}

/// What stands in the way of a gate.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub(super) struct Reason {
    /// Whether it closes the gate, or leaves it unknown.
    pub(super) verdict: Verdict,
    /// The proxy it is about.
    pub(super) proxy: Option<String>,
    /// The CA it is about.
    pub(super) ca: Option<String>,
    /// What is wrong, in words.
    pub(super) what: String,
}

impl Reason {
    fn about(proxy: &str, ca: &str, verdict: Verdict, what: String) -> Self {
        Self {
            verdict,
            proxy: Some(proxy.to_owned()),
            ca: Some(ca.to_owned()),
            what,
        }
    }

    fn blind(proxy: &str, what: &str) -> Self {
        Self {
            verdict: Verdict::Unknown,
            proxy: Some(proxy.to_owned()),
            ca: None,
            what: what.to_owned(),
        }
    }
}

impl Gate {
    fn new(
        number: u8,
        name: &'static str,
        question: &'static str,
        mut because: Vec<Reason>,
    ) -> Self {
        because.sort_by_key(|reason| Reverse(reason.verdict));
        let verdict = because.first().map(|reason| reason.verdict);
        Self {
            number,
            name,
            question,
            verdict: verdict.unwrap_or(Verdict::Open),
            because,
        }
    }
}

/// All gates of a rotation; of a fleet without one, the cardinal rule. `only` restricts the cardinal
/// rule to these CAs and those under them; empty: all.
pub(super) fn gates(fleet: &Fleet, rotation: Option<&Rotation>, only: &[String]) -> Vec<Gate> {
    match rotation {
        None => vec![cardinal_rule(fleet, only)],
        Some(rotation) => {
            let scope = match only {
                [] => &[rotation.old.clone(), rotation.new.clone()],
                _ => only,
            };
            let mut gates = vec![
                new_ca_trusted(fleet, &rotation.new),
                cardinal_rule(fleet, scope),
                own_leaves_moved(fleet, &rotation.old),
                old_ca_quiet(fleet, &rotation.old),
            ];
            gates.push(removal(&gates, fleet, rotation));
            gates
        }
    }
}

fn new_ca_trusted(fleet: &Fleet, new: &str) -> Gate {
    let proxies = fleet.proxies.iter();
    let because = proxies.filter_map(|proxy| distrust(fleet, proxy, new));
    Gate::new(
        1,
        "new_ca_trusted",
        "is the new CA trusted by every proxy, so that it may sign?",
        because.collect(),
    )
}

/// Why it is not sure that a proxy trusts a CA.
fn distrust(fleet: &Fleet, proxy: &Proxy, ca: &str) -> Option<Reason> {
    if let Some(blind) = proxy.blind {
        return Some(Reason::blind(&proxy.name, blind.as_str()));
    }
    let reason = |verdict, what: String| Some(Reason::about(&proxy.name, ca, verdict, what));
    match fleet.trust(proxy, ca) {
        Trust::Direct | Trust::Through(_) | Trust::Accepted => None,
        Trust::No => reason(Verdict::Closed, format!("does not trust {ca}")),
        Trust::Unknown if proxy.nameless_in_bundle => reason(
            Verdict::Unknown,
            format!("has a CA without a name in its bundle, which may be {ca}"),
        ),
        Trust::Unknown => reason(
            Verdict::Unknown,
            format!("has no {ca} in its bundle, and what stands above it is not known (see --cas)"),
        ),
    }
}

fn cardinal_rule(fleet: &Fleet, scope: &[String]) -> Gate {
    let mut because: Vec<Reason> = Vec::new();
    let mut judged: Vec<&str> = Vec::new();
    for signature in fleet.signatures() {
        match signature.ca {
            None => because.push(unknown_signer(&signature)),
            Some(ca) if judged.contains(&ca) || !in_scope(fleet, ca, scope) => {}
            Some(ca) => {
                judged.push(ca);
                because.extend(distrusted(fleet, ca, &signature));
            }
        }
    }
    // Of a proxy that shows nothing, nothing can be said, even where nothing is signed.
    for proxy in &fleet.proxies {
        let named = because
            .iter()
            .any(|reason| reason.proxy.as_ref() == Some(&proxy.name));
        if let (Some(blind), false) = (proxy.blind, named) {
            because.push(Reason::blind(&proxy.name, blind.as_str()));
        }
    }
    Gate::new(
        2,
        "cardinal_rule",
        "is whatever is signed now trusted by every proxy?",
        because,
    )
}

fn in_scope(fleet: &Fleet, ca: &str, scope: &[String]) -> bool {
    let mut scope_of_it = scope.iter();
    scope.is_empty() || scope_of_it.any(|top| fleet.ancestry.is_below(ca, top) != Some(false))
}

/// The proxies that are not sure to trust a CA that signs.
fn distrusted<'a>(
    fleet: &'a Fleet,
    ca: &'a str,
    example: &'a Signature<'a>,
) -> impl Iterator<Item = Reason> + 'a {
    let seeing = fleet.proxies.iter().filter(|proxy| proxy.blind.is_none());
    seeing.filter_map(move |proxy| {
        let mut reason = distrust(fleet, proxy, ca)?;
        reason.what = format!("{}; it signs {}", reason.what, describe(example));
        if proxy.unknown_ca_failures > 0 {
            reason.what = format!(
                "{}; {} handshakes refused for unknown_ca since the proxy started",
                reason.what, proxy.unknown_ca_failures
            );
        }
        Some(reason)
    })
}

fn describe(signature: &Signature<'_>) -> String {
    match signature.on {
        Signed::OwnLeaf(secret) => format!("the leaf of {} ({secret})", signature.proxy),
        Signed::Peer(_) => format!("leaves that {} meets", signature.proxy),
    }
}

fn unknown_signer(signature: &Signature<'_>) -> Reason {
    let what = match signature.on {
        Signed::OwnLeaf(secret) => {
            format!("its chain {secret} does not show which CA signed its leaf")
        }
        Signed::Peer(_) => {
            "meets peers of CAs beyond the limit of 100, folded into \"other\"".to_owned()
        }
    };
    Reason::blind(signature.proxy, &what)
}

fn own_leaves_moved(fleet: &Fleet, old: &str) -> Gate {
    let signatures = fleet.signatures();
    let own = signatures.filter(|signature| matches!(signature.on, Signed::OwnLeaf(_)));
    let because = own.filter_map(|signature| still(fleet, &signature, old));
    Gate::new(
        3,
        "own_leaves_moved",
        "has every proxy's own leaf moved off the old CA?",
        because.chain(blind(fleet)).collect(),
    )
}

fn old_ca_quiet(fleet: &Fleet, old: &str) -> Gate {
    let because = fleet
        .signatures()
        .filter_map(|signature| still(fleet, &signature, old));
    Gate::new(
        4,
        "old_ca_quiet",
        "has the old CA not been seen recently, on own leaves or on peers?",
        because.chain(blind(fleet)).collect(),
    )
}

fn blind(fleet: &Fleet) -> impl Iterator<Item = Reason> + '_ {
    let proxies = fleet.proxies.iter();
    proxies.filter_map(|proxy| Some(Reason::blind(&proxy.name, proxy.blind?.as_str())))
}

/// Why a signature is, or may be, of the old CA.
fn still(fleet: &Fleet, signature: &Signature<'_>, old: &str) -> Option<Reason> {
    let Some(ca) = signature.ca else {
        return Some(unknown_signer(signature));
    };
    let below = fleet.ancestry.is_below(ca, old);
    let what = match signature.on {
        Signed::OwnLeaf(secret) => format!("its leaf ({secret}) is signed by {ca}"),
        Signed::Peer(at) => format!(
            "met a peer with a leaf of {ca} {} ago",
            super::table::span(fleet.now.since(at).0)
        ),
    };
    let (verdict, what) = match below {
        Some(false) => return None,
        Some(true) if ca == old => (Verdict::Closed, what),
        Some(true) => (Verdict::Closed, format!("{what}, under {old}")),
        None => (
            Verdict::Unknown,
            format!("{what}, and it is not known whether that stands under {old} (see --cas)"),
        ),
    };
    Some(Reason::about(signature.proxy, ca, verdict, what))
}

fn removal(gates: &[Gate], fleet: &Fleet, rotation: &Rotation) -> Gate {
    let mut because: Vec<Reason> = Vec::new();
    for reason in gates.iter().flat_map(|gate| &gate.because) {
        if !because.contains(reason) {
            because.push(reason.clone());
        }
    }
    for ca in [&rotation.old, &rotation.new] {
        // A root may be named by no series and yet stand above what signs.
        if !fleet.cas().contains(ca.as_str()) && !fleet.signs(ca) {
            because.push(Reason {
                verdict: Verdict::Unknown,
                proxy: None,
                ca: Some(ca.clone()),
                what: format!("no series names {ca}: check the name"),
            });
        }
    }
    Gate::new(
        5,
        "old_ca_removable",
        "may the old CA be removed now?",
        because,
    )
}
