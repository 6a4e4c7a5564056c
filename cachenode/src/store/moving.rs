//! A store whose entries are on their way into another one.
//!
//! What is written goes into the new one; what is read may be in either. Entries only ever go from
//! the old one to the new, one slot at a time, in the slot's critical section ([`Moving::step`]), and
//! stay the same allocations.

use std::{cell::Cell, sync::Arc};

use super::{Store, Stored};

/// A [`Store`] made of two.
pub(crate) struct Moving {
    old: Arc<dyn Store>,
    new: Arc<dyn Store>,
}

impl Moving {
    pub(crate) fn new(old: Arc<dyn Store>, new: Arc<dyn Store>) -> Arc<Self> {
        Arc::new(Self { old, new })
    }

    /// Where the entries go.
    pub(crate) fn new_store(&self) -> Arc<dyn Store> {
        Arc::clone(&self.new)
    }

    /// Entries that the old store has thrown out.
    pub(crate) fn old_evictions(&self) -> u64 {
        self.old.evictions()
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
            // First there, then no longer here: a reader finds it in one of them.
            self.new.insert(slot, entry, false);
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
        self.old.evictions() + self.new.evictions()
    }
}
