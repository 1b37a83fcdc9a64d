//! Which identities and CAs get a series of their own: the first ones, up to a limit, the same in
//! all workers. Envoy never deletes a metric, so a place once taken stays taken.

use std::cell::Cell;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use crate::host::{Host, Shared};

/// Label value of everything beyond the limit.
pub const OTHER: &str = "other";

/// Most CAs (issuers, and CAs of chains) with series of their own. A mesh has a few; a rotation
/// doubles them; a peer can send any in its chain.
pub const MAX_CAS: usize = 100;

/// Most certificates of this proxy's own with series of their own: four each. A mesh proxy has a few; a
/// bundle of public roots has hundreds.
pub const MAX_OWN: usize = 100;

/// Most certificates of this proxy's own that ever have series of their own: a certificate that is gone gives
/// its place back, but its metrics stay in Envoy.
pub const MAX_OWN_EVER: usize = 500;

/// Most SPIFFE trust domains with series of their own. A federation has a few; a peer can invent any, where Envoy
/// accepts untrusted ones.
pub const MAX_TRUST_DOMAINS: usize = 20;

/// Attempts at a compare-and-swap before this worker decides for itself.
const MAX_ATTEMPTS: usize = 16;

/// What is counted separately.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Identities of leaves.
    Identity,
    /// Names of CAs.
    Ca,
    /// This proxy's own certificates.
    Own,
    /// SPIFFE trust domains.
    TrustDomain,
}

impl Kind {
    const fn key(self) -> &'static str {
        match self {
            Self::Identity => "mtls_watch/admitted/identities",
            Self::Ca => "mtls_watch/admitted/cas",
            Self::Own => "mtls_watch/admitted/own",
            Self::TrustDomain => "mtls_watch/admitted/trust_domains",
        }
    }
}

/// Makes the shared lists, so that later writes can compare versions. Called at load, when only the
/// main thread runs.
pub fn prepare(host: &dyn Host) {
    for kind in [Kind::Identity, Kind::Ca, Kind::Own, Kind::TrustDomain] {
        if let (None, version) = host.shared(kind.key()) {
            host.share(kind.key(), &[], version);
        }
    }
}

/// Who has a place, as far as one worker knows.
pub struct Admission {
    kind: Kind,
    limit: usize,
    /// The shared list when it was last read. It only ever grows, at its end: once it is full, nothing is
    /// asked any more.
    known: Cell<Vec<u64>>,
}

impl Admission {
    /// For the first `limit` values of that kind in this proxy.
    #[must_use]
    pub fn new(kind: Kind, limit: usize) -> Self {
        Self {
            kind,
            limit,
            known: Cell::default(),
        }
    }

    /// Whether `value` is among them. The list holds hashes, 8 bytes each.
    pub fn admits(&self, host: &dyn Host, value: &str) -> bool {
        let mut known = self.known.take();
        let admitted = self.limit > 0 && self.ask(host, &mut known, hash(value));
        self.known.set(known);
        admitted
    }

    fn ask(&self, host: &dyn Host, known: &mut Vec<u64>, hash: u64) -> bool {
        if let Some(admitted) = self.decided(known, hash) {
            return admitted;
        }
        for _ in 0..MAX_ATTEMPTS {
            let (list, version) = host.shared(self.kind.key());
            let mut list = list.unwrap_or_default();
            let hashes = list.as_chunks().0.iter();
            *known = hashes.map(|hash| u64::from_le_bytes(*hash)).collect();
            if let Some(admitted) = self.decided(known, hash) {
                return admitted;
            }
            list.extend_from_slice(&hash.to_le_bytes());
            match host.share(self.kind.key(), &list, version) {
                Shared::Stored => {
                    known.push(hash);
                    return true;
                }
                Shared::Conflict => {}
                // Without shared data every worker would admit its own `limit`: none is the safe side.
                Shared::Refused => return false,
            }
        }
        false
    }

    /// What is known of a value: its place, or that there is none left.
    fn decided(&self, known: &[u64], hash: u64) -> Option<bool> {
        let place = known.iter().position(|known| *known == hash);
        let is_full = known.len() >= self.limit;
        place
            .map(|place| place < self.limit)
            .or(is_full.then_some(false))
    }
}

/// Equal in all workers: `DefaultHasher::new` has fixed keys.
pub fn hash(value: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}
