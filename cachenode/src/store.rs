//! Where a group's entries are kept, behind a small trait.
//!
//! A store keeps one entry per *slot*, the keyed hash of a key; two keys of one slot displace each
//! other, which is a miss and never a wrong answer, because an entry carries its key and `get`
//! compares it. A store evicts; it knows nothing of expiry, versions or tombstones, which are the
//! group's, and nothing of who may change what: all changes of a slot come from one critical
//! section.

mod lru;
mod moka;
mod moving;
mod stored;

use std::{hash::BuildHasher, sync::Arc};

use foldhash::{SharedSeed, quality::SeedableRandomState};

pub use self::stored::{DEFAULT_CONTENT_TYPE, Stored, Times};
use self::{lru::LruStore, moka::MokaStore, stored::block_bytes};
pub(crate) use self::{moving::Moving, stored::NewEntry};

/// Which entries are thrown out when a group is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Eviction {
    /// The least recently used. The store is ours.
    #[default]
    Lru,
    /// The least used, by an estimate of frequencies; may throw out what has just come in. The
    /// store is moka.
    TinyLfu,
}

impl Eviction {
    /// The name as it is written in a configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Lru => "lru",
            Self::TinyLfu => "tinylfu",
        }
    }

    /// Resident bytes that an entry costs whose key, content type and value take so many together.
    pub fn entry_bytes(self, content: u64) -> u64 {
        let place = match self {
            Self::Lru => lru::PLACE_BYTES,
            Self::TinyLfu => moka::PLACE_BYTES,
        };
        block_bytes(content) + place
    }

    /// An empty store of so many bytes.
    pub(crate) fn store(self, capacity: u64) -> Arc<dyn Store> {
        match self {
            Self::Lru => Arc::new(LruStore::new(capacity)),
            Self::TinyLfu => Arc::new(MokaStore::new(capacity)),
        }
    }
}

/// A bounded place for entries.
pub(crate) trait Store: Send + Sync {
    /// The entry of `key`, if the slot holds it. Takes a lock for some tens of nanoseconds at most.
    fn get(&self, slot: u64, key: &str) -> Option<Stored>;

    /// Keeps an entry. `replaces` says whether the caller has just seen one of the same key
    /// there; it only serves to count evictions.
    fn insert(&self, slot: u64, entry: Stored, replaces: bool);

    /// Removes what the slot holds if `which` says so; whether it did. `which` may be asked under
    /// a lock: it must not call the store.
    fn remove_if(&self, slot: u64, which: &dyn Fn(&Stored) -> bool) -> bool;

    /// Slots whose entries `which` picks, at most `limit`; some twice if others are removed
    /// meanwhile. Walks everything and counts as no access. `which` may be asked under a lock, for
    /// a few entries at a time: it must not call the store.
    fn pick(&self, which: &mut dyn FnMut(&Stored) -> bool, limit: usize) -> Vec<u64>;

    /// All slots, the least worth keeping first, as far as the store knows. Walks everything.
    fn by_use(&self) -> Vec<u64>;

    /// Does what has been put off, in stores that put off anything: the numbers below are right
    /// afterwards, and there is no more than fits.
    fn run_pending(&self) {}

    /// Entries.
    fn entries(&self) -> u64;

    /// Bytes by [`Eviction::entry_bytes`].
    fn weight(&self) -> u64;

    /// Entries thrown out for want of room.
    fn evictions(&self) -> u64;
}

/// Finds the slot of a key: a hash that people outside can't predict.
#[derive(Debug)]
pub(crate) struct Slots {
    state: SeedableRandomState,
    /// The bits that are used: all of them, except where a test wants collisions.
    used: u64,
}

impl Slots {
    /// With a seed from the operating system, new in every process.
    pub(crate) fn new() -> Self {
        Self::using(u64::MAX)
    }

    /// With only some bits of the hash.
    pub(crate) fn using(used: u64) -> Self {
        let seed = std::hash::RandomState::new().hash_one(used);
        Self { state: SeedableRandomState::with_seed(seed, SharedSeed::global_random()), used }
    }

    pub(crate) fn of(&self, key: &str) -> u64 {
        self.state.hash_one(key.as_bytes()) & self.used
    }
}

#[cfg(test)]
mod tests;
