//! Hashes of what peers have a say in: keyed by a secret, so that nobody can make them collide.
//!
//! This is the standard library's SipHash, but compiled once instead of wherever something is hashed, and
//! without its words for a host that has no random numbers: 6 KB of module.

use std::collections;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher, Hasher};

/// A map with such keys.
pub type HashMap<K, V, S = Keyed> = collections::HashMap<K, V, S>;

/// Hashes with a secret of its own.
pub struct Keyed(DefaultHasher);

impl Default for Keyed {
    fn default() -> Self {
        Self(new_hasher())
    }
}

impl BuildHasher for Keyed {
    type Hasher = SipHasher;

    fn build_hasher(&self) -> SipHasher {
        SipHasher(self.0.clone())
    }
}

/// See [`Keyed`].
pub struct SipHasher(DefaultHasher);

impl Hasher for SipHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.write(bytes);
    }

    fn finish(&self) -> u64 {
        self.0.finish()
    }
}

#[cfg(not(target_arch = "wasm32"))]
fn new_hasher() -> DefaultHasher {
    std::hash::RandomState::new().build_hasher()
}

#[cfg(target_arch = "wasm32")]
#[allow(unsafe_code)]
fn new_hasher() -> DefaultHasher {
    #[link(wasm_import_module = "wasi_snapshot_preview1")]
    unsafe extern "C" {
        fn random_get(bytes: *mut u8, size: usize) -> u16;
    }
    let mut secret = [0; 16];
    let mut hasher = DefaultHasher::new();
    // SAFETY: the bytes are valid for the call. Where it fails there is no secret, which is no reason to
    // do without the module.
    let _ = unsafe { random_get(secret.as_mut_ptr(), secret.len()) };
    hasher.write(&secret);
    hasher
}

/// Hashes numbers that nobody outside has a say in, such as those that Envoy gives out one after the other:
/// a hash that resists choice would be a good part of what a request costs.
pub type ById = BuildHasherDefault<IdHasher>;

#[derive(Default)]
/// See [`ById`].
pub struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks();
        for word in words {
            self.write_u64(u64::from_le_bytes(*word));
        }
        for byte in rest {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(number.into());
    }

    fn write_u64(&mut self, number: u64) {
        // 2^64 divided by the golden ratio: spreads neighbours over all bits.
        const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
        self.0 = (self.0 ^ number).wrapping_mul(SPREAD);
    }

    fn finish(&self) -> u64 {
        // The table takes its place from the low bits, which a product mixes least.
        self.0.rotate_left(32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_hashes_otherwise() {
        let [one, other] = [Keyed::default(), Keyed::default()];
        assert_eq!(one.hash_one("text"), one.hash_one("text"));
        assert_ne!(one.hash_one("text"), one.hash_one("texts"));
        assert_ne!(one.hash_one("text"), other.hash_one("text"));
    }
}
