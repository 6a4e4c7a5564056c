//! Entries that are stored and count as absent all the same, because others may have written their
//! keys meanwhile.
//!
//! What a node held before it was out of the cluster, stood still for long, or lost the key for a
//! moment can't be told from what is current by looking at it, and there may be millions of it. So
//! a reader compares two numbers: entries below a floor are misses from that moment on, and their
//! memory comes back with the next sweep. Floors only rise. Why one is raised is the node's
//! business.

use std::{
    fmt,
    sync::{
        Arc, OnceLock, PoisonError, RwLock,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use common::{discovery::Stint, entry::HybridClock};

use super::Group;
use crate::store::Stored;

/// Changes of the ring that a group has not walked its entries for yet; one more, and it drops
/// everything instead.
const MAX_PENDING_CHANGES: usize = 8;

/// Entries that a walk finds before it removes them, at most: 8 MiB of slots.
const WALK_LIMIT: usize = 1_048_576;

/// A change of the ring: what was stored before `tick` under keys that it gave to others is not to
/// be read any more, even if a later change gave them back.
struct Change {
    tick: u64,
    is_ours: Box<dyn Fn(&str) -> bool + Send + Sync>,
}

/// The floors of one group. Ticks are those of the node's hybrid clock, which every entry made
/// here has in its version.
#[derive(Default)]
pub(super) struct Floors {
    stint: OnceLock<Stint>,
    /// The beginning of the stint when it was looked at last.
    stint_seen: AtomicU64,
    /// Everything older is dropped.
    tick: AtomicU64,
    /// Whatever was stored as a stand-in and is older is dropped.
    stand_in_tick: AtomicU64,
    /// How many changes there are in the list, so that readers need no lock while there is none.
    pending: AtomicUsize,
    changes: RwLock<Vec<Arc<Change>>>,
}

impl fmt::Debug for Floors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Floors").field("tick", &self.tick).finish_non_exhaustive()
    }
}

impl Floors {
    /// Drops everything when the node's stint is another one than before: the revisions of two
    /// stints may not even be of one generation. True: that happened just now.
    fn follow_stint(&self, hybrid: &HybridClock) -> bool {
        let began_at = self.began_at();
        if began_at == self.stint_seen.load(Ordering::Acquire) {
            return false;
        }
        self.tick.fetch_max(hybrid.tick(), Ordering::AcqRel);
        self.stint_seen.store(began_at, Ordering::Release);
        true
    }

    fn began_at(&self) -> u64 {
        self.stint.get().map_or(0, Stint::began_at)
    }

    fn hides(&self, entry: &Stored) -> bool {
        self.hides_since(entry.version().clock, entry.is_stand_in(), || entry.key())
    }

