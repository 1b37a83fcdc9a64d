//! A bounded map that forgets what has not been used for longest, in constant time.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher};

use crate::hash::Keyed;

/// Two generations: what is used moves to the young one; when that is full, the old one is dropped
/// and the young one grows old. So at most twice `capacity` entries are held, and whatever was used
/// among the last `capacity` is there.
pub(super) struct Cache<K, V, S = Keyed> {
    capacity: usize,
    young: HashMap<K, V, S>,
    old: HashMap<K, V, S>,
}

impl<K: Hash + Eq, V: Clone, S: BuildHasher + Default> Cache<K, V, S> {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            capacity,
            young: HashMap::default(),
            old: HashMap::default(),
        }
    }

    pub(super) fn get(&mut self, key: &K) -> Option<V> {
        if let Some(value) = self.young.get(key) {
            return Some(value.clone());
        }
        let (key, value) = self.old.remove_entry(key)?;
        self.insert(key, value.clone());
        Some(value)
    }

    pub(super) fn insert(&mut self, key: K, value: V) {
        if self.young.len() >= self.capacity {
            // Swapping keeps the tables' memory: it is not given back and taken again.
            std::mem::swap(&mut self.young, &mut self.old);
            self.young.clear();
        }
        self.young.insert(key, value);
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &V> {
        self.young.values().chain(self.old.values())
    }
}

/// Hashes numbers that nobody outside has a say in, such as those that Envoy gives out one after the other:
/// a hash that resists choice would be a good part of what a request costs.
pub(crate) type ById = BuildHasherDefault<IdHasher>;

#[derive(Default)]
pub(crate) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
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
    fn keeps_what_is_used_and_stays_bounded() {
        let mut cache: Cache<u64, _, ById> = Cache::new(10);
        cache.insert(0, "kept");
        for key in 1..1000 {
            cache.insert(key, "passing");
            assert_eq!(cache.get(&0), Some("kept"), "{key}");
            assert!(cache.values().count() <= 20);
        }
        assert_eq!(cache.get(&1), None);
        assert_eq!(cache.get(&999), Some("passing"));
    }
}
