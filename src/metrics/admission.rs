//! Which identities and CAs get a series of their own: the first ones, up to a limit, the same in
//! all workers. Envoy never deletes a metric, so a place once taken stays taken.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use crate::host::{Host, Shared, Version};

/// Label value of everything beyond the limit.
pub const OTHER: &str = "other";

/// Most CAs (issuers, and CAs of chains) with series of their own. A mesh has a few; a rotation
/// doubles them; a peer can send any in its chain.
pub const MAX_CAS: usize = 100;

/// Most certificates of this proxy's own with series of their own: four each. A mesh proxy has a few; a
/// bundle of public roots has hundreds.
pub const MAX_OWN: usize = 100;

/// Attempts at a compare-and-swap before this worker decides for itself.
const MAX_ATTEMPTS: usize = 16;

const HASH_BYTES: usize = size_of::<u64>();

/// What is counted separately.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Identities of leaves.
    Identity,
    /// Names of CAs.
    Ca,
    /// This proxy's own certificates.
    Own,
}

impl Kind {
    const fn key(self) -> &'static str {
        match self {
            Self::Identity => "mtls_watch/admitted/identities",
            Self::Ca => "mtls_watch/admitted/cas",
            Self::Own => "mtls_watch/admitted/own",
        }
    }
}

/// Makes the shared lists, so that later writes can compare versions. Called at load, when only the
/// main thread runs.
pub fn prepare(host: &dyn Host) {
    for kind in [Kind::Identity, Kind::Ca, Kind::Own] {
        if let (None, version) = host.shared(kind.key()) {
            host.share(kind.key(), &[], version);
        }
    }
}

/// Whether `value` is among the first `limit` values of its kind in this proxy. The list holds
/// hashes, 8 bytes each.
pub fn admit(host: &dyn Host, kind: Kind, value: &str, limit: usize) -> bool {
    if limit == 0 {
        return false;
    }
    let hash = hash(value).to_le_bytes();
    for _ in 0..MAX_ATTEMPTS {
        let (list, version) = host.shared(kind.key());
        let mut list = list.unwrap_or_default();
        let mut admitted = list.chunks_exact(HASH_BYTES);
        if let Some(place) = admitted.position(|known| known == hash) {
            return place < limit;
        }
        if list.len() / HASH_BYTES >= limit {
            return false;
        }
        list.extend_from_slice(&hash);
        match share(host, kind, &list, version) {
            Shared::Stored => return true,
            Shared::Conflict => {}
            // Without shared data every worker would admit its own `limit`: none is the safe side.
            Shared::Refused => return false,
        }
    }
    false
}

fn share(host: &dyn Host, kind: Kind, list: &[u8], version: Version) -> Shared {
    host.share(kind.key(), list, version)
}

/// Equal in all workers: `DefaultHasher::new` has fixed keys.
fn hash(value: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}
