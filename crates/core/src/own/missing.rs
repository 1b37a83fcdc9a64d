//! Secrets that nobody has supplied, for whoever has to say why a handshake failed.

use super::secret::{Role, Secret};
use crate::host::{Host, Version};

/// Their names, as they are quoted in a sentence.
const MISSING: &str = "mtls_watch/own/missing";
/// A proxy of a mesh has two secrets; a gateway one for each host.
const MAX_NAMES: usize = 4;

/// Tells all workers which of these secrets are missing.
pub(super) fn publish(host: &dyn Host, secrets: &[Secret]) {
    let missing = secrets.iter().filter(|it| it.role == Role::Unknown);
    let names: Vec<&str> = missing.map(|it| it.name.as_str()).take(MAX_NAMES).collect();
    host.share(MISSING, names.join("', '").as_bytes(), Version(0));
}

/// The names of the secrets that were missing at the last poll of the admin interface: `default', 'ROOTCA`. `None`: none
/// was, or it is not polled.
pub fn missing_secrets(host: &dyn Host) -> Option<String> {
    let names = host.shared(MISSING).0?;
    let names = String::from_utf8(names).ok()?;
    (!names.is_empty()).then_some(names)
}
