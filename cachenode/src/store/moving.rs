//! A store whose entries are on their way into another one.
//!
//! What is written goes into the new one; what is read may be in either. Entries only ever go from
//! the old one to the new, one slot at a time, in the slot's critical section ([`Moving::step`]), and
//! stay the same allocations.

use std::{
    cell::Cell,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{Eviction, Store, Stored};

/// A [`Store`] made of two.
pub(crate) struct Moving {
    old: Arc<dyn Store>,
    new: Arc<dyn Store>,
    /// What the new one can hold, and by whose account.
    capacity: u64,
    eviction: Eviction,
    /// Entries that are larger than that.
    too_large: AtomicU64,
}

impl Moving {
    /// From the old one into an empty store of that kind and capacity.
    pub(crate) fn new(old: Arc<dyn Store>, eviction: Eviction, capacity: u64) -> Arc<Self> {
        let (new, too_large) = (eviction.store(capacity), AtomicU64::new(0));
        Arc::new(Self { old, new, capacity, eviction, too_large })
    }

    /// Where the entries go.
    pub(crate) fn new_store(&self) -> Arc<dyn Store> {
        Arc::clone(&self.new)
    }

    /// Entries that the old store has thrown out, or that did not fit into the new one.
    pub(crate) fn old_evictions(&self) -> u64 {
        self.old.evictions() + self.too_large.load(Ordering::Relaxed)
    }

    /// The slots that have to be moved, in that order: what is worth most comes last, and stays if
    /// there is less room than before. Empty: all is done.
    pub(crate) fn slots(&self) -> Vec<u64> {
        self.old.run_pending();
        self.old.by_use()
    }

    /// Moves what a slot holds. To be called in its critical section.
    pub(crate) fn step(&self, slot: u64) {
        let held = Cell::new(None);
        self.old.remove_if(slot, &|entry| {
            held.set(Some(entry.clone()));
            false
        });
        if let Some(entry) = held.into_inner() {
            if self.eviction.entry_bytes(entry.content_bytes()) > self.capacity {
                // There everything else would go for it.
                self.too_large.fetch_add(1, Ordering::Relaxed);
            } else {
                // First there, then no longer here: a reader finds it in one of them.
                self.new.insert(slot, entry, false);
            }
            self.old.remove_if(slot, &|_| true);
        }
    }
}

impl Store for Moving {
    fn get(&self, slot: u64, key: &str) -> Option<Stored> {
        let new = || self.new.get(slot, key);
        // It may be moved just between the two looks.
        new().or_else(|| self.old.get(slot, key)).or_else(new)
    }

    fn insert(&self, slot: u64, entry: Stored, replaces: bool) {
        // The books of the new store are about what it held itself.
        let replaces = replaces && self.new.get(slot, entry.key()).is_some();
        self.new.insert(slot, entry, replaces);
        self.old.remove_if(slot, &|_| true);
    }

    fn remove_if(&self, slot: u64, which: &dyn Fn(&Stored) -> bool) -> bool {
        let old = self.old.remove_if(slot, which);
        self.new.remove_if(slot, which) || old
    }

    fn pick(&self, which: &mut dyn FnMut(&Stored) -> bool, limit: usize) -> Vec<u64> {
        // In the order in which entries move, so that none is missed.
        let mut picked = self.old.pick(which, limit);
        picked.extend(self.new.pick(which, limit - picked.len()));
        picked
    }

    fn by_use(&self) -> Vec<u64> {
        let mut slots = self.old.by_use();
        slots.extend(self.new.by_use());
        slots
    }

    fn run_pending(&self) {
        self.old.run_pending();
        self.new.run_pending();
    }

    fn entries(&self) -> u64 {
        self.old.entries() + self.new.entries()
    }

    fn weight(&self) -> u64 {
        self.old.weight() + self.new.weight()
    }

    fn evictions(&self) -> u64 {
        self.old_evictions() + self.new.evictions()
    }
}
