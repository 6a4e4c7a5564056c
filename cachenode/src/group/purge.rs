//! Purges: a whole group, or its entries of a key prefix or a tag, is absent from one moment on.
//!
//! What is noted is the scope and the tick of the hybrid clock; an entry of the scope with an older
//! version is a miss, whether or not its memory has been given back. That is done by a walk in the
//! background, after which readers need not look at the note any more. It is kept a while longer for
//! copies of other nodes, like a tombstone (docs/adr/012).

use std::{
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use common::{entry::HybridClock, tags::has_tag};

use super::{Group, TOMBSTONE_LIFE};
use crate::{loans::Recall, store::Stored};

/// Scopes of purges that a group remembers. For one more the oldest go that have been carried out,
/// and copies from before them are refused whatever they are; if none has, everything is purged.
pub const MAX_PURGES: usize = 64;

/// What a purge is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// The whole group.
    Everything,
    /// All keys that begin so.
    Prefix(Box<str>),
    /// All entries with this tag.
    Tag(Box<str>),
}

impl Scope {
    fn covers(&self, key: &str, tags: &str) -> bool {
        match self {
            Self::Everything => true,
            Self::Prefix(prefix) => key.starts_with(&**prefix),
            Self::Tag(tag) => has_tag(tags, tag),
        }
    }

    /// Whether it may cover what has no tags yet, such as a load that is under way.
    fn may_cover(&self, key: &str) -> bool {
        matches!(self, Self::Tag(_)) || self.covers(key, "")
    }
}

/// What a purge did at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Purged {
    /// It is the whole group, because that was asked for or too many scopes are remembered.
    pub everything: bool,
    /// Entries that the group had, of whatever scope; about, with tinylfu.
    pub entries: u64,
}

/// A purge that is remembered.
#[derive(Debug)]
struct Note {
    tick: u64,
    scope: Scope,
    /// What was under way when it came has been ended. Until then it has to be seen.
    is_fenced: bool,
    /// Set when its entries are gone: until when older copies are refused.
    carried_out: Option<Duration>,
}

impl Note {
    fn hides(&self, tick: u64, covers: impl Fn(&Scope) -> bool) -> bool {
        tick < self.tick && covers(&self.scope)
    }
}

#[derive(Debug, Default)]
struct Notes {
    /// The oldest first.
    list: Vec<Note>,
    /// Copies from before it are refused: it stands for notes that found no room.
    copies_from: u64,
}

impl Notes {
    /// Makes room for so many. False: there is none.
    fn make_room(&mut self, count: usize) -> bool {
        while self.list.len() + count > MAX_PURGES {
            let Some(oldest) = self.list.iter().position(|note| note.carried_out.is_some()) else {
                return false;
            };
            self.copies_from = self.copies_from.max(self.list.remove(oldest).tick);
        }
        true
    }
}

/// The purges of one group.
#[derive(Debug, Default)]
pub(super) struct Purges {
    /// Whether there are some that readers have to look at, so that they need no lock while there
    /// are none.
    pending: AtomicBool,
    notes: RwLock<Notes>,
}

impl Purges {
    /// Notes a purge of these scopes; its tick, and whether everything was purged instead.
    ///
    /// A change that has taken its version, looks here after that and finds nothing has a version
    /// below the tick, and is hidden by it: `pending` is set before the tick is taken.
    fn note(&self, scopes: &[Scope], hybrid: &HybridClock) -> (u64, bool) {
        let mut notes = self.notes.write().unwrap_or_else(PoisonError::into_inner);
        self.pending.store(true, Ordering::Release);
        let tick = hybrid.tick();
        let everything = scopes.contains(&Scope::Everything) || !notes.make_room(scopes.len());
        let note = |scope: &Scope| {
            let (scope, is_fenced, carried_out) = (scope.clone(), false, None);
            Note { tick, scope, is_fenced, carried_out }
        };
        if everything {
            // It stands for all before it, for copies as well.
            notes.list.clear();
            notes.copies_from = tick;
            notes.list.push(note(&Scope::Everything));
        } else {
            notes.list.extend(scopes.iter().map(note));
        }
        (tick, everything)
    }

    fn any(&self, which: impl Fn(&Note) -> bool) -> bool {
        let notes = self.notes.read().unwrap_or_else(PoisonError::into_inner);
        notes.list.iter().any(which)
    }

    fn is_pending(&self) -> bool {
        self.pending.load(Ordering::Acquire)
    }

    /// Whether an entry is purged. Those of a purge that was carried out are not here any more.
    pub(super) fn hide(&self, entry: &Stored) -> bool {
        self.is_pending() && {
            let (tick, key, tags) = (entry.version().clock, entry.key(), entry.tags());
            self.any(|note| {
                note.carried_out.is_none() && note.hides(tick, |scope| scope.covers(key, tags))
            })
        }
    }