    /// Whether what has been in the works since `tick` is to be absent.
    pub(super) fn hides_since<'a>(
        &self,
        tick: u64,
        is_stand_in: bool,
        key: impl Fn() -> &'a str,
    ) -> bool {
        // While the node is about to return nothing counts. Revisions are not compared: those of
        // two stints may not even be of one generation.
        self.began_at() == u64::MAX
            || tick < self.tick.load(Ordering::Acquire)
            || (is_stand_in && tick < self.stand_in_tick.load(Ordering::Acquire))
            || (self.pending.load(Ordering::Acquire) > 0 && self.is_in_doubt(tick, key()))
    }

    fn is_in_doubt(&self, tick: u64, key: &str) -> bool {
        self.with_changes(|changes| changes.iter().any(|change| change.hides(tick, key)))
    }

    fn with_changes<T>(&self, read: impl FnOnce(&[Arc<Change>]) -> T) -> T {
        read(&self.changes.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn edit_changes<T>(&self, edit: impl FnOnce(&mut Vec<Arc<Change>>) -> T) -> T {
        let mut changes = self.changes.write().unwrap_or_else(PoisonError::into_inner);
        let edited = edit(&mut changes);
        self.pending.store(changes.len(), Ordering::Release);
        edited
    }
}

impl Change {
    fn hides(&self, tick: u64, key: &str) -> bool {
        tick < self.tick && !(self.is_ours)(key)
    }

    fn hides_entry(&self, entry: &Stored) -> bool {
        self.hides(entry.version().clock, entry.key())
    }
}

impl Group {
    /// From now on entries from before the node's present stint are absent.
    pub fn follow_stint(&self, stint: Stint) {
        // Set once in a node's life.
        let _ = self.floors.stint.set(stint);
    }

    /// Drops all entries at once; about how many that were.
    pub fn drop_everything(&self) -> u64 {
        self.raise_floor(self.hybrid.tick());
        let shape = self.shape();
        shape.store.run_pending();
        shape.store.entries()
    }

    /// Drops everything that was stored while standing in for others.
    pub fn drop_stand_ins(&self) {
        self.floors.stand_in_tick.fetch_max(self.hybrid.tick(), Ordering::AcqRel);
        self.floors_were_raised();
    }

    /// The ring has changed: what is stored under keys that are not `is_ours` by it is absent from
    /// now on. [`Group::give_up`] has to be called after that. False: too many changes came at
    /// once, and everything was dropped.
    pub fn ring_changed(&self, is_ours: impl Fn(&str) -> bool + Send + Sync + 'static) -> bool {
        let change = Change { tick: self.hybrid.tick(), is_ours: Box::new(is_ours) };
        let has_room = self.floors.edit_changes(|changes| {
            let has_room = changes.len() < MAX_PENDING_CHANGES;
            if has_room {
                changes.push(Arc::new(change));
            } else {
                // The floor goes up first: nothing may be readable in between.
                self.floors.tick.fetch_max(self.hybrid.tick(), Ordering::AcqRel);
                changes.clear();
            }
            has_room
        });
        if !has_room {
            self.floors_were_raised();
        }
        // The list forgets a change once it is carried out; a load may take longer than that.
        self.critical.each(|stripe| {
            stripe.flights.fence_all();
            stripe.tokens.end_where(|_| true);
        });
        has_room
    }

    /// Removes what the changes of the ring so far took away; how many entries that were. Walks
    /// the whole group once for each of them: not for a worker. Meanwhile entries don't move to another
    /// store.
    pub fn give_up(&self) -> usize {
        let mut removed = 0;
        while let Some(change) = self.floors.with_changes(|changes| changes.first().cloned()) {
            removed += self.remove_where(|entry| change.hides_entry(entry));
            self.floors.edit_changes(|changes| changes.retain(|it| !Arc::ptr_eq(it, &change)));
        }
        removed
    }

    /// Removes the entries that `which` picks, each in its critical section; how many that were. Waits
    /// for a move to another store, and lets none begin.
    pub(super) fn remove_where(&self, which: impl Fn(&Stored) -> bool) -> usize {
        let _nobody_moves = self.defining.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut removed, store) = (0, Arc::clone(&self.shape().store));
        loop {
            let slots = store.pick(&mut |entry| which(entry), WALK_LIMIT);
            for &slot in &slots {
                let _section = self.critical.enter(slot);
                removed += usize::from(store.remove_if(slot, &which));
            }
            if slots.len() < WALK_LIMIT {
                store.run_pending();
                return removed;
            }
        }
    }

    /// Whether an entry is below a floor.
    #[inline]
    pub(super) fn is_hidden(&self, entry: &Stored) -> bool {
        self.floors.hides(entry) || self.purges.hide(entry)
    }

    /// Everything from before that tick is absent.
    pub(super) fn raise_floor(&self, tick: u64) {
        self.floors.tick.fetch_max(tick, Ordering::AcqRel);
        self.floors_were_raised();
    }

    /// To be called before an operation looks at anything.
    pub(super) fn follow_floors(&self) {
        if self.floors.follow_stint(&self.hybrid) {
            self.floors_were_raised();
        }
    }

    /// The next sweep has something to do.
    fn floors_were_raised(&self) {
        self.expect_expiry(Some(0));
    }
}
