//! The gates between the five steps of a CA rotation.

use std::cmp::Reverse;

use super::refused::refusals;
use super::reissue;
use crate::clock::ago;
use crate::mesh::cardinal::{distrust, objections, unknown_signer};
use crate::mesh::fleet::{Fleet, Rotation, Signature, Signed};
use crate::mesh::trust::Leaf;
use crate::mesh::verdict::{Reason, Verdict};

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

    /// What is observed outweighs what is deduced.
    fn observed(self, refused: &[Reason]) -> Self {
        let is_closed_by = |proxy: &Option<String>| {
            let mut closing = self.because.iter();
            closing.any(|known| known.verdict == Verdict::Closed && known.proxy == *proxy)
        };
        // Of a proxy that says no it need not be said that something is unknown.
        let refused = refused
            .iter()
            .filter(|reason| reason.verdict == Verdict::Closed || !is_closed_by(&reason.proxy));
        let refused: Vec<Reason> = refused.cloned().collect();
        let because = [self.because, refused].concat();
        Self::new(self.number, self.name, self.question, because)
    }
}

/// All gates of a rotation; of a fleet without one, the cardinal rule. `only` restricts the cardinal
/// rule to these CAs and those under them; empty: all.
pub(super) fn gates(fleet: &Fleet, only: &[String]) -> Vec<Gate> {
    let refused = refusals(fleet, only);
    let Some(rotation) = &fleet.rotation else {
        return vec![cardinal_rule(fleet, only).observed(&refused)];
    };
    let scope = match only {
        [] => &[rotation.old.ca.clone(), rotation.new.ca.clone()],
        _ => only,
    };
    let gates = [
        new_ca_trusted(fleet, rotation),
        cardinal_rule(fleet, scope),
        own_leaves_moved(fleet, rotation),
        old_ca_quiet(fleet, rotation),
    ];
    let mut gates: Vec<Gate> = gates.map(|gate| gate.observed(&refused)).into();
    gates.push(removal(&gates, fleet, rotation));
    gates
}

fn new_ca_trusted(fleet: &Fleet, rotation: &Rotation) -> Gate {
    let because =
        fleet
            .proxies
            .iter()
            .flat_map(|proxy| match (proxy.blind, rotation.is_reissue()) {
                (None, true) => reissue::lacking(fleet, proxy, rotation),
                _ => distrust(fleet, proxy, Leaf::Future(&rotation.new.ca)),
            });
    Gate::new(
        1,
        "new_ca_trusted",
        "is the new CA trusted by every proxy, so that it may sign?",
        because.collect(),
    )
}

fn cardinal_rule(fleet: &Fleet, scope: &[String]) -> Gate {
    Gate::new(
        2,
        "cardinal_rule",
        "is whatever is signed now trusted by every proxy?",
        objections(fleet, scope),
    )
}

fn own_leaves_moved(fleet: &Fleet, rotation: &Rotation) -> Gate {
    let signatures = fleet.signatures();
    let own = signatures.filter(|signature| matches!(signature.on, Signed::OwnLeaf(_)));
    let because = own.filter_map(|signature| still(fleet, &signature, rotation));
    Gate::new(
        3,
        "own_leaves_moved",
        "has every proxy's own leaf moved off the old CA?",
        because.chain(blind(fleet)).collect(),
    )
}

fn old_ca_quiet(fleet: &Fleet, rotation: &Rotation) -> Gate {
    let because = fleet
        .signatures()
        .filter_map(|signature| still(fleet, &signature, rotation));
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
fn still(fleet: &Fleet, signature: &Signature<'_>, rotation: &Rotation) -> Option<Reason> {
    let Some(leaf) = signature.leaf() else {
        return Some(unknown_signer(signature));
    };
    if rotation.is_reissue() {
        return reissue::still(fleet, signature, rotation);
    }
    let (ca, old) = (leaf.signer(), rotation.old.ca.as_str());
    let below = fleet.ancestry.is_below(ca, old);
    // A leaf below a cross-certificate no longer needs the old root where the new one is trusted itself. What
    // is no root is needed by whatever stands under it.
    let needs_it = || {
        let is_cross = ca != old && fleet.ancestry.is_root(old);
        !is_cross || !fleet.all_accept(leaf, &rotation.old)
    };
    if below == Some(false) || !needs_it() {
        return None;
    }
    let what = match signature.on {
        Signed::OwnLeaf(chain) => format!("its leaf ({}) is signed by {ca}", chain.secret),
        Signed::Peer(at) => format!(
            "met a peer with a leaf of {ca} {}",
            ago(fleet.now.since(at).0)
        ),
    };
    let (verdict, what) = match below {
        Some(_) if ca == old => (Verdict::Closed, what),
        Some(_) => (Verdict::Closed, format!("{what}, under {old}")),
        None => (
            Verdict::Unknown,
            format!("{what}, and it is not known whether that stands under {old} (see --cas)"),
        ),
    };
    Some(Reason::about(&signature.proxy.name, ca, verdict, what))
}

fn removal(gates: &[Gate], fleet: &Fleet, rotation: &Rotation) -> Gate {
    let mut because: Vec<Reason> = Vec::new();
    for reason in gates.iter().flat_map(|gate| &gate.because) {
        if !because.contains(reason) {
            because.push(reason.clone());
        }
    }
    for authority in [&rotation.old, &rotation.new] {
        let name = match &authority.certificate {
            Some(digits) => format!("{digits} of {}", authority.ca),
            None => authority.ca.clone(),
        };
        if !fleet.knows(authority) {
            because.push(Reason {
                verdict: Verdict::Unknown,
                proxy: None,
                bundle: None,
                ca: Some(authority.ca.clone()),
                what: format!("no series names {name}: check the name"),
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