    /// Whether what began at that tick, and brings who knows which tags, must not be stored.
    pub(super) fn hide_since(&self, tick: u64, key: &str) -> bool {
        self.is_pending() && self.any(|note| note.hides(tick, |scope| scope.may_cover(key)))
    }

    /// Whether another node's copy is from before a purge.
    pub(super) fn refuse(&self, tick: u64, key: &str, tags: &str) -> bool {
        let notes = self.notes.read().unwrap_or_else(PoisonError::into_inner);
        let hides = |note: &Note| note.hides(tick, |scope| scope.covers(key, tags));
        tick < notes.copies_from || notes.list.iter().any(hides)
    }

    /// What was under way when the purge of that tick was noted has been ended.
    fn fenced(&self, tick: u64) {
        let mut notes = self.notes.write().unwrap_or_else(PoisonError::into_inner);
        notes.list.iter_mut().filter(|note| note.tick == tick).for_each(|it| it.is_fenced = true);
    }

    /// The tick of the newest that has to be carried out, of those before which all are ready for it.
    fn newest_pending(&self) -> Option<u64> {
        let notes = self.notes.read().unwrap_or_else(PoisonError::into_inner);
        let ready = notes.list.iter().take_while(|note| note.is_fenced);
        ready.filter(|note| note.carried_out.is_none()).last().map(|note| note.tick)
    }

    /// The entries of all up to that one are gone.
    fn carried_out(&self, newest: u64, until: Duration) {
        let mut notes = self.notes.write().unwrap_or_else(PoisonError::into_inner);
        for note in notes.list.iter_mut().filter(|note| note.tick <= newest) {
            note.carried_out.get_or_insert(until);
        }
        let pending = notes.list.iter().any(|note| note.carried_out.is_none());
        self.pending.store(pending, Ordering::Release);
    }

    /// Forgets those from before which no copy can come any more.
    pub(super) fn tidy(&self, now: Duration) {
        let mut notes = self.notes.write().unwrap_or_else(PoisonError::into_inner);
        notes.list.retain(|note| note.carried_out.is_none_or(|until| until > now));
    }
}

impl Group {
    /// Makes everything of these scopes absent at once, whatever it costs to remove; nothing that is
    /// on its way from before comes back. With what has to be waited for until nobody holds any
    /// of it. [`Group::carry_out_purges`] has to be called after that.
    pub fn purge(&self, scopes: &[Scope]) -> (Purged, Recall) {
        let (tick, everything) = self.purges.note(scopes, &self.hybrid);
        if everything {
            self.raise_floor(tick);
        }
        let whole = [Scope::Everything];
        let recall = self.fence_purged(if everything { &whole } else { scopes });
        self.purges.fenced(tick);
        (Purged { everything, entries: self.shape().store.entries() }, recall)
    }

    /// Ends what was begun before a purge that has been noted: loads, what was learnt, load tokens and
    /// loans. Which tags a value is going to have that is not here yet nobody knows, so a purge by tag ends
    /// all loads and tokens.
    fn fence_purged(&self, scopes: &[Scope]) -> Recall {
        let (now, store) = (self.clock.monotonic(), Arc::clone(&self.shape().store));
        let may_cover = |key: &str| scopes.iter().any(|scope| scope.may_cover(key));
        let is_purged = |key: &str| {
            // What is lent and not here any more may have had any tag. So may have what was lent before the
            // last write, if holders have not confirmed that yet.
            let held = store.get(self.slots.of(key), key);
            scopes.iter().any(|scope| match &held {
                Some(held) => scope.covers(key, held.tags()),
                None => scope.may_cover(key),
            })
        };
        let mut recalled = Vec::new();
        self.critical.each(|stripe| {
            stripe.flights.fence_where(may_cover);
            stripe.tokens.end_where(may_cover);
            recalled.extend(stripe.loans.call_back_where(self, may_cover, is_purged, now));
        });
        Recall::of(recalled)
    }

    /// Gives back the memory of what was purged; how many entries that were. Walks the whole group: not
    /// for a worker.
    pub fn carry_out_purges(&self) -> usize {
        let mut removed = 0;
        while let Some(newest) = self.purges.newest_pending() {
            // Changes that have begun without knowing of it are over after this, and found below.
            self.critical.each(|_| ());
            removed += self.remove_where(|entry| self.is_hidden(entry));
            let until = self.clock.monotonic() + TOMBSTONE_LIFE;
            self.purges.carried_out(newest, until);
        }
        removed
    }
}

#[cfg(test)]
mod tests;
