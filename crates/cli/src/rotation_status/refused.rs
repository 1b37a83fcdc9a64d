//! What is refused now: it outweighs what the bundles show.

use crate::mesh::fleet::{Fleet, Rotation};
use crate::mesh::proxy::Proxy;
use crate::mesh::refusals::Count;
use crate::mesh::verdict::{Reason, Verdict};

/// Proxies that were refused with a leaf of a CA in question, or refuse servers: no gate says yes while that
/// goes on. Clients that are refused are no reason: strangers could keep every gate shut.
pub(super) fn refusals(fleet: &Fleet, only: &[String]) -> Vec<Reason> {
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
