//! Which CA of the trust bundle stands above a chain of this proxy's own: what only the two together tell,
//! since chains seldom show their root.

use super::admin::{OwnCertificate, Role, Secret};
use mtls_watch_x509::Certificate;

/// Instead of a CA's name: no CA of the bundle does.
pub(super) const NONE: &str = "none";

/// Most certificates between leaf and anchor. BoringSSL allows a hundred.
const MAX_PATH: usize = 100;

/// The name of a chain's anchor, or [`NONE`]; `None` if it cannot be told, or if the secret is no chain.
pub(super) fn of(chain: &Secret, secrets: &[Secret]) -> Option<String> {
    let (leaf, _) = chain.leaf()?;
    let bundles = || secrets.iter().filter(|secret| secret.role == Role::Bundle);
    let trusted: Vec<&Certificate> = bundles().flat_map(full).collect();
    let mut current = leaf;
    for _ in 0..MAX_PATH {
        let mut above = trusted.iter().filter(|ca| current.names_as_issuer(ca));
        if let Some(anchor) = above.next() {
            // Without key identifiers, several CAs of one name cannot be told apart.
            let is_sure = above.all(|other| other.subject_ca() == anchor.subject_ca());
            return is_sure.then(|| anchor.subject_ca());
        }
        let mut above = full(chain).skip(1).filter(|ca| current.names_as_issuer(ca));
        match above.next() {
            Some(ca) if !current.is_self_issued() => current = ca,
            _ => break,
        }
    }
    // Of a bundle that is not known in full, none can be said to be missing.
    let known = bundles().next().is_some()
        && bundles().all(Secret::is_known_in_full)
        && chain.is_known_in_full();
    known.then(|| NONE.to_owned())
}

fn full(secret: &Secret) -> impl Iterator<Item = &Certificate> {
    secret
        .certificates
        .iter()
        .filter_map(|certificate| match certificate {
            OwnCertificate::Full(facts, _) => Some(&**facts),
            OwnCertificate::Dates(_) => None,
        })
}
