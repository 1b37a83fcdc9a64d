//! CAs of peers' chains: what is believed of them, and what the workers share.
//!
//! This module verifies no signatures; Envoy does, and does not say by which certificates. A peer with a
//! trusted leaf can send any others beside it. So a CA of a chain is believed where Envoy had no other to
//! verify the leaf by: it is the only one, among what the peer sent and what this proxy trusts, that the
//! certificate below it can have been signed by. And it must lead up to an own CA.

use super::der_list::{append, ders};
use crate::host::{Host, Shared, Version};
use mtls_watch_x509::Certificate;

const CERTIFICATES: &str = "mtls_watch/directory/peers";
/// How many there are.
const NUMBER: &str = "mtls_watch/directory/peers/number";

/// Most CAs that are kept, and most bytes of them. The first ones stay: nobody can drive them out, and
/// the peers' caches are not emptied over and over.
const MAX_CAS: u64 = 64;
const MAX_BYTES: usize = 64 * 1024;

/// Attempts at a compare-and-swap. A CA that is missed comes with the next peer.
const MAX_ATTEMPTS: usize = 16;

/// Most CAs between a CA and an own one.
const MAX_PATH: usize = 8;

/// The places in a chain, leaf first, of the CAs that Envoy must have verified the leaf by. `own`: all
/// CAs of this proxy's bundle, and of its chain.
pub(super) fn proven(chain: &[Certificate], own: &[Certificate]) -> Vec<usize> {
    let mut path = Vec::new();
    let Some(mut current) = chain.first() else {
        return path;
    };
    while !current.is_self_issued() && path.len() < MAX_PATH {
        let mut sent = chain.iter().enumerate().skip(1);
        let signer = sent.find(|(_, ca)| current.names_as_issuer(ca));
        let mut known = own
            .iter()
            .filter(|ca| current.names_as_issuer(ca))
            .peekable();
        let is_own = known.peek().is_some();
        match signer {
            // Of two that call themselves the same, either may be false.
            Some((_, ca))
                if sent.any(|(_, other)| current.names_as_issuer(other) && other != ca) =>
            {
                break;
            }
            Some((_, ca)) if is_own && !known.any(|own| own == ca) => break,
            _ if is_own => return path,
            Some((index, ca)) if ca.is_ca => {
                path.push(index);
                current = ca;
            }
            _ => break,
        }
    }
    Vec::new()
}

/// Those of `peers` that stand under an own CA; of a CA that was renewed under the same key, the newer
/// certificate.
pub(super) fn under(own: &[Certificate], peers: &[Certificate]) -> Vec<Certificate> {
    let stands_under = |ca: &Certificate| {
        let mut current = ca;
        for _ in 0..MAX_PATH {
            if own.iter().any(|ca| current.names_as_issuer(ca)) {
                return true;
            }
            match peers.iter().find(|ca| current.names_as_issuer(ca)) {
                Some(ca) => current = ca,
                None => return false,
            }
        }
        false
    };
    let is_renewed = |ca: &Certificate| {
        peers.iter().any(|other| {
            other.links.subject == ca.links.subject
                && other.links.subject_key_id == ca.links.subject_key_id
                && other.not_before > ca.not_before
        })
    };
    let current = peers
        .iter()
        .filter(|ca| stands_under(ca) && !is_renewed(ca));
    current.cloned().collect()
}

/// Adds a CA to what the workers share. Says whether there was room.
pub(super) fn add(host: &dyn Host, der: &[u8]) -> bool {
    for _ in 0..MAX_ATTEMPTS {
        let (list, version) = host.shared(CERTIFICATES);
        let mut list = list.unwrap_or_default();
        if ders(&list).any(|known| known == der) {
            return true;
        }
        let number = u64::try_from(ders(&list).count()).unwrap_or(MAX_CAS);
        if number >= MAX_CAS || !append(&mut list, der, MAX_BYTES) {
            return false;
        }
        match host.share(CERTIFICATES, &list, version) {
            Shared::Stored => {
                // Last: who sees it sees the certificate.
                let number = number.saturating_add(1);
                host.share(NUMBER, &number.to_le_bytes(), Version(0));
                return true;
            }
            Shared::Conflict => {}
            Shared::Refused => return true,
        }
    }
    true
}

/// What the workers share.
pub(super) fn shared(host: &dyn Host) -> Vec<u8> {
    host.shared(CERTIFICATES).0.unwrap_or_default()
}

