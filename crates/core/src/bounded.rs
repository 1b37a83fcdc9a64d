//! A map of what is alive, that stays bounded though nobody says when something ends.

use std::collections::HashMap;
use std::hash::Hash;

use crate::hash::ById;

/// Two generations: what is new comes into the young one. When that is full of what is still alive, the old one
/// is dropped, with what has been there for longest, and the young one grows old. So nothing is dropped while
/// at most `limit` entries are alive, and at most twice as many are held.
pub struct Bounded<K, V> {
    limit: usize,
    young: HashMap<K, V, ById>,
    old: HashMap<K, V, ById>,
}

impl<K: Hash + Eq, V> Bounded<K, V> {
    /// An empty one.
    #[must_use]
    pub const fn new(limit: usize) -> Self {
        Self {
            limit,
            young: HashMap::with_hasher(ById::new()),
            old: HashMap::with_hasher(ById::new()),
        }
    }

    /// Adds an entry. Whether others were dropped for it.
    pub fn insert(&mut self, key: K, value: V) -> bool {
        let mut dropped = false;
        if self.young.len() >= self.limit {
            std::mem::swap(&mut self.young, &mut self.old);
            dropped = !self.young.is_empty();
            self.young.clear();
        }
        self.young.insert(key, value);
        dropped
    }

    /// The entry of that key.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        match self.young.get_mut(key) {
            Some(value) => Some(value),
            None if self.old.is_empty() => None,
            None => self.old.get_mut(key),
        }
    }

    /// Takes an entry out. Mostly there is none, and then this is next to nothing.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        let young = (!self.young.is_empty()).then(|| self.young.remove(key));
        match young.flatten() {
            Some(value) => Some(value),
            None if self.old.is_empty() => None,
            None => self.old.remove(key),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lives_stays_and_the_oldest_goes_first() {
        let mut alive = Bounded::new(10);
        alive.insert(0_u32, "long");
        for key in 1..1000 {
            assert!(!alive.insert(key, "short"), "{key}");
            assert_eq!(alive.remove(&key), Some("short"));
            assert_eq!(alive.get_mut(&0), Some(&mut "long"));
        }
        let dropped: Vec<_> = (1000..1020)
            .filter(|key| alive.insert(*key, "stays"))
            .collect();
        assert_eq!(dropped, [1019]);
        assert_eq!(alive.get_mut(&0), None);
        assert!(alive.young.len() + alive.old.len() <= 20);
        assert_eq!(alive.remove(&1019), Some("stays"));
    }
}
