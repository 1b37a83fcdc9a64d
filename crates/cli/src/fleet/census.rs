//! Which workloads stand under which CA, who trusts it, and what breaks when it ends.

use std::collections::{BTreeMap, BTreeSet};

use mtls_watch_x509::spiffe;
use serde::Serialize;

use crate::mesh::bundle::Authority;
use crate::mesh::chain::Chain;
use crate::mesh::fleet::Fleet;
use crate::mesh::proxy::{Proxy, Seen};
use crate::mesh::store::{Kind, Member};
use crate::mesh::trust::Leaf;

/// Proxies or workloads, by namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Group {
    pub(super) count: usize,
    pub(super) namespaces: BTreeMap<String, usize>,
    /// Of a CA that was asked for.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub(super) names: BTreeSet<String>,
}

impl Group {
    /// Pairs of a namespace and a name.
    fn of(members: BTreeSet<(String, String)>, with_names: bool) -> Self {
        let mut group = Self {
            count: members.len(),
            ..Self::default()
        };
        for (namespace, name) in members {
            let count = group.namespaces.entry(namespace).or_default();
            *count = count.saturating_add(1);
            if with_names {
                group.names.insert(name);
            }
        }
        group
    }
}

/// What breaks when a CA ends.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Blast {
    /// Workloads that somebody accepts because of this CA alone.
    pub(super) workloads: Group,
    /// Proxies that will refuse them.
    pub(super) refused_by: Group,
    /// Of these, proxies that have called one of the CA's workloads lately.
    pub(super) not_reached_by: Group,
    /// Of these, proxies that one of the CA's workloads has called lately.
    pub(super) cannot_reach: Group,
}

/// The proxies, each with those that are like it.
pub(super) struct Census<'a> {
    pub(super) fleet: &'a Fleet,
    pub(super) kinds: &'a [Kind],
    pub(super) with_names: bool,
}

/// A leaf of a kind of proxies.
struct Held<'a> {
    kind: &'a Kind,
    signer: &'a str,
    chain: &'a Chain,
}

impl<'a> Census<'a> {
    /// Proxies that have a certificate of the CA in a bundle.
    pub(super) fn trusting(&self, ca: &str) -> Group {
        let having = self
            .all()
            .filter(|(proxy, _)| proxy.has_in_bundle(ca) == Some(true));
        self.proxies(having.map(|(_, kind)| kind))
    }

    /// Workloads whose leaf the CA, or one under it, has signed.
    pub(super) fn under(&self, ca: &str) -> Group {
        let held = self.held();
        let under = held
            .iter()
            .filter(|held| self.fleet.stands_under(held.chain, ca));
        self.workloads(under)
    }

    /// What breaks when the CA ends.
    pub(super) fn blast(&self, ca: &str) -> Blast {
        let authority = Authority {
            ca: ca.to_owned(),
            certificate: None,
        };
        let mut refusing: BTreeSet<usize> = BTreeSet::new();
        let mut broken: Vec<Held<'_>> = Vec::new();
        let mut known: Vec<(&str, &Chain, bool)> = Vec::new();
        let held = self.held().into_iter();
        for held in held.filter(|held| self.fleet.stands_under(held.chain, ca)) {
            let alike = known.iter().find(|(signer, chain, _)| {
                *signer == held.signer
                    && chain.standing == held.chain.standing
                    && chain.carried == held.chain.carried
            });
            let breaks = match alike {
                Some((_, _, breaks)) => *breaks,
                None => {
                    let by = self.refusing(&held, &authority);
                    let breaks = !by.is_empty();
                    refusing.extend(by);
                    known.push((held.signer, held.chain, breaks));
                    breaks
                }
            };
            if breaks {
                broken.push(held);
            }
        }
        let refusing: Vec<(&Proxy, &Kind)> = self
            .all()
            .enumerate()
            .filter(|(place, _)| refusing.contains(place))
            .map(|(_, pair)| pair)
            .collect();
        let signers: BTreeSet<&str> = broken.iter().map(|held| held.signer).collect();
        let met = |side: fn(&Seen) -> Option<i64>| {
            let meeting = refusing
                .iter()
                .filter(|(proxy, _)| self.has_met(proxy, &signers, side));
            self.proxies(meeting.map(|(_, kind)| *kind))
        };
        Blast {
            workloads: self.workloads(broken.iter()),
            refused_by: self.proxies(refusing.iter().map(|(_, kind)| *kind)),
            not_reached_by: met(|seen| seen.outbound),
            cannot_reach: met(|seen| seen.inbound),
        }
    }

