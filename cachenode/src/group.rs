//! One group on one node: reading and changing its entries, coherently.
//!
//! A hit takes no lock but, for a moment, that of its part of the store. Everything that changes a
//! key runs in that key's critical section, which also judges there whether this node may (see
//! [`Authority`]); versions only ever rise. Nothing here waits or blocks for long, and nothing here
//! knows of gRPC, rings or other nodes.

mod applied;
mod arrival;
mod authority;
mod chance;
mod critical;
mod definition;
mod early;
mod flights;
mod floor;
mod found;
mod generations;
mod loading;
mod loans;
mod purge;
mod shape;
mod stats;
mod tokens;
mod tombstones;
mod upkeep;
mod write;

use std::{
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64},
    },
    time::Duration,
};

use common::{
    clock::Clock,
    entry::{HybridClock, Version},
    key::GroupName,
};
use tokio::sync::Semaphore;

pub use self::{
    applied::{Applied, OpId, REMEMBER_FOR},
    authority::{Authority, STAND_IN_TTL},
    definition::{Definition, Partition},
    flights::{Outcome, Stale, Ticket, Waiting},
    found::{Before, Found, Item, Way},
    loading::{ERROR_LIFE, MAX_WAITING_LOADS},
    loans::{Lending, LentKey},
    purge::{MAX_PURGES, Purged, Scope},
    shape::RENEWABLE_FOR,
    stats::GroupStats,
    tokens::{Leased, TOKEN_LIFE, TOKEN_RETRY},
    tombstones::TOMBSTONE_LIFE,
    upkeep::{SWEEP_EVERY, SWEEP_LIMIT},
    write::{Condition, Copied, Delete, MAX_CONTENT_TYPE_BYTES, Write},
};
use self::{
    arrival::Arrival,
    chance::Chance,
    critical::{Critical, Stripe},
    early::LoadTime,
    floor::Floors,
    loading::Missed,
    purge::Purges,
    shape::{Shape, Shapes},
    stats::Counters,
};
use crate::{
    loans::LoanMetrics,
    origin::{Supply, fixed},
    store::{Slots, Stored},
};

/// A group at work.
pub struct Group {
    name: GroupName,
    shapes: Shapes,
    /// Held by whoever changes the shape.
    defining: Mutex<()>,
    /// Room for loads that are under way or wait for their turn.
    waiting_loads: Arc<Semaphore>,
    slots: Slots,
    critical: Critical,
    clock: Arc<dyn Clock>,
    hybrid: HybridClock,
    chance: Chance,
    load_time: LoadTime,
    counters: Counters,
    floors: Floors,
    purges: Purges,
    /// It is about to go.
    lends_no_more: AtomicBool,
    /// When entries are next looked through for expired ones, in milliseconds.
    next_sweep_ms: AtomicU64,
    /// Nothing expires before this, in milliseconds, unless for want of use.
    first_expiry_ms: AtomicU64,
}

impl Group {
    /// An empty group.
    pub fn new(definition: Definition, clock: Arc<dyn Clock>, hybrid: HybridClock) -> Self {
        Self::counting(definition, clock, hybrid, &LoanMetrics::default())
    }

    /// An empty group whose loans count together with those of others.
    pub fn counting(
        definition: Definition,
        clock: Arc<dyn Clock>,
        hybrid: HybridClock,
        loans: &LoanMetrics,
    ) -> Self {
        Self::with_slots(definition, clock, hybrid, Slots::new(), loans)
    }

    fn with_slots(
        definition: Definition,
        clock: Arc<dyn Clock>,
        hybrid: HybridClock,
        slots: Slots,
        loans: &LoanMetrics,
    ) -> Self {
        // Another hash with a seed nobody knows.
        let seed = Slots::new().of(definition.name.as_str());
        Self {
            name: definition.name.clone(),
            shapes: Shapes::new(definition),
            defining: Mutex::default(),
            waiting_loads: Arc::new(Semaphore::new(MAX_WAITING_LOADS)),
            slots,
            critical: Critical::new(loans),
            clock,
            hybrid,
            chance: Chance::new(seed),
            load_time: LoadTime::default(),
            counters: Counters::default(),
            floors: Floors::default(),
            purges: Purges::default(),
            lends_no_more: AtomicBool::new(false),
            next_sweep_ms: AtomicU64::new(0),
            first_expiry_ms: AtomicU64::new(u64::MAX),
        }
    }

    /// Its name, which never changes.
    pub fn name(&self) -> &GroupName {
        &self.name
    }

    /// Reads a key, loading it from the origin if it is missing. `now` is the monotonic clock's,
    /// read once for many calls if you like. `owned` is asked only when there is something to
    /// load, in the key's critical section; it must not wait, nor call the group.
    ///
    /// # Errors
    /// What `owned` says when the node may not load the key.
    pub fn get<E>(
        &self,
        key: &str,
        now: Duration,
        owned: impl FnOnce() -> Result<Authority, E>,
    ) -> Result<Found, E> {
        self.get_up_to(usize::MAX, key, now, owned)
    }

