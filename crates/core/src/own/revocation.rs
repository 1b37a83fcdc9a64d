//! Revocation lists of validation contexts. Envoy refuses a peer if the list of the CA that signed it is past its next
//! update, or not valid yet.

use mtls_watch_x509::chain::Layer;
use mtls_watch_x509::crl::RevocationList;
use mtls_watch_x509::time::UnixTime;

use crate::policy::Judgement;
use crate::terms::{Finding, Thresholds};

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
