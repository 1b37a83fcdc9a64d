//! The CAs that this proxy knows in full: of its own chain, its trust bundle, and its peers' chains. With
//! them a peer's issuers are known even where the peer, or Envoy's attribute, shows its leaf only.
//!
//! The elected VM writes its own to shared data, whoever meets a peer adds the peer's; every worker reads
//! them from there.

use std::cell::{Cell, RefCell};
use std::hash::{DefaultHasher, Hasher as _};
use std::rc::Rc;

use super::der_list::{append, ders};
use super::peers;
use crate::host::{Host, Version};
use crate::source::read::{Fingerprint, fingerprint_of};
use mtls_watch_x509::{self as x509, Certificate};

/// [`WHOLE`] or 0, how many of them are of own chains, how many own leaves there are, the fingerprints of these, then
/// the own CAs: those of chains first.
const OWN: &str = "mtls_watch/directory";
/// Hash of that, so that a worker need not copy it at every tick.
const HASH: &str = "mtls_watch/directory/hash";

/// All own CAs are there.
const WHOLE: u8 = 1;

/// Most own CAs that are kept, and most bytes of them.
const MAX_CAS: usize = 128;
const MAX_BYTES: usize = 256 * 1024;

/// The CAs, as facts.
#[derive(Debug, Default)]
pub struct Directory {
    /// The own ones, which are found first; then those of peers.
    pub cas: Vec<Certificate>,
    /// SHA-256 of the DER of each.
    fingerprints: Vec<Fingerprint>,
    /// Differs where the CAs do; 0: none.
    pub generation: u64,
    /// SHA-256 of the DER of each own leaf.
    leaves: Vec<Fingerprint>,
    /// How many are own, and how many of those are of own chains.
    own: usize,
    chain: usize,
    /// No own CA is missing.
    is_whole: bool,
}

impl Directory {
    /// SHA-256 of the DER of one of them.
    #[must_use]
    pub fn fingerprint(&self, ca: &Certificate) -> Option<Fingerprint> {
        let place = self.cas.iter().position(|known| known == ca)?;
        self.fingerprints.get(place).copied()
    }

    /// Whether this proxy has a leaf of that fingerprint.
    #[must_use]
    pub fn is_own(&self, leaf: Option<&Fingerprint>) -> bool {
        leaf.is_some_and(|leaf| self.leaves.contains(leaf))
    }

    fn own(&self) -> &[Certificate] {
        self.cas.get(..self.own).unwrap_or_default()
    }

    /// The CAs of the trust bundles.
    #[must_use]
    pub fn bundle(&self) -> &[Certificate] {
        self.cas.get(self.chain..self.own).unwrap_or_default()
    }

    /// The others: of own chains, and of peers.
    #[must_use]
    pub fn others(&self) -> [&[Certificate]; 2] {
        let chain = self.cas.get(..self.chain).unwrap_or_default();
        [chain, self.cas.get(self.own..).unwrap_or_default()]
    }
}

/// A worker's copy of the directory.
#[derive(Default)]
pub struct DirectoryKeeper {
    current: RefCell<Rc<Directory>>,
    /// Whether it was said that no more CAs of peers are taken.
    said_full: Cell<bool>,
}

impl DirectoryKeeper {
    /// The directory as of the last tick.
    #[must_use]
    pub fn current(&self) -> Rc<Directory> {
        Rc::clone(&self.current.borrow())
    }

    /// Reads the directory again if it has changed.
    pub fn refresh(&self, host: &dyn Host) {
        let generation = generation(host);
        if generation == self.current.borrow().generation {
            return;
        }
        let bytes = host.shared(OWN).0.unwrap_or_default();
        let (is_whole, chain, leaves, list) = read(&bytes).unwrap_or_default();
        let chain = parsed(ders(list).take(chain)).0.len();
        let (own, own_fingerprints) = parsed(ders(list));
        let (peers, mut fingerprints) = parsed(ders(&peers::shared(host)));
        let kept = peers::under(&own, &peers);
        let mut is_kept = peers.iter().map(|ca| kept.contains(ca));
        fingerprints.retain(|_| is_kept.next() == Some(true));
        self.current.replace(Rc::new(Directory {
            own: own.len(),
            chain,
            leaves: leaves.to_vec(),
            is_whole,
            cas: own.into_iter().chain(kept).collect(),
            fingerprints: [own_fingerprints, fingerprints].concat(),
            generation,
        }));
    }

