//! The cardinal rule: a CA is trusted by every proxy before it signs anything.

use std::collections::BTreeSet;

use super::fleet::{Fleet, Judgement, Signature, Signed};
use super::proxy::Proxy;
use super::trust::{Doubt, Leaf, Trust};
use super::verdict::{Reason, Verdict};

/// Why not everything that is signed now, by these CAs or those under them, is sure to be trusted by every proxy.
pub(crate) fn objections(fleet: &Fleet, scope: &[String]) -> Vec<Reason> {
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
    because
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

/// Why it is not known who signed a leaf.
pub(crate) fn unknown_signer(signature: &Signature<'_>) -> Reason {
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

/// Why it is not sure that a proxy accepts a leaf.
pub(crate) fn distrust(fleet: &Fleet, proxy: &Proxy, leaf: Leaf<'_>) -> Vec<Reason> {
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
                Doubt::Revocation(link) => format!(
                    "trusts {ca}{}, but has revocation lists there and no valid one of {link}: Envoy refuses what that CA has signed",
                    where_in(" in its bundle ")
                ),
                Doubt::NoRoot(link) => format!(
                    "trusts {ca}{}, but has revocation lists there, by which Envoy refuses a chain that leads to no root of that bundle: {link} leads to none that is known (see --cas)",
                    where_in(" in its bundle ")
                ),
                Doubt::Below => format!(
                    "trusts {ca}{}, but has revocation lists there, and which CA under it will sign, and needs one, is not known (see --cas)",
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