    /// As [`Group::get`], for a caller that can take values of up to `most` bytes. A larger one is
    /// found as well, but does not count as a hit: it will be read again, and counts then.
    ///
    /// # Errors
    /// As [`Group::get`].
    pub fn get_up_to<E>(
        &self,
        most: usize,
        key: &str,
        now: Duration,
        owned: impl FnOnce() -> Result<Authority, E>,
    ) -> Result<Found, E> {
        self.follow_floors();
        let slot = self.slots.of(key);
        let shape = self.shape();
        let there = shape.store.get(slot, key);
        match there {
            Some(entry) if !self.is_absent(&shape, &entry, now) => {
                let item = self.hit(&shape, entry, most, now);
                if self.is_early(&shape, &item, Duration::ZERO) {
                    return Ok(self.refresh(slot, key, item, now, owned));
                }
                Ok(Found::Hit(item))
            }
            None if matches!(shape.supply, Supply::None) && self.is_current(&shape) => {
                self.counters.misses.add();
                Ok(Found::Absent)
            }
            _ => self.miss(slot, most, key, now, owned),
        }
    }

    /// Whether it asks an origin for what is missing.
    pub fn has_origin(&self) -> bool {
        !matches!(self.shape().supply, Supply::None)
    }

    fn hit(&self, shape: &Shape, entry: Stored, most: usize, now: Duration) -> Item {
        if entry.value_len() <= most {
            self.counters.hits.add();
        }
        if !shape.definition.idle.is_zero() {
            entry.touch(now);
        }
        Item::new(entry, now)
    }

    /// A missing or expired entry, looked at again in the critical section. An origin that answers at
    /// once does so inside it, and needs no fence against writes.
    fn miss<E>(
        &self,
        slot: u64,
        most: usize,
        key: &str,
        now: Duration,
        owned: impl FnOnce() -> Result<Authority, E>,
    ) -> Result<Found, E> {
        let mut stripe = self.critical.enter(slot);
        let shape = self.shape();
        let before = shape.store.get(slot, key);
        if let Some(entry) = &before {
            if !self.is_absent(&shape, entry, now) {
                return Ok(Found::Hit(self.hit(&shape, entry.clone(), most, now)));
            }
            if self.is_over(&shape, entry, now) {
                shape.store.remove_if(slot, &|held| held.is_of(key));
            }
        }
        self.counters.misses.add();
        match &shape.supply {
            Supply::None => Ok(Found::Absent),
            Supply::Asked(source) => {
                let before = before.filter(|entry| !self.is_over(&shape, entry, now));
                let stale = before.clone().map(|it| Stale::new(it, now, &shape.definition));
                let missed = Missed { slot, key, authority: owned()?, now, before, stale };
                Ok(self.wait_for_load(&mut stripe, &shape, source, missed))
            }
            Supply::Fixed(fixed) => {
                let tick = self.hybrid.tick();
                let authority = owned()?;
                let Some(value) = fixed.load(key) else { return Ok(Found::Absent) };
                self.counters.loads.add();
                let arrival = Arrival {
                    tick,
                    slot,
                    key,
                    content_type: fixed::TEXT,
                    tags: "",
                    validator: "",
                    value: value.as_bytes(),
                    ttl: None,
                    known: before.as_ref().map(Stored::version),
                    replaces: false,
                    before: before.map_or(Before::Nothing, |_| Before::Replaced),
                    authority,
                    may_stay: true,
                    now,
                };
                Ok(Found::Loaded(self.arrived(&mut stripe, &shape, &arrival)))
            }
        }
    }

    /// Whether an entry that is stored is not there for anybody: over, or below a floor.
    fn is_absent(&self, shape: &Shape, entry: &Stored, now: Duration) -> bool {
        entry.is_expired(now, shape.definition.idle) || self.is_hidden(entry)
    }

    /// Whether an entry is of no use any more: absent, and too old to be answered instead of nothing.
    fn is_over(&self, shape: &Shape, entry: &Stored, now: Duration) -> bool {
        let then = now.saturating_sub(shape.stale_life(entry));
        entry.is_expired(then, shape.definition.idle) || self.is_hidden(entry)
    }

    /// The version of a change: newer than everything known of the key.
    ///
    /// `tick` was drawn in the key's critical section before anything was looked at: what hides the change (a
    /// purge, a change of the ring, any floor) is either known by then, and seen by those looks, or its
    /// tick is greater. That is still newer than what is known: it was stored in an earlier section, for
    /// which the clock had ticked, or which it had heard of, before. The epoch may be behind, though.
    fn version_at(
        &self,
        tick: u64,
        stripe: &Stripe,
        slot: u64,
        authority: Authority,
        known: Option<Version>,
        now: Duration,
    ) -> Version {
        let known = known.max(stripe.tombstones.newest(slot, now));
        let as_of = known.map_or(0, |known| known.as_of).max(authority.as_of);
        let version = Version { as_of, clock: tick };
        debug_assert!(known < Some(version), "{known:?} is as new as {version:?}");
        version
    }

    /// Stores an entry. Its expiry is noted after that: a sweep then either meets it or hears of it.
    fn keep(&self, shape: &Shape, slot: u64, entry: &Stored, replaces: bool) {
        shape.store.insert(slot, entry.clone(), replaces);
        self.expect_expiry(shape.over_at(entry));
    }
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group")
            .field("definition", &self.shape().definition)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
