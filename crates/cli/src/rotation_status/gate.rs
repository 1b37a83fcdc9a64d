//! The gates between the five steps of a CA rotation.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use super::fleet::{Fleet, Judgement, Rotation, Signature, Signed};
use super::proxy::Proxy;
use super::refusals::Count;
use super::reissue;
use super::trust::{Doubt, Leaf, Trust};
use super::verdict::{Reason, Verdict};

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

/// Why it is not sure that a proxy accepts a leaf.
fn distrust(fleet: &Fleet, proxy: &Proxy, leaf: Leaf<'_>) -> Vec<Reason> {
    if let Some(blind) = proxy.blind {
        return vec![Reason::blind(&proxy.name, blind.as_str())];
    }
    let judgements = fleet.judge(proxy, leaf, None);
    if judgements.is_empty() {
        let asked = fleet.bundles.join(", ");
        let what = format!("has no bundle {asked} (--bundle)");
        return vec![Reason::blind(&proxy.name, &what)];
    }
    let hidden = (proxy.has_folded_bundles() && fleet.bundles.is_empty()).then(|| {
        Reason::blind(
            &proxy.name,
            "has more certificates than series, so that some bundles have no name: say which bundle is meant (--bundle)",
        )
    });
    let reasons = judgements.iter();
    let reasons = reasons.filter_map(|judgement| objection(proxy, leaf.signer(), judgement));
    reasons.chain(hidden).collect()
}

fn objection(proxy: &Proxy, ca: &str, judgement: &Judgement<'_>) -> Option<Reason> {
    let where_in = |preposition: &str| {
        let bundle = judgement.bundle.filter(|name| !name.is_empty());
        bundle.map_or(String::new(), |name| format!("{preposition}{name}"))
    };
    let (verdict, what) = match &judgement.trust {
        Trust::Direct | Trust::Through(_) | Trust::Accepted => return None,
        Trust::No => (
            Verdict::Closed,
            format!("does not trust {ca}{}", where_in(" in its bundle ")),
        ),
        Trust::Unknown(doubt) => {
            let bundle = where_in(" ");
            let what = match doubt {
                Doubt::Nameless => {
                    format!("has a CA without a name in its bundle{bundle}, which may be {ca}")
                }
                Doubt::Ancestry => format!(
                    "has no {ca} in its bundle{bundle}, and what stands above it is not known (see --cas)"
                ),
                Doubt::Validity(link) => format!(
                    "trusts {ca}{} by a certificate of {link} that is not valid, or one beside it is not",
                    where_in(" in its bundle ")
                ),
                Doubt::Carried(link) => format!(
                    "trusts {ca}{} only if peers send the certificate by which it stands under {link}",
                    where_in(" in its bundle ")
                ),
            };
            (Verdict::Unknown, what)
        }
    };
    Some(Reason::about(&proxy.name, ca, verdict, what).of_bundle(judgement.bundle))
}

