//! Revocation lists of validation contexts. Envoy refuses a peer if the list of the CA that signed it is past its next
//! update, or not valid yet.

use std::rc::Rc;

use mtls_watch_x509::chain::Layer;
use mtls_watch_x509::crl::RevocationList;
use mtls_watch_x509::time::UnixTime;

use crate::policy::Judgement;
use crate::terms::{Finding, Thresholds};

/// Of several lists of one CA the one that BoringSSL goes by (`get_crl_sk`): one that is valid, and of these the
/// newest.
pub(super) fn in_force(
    lists: &[Rc<RevocationList>],
    now: UnixTime,
) -> impl Iterator<Item = &RevocationList> {
    let rank = move |list: &RevocationList| {
        let end = list.next_update.unwrap_or(UnixTime::NEVER);
        (list.this_update <= now && now <= end, list.this_update)
    };
    let is_surpassed = move |list: &Rc<RevocationList>| {
        let mut others = lists.iter();
        others.any(|other| other.has_issuer_of(list) && rank(other) > rank(list))
    };
    let in_force = lists.iter().filter(move |list| !is_surpassed(list));
    in_force.map(Rc::as_ref)
}

/// What the dates of a list come to. It lives as short as a leaf, and is judged by the same thresholds.
pub(super) fn finding(
    list: &RevocationList,
    thresholds: &Thresholds,
    now: UnixTime,
) -> Option<Finding> {
    let end = list.next_update.unwrap_or(UnixTime::NO_EXPIRY);
    let judgement = Judgement::of_validity(list.this_update, end, Layer::Workload, thresholds);
    judgement
        .at(now)
        .iter()
        .next()
        .map(|finding| match finding {
            Finding::NotYetValid => finding,
            _ => Finding::CrlExpiring,
        })
}
