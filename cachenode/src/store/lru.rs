//! The store of `eviction = "lru"`: shards with a lock each, and one account of bytes over all.
//!
//! A shard's lock is held for one look into its table and a few links, never while memory of any
//! size is copied or freed. Whoever makes the store too large throws out entries before its insert
//! is over, so nothing is put off and eviction never lags behind writing. The least recently used
//! is that of its shard; slots are hashes, so the shards are alike.

mod nodes;
mod shard;

use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use self::shard::Shard;
use super::{Eviction, Store, Stored};

/// Resident bytes an entry costs beside its block: its node and its part of the table.
///
/// Measured with `make bench-memory`.
pub(super) const PLACE_BYTES: u64 = 40;

/// Shards of a store, at most: many more than a node has workers, so that they seldom meet.
const MAX_SHARDS: u64 = 64;
/// A store has a shard for each of so many bytes of its capacity; one shard orders all of its
/// entries.
const SHARD_BYTES: u64 = 4 << 20;
/// Entries that a walk looks at before it lets others have the shard's lock.
const WALK_STEP: usize = 128;

/// A [`Store`] that throws out the least recently used.
#[derive(Debug)]
pub(super) struct LruStore {
    /// A power of two of them.
    shards: Box<[Mutex<Shard>]>,
    capacity: u64,
    weight: AtomicU64,
    evictions: AtomicU64,
}

impl LruStore {
    pub(super) fn new(capacity: u64) -> Self {
        let count = (capacity / SHARD_BYTES).clamp(1, MAX_SHARDS).next_power_of_two();
        Self {
            shards: (0..count).map(|_| Mutex::new(Shard::new())).collect(),
            capacity,
            weight: AtomicU64::new(0),
            evictions: AtomicU64::new(0),
        }
    }

    /// Bits of the slot that neither the shard's table nor the critical sections go by.
    fn index_of(&self, slot: u64) -> usize {
        (slot >> 40) as usize & (self.shards.len() - 1)
    }

    fn shard_of(&self, slot: u64) -> MutexGuard<'_, Shard> {
        lock(&self.shards[self.index_of(slot)])
    }

    fn is_too_large(&self) -> bool {
        self.weight.load(Ordering::Acquire) > self.capacity
    }

    /// Books an entry that has come, and one that has gone for it.
    fn book(&self, came: u64, went: u64) {
        // One step, so that nobody sees the two of them together and makes room for both.
        if came >= went {
            self.weight.fetch_add(came - went, Ordering::AcqRel);
        } else {
            self.weight.fetch_sub(went - came, Ordering::AcqRel);
        }
    }

    /// Throws the least recently used out of a shard until the store fits, but not the entry of
    /// `newcomer`. Returns what is to be freed.
    fn evict(&self, shard: &mut Shard, newcomer: Option<u64>) -> Vec<Stored> {
        let mut gone = Vec::new();
        while self.is_too_large() {
            let Some(oldest) = shard.oldest().filter(|oldest| newcomer != Some(*oldest)) else {
                break;
            };
            let Some(entry) = shard.remove(oldest) else { break };
            self.book(0, weight(&entry));
            self.evictions.fetch_add(1, Ordering::Relaxed);
            gone.push(entry);
        }
        gone
    }
}

impl Store for LruStore {
    fn get(&self, slot: u64, key: &str) -> Option<Stored> {
        self.shard_of(slot).get(slot, key).cloned()
    }

    fn insert(&self, slot: u64, entry: Stored, replaces: bool) {
        let home = self.index_of(slot);
        let came = weight(&entry);
        let mut shard = lock(&self.shards[home]);
        let displaced = shard.put(slot, entry);
        self.book(came, displaced.as_ref().map_or(0, weight));
        if displaced.is_some() && !replaces {
            self.evictions.fetch_add(1, Ordering::Relaxed);
        }
        let gone = self.evict(&mut shard, Some(slot));
        drop(shard);
        drop((displaced, gone));
        // A large entry may need more room than its own shard has.
        for step in 1..self.shards.len() {
            if !self.is_too_large() {
                break;
            }
            let mut shard = lock(&self.shards[(home + step) % self.shards.len()]);
            let gone = self.evict(&mut shard, None);
            drop(shard);
            drop(gone);
        }
    }

    fn remove_if(&self, slot: u64, which: &dyn Fn(&Stored) -> bool) -> bool {
        let mut shard = self.shard_of(slot);
        if !shard.peek(slot).is_some_and(which) {
            return false;
        }
        let removed = shard.remove(slot);
        drop(shard);
        self.book(0, removed.as_ref().map_or(0, weight));
        removed.is_some()
    }

    fn pick(&self, which: &mut dyn FnMut(&Stored) -> bool, limit: usize) -> Vec<u64> {
        let mut picked = Vec::new();
        for shard in &self.shards {
            let mut below = usize::MAX;
            while below > 0 && picked.len() < limit {
                let shard = lock(shard);
                let (nodes, next) = shard.walk_down(below, WALK_STEP);
                let found = nodes.filter(|(_, entry)| which(entry)).map(|(slot, _)| slot);
                picked.extend(found.take(limit - picked.len()));
                below = next;
            }
        }
        picked
    }

    fn by_use(&self) -> Vec<u64> {
        let shards: Vec<Vec<u64>> =
            self.shards.iter().map(|shard| lock(shard).oldest_first().collect()).collect();
        let longest = shards.iter().map(Vec::len).max().unwrap_or_default();
        // The shards are alike: what is as old in one as in another is as old.
        (0..longest)
            .flat_map(|rank| shards.iter().filter_map(move |it| it.get(rank)))
            .copied()
            .collect()
    }

    fn entries(&self) -> u64 {
        self.shards.iter().map(|shard| lock(shard).len() as u64).sum()
    }

    fn weight(&self) -> u64 {
        self.weight.load(Ordering::Acquire)
    }

    fn evictions(&self) -> u64 {
        self.evictions.load(Ordering::Relaxed)
    }
}

fn weight(entry: &Stored) -> u64 {
    Eviction::Lru.entry_bytes(entry.content_bytes())
}

/// A panic can't leave a shard half changed: nothing in it calls anybody else's code.
fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
