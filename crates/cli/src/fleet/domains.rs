//! Trust domains, and who talks to whom across them.

use std::collections::{BTreeMap, BTreeSet};

use mtls_watch_core::metrics::CONNECTIONS_BY_TRUST_DOMAIN;
use mtls_watch_x509::spiffe;
use serde::Serialize;

use crate::mesh::questions::Answers;
use crate::mesh::store::{Key, Kind, key};

/// A trust domain.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Domain {
    pub(super) trust_domain: String,
    pub(super) workloads: usize,
    pub(super) proxies: usize,
}

/// Workloads of one trust domain that call those of another, as the proxies on either side have seen it since they started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Across {
    pub(super) client: String,
    pub(super) server: String,
    /// Proxies of the client's trust domain that have seen it.
    pub(super) clients: usize,
    /// Proxies of the server's.
    pub(super) servers: usize,
}

/// The trust domains of the proxies' own leaves.
pub(super) fn domains(kinds: &[Kind]) -> Vec<Domain> {
    let mut workloads: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut proxies: BTreeMap<&str, usize> = BTreeMap::new();
    for member in kinds.iter().flat_map(|kind| &kind.members) {
        let identities = member.identities.values();
        let named = identities.filter_map(|it| Some((spiffe::trust_domain(it)?, it.as_str())));
        let mut of_member: BTreeSet<&str> = BTreeSet::new();
        for (domain, identity) in named {
            workloads.entry(domain).or_default().insert(identity);
            of_member.insert(domain);
        }
        for domain in of_member {
            let count = proxies.entry(domain).or_default();
            *count = count.saturating_add(1);
        }
    }
    let domains = workloads.into_iter().map(|(domain, workloads)| Domain {
        trust_domain: domain.to_owned(),
        workloads: workloads.len(),
        proxies: proxies.get(domain).copied().unwrap_or_default(),
    });
    domains.collect()
}

/// Who talks to whom across trust domains.
pub(super) fn across(kinds: &[Kind], answers: &Answers) -> Vec<Across> {
    let members = kinds.iter().flat_map(|kind| &kind.members);
    let own: BTreeMap<&Key, BTreeSet<&str>> = members
        .map(|member| {
            let identities = member.identities.values();
            let domains = identities.filter_map(|identity| spiffe::trust_domain(identity));
            (&member.key, domains.collect())
        })
        .collect();
    let mut found: BTreeMap<(String, String), Across> = BTreeMap::new();
    for met in &answers.met {
        let peer = met.label("trust_domain");
        for domain in own.get(&key(met)).into_iter().flatten() {
            if *domain == peer || peer.is_empty() {
                continue;
            }
            let is_client = met.label("direction") == "outbound";
            let (client, server) = match is_client {
                true => (*domain, peer),
                false => (peer, *domain),
            };
            let pair = (client.to_owned(), server.to_owned());
            let across = found.entry(pair).or_insert_with(|| Across {
                client: client.to_owned(),
                server: server.to_owned(),
                ..Across::default()
            });
            let count = match is_client {
                true => &mut across.clients,
                false => &mut across.servers,
            };
            *count = count.saturating_add(1);
        }
    }
    found.into_values().collect()
}

/// Why nothing may be said of who talks to whom; `None`: something is.
pub(super) fn unseen(answers: &Answers) -> Option<String> {
    answers.met.is_empty().then(|| {
        format!(
            "no {}: the network filter counts it",
            CONNECTIONS_BY_TRUST_DOMAIN.description.name
        )
    })
}
