//! The fingerprints of CAs: a peer sends the same ones as all others, and a digest takes as long as all that is read
//! of a certificate.

use std::cell::RefCell;
use std::collections::VecDeque;

use super::read::{Fingerprint, fingerprint_of};

/// CAs whose fingerprint is remembered, and most bytes of each: 64 KB at most.
const MAX_CAS: usize = 16;
const MAX_BYTES: usize = 4096;

/// The DER of the CAs that were met last, with their fingerprints.
#[derive(Default)]
pub struct Fingerprints(RefCell<VecDeque<(Vec<u8>, Fingerprint)>>);

impl Fingerprints {
    /// SHA-256 of that DER.
    pub fn of(&self, der: &[u8]) -> Fingerprint {
        let mut known = self.0.borrow_mut();
        if let Some((_, fingerprint)) = known.iter().find(|(known, _)| known == der) {
            return *fingerprint;
        }
        let fingerprint = fingerprint_of(der);
        if der.len() <= MAX_BYTES {
            known.truncate(MAX_CAS.saturating_sub(1));
            known.push_front((der.to_owned(), fingerprint));
        }
        fingerprint
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembers_the_latest_and_no_more() {
        let fingerprints = Fingerprints::default();
        for number in 0..100_u32 {
            let der = number.to_le_bytes();
            for _ in 0..2 {
                assert_eq!(fingerprints.of(&der), fingerprint_of(&der));
            }
        }
        assert_eq!(fingerprints.0.borrow().len(), MAX_CAS);
        fingerprints.of(&[0; MAX_BYTES + 1]);
        assert_eq!(fingerprints.0.borrow().len(), MAX_CAS);
    }
}
