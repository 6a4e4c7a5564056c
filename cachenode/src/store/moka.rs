//! The store over moka: eviction is moka's, everything else is ours.
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

/// How far above its capacity a store may get, as a fraction of it: one part in this many.
const SLACK: u64 = 32;

/// A [`Store`] over moka.
#[derive(Debug)]
pub(crate) struct MokaStore {
    cache: Cache<u64, Stored, SlotHash>,
    capacity: u64,
    /// Bytes inserted since moka last settled its accounts.
    unsettled: AtomicU64,
    made: AtomicU64,
    removed: AtomicU64,
    evicted: AtomicU64,
}

impl MokaStore {
    pub(crate) fn new(capacity: u64, eviction: Eviction) -> Self {
        let policy = match eviction {
            Eviction::Lru => EvictionPolicy::lru(),
            Eviction::TinyLfu => EvictionPolicy::tiny_lfu(),
        };
        let cache = Cache::builder()
            .max_capacity(capacity)
            .eviction_policy(policy)
            .weigher(|_, entry: &Stored| u32::try_from(entry.weight()).unwrap_or(u32::MAX))
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
            bytes = bytes.saturating_sub(entry.weight());
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
        let weight = entry.weight();
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
    use std::time::Duration;

    use common::entry::Version;

    use super::*;
    use crate::store::NewEntry;

    fn entry(key: &str, value_len: usize) -> Stored {
        Stored::new(&NewEntry {
            key,
            content_type: "",
            value: &vec![7; value_len],
            version: Version::default(),
            stored: Duration::ZERO,
            expires: None,
            is_stand_in: false,
            now: Duration::ZERO,
        })
    }

    #[test]
    fn another_key_in_the_slot_is_a_miss() {
        let store = MokaStore::new(1 << 20, Eviction::Lru);
        store.insert(7, entry("a", 1), false);
        assert!(store.get(7, "a").is_some());
        assert!(store.get(7, "b").is_none());
        assert!(!store.remove_if(7, &|held| held.is_of("b")));
        store.insert(7, entry("b", 1), false);
        assert!(store.get(7, "a").is_none());
        assert!(store.get(7, "b").is_some());
        store.run_pending();
        assert_eq!((store.entries(), store.evictions()), (1, 1));
    }

    #[test]
    fn weight_follows_what_is_there() {
        let store = MokaStore::new(1 << 20, Eviction::Lru);
        store.insert(1, entry("a", 100), false);
        store.insert(2, entry("b", 50), false);
        store.insert(2, entry("b", 10), true);
        store.run_pending();
        assert_eq!((store.entries(), store.weight()), (2, 2 * 385 + 110));
        assert!(store.remove_if(1, &|_| true));
        assert!(!store.remove_if(1, &|_| true));
        store.run_pending();
        assert_eq!((store.entries(), store.weight()), (1, 385 + 10));
        assert_eq!(store.evictions(), 0);
    }

    #[test]
    fn the_least_recently_used_goes_first_and_is_counted() {
        let room_for_four = 4 * entry("0", 1000).weight();
        let store = MokaStore::new(room_for_four, Eviction::Lru);
        for slot in 0..4 {
            store.insert(slot, entry("k", 1000), false);
        }
        store.run_pending();
        assert!(store.get(0, "k").is_some());
        store.run_pending();
        store.insert(4, entry("k", 1000), false);
        store.run_pending();
        let held = (0..5).filter(|&slot| store.get(slot, "k").is_some()).collect::<Vec<_>>();
        assert_eq!(held, [0, 2, 3, 4]);
        assert_eq!((store.entries(), store.evictions()), (4, 1));
    }

    #[test]
    fn large_values_do_not_wait_for_moka_to_look() {
        let store = MokaStore::new(8 << 20, Eviction::Lru);
        for slot in 0..63 {
            store.insert(slot, entry("k", 1 << 20), false);
            assert!(store.cache.iter().count() <= 8, "no more than fits, at any time");
        }
    }

    #[test]
    fn entries_can_be_shed_without_mokas_help() {
        let store = MokaStore::new(8 << 20, Eviction::TinyLfu);
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

    #[test]
    fn picking_stops_at_its_limit() {
        let store = MokaStore::new(1 << 20, Eviction::Lru);
        for slot in 0..20 {
            store.insert(slot, entry(if slot < 10 { "old" } else { "new" }, 1), false);
        }
        assert_eq!(store.pick(&mut |held| held.is_of("old"), 100).len(), 10);
        assert_eq!(store.pick(&mut |held| held.is_of("old"), 4).len(), 4);
    }
}
