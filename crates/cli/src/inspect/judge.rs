//! A group of certificates as the module would judge it, whatever its order: a chain, or a bundle of CAs alone.

use mtls_watch_core::config::Config;
use mtls_watch_core::policy::{self, Judgement};
use mtls_watch_core::terms::{Acceptance, Direction, Findings};
use mtls_watch_x509::Certificate;
use mtls_watch_x509::chain::{self, Layer, Member};
use mtls_watch_x509::spiffe::Svid;
use mtls_watch_x509::time::UnixTime;

use crate::input::Purpose;

/// A certificate in its place, with what was found, in the order of the input.
pub(super) struct Judged {
    pub(super) member: Member,
    pub(super) findings: Findings,
}

/// Judges what stands together.
pub(super) fn judge(
    certificates: Vec<Certificate>,
    purpose: Purpose,
    direction: Direction,
    config: &Config,
    now: UnixTime,
) -> Vec<Judged> {
    let members = members(certificates, purpose);
    let found = findings(&members, direction, config, now);
    members
        .into_iter()
        .zip(found)
        .map(|(member, findings)| Judged {
            findings: findings.difference(Acceptance::of(&config.ignore, &member)),
            member,
        })
        .collect()
}

/// Whether the leaf stands behind a CA: Envoy takes the first certificate for the leaf.
pub(super) fn is_reversed(judged: &[Judged]) -> bool {
    let mut layers = judged.iter().map(|judged| judged.member.layer);
    layers.next().is_some_and(|first| first != Layer::Workload)
        && layers.any(|layer| layer == Layer::Workload)
}

/// Each certificate at its layer, which its own cA and what the others name as their issuer decide.
fn members(certificates: Vec<Certificate>, purpose: Purpose) -> Vec<Member> {
    let is_issuer = |issuer: &Certificate| {
        let mut others = certificates.iter();
        others.any(|other| other != issuer && other.names_as_issuer(issuer))
    };
    let is_leaf: Vec<bool> = certificates
        .iter()
        .map(|it| purpose != Purpose::Bundle && is_leaf(it) && !is_issuer(it))
        .collect();
    chain::arrange(certificates, |index, _| is_leaf.get(index) == Some(&false))
}

/// No CA by its own words; or one with cA by mistake: it may not sign certificates, or has the SPIFFE ID of a workload.
fn is_leaf(certificate: &Certificate) -> bool {
    let may_sign = certificate.key_usage.is_none_or(|usage| usage.cert_sign);
    let is_workload = certificate.spiffe != Svid::No
        && mtls_watch_x509::spiffe::validate_id(&certificate.identity).is_ok();
    !certificate.is_old_root() && (!certificate.is_ca || !may_sign || is_workload)
}

fn findings(
    members: &[Member],
    direction: Direction,
    config: &Config,
    now: UnixTime,
) -> Vec<Findings> {
    let at = |judged: Vec<Judgement>| -> Vec<Findings> {
        judged.iter().map(|judgement| judgement.at(now)).collect()
    };
    let leaves: Vec<usize> = members
        .iter()
        .enumerate()
        .filter_map(|(index, member)| (member.layer == Layer::Workload).then_some(index))
        .collect();
    if leaves.is_empty() {
        return at(policy::judge_own(members, &config.thresholds));
    }
    // The policy takes the first for the leaf. Each leaf is judged as such; the CAs are those of the first.
    let mut found = vec![Findings::empty(); members.len()];
    for leaf in leaves.into_iter().rev() {
        let mut order: Vec<usize> = (0..members.len()).collect();
        order.sort_by_key(|index| *index != leaf);
        let position = |index: usize| order.iter().position(|at| *at == index);
        let chain: Vec<Member> = order
            .iter()
            .filter_map(|index| members.get(*index).cloned())
            .map(|member| Member {
                issuer: member.issuer.and_then(position),
                ..member
            })
            .collect();
        let judged = at(policy::judge(&chain, direction, &config.thresholds));
        for (index, findings) in order.iter().zip(judged) {
            let is_other_leaf = *index != leaf
                && members
                    .get(*index)
                    .is_some_and(|member| member.layer == Layer::Workload);
            if let Some(slot) = found.get_mut(*index).filter(|_| !is_other_leaf) {
                *slot = findings;
            }
        }
    }
    found
}
