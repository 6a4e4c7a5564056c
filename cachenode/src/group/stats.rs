//! What a group has done and holds, in numbers.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Group;

/// A counter that has its cache line to itself, as all workers count at once.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) hits: Counter,
    pub(super) misses: Counter,
    pub(super) loads: Counter,
    pub(super) failed_loads: Counter,
    pub(super) early_loads: Counter,
    pub(super) renewals: Counter,
    pub(super) sets: Counter,
    pub(super) deletes: Counter,
    pub(super) tokens: Counter,
    pub(super) lost_tokens: Counter,
}

/// A group's numbers at one moment. Counts are since the group was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GroupStats {
    /// Reads that found an entry.
    pub hits: u64,
    /// Reads that found none.
    pub misses: u64,
    /// Misses that the origin had a value for.
    pub loads: u64,
    /// Loads that the origin failed at.
    pub failed_loads: u64,
    /// Loads begun before the time of the value was over.
    pub early_loads: u64,
    /// Loads for which the origin said that the value is still true.
    pub renewals: u64,
    /// Sets that were applied.
    pub sets: u64,
    /// Deletes that removed an entry.
    pub deletes: u64,
    /// Load tokens that were handed out.
    pub tokens: u64,
    /// Writes that came with one which did not count any more.
    pub lost_tokens: u64,
    /// Entries thrown out for want of room. This and the next two are as of now with
    /// [`Eviction::Lru`](crate::store::Eviction::Lru), else as of the last [`Group::maintain`] or
    /// shortly after it; evictions may then lag behind by the few that raced with a write of the
    /// same key.
    pub evictions: u64,
    /// Entries there.
    pub entries: u64,
    /// Resident bytes they use, as accounted.
    pub used_bytes: u64,
    /// Resident bytes they may use.
    pub capacity_bytes: u64,
}

impl Group {
    /// The group's numbers.
    pub fn stats(&self) -> GroupStats {
        let shape = self.shape();
        GroupStats {
            hits: self.counters.hits.get(),
            misses: self.counters.misses.get(),
            loads: self.counters.loads.get(),
            failed_loads: self.counters.failed_loads.get(),
            early_loads: self.counters.early_loads.get(),
            renewals: self.counters.renewals.get(),
            sets: self.counters.sets.get(),
            deletes: self.counters.deletes.get(),
            tokens: self.counters.tokens.get(),
            lost_tokens: self.counters.lost_tokens.get(),
            evictions: shape.evicted_before + shape.store.evictions(),
            entries: shape.store.entries(),
            used_bytes: shape.store.weight(),
            capacity_bytes: shape.definition.capacity,
        }
    }
}