/// How many CAs that are.
pub(super) fn number(host: &dyn Host) -> u64 {
    let number = host
        .shared(NUMBER)
        .0
        .and_then(|bytes| bytes.try_into().ok());
    number.map_or(0, u64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use pki::{Ca, Identity};
    use pki::{DAY, Lifetime};

    use super::*;
    use mtls_watch_x509::parse;

    fn facts<'a>(cas: impl IntoIterator<Item = &'a Ca>) -> Vec<Certificate> {
        let parsed = cas.into_iter().map(|ca| parse(ca.der()));
        parsed.collect::<Result<_, _>>().unwrap()
    }

    fn chain<'a>(leaf: &Identity, cas: impl IntoIterator<Item = &'a Ca>) -> Vec<Certificate> {
        let leaf = parse(leaf.der()).unwrap();
        std::iter::once(leaf).chain(facts(cas)).collect()
    }

    /// Root, zone and issuing CA of a peer, its leaf; and an issuing CA of the same name and key, made by
    /// the peer itself.
    struct Peer {
        root: Ca,
        zone: Ca,
        issuing: Ca,
        leaf: Identity,
        forged: Ca,
    }

    fn peer() -> Peer {
        let root = Ca::root("Root CA").issue().unwrap();
        let zone = root.subordinate("Zone CA").issue().unwrap();
        let issuing = zone.subordinate("Issuing CA").issue().unwrap();
        let leaf = issuing.leaf().uri("spiffe://d/pay").issue().unwrap();
        let forged = zone.subordinate("Issuing CA").key(issuing.key());
        let forged = forged.lifetime(Lifetime::days(2)).issue().unwrap();
        Peer {
            root,
            zone,
            issuing,
            leaf,
            forged,
        }
    }

    #[test]
    fn the_only_way_up_is_proven_in_any_order() {
        let Peer {
            root,
            zone,
            issuing,
            leaf,
            ..
        } = peer();
        let own = facts([&root]);
        assert_eq!(proven(&chain(&leaf, [&issuing, &zone]), &own), [1, 2]);
        assert_eq!(proven(&chain(&leaf, [&zone, &issuing]), &own), [2, 1]);
        assert_eq!(
            proven(&chain(&leaf, [&issuing, &zone, &root]), &own),
            [1, 2]
        );
        // What does not sign the leaf stands beside the way.
        let stranger = Ca::root("Stranger").issue().unwrap();
        assert_eq!(
            proven(&chain(&leaf, [&stranger, &issuing, &zone]), &own),
            [2, 3]
        );
        // What is known already need not be proven.
        assert_eq!(
            proven(&chain(&leaf, [&issuing]), &facts([&root, &zone])),
            [1]
        );
    }

    #[test]
    fn nothing_is_proven_where_there_are_two_ways_or_none() {
        let Peer {
            root,
            zone,
            issuing,
            leaf,
            forged,
        } = peer();
        let own = facts([&root]);
        for cas in [
            &[&issuing, &forged, &zone][..],
            &[&forged, &issuing, &zone],
            &[&issuing],
            &[&zone],
            &[],
        ] {
            assert!(proven(&chain(&leaf, cas.iter().copied()), &own).is_empty());
        }
        assert!(proven(&chain(&leaf, [&issuing, &zone]), &[]).is_empty());
        assert!(proven(&[], &own).is_empty());
    }

    /// Envoy may have taken the own one, so that the peer's is not proven to be good.
    #[test]
    fn nobody_speaks_in_the_name_of_an_own_ca() {
        let Peer {
            zone,
            issuing,
            leaf,
            forged,
            ..
        } = peer();
        let own = facts([&issuing, &zone]);
        assert!(proven(&chain(&leaf, [&forged]), &own).is_empty());
        assert!(proven(&chain(&leaf, [&issuing]), &own).is_empty());
    }

    #[test]
    fn cas_count_while_they_stand_under_an_own_one() {
        let Peer {
            root,
            zone,
            issuing: renewed,
            ..
        } = peer();
        let old = zone.subordinate("Issuing CA").key(renewed.key());
        let old = old.lifetime(Lifetime::from_now(-DAY, DAY)).issue().unwrap();
        let peers = facts([&old, &renewed]);
        assert!(under(&[], &peers).is_empty());
        assert!(under(&facts([&root]), &peers).is_empty());
        let peers = facts([&old, &zone, &renewed]);
        assert_eq!(under(&facts([&root]), &peers), peers[1..]);
        // CAs that have signed each other lead nowhere.
        let circle: Vec<Certificate> = peers
            .iter()
            .map(|ca| {
                let mut ca = ca.clone();
                ca.links.issuer = peers[1].links.subject.clone();
                ca.links.authority_key_id = peers[1].links.subject_key_id.clone();
                ca
            })
            .collect();
        assert!(under(&facts([&root]), &circle).is_empty());
    }
}
