//! The gates where a CA gets a new certificate for its old key. Name and key are the same, so every leaf stands
//! under both certificates, and what counts is which of them is where.

use crate::mesh::bundle::Bundle;
use crate::mesh::fleet::{Fleet, Rotation, Signature, Signed};
use crate::mesh::proxy::Proxy;
use crate::mesh::verdict::{Reason, Verdict};

/// The bundles of a proxy that do not have the new certificate for sure.
pub(super) fn lacking<'a>(
    fleet: &'a Fleet,
    proxy: &'a Proxy,
    rotation: &'a Rotation,
) -> Vec<Reason> {
    let new = &rotation.new;
    let bundles = fleet.concerned(proxy).into_iter();
    let having = bundles.filter(|bundle| bundle.knows(&new.ca));
    let having: Vec<_> = having.collect();
    let reason = |verdict, what| Reason::about(&proxy.name, &new.ca, verdict, what);
    if having.is_empty() {
        let what = format!(
            "has no {} in a bundle: whether its peers send the new certificate is not known",
            new.ca
        );
        return vec![reason(Verdict::Unknown, what)];
    }
    let digits = new.certificate.as_deref().unwrap_or_default();
    let lacking = having.iter().filter(|bundle| !bundle.has_certificate(new));
    let lacking = lacking.map(|bundle| {
        let what = format!(
            "its bundle {} has no valid {digits} of {}",
            bundle.name, new.ca
        );
        let reason = reason(Verdict::Closed, what);
        reason.of_bundle(Some(&bundle.name))
    });
    lacking.collect()
}

/// Why something still needs the old certificate: a bundle that has no other, or a chain where no bundle has
/// the CA.
pub(super) fn still(
    fleet: &Fleet,
    signature: &Signature<'_>,
    rotation: &Rotation,
) -> Option<Reason> {
    let Rotation { old, new } = rotation;
    let leaf = signature.leaf()?;
    let ca = leaf.signer();
    if fleet.ancestry.is_below(ca, &old.ca) == Some(false) {
        return None;
    }
    let about = |verdict, what| Some(Reason::about(&signature.proxy.name, ca, verdict, what));
    let digits = old.certificate.as_deref().unwrap_or_default();
    let (having, others): (Vec<&Bundle>, Vec<&Bundle>) = fleet
        .concerned_by_known()
        .partition(|bundle| bundle.has(&old.ca));
    let accepts = |bundle: &&Bundle| bundle.accepts(leaf, &fleet.ancestry, Some(old)).is_sure();
    if !having.iter().all(accepts) {
        let what = format!("leaves of {ca} need {digits} of {} in a bundle", old.ca);
        return about(Verdict::Closed, what);
    }
    // Where a bundle has the CA, no certificate of it in a chain is needed.
    if others.is_empty() {
        return None;
    }
    match signature.on {
        Signed::OwnLeaf(chain) => {
            let sends = |certificate: Option<&str>| {
                let mut all = chain.carried.iter();
                all.any(|it| it.ca == old.ca && it.certificate.as_deref() == certificate)
            };
            let has_new = sends(new.certificate.as_deref());
            let secret = &chain.secret;
            match (sends(old.certificate.as_deref()), has_new) {
                (false, true) => None,
                (true, _) => about(
                    Verdict::Closed,
                    format!("its chain ({secret}) has {digits} of {}", old.ca),
                ),
                (false, false) => about(
                    Verdict::Unknown,
                    format!("its chain ({secret}) has neither certificate of {}", old.ca),
                ),
            }
        }
        Signed::Peer(_) => about(
            Verdict::Unknown,
            format!(
                "meets peers of {ca}, and which certificate of {} they send is not known",
                old.ca
            ),
        ),
    }
}
