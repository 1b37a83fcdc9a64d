//! A group of certificates as the module would judge it, whatever its order: a chain, or a bundle of CAs alone.

use mtls_watch_core::config::Config;
use mtls_watch_core::policy::{self, Judgement};
use mtls_watch_core::terms::{Acceptance, Direction, Findings};
use mtls_watch_x509::Certificate;
use mtls_watch_x509::chain::{Layer, Member};
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
    let layers: Vec<Layer> = certificates
        .iter()
        .zip(&is_leaf)
        .map(|(certificate, leaf)| {
            let signed =
                |(other, leaf): (&Certificate, &bool)| *leaf && other.names_as_issuer(certificate);
            match leaf {
                true => Layer::Workload,
                false if certificate.is_self_issued() => Layer::RootCa,
                false if certificates.iter().zip(&is_leaf).any(signed) => Layer::IssuingCa,
                false => Layer::IntermediateCa,
            }
        })
        .collect();
    let issuers: Vec<Option<usize>> = certificates
        .iter()
        .map(|certificate| issuer_of(certificate, &certificates, &is_leaf))
        .collect();
    let signers: Vec<Option<String>> = issuers
        .iter()
        .map(|issuer| Some(certificates.get((*issuer)?)?.subject_ca()))
        .collect();
    certificates
        .into_iter()
        .zip(layers)
        .zip(issuers.into_iter().zip(signers))
        .map(|((mut certificate, layer), (issuer, signer))| {
            certificate.signer = signer;
            Member {
                certificate,
                layer,
                issuer,
            }
        })
        .collect()
}

/// No CA by its own words; or one with cA by mistake: it may not sign certificates, or has the SPIFFE ID of a workload.
fn is_leaf(certificate: &Certificate) -> bool {
    let may_sign = certificate.key_usage.is_none_or(|usage| usage.cert_sign);
    let version_1_root = certificate.version == 1 && certificate.is_self_issued();
    let is_workload = certificate.spiffe != Svid::No
        && mtls_watch_x509::spiffe::validate_id(&certificate.identity).is_ok();
    !version_1_root && (!certificate.is_ca || !may_sign || is_workload)
}

fn issuer_of(certificate: &Certificate, all: &[Certificate], is_leaf: &[bool]) -> Option<usize> {
    if certificate.is_self_issued() {
        return None;
    }
    let candidates = all.iter().zip(is_leaf).enumerate();
    let signed = candidates.filter(|(_, (issuer, leaf))| {
        !**leaf && *issuer != certificate && certificate.names_as_issuer(issuer)
    });
    // Of a CA's certificates the one that lasts longest is the one that leaves of it may outlive last.
    signed
        .max_by_key(|(index, (issuer, _))| (issuer.not_after, std::cmp::Reverse(*index)))
        .map(|(index, _)| index)
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