    /// Adds what the chain of a peer that Envoy has verified proves, leaf first, with the DER of each.
    pub fn learn(&self, host: &dyn Host, chain: &[Certificate], ders: &[Vec<u8>]) {
        let directory = self.current();
        // Beside an own CA that is missing here, a peer could put up its own in that one's name.
        if !directory.is_whole {
            return;
        }
        for index in peers::proven(chain, directory.own()) {
            let (Some(ca), Some(der)) = (chain.get(index), ders.get(index)) else {
                continue;
            };
            let is_full = !directory.cas.contains(ca) && !peers::add(host, der);
            if is_full && !self.said_full.replace(true) {
                log::warn!(
                    "mtls-watch: directory is full: CAs of further peers are not remembered"
                );
            }
        }
    }
}

/// What stands under [`OWN`]: whether that is all, how many CAs are of chains, the leaves, the list of CAs.
fn read(bytes: &[u8]) -> Option<(bool, usize, &[Fingerprint], &[u8])> {
    let ([whole, chain, leaves], rest) = bytes.split_first_chunk()?;
    let length = usize::from(*leaves).checked_mul(size_of::<Fingerprint>())?;
    let (leaves, list) = rest.split_at_checked(length)?;
    Some((*whole == WHOLE, (*chain).into(), leaves.as_chunks().0, list))
}

/// Publishes the own leaves and CAs for all workers: CAs of chains, and of bundles. `is_whole`: there are no others.
pub(super) fn publish<'a>(
    host: &dyn Host,
    leaves: &[Fingerprint],
    chain: &[&'a [u8]],
    bundle: impl Iterator<Item = &'a [u8]>,
    mut is_whole: bool,
) {
    let mut list = Vec::new();
    for (index, der) in chain.iter().copied().chain(bundle).enumerate() {
        if index >= MAX_CAS || !append(&mut list, der, MAX_BYTES) {
            is_whole = false;
            break;
        }
    }
    let of_chains = u8::try_from(chain.len()).unwrap_or(u8::MAX);
    let number = u8::try_from(leaves.len()).unwrap_or(u8::MAX);
    let whole = if is_whole { WHOLE } else { 0 };
    let mut bytes = vec![whole, of_chains, number];
    for leaf in leaves.iter().take(number.into()) {
        bytes.extend_from_slice(leaf);
    }
    bytes.append(&mut list);
    let mut hasher = DefaultHasher::new();
    hasher.write(&bytes);
    let hash = hasher.finish().to_le_bytes();
    if host.shared(HASH).0.as_deref() != Some(&hash) {
        // Only the elected VM writes, and the hash comes last: who sees it sees the certificates.
        host.share(OWN, &bytes, Version(0));
        host.share(HASH, &hash, Version(0));
    }
}

/// What differs where own CAs or those of peers do.
fn generation(host: &dyn Host) -> u64 {
    let own = host.shared(HASH).0.and_then(|bytes| bytes.try_into().ok());
    let own = own.map_or(0, u64::from_le_bytes);
    own ^ peers::number(host).rotate_left(32)
}

/// The certificates of a list, and the fingerprint of each.
fn parsed<'a>(ders: impl Iterator<Item = &'a [u8]>) -> (Vec<Certificate>, Vec<Fingerprint>) {
    ders.filter_map(|der| Some((x509::parse(der).ok()?, fingerprint_of(der))))
        .unzip()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_another_version_wrote_is_no_directory() {
        let cut_short = [&100_u32.to_le_bytes()[..], b"certificate"].concat();
        let no_certificate = [&4_u32.to_le_bytes()[..], b"none"].concat();
        for bytes in [&b""[..], b"\xff", &[0xff; 64], &cut_short, &no_certificate] {
            assert!(parsed(ders(bytes)).0.is_empty(), "{bytes:?}");
        }
    }
}
