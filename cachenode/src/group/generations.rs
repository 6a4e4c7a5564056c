//! A bounded map that forgets its oldest half at once.
//!
//! Two maps, a young and an old one: when the young one is full it becomes the old one, and what
//! the old one held is forgotten. So the last half of the bound is always remembered, without a
//! queue beside the map and without a search for the oldest.

use std::{
    borrow::Borrow,
    collections::HashMap,
    hash::{BuildHasher, Hash},
};

#[derive(Debug)]
pub(super) struct Generations<K, V, S> {
    young: HashMap<K, V, S>,
    old: HashMap<K, V, S>,
    half: usize,
}

impl<K: Hash + Eq, V, S: BuildHasher + Default> Generations<K, V, S> {
    /// For at most `bound` entries.
    pub(super) fn new(bound: usize) -> Self {
        Self { young: HashMap::default(), old: HashMap::default(), half: bound / 2 }
    }

    pub(super) fn get<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.young.get(key).or_else(|| self.old.get(key))
    }

    /// Forgets one entry.
    pub(super) fn remove<Q: Hash + Eq + ?Sized>(&mut self, key: &Q)
    where
        K: Borrow<Q>,
    {
        self.young.remove(key);
        self.old.remove(key);
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        (self.young, self.old) = Default::default();
    }

    /// Keeps an entry; gives back those that it has to forget for it.
    pub(super) fn put(&mut self, key: K, value: V) -> impl Iterator<Item = V> + use<K, V, S> {
        let mut forgotten = HashMap::default();
        if self.young.len() >= self.half {
            forgotten = std::mem::replace(&mut self.old, std::mem::take(&mut self.young));
        }
        self.young.insert(key, value);
        forgotten.into_values()
    }

    /// Forgets what `keep` doesn't want, and gives the memory back when nothing is left.
    pub(super) fn retain(&mut self, keep: impl Fn(&K, &V) -> bool) {
        for generation in [&mut self.young, &mut self.old] {
            generation.retain(|key, value| keep(key, value));
            if generation.is_empty() {
                *generation = HashMap::default();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_are_forgotten_and_handed_out() {
        let mut last = Generations::<u32, u32, foldhash::fast::RandomState>::new(4);
        let mut forgotten = Vec::new();
        for n in 0..7 {
            forgotten.extend(last.put(n, n * 10));
            assert!(last.young.len() + last.old.len() <= 4);
            assert!(n < 1 || last.get(&(n - 1)).is_some(), "the last two are there");
        }
        forgotten.sort_unstable();
        assert_eq!(forgotten, [0, 10, 20, 30]);
        last.retain(|_, value| *value > 50);
        assert_eq!((last.get(&5), last.get(&6)), (None, Some(&60)));
    }
}
