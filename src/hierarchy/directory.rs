//! The CAs that this proxy knows in full: of its own chain and its trust bundle. With them a peer's
//! issuers are known even where the peer, or Envoy's attribute, shows its leaf only.
//!
//! The elected VM writes the certificates to shared data, every worker reads them from there.

use std::cell::RefCell;
use std::hash::{DefaultHasher, Hasher as _};
use std::rc::Rc;

use crate::certificate::{self, Certificate};
use crate::host::{Host, Version};

const CERTIFICATES: &str = "mtls_watch/directory";
/// Hash of the certificates, so that a worker need not copy them at every tick.
const HASH: &str = "mtls_watch/directory/hash";

/// Most CAs that are kept, and most bytes of them.
const MAX_CAS: usize = 128;
const MAX_BYTES: usize = 256 * 1024;

/// The CAs, as facts.
#[derive(Debug, Default)]
pub struct Directory {
    /// In no particular order.
    pub cas: Vec<Certificate>,
    /// Differs where the CAs do; 0: none.
    pub generation: u64,
}

/// A worker's copy of the directory.
#[derive(Default)]
pub struct DirectoryKeeper {
    current: RefCell<Rc<Directory>>,
}

impl DirectoryKeeper {
    /// The directory as of the last tick.
    #[must_use]
    pub fn current(&self) -> Rc<Directory> {
        Rc::clone(&self.current.borrow())
    }

    /// Reads the directory again if it has changed.
    pub fn refresh(&self, host: &dyn Host) {
        let generation = host.shared(HASH).0.and_then(|bytes| bytes.try_into().ok());
        let generation = generation.map_or(0, u64::from_le_bytes);
        if generation == self.current.borrow().generation {
            return;
        }
        let bytes = host.shared(CERTIFICATES).0.unwrap_or_default();
        self.current.replace(Rc::new(Directory {
            cas: decode(&bytes),
            generation,
        }));
    }
}

/// Publishes the CAs for all workers.
pub(super) fn publish<'a>(host: &dyn Host, ders: impl Iterator<Item = &'a [u8]>) {
    let mut bytes = Vec::new();
    for der in ders.take(MAX_CAS) {
        let Ok(length) = u32::try_from(der.len()) else {
            continue;
        };
        if bytes.len().saturating_add(der.len()) > MAX_BYTES {
            break;
        }
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(der);
    }
    let mut hasher = DefaultHasher::new();
    hasher.write(&bytes);
    let hash = hasher.finish().to_le_bytes();
    if host.shared(HASH).0.as_deref() != Some(&hash) {
        // Only the elected VM writes, and the hash comes last: who sees it sees the certificates.
        host.share(CERTIFICATES, &bytes, Version(0));
        host.share(HASH, &hash, Version(0));
    }
}

fn decode(mut bytes: &[u8]) -> Vec<Certificate> {
    let mut cas = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk() {
        let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
        let Some((der, rest)) = rest.split_at_checked(length) else {
            break;
        };
        cas.extend(certificate::parse(der));
        bytes = rest;
    }
    cas
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_another_version_wrote_is_no_directory() {
        let cut_short = [&100_u32.to_le_bytes()[..], b"certificate"].concat();
        let no_certificate = [&4_u32.to_le_bytes()[..], b"none"].concat();
        for bytes in [&b""[..], b"\xff", &[0xff; 64], &cut_short, &no_certificate] {
            assert!(decode(bytes).is_empty(), "{bytes:?}");
        }
    }
}