fn cardinal_rule(fleet: &Fleet, scope: &[String]) -> Gate {
    let mut because: Vec<Reason> = Vec::new();
    let mut judged: Vec<Signature<'_>> = Vec::new();
    for signature in fleet.signatures() {
        let Some(leaf) = signature.leaf() else {
            because.push(unknown_signer(&signature));
            continue;
        };
        let is_judged = judged.iter().any(|known| is_alike(known, &signature));
        if is_judged || !in_scope(fleet, leaf.signer(), scope) {
            continue;
        }
        for reason in distrusted(fleet, leaf, &signature) {
            let is_known = |known: &Reason| {
                known.proxy == reason.proxy
                    && known.ca == reason.ca
                    && known.bundle == reason.bundle
            };
            if !because.iter().any(is_known) {
                because.push(reason);
            }
        }
        judged.push(signature);
    }
    // Of a proxy that shows nothing, nothing can be said, even where nothing is signed.
    for proxy in &fleet.proxies {
        let named: BTreeSet<_> = because
            .iter()
            .map(|reason| reason.proxy.as_deref())
            .collect();
        let is_named = named.contains(&Some(proxy.name.as_str()));
        if let (Some(blind), false) = (proxy.blind, is_named) {
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

/// Whether two leaves are the same to every bundle.
fn is_alike(one: &Signature<'_>, other: &Signature<'_>) -> bool {
    one.ca == other.ca
        && match (one.on, other.on) {
            (Signed::OwnLeaf(one), Signed::OwnLeaf(other)) => {
                one.standing == other.standing && one.carried == other.carried
            }
            (Signed::Peer(_), Signed::Peer(_)) => one.proxy.name == other.proxy.name,
            _ => false,
        }
}

fn in_scope(fleet: &Fleet, ca: &str, scope: &[String]) -> bool {
    let mut scope_of_it = scope.iter();
    scope.is_empty() || scope_of_it.any(|top| fleet.ancestry.is_below(ca, top) != Some(false))
}

/// The proxies that are not sure to accept a leaf that is in use.
fn distrusted<'a>(
    fleet: &'a Fleet,
    leaf: Leaf<'a>,
    example: &'a Signature<'a>,
) -> impl Iterator<Item = Reason> + 'a {
    let seeing = fleet.proxies.iter().filter(|proxy| proxy.blind.is_none());
    seeing.flat_map(move |proxy| {
        let reasons = distrust(fleet, proxy, leaf).into_iter();
        reasons.map(move |reason| with_example(reason, proxy, example))
    })
}

fn with_example(mut reason: Reason, proxy: &Proxy, example: &Signature<'_>) -> Reason {
    reason.what = format!("{}; it signs {}", reason.what, describe(example));
    let refused = proxy.unknown_ca_failures();
    if refused > 0 {
        reason.what = format!(
            "{}; {refused} handshakes refused for unknown_ca since the proxy started",
            reason.what
        );
    }
    reason
}

fn describe(signature: &Signature<'_>) -> String {
    let proxy = &signature.proxy.name;
    match signature.on {
        Signed::OwnLeaf(chain) => format!("the leaf of {proxy} ({})", chain.secret),
        Signed::Peer(_) => format!("leaves that {proxy} meets"),
    }
}

fn unknown_signer(signature: &Signature<'_>) -> Reason {
    let what = match signature.on {
        Signed::OwnLeaf(chain) => {
            let secret = &chain.secret;
            match chain.doubt {
                Some(doubt) => format!("its leaf ({secret}): {doubt}"),
                None => format!("its chain {secret} does not show which CA signed its leaf"),
            }
        }
        Signed::Peer(_) => {
            "meets peers of CAs beyond the limit of 100, folded into \"other\"".to_owned()
        }
    };
    Reason::blind(&signature.proxy.name, &what)
}

/// Proxies that were refused with a leaf of a CA in question, or refuse servers: no gate says yes while that
/// goes on. Clients that are refused are no reason: strangers could keep every gate shut.
fn refusals(fleet: &Fleet, only: &[String]) -> Vec<Reason> {
    let reasons = fleet.proxies.iter().flat_map(|proxy| {
        let as_client = rejected(fleet, proxy, only);
        as_client.into_iter().chain(refuses_servers(proxy))
    });
    reasons.collect()
}

fn rejected(fleet: &Fleet, proxy: &Proxy, only: &[String]) -> Option<Reason> {
    let count = proxy.refusals.as_client;
    if count.goes_on() == Some(false) {
        return None;
    }
    let tops: Vec<&str> = match (&fleet.rotation, only) {
        (Some(Rotation { old, new }), []) => vec![&old.ca, &new.ca],
        _ => only.iter().map(String::as_str).collect(),
    };
    let is_asked = |ca: &str| {
        let mut tops = tops.iter();
        tops.len() == 0 || tops.any(|top| fleet.ancestry.is_below(ca, top) != Some(false))
    };
    let mut leaves = proxy.chains.iter();
    let in_question = leaves.find(|chain| chain.signer.as_deref().is_none_or(&is_asked))?;
    let signer = in_question
        .signer
        .as_deref()
        .unwrap_or("a CA that is not known");
    let (verdict, when) = severity(count, Verdict::Closed);
    let what = format!(
        "as a client it was refused {when}; its leaf ({}) is signed by {signer}",
        in_question.secret
    );
    Some(Reason::about(&proxy.name, signer, verdict, what))
}

fn refuses_servers(proxy: &Proxy) -> Option<Reason> {
    let count = proxy.refusals.of_servers;
    if count.goes_on() == Some(false) {
        return None;
    }
    // The metrics do not tell whose certificate it was.
    let (verdict, when) = severity(count, Verdict::Unknown);
    let what = format!("has refused servers for unknown_ca {when}: its log names them");
    Some(Reason {
        verdict,
        ..Reason::blind(&proxy.name, &what)
    })
}

fn severity(count: Count, going_on: Verdict) -> (Verdict, String) {
    match count.increase {
        Some(increase) => (
            going_on,
            format!("{increase} times since the scrape before"),
        ),
        None => (
            Verdict::Unknown,
            format!(
                "{} times since it started, and one scrape does not tell whether that goes on (see --before)",
                count.total
            ),
        ),
    }
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
            "met a peer with a leaf of {ca} {} ago",
            super::table::span(fleet.now.since(at).0)
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
