//! The store of `eviction = "tinylfu"`, over moka: eviction is moka's, everything else is ours.
//!
//! No eviction listener: moka takes a lock of its own per write for one, which was measured at
//! 25 to 50 % of the cost of an insert, and all our changes of a slot are in a critical section
//! already. Evictions are what is missing from the books instead: entries made, less entries
//! removed, less entries there. No expiry either: it can't take our clock, and its timer wheel
//! costs 48 bytes an entry.

use std::{
    hash::{BuildHasher, Hasher},
    sync::atomic::{AtomicU64, Ordering},
};

use moka::{policy::EvictionPolicy, sync::Cache};

use super::{Eviction, Store, Stored};

/// Resident bytes an entry costs beside its block: moka's entry, its queue node and its share of
/// the hash table.
///
/// Measured with `make bench-memory`: 250 as long as nothing goes, 320 of a store that is written
/// over again and again, as moka frees late.
pub(super) const PLACE_BYTES: u64 = 320;

/// How far above its capacity a store may get, as a fraction of it: one part in this many.
const SLACK: u64 = 32;

/// A [`Store`] that throws out the least used.
#[derive(Debug)]
pub(super) struct MokaStore {
    cache: Cache<u64, Stored, SlotHash>,
    capacity: u64,
    /// Bytes inserted since moka last settled its accounts.
    unsettled: AtomicU64,
    made: AtomicU64,
    removed: AtomicU64,
    evicted: AtomicU64,
}

impl MokaStore {
    pub(super) fn new(capacity: u64) -> Self {
        let cache = Cache::builder()
            .max_capacity(capacity)
            .eviction_policy(EvictionPolicy::tiny_lfu())
            .weigher(|_, entry| u32::try_from(weight(entry)).unwrap_or(u32::MAX))
            .build_with_hasher(SlotHash);
        Self {
            cache,
            capacity,
            unsettled: AtomicU64::new(0),
            made: AtomicU64::new(0),
            removed: AtomicU64::new(0),
            evicted: AtomicU64::new(0),
        }
    }

    fn slack(&self) -> u64 {
        self.capacity / SLACK
    }

    /// Throws out entries by hand until `bytes` are gone, in no particular order.
    fn shed(&self, mut bytes: u64) {
        for (slot, entry) in &self.cache {
            if bytes == 0 {
                break;
            }
            self.cache.invalidate(&*slot);
            bytes = bytes.saturating_sub(weight(&entry));
        }
        self.cache.run_pending_tasks();
    }
}

impl Store for MokaStore {
    fn get(&self, slot: u64, key: &str) -> Option<Stored> {
        self.cache.get(&slot).filter(|entry| entry.is_of(key))
    }

    /// moka evicts late: it looks at what was written every 64 writes and lets up to 384 wait,
    /// which is 384 MiB of the largest values. So bytes are counted here too, and the one whose
    /// write makes the count too large settles.
    fn insert(&self, slot: u64, entry: Stored, replaces: bool) {
        let weight = weight(&entry);
        self.cache.insert(slot, entry);
        if !replaces {
            self.made.fetch_add(1, Ordering::AcqRel);
        }
        let unsettled = self.unsettled.fetch_add(weight, Ordering::Relaxed) + weight;
        if unsettled > self.slack() {
            self.run_pending();
        }
    }

    fn remove_if(&self, slot: u64, which: &dyn Fn(&Stored) -> bool) -> bool {
        if !self.cache.get(&slot).is_some_and(|entry| which(&entry)) {
            return false;
        }
        // Booked before it happens, so that a removal never looks like an eviction meanwhile.
        self.removed.fetch_add(1, Ordering::AcqRel);
        let was_there = self.cache.remove(&slot).is_some();
        if !was_there {
            self.removed.fetch_sub(1, Ordering::AcqRel);
        }
        was_there
    }

    fn pick(&self, which: &mut dyn FnMut(&Stored) -> bool, limit: usize) -> Vec<u64> {
        let picked = self.cache.iter().filter(|(_, entry)| which(entry));
        picked.map(|(slot, _)| *slot).take(limit).collect()
    }

    /// moka tells no order.
    fn by_use(&self) -> Vec<u64> {
        self.pick(&mut |_| true, usize::MAX)
    }

    fn run_pending(&self) {
        self.unsettled.store(0, Ordering::Relaxed);
        let made = self.made.load(Ordering::Acquire);
        self.cache.run_pending_tasks();
        // moka before 0.12.16 could stop evicting for good when keys were written again and again
        // (moka#590). Should it ever do so again, memory still has an end here.
        let over = self.cache.weighted_size().saturating_sub(self.capacity);
        if over > self.slack() {
            self.shed(over);
        }
        let accounted = self.removed.load(Ordering::Acquire) + self.cache.entry_count();
        self.evicted.fetch_max(made.saturating_sub(accounted), Ordering::AcqRel);
    }

    fn entries(&self) -> u64 {
        self.cache.entry_count()
    }

    fn weight(&self) -> u64 {
        self.cache.weighted_size()
    }

    fn evictions(&self) -> u64 {
        self.evicted.load(Ordering::Acquire)
    }
}

fn weight(entry: &Stored) -> u64 {
    Eviction::TinyLfu.entry_bytes(entry.content_bytes())
}

/// A slot is a hash already.
#[derive(Debug, Clone, Copy)]
struct SlotHash;

impl BuildHasher for SlotHash {
    type Hasher = SlotHasher;

    fn build_hasher(&self) -> SlotHasher {
        SlotHasher(0)
    }
}

struct SlotHasher(u64);

impl Hasher for SlotHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(byte);
        }
    }

    fn write_u64(&mut self, slot: u64) {
        self.0 = slot;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tests::entry;

    #[test]
    fn large_values_do_not_wait_for_moka_to_look() {
        let store = MokaStore::new(8 << 20);
        for slot in 0..63 {
            store.insert(slot, entry("k", 1 << 20), false);
            assert!(store.cache.iter().count() <= 8, "no more than fits, at any time");
        }
    }

    #[test]
    fn entries_can_be_shed_without_mokas_help() {
        let store = MokaStore::new(8 << 20);
        for slot in 0..100 {
            store.insert(slot, entry("k", 1000), false);
        }
        store.run_pending();
        let before = store.weight();
        store.shed(10_000);
        assert!(store.weight() <= before - 10_000);
        assert!(store.weight() > before - 20_000);
        store.run_pending();
        assert_eq!(store.evictions(), 100 - store.entries());
    }
}
