//! Bundles of the operating system: CAs of the public internet, which others look after. They are no part of
//! the mesh's hierarchy, and make neither series nor findings.

use super::secret::{Role, Secret};

/// Istio's name of the operating system's bundle, and where that lies.
const NAMES: [&str; 6] = [
    "file-root:system",
    "/etc/ssl/cert",
    "/etc/pki/",
    "/usr/share/ca-certificates",
    "/usr/local/share/certs/ca-root-nss.crt",
    "/etc/ca-certificates/",
];

/// Organizations with roots in every public bundle.
const ORGANIZATIONS: [&[u8]; 9] = [
    b"Internet Security Research Group",
    b"DigiCert Inc",
    b"GlobalSign",
    b"Google Trust Services",
    b"The USERTRUST Network",
    b"Entrust, Inc.",
    b"GoDaddy.com, Inc.",
    b"QuoVadis Limited",
    b"SwissSign AG",
];

/// Fewer roots than any public bundle has.
const MIN_CAS: usize = 20;
/// A mesh may trust one or two public CAs by name.
const MIN_ORGANIZATIONS: usize = 4;

/// Whether a bundle is one of public CAs: by its name, or by what is in it.
pub(super) fn is_public(secret: &Secret) -> bool {
    secret.role == Role::Bundle
        && (NAMES.iter().any(|name| secret.name.starts_with(name)) || has_public_cas(secret))
}

fn has_public_cas(bundle: &Secret) -> bool {
    if bundle.certificates.len() < MIN_CAS {
        return false;
    }
    let has = |organization: &&&[u8]| {
        bundle.full().any(|ca| {
            let mut parts = ca.facts.links.subject.windows(organization.len());
            parts.any(|part| part == **organization)
        })
    };
    ORGANIZATIONS.iter().filter(has).count() >= MIN_ORGANIZATIONS
}
