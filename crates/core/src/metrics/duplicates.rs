//! Whether several plugins of this module are in one place.

use std::cell::Cell;

use crate::host::{Host, Version};
use mtls_watch_x509::time::{Seconds, UnixTime};

/// In shared data: when a connection or request with two plugins was last there, for all workers.
const KEY: &str = "mtls_watch.duplicate";

/// For how long it counts as the present.
const PRESENT: Seconds = Seconds(15 * 60);

/// What one VM knows of it.
#[derive(Default)]
pub struct Duplicates {
    seen: Cell<Option<UnixTime>>,
}

impl Duplicates {
    /// A connection or request was there that another plugin counts.
    pub fn saw(&self, now: UnixTime) {
        self.seen.set(Some(now));
    }

    /// Whether two are there now, as far as any worker knows; `None` before this one has seen them.
    pub fn are_present(&self, host: &dyn Host, now: UnixTime) -> Option<bool> {
        // A clock that was ahead does not make it later than now.
        let seen = self.seen.get()?.min(now);
        let (shared, _) = host.shared(KEY);
        let shared = shared.and_then(|bytes| bytes.try_into().ok());
        let shared = shared.map(|bytes| UnixTime(i64::from_le_bytes(bytes)).min(now));
        if shared < Some(seen) {
            host.share(KEY, &seen.0.to_le_bytes(), Version(0));
        }
        let latest = shared.map_or(seen, |shared| shared.max(seen));
        Some(now.since(latest) < PRESENT)
    }
}
