//! Who signed whom among this proxy's own certificates: by names and key identifiers, never by position. A
//! control plane sends roots with a chain that sign nothing in it.

use super::secret::{FullCertificate, Role, Secret};
use mtls_watch_x509::Certificate;
use mtls_watch_x509::spiffe;

/// Instead of a CA's name: no CA of the bundle stands above the chain.
pub(super) const NONE: &str = "none";

/// Most certificates between leaf and anchor. BoringSSL allows a hundred.
const MAX_PATH: usize = 100;

/// The certificates of a chain that sign there, leaf first, in the order of the secret; empty if the leaf is
/// not known. Where names and key identifiers fit several, all of them.
pub(super) fn links(chain: &Secret) -> Vec<&FullCertificate> {
    let Some(leaf) = chain.leaf() else {
        return Vec::new();
    };
    let mut rest: Vec<&FullCertificate> = chain.full().skip(1).collect();
    let mut links = vec![leaf];
    let mut next = 0;
    while let Some(current) = links.get(next) {
        let current = &current.facts;
        next = next.saturating_add(1);
        if current.is_self_issued() {
            continue;
        }
        let signs = |ca: &&FullCertificate| current.names_as_issuer(&ca.facts);
        let (signers, others): (Vec<_>, Vec<_>) = rest.into_iter().partition(signs);
        links.extend(signers);
        rest = others;
    }
    links
}

/// The name of the CA that signed a leaf, by its authority key identifier and issuer name; `None` if several
/// CAs that are known here may have.
pub(super) fn issuer(leaf: &Certificate, secrets: &[Secret]) -> Option<String> {
    let known = secrets.iter().flat_map(|secret| {
        let leaves = usize::from(secret.role == Role::Chain);
        secret.full().skip(leaves)
    });
    let signs = |ca: &&FullCertificate| leaf.names_as_issuer(&ca.facts);
    let mut signers = known.filter(signs).map(|ca| &ca.facts);
    let Some(first) = signers.next().filter(|_| !leaf.is_self_issued()) else {
        return Some(leaf.issuer_ca().into_owned());
    };
    signers
        .all(|ca| is_same_ca(ca, first))
        .then(|| first.subject_ca())
}

/// Two certificates of one CA: its name and its key.
pub(super) fn is_same_ca(one: &Certificate, other: &Certificate) -> bool {
    one.links.subject == other.links.subject
        && one.links.subject_key_id == other.links.subject_key_id
}

/// The names of the anchors of a chain in `bundles`, each once, or [`NONE`]; empty if it cannot be told, if
/// the leaf needs none, or if the secret is no chain.
pub(super) fn anchors(chain: &Secret, bundles: &[&Secret]) -> Vec<String> {
    let Some(leaf) = chain.leaf() else {
        return Vec::new();
    };
    let identity = &leaf.facts.identity;
    let bundles = || bundles.iter().filter(|bundle| bundle.verifies(identity));
    let found: Vec<Option<String>> = bundles()
        .filter_map(|bundle| anchor(chain, &leaf.facts, bundle))
        .collect();
    let is_none = found.is_empty();
    let mut anchors: Vec<String> = Vec::new();
    for anchor in found.into_iter().flatten() {
        if !anchors.contains(&anchor) {
            anchors.push(anchor);
        }
    }
    // What a server shows to strangers, or a client to a foreign server, is verified by bundles elsewhere. The
    // peers of a workload have the bundle that it has.
    let needs_one = spiffe::trust_domain(identity).is_some();
    // Of a bundle that is not known in full, none can be said to be missing.
    let is_known = bundles().next().is_some()
        && bundles().all(|bundle| bundle.is_known_in_full())
        && chain.is_known_in_full();
    if is_none && needs_one && is_known {
        anchors.push(NONE.to_owned());
    }
    anchors
}

/// The anchor in one bundle: `Some(None)` if several may be it.
fn anchor(chain: &Secret, leaf: &Certificate, bundle: &Secret) -> Option<Option<String>> {
    let mut current = leaf;
    for _ in 0..MAX_PATH {
        let mut above = bundle
            .full()
            .map(|ca| &ca.facts)
            .filter(|ca| current.names_as_issuer(ca));
        if let Some(anchor) = above.next() {
            // Without key identifiers, several CAs of one name cannot be told apart.
            let is_sure = above.all(|other| other.subject_ca() == anchor.subject_ca());
            return Some(is_sure.then(|| anchor.subject_ca()));
        }
        let mut above = chain.full().skip(1).map(|ca| &ca.facts);
        match above.find(|ca| current.names_as_issuer(ca)) {
            Some(ca) if !current.is_self_issued() => current = ca,
            _ => return None,
        }
    }
    None
}
