//! Servers that have lately answered on a new connection: they accepted the certificate that this proxy shows.

use std::cell::RefCell;
use std::hash::BuildHasher as _;

use super::cache::Cache;
use crate::hash::{ById, Keyed};
use crate::host::Host;
use mtls_watch_x509::time::{Seconds, UnixTime};

/// Servers that are remembered (at most twice as many, see [`Cache`]).
const MAX_SERVERS: usize = 256;

/// How long an answer to this proxy's certificate counts. When the certificate has been replaced, refusals of the new
/// one go uncounted for as long at most.
const LATELY: Seconds = Seconds(120);

/// How long one counts that was given without a certificate. Only the server can change its mind about that.
const LATELY_WITHOUT: Seconds = Seconds(3600);

/// The answers of servers by their address.
pub(super) struct Answers {
    servers: RefCell<Cache<u64, UnixTime, ById>>,
    hasher: Keyed,
}

impl Default for Answers {
    fn default() -> Self {
        Self {
            servers: RefCell::new(Cache::new(MAX_SERVERS)),
            hasher: Keyed::default(),
        }
    }
}

impl Answers {
    /// The server of this request or connection has answered.
    pub(super) fn note(&self, host: &dyn Host, now: UnixTime) {
        if let Some(server) = self.server(host) {
            self.servers.borrow_mut().insert(server, now);
        }
    }

    /// Whether it has lately, `to_certificate` of this proxy or to none.
    pub(super) fn lately(&self, host: &dyn Host, now: UnixTime, to_certificate: bool) -> bool {
        let lately = match to_certificate {
            true => LATELY,
            false => LATELY_WITHOUT,
        };
        let server = self.server(host);
        let answered = server.and_then(|server| self.servers.borrow_mut().get(&server));
        answered.is_some_and(|answered| now.since(answered) < lately)
    }

    fn server(&self, host: &dyn Host) -> Option<u64> {
        let address = host.property(&["upstream", "address"])?;
        Some(self.hasher.hash_one(address))
    }
}