    fn all(&self) -> impl Iterator<Item = (&'a Proxy, &'a Kind)> + use<'a> {
        self.fleet.proxies.iter().zip(self.kinds)
    }

    fn held(&self) -> Vec<Held<'a>> {
        let fleet = self.fleet;
        let held = self.all().flat_map(move |(proxy, kind)| {
            let chains = proxy.chains.iter();
            let chains = chains.filter(move |chain| !fleet.is_foreign(proxy, chain));
            chains.filter_map(move |chain| {
                Some(Held {
                    kind,
                    signer: chain.signer.as_deref()?,
                    chain,
                })
            })
        });
        held.collect()
    }

    /// The places of the proxies that accept a leaf, and would not without the CA.
    fn refusing(&self, held: &Held<'_>, without: &Authority) -> Vec<usize> {
        let leaf = Leaf::Own(held.signer, held.chain);
        let accepts = |proxy: &Proxy, without: Option<&Authority>| {
            let judgements = self.fleet.judge(proxy, leaf, without);
            judgements.iter().any(|judgement| judgement.trust.is_sure())
        };
        let is_link = !self.fleet.ancestry.is_root(&without.ca);
        // What is sent along and is no root has signed in the chain.
        let is_sent = || held.chain.carries(&without.ca, None);
        let needs_link =
            is_link && (self.fleet.ancestry.needs(held.signer, &without.ca) || is_sent());
        let all = self.all().enumerate();
        let refusing = all.filter(|(_, (proxy, _))| {
            proxy.blind.is_none()
                && accepts(proxy, None)
                && (needs_link || !accepts(proxy, Some(without)))
        });
        refusing.map(|(place, _)| place).collect()
    }

    /// Whether a proxy has met a peer with a leaf of one of these CAs lately.
    fn has_met(
        &self,
        proxy: &Proxy,
        signers: &BTreeSet<&str>,
        side: fn(&Seen) -> Option<i64>,
    ) -> bool {
        let Fleet { now, recent, .. } = self.fleet;
        proxy.seen.iter().any(|(issuer, seen)| {
            let is_recent = side(seen).is_some_and(|at| now.0.saturating_sub(at) < recent.0);
            is_recent && signers.contains(issuer.as_str())
        })
    }

    fn proxies<'b>(&self, kinds: impl Iterator<Item = &'b Kind>) -> Group {
        let members = kinds.flat_map(|kind| &kind.members);
        let members = members.map(|member| (namespace(member, None), member.name.clone()));
        Group::of(members.collect(), self.with_names)
    }

    fn workloads<'b>(&self, held: impl Iterator<Item = &'b Held<'b>>) -> Group {
        let workloads = held.flat_map(|held| {
            held.kind.members.iter().map(|member| {
                let identity = member.identities.get(&held.chain.secret);
                let name = identity.unwrap_or(&member.name);
                (namespace(member, Some(name)), name.clone())
            })
        });
        Group::of(workloads.collect(), self.with_names)
    }
}

/// Of a workload that of its SPIFFE ID as Istio writes it, else that of the scrape.
fn namespace(member: &Member, identity: Option<&str>) -> String {
    let named = identity.and_then(|identity| {
        spiffe::trust_domain(identity)?;
        let (_, rest) = identity.split_once("/ns/")?;
        rest.split('/').next().filter(|name| !name.is_empty())
    });
    match (named, member.namespace()) {
        (Some(named), _) => named.to_owned(),
        (None, "") => "–".to_owned(),
        (None, namespace) => namespace.to_owned(),
    }
}
