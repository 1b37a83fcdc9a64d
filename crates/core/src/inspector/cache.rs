//! A bounded map that forgets what has not been used for longest, in constant time.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash};

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::ById;

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
