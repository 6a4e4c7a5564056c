//! One group on one node: reading and changing its entries, coherently.
//!
//! A hit takes no lock but, for a moment, that of its part of the store. Everything that changes a
//! key runs in that key's critical section, which also judges there whether this node may (see
//! [`Authority`]); versions only ever rise. Nothing here waits or blocks for long, and nothing here
//! knows of gRPC, rings or other nodes.

mod applied;
mod critical;
mod flights;
mod floor;
mod generations;
mod loading;
mod loans;
mod purge;
mod stats;
mod tokens;
mod tombstones;
mod upkeep;
mod write;

use std::{fmt, sync::Arc, sync::atomic::AtomicU64, time::Duration};

use common::{
    clock::Clock,
    entry::{HybridClock, Version},
    error::Error,
    key::GroupName,
};

pub use self::{
    applied::{Applied, OpId, REMEMBER_FOR},
    flights::{Outcome, Stale, Ticket, Waiting},
    loading::{ERROR_LIFE, MAX_WAITING_LOADS},
    loans::LentKey,
    purge::{MAX_PURGES, Purged, Scope},
    stats::GroupStats,
    tokens::{Leased, TOKEN_LIFE, TOKEN_RETRY},
    tombstones::TOMBSTONE_LIFE,
    upkeep::{SWEEP_EVERY, SWEEP_LIMIT},
    write::{Condition, Copied, Delete, MAX_CONTENT_TYPE_BYTES, Write},
};
use tokio::sync::Semaphore;

use self::{
    critical::{Critical, Stripe},
    floor::Floors,
    purge::Purges,
    stats::Counters,
};
use crate::{
    loans::LoanMetrics,
    origin::{OriginDefinition, Supply, fixed},
    store::{Eviction, NewEntry, Slots, Store, Stored},
};

/// What is written while standing in for an unreachable owner lives no longer than this.
pub const STAND_IN_TTL: Duration = Duration::from_secs(10);

/// What a node does for a key whose owner neither the sender nor itself can reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Partition {
    /// It stands in: reads and writes go on, and the owner is told of the writes later.
    #[default]
    Available,
    /// It refuses.
    Strict,
}

/// What a group is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Definition {
    /// Its name.
    pub name: GroupName,
    /// Resident bytes it may use on this node.
    pub capacity: u64,
    /// How long entries live that don't say otherwise; zero: for ever.
    pub ttl: Duration,
    /// How long entries live without being read; zero: this does not matter.
    pub idle: Duration,
    /// Who goes when it is full.
    pub eviction: Eviction,
    /// The largest value in bytes.
    pub max_value: u64,
    /// What to do for keys whose owner can't be reached.
    pub partition: Partition,
    /// Whether gateways may hold its hot values for a while.
    pub near: bool,
    /// Where missing values come from.
    pub origin: OriginDefinition,
    /// How long it is remembered that an origin which is asked has no value; zero: not at all.
    pub negative_ttl: Duration,
    /// For how long after its time an entry is answered, while its origin is asked for the next reader.
    pub stale_while_revalidate: Duration,
    /// For how long after its time an entry is answered if its origin fails, or is too late.
    pub stale_if_error: Duration,
}

impl Definition {
    /// A group with 64 MiB, values of at most 1 MiB, LRU, no time to live and no origin.
    pub fn new(name: GroupName) -> Self {
        Self {
            name,
            capacity: 64 << 20,
            ttl: Duration::ZERO,
            idle: Duration::ZERO,
            eviction: Eviction::default(),
            max_value: 1 << 20,
            partition: Partition::default(),
            near: true,
            origin: OriginDefinition::None,
            negative_ttl: Duration::from_secs(1),
            stale_while_revalidate: Duration::ZERO,
            stale_if_error: Duration::ZERO,
        }
    }
}

/// By what right this node changes a key. Asked for inside the key's critical section, when the
/// change applies: by then the key may have another owner than when the request came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Authority {
    /// The `as_of` of the epoch in which it does.
    pub as_of: u64,
    /// The longest an entry made this way may live.
    pub ttl_cap: Option<Duration>,
}

impl Authority {
    /// The node owns the key.
    pub fn owner(as_of: u64) -> Self {
        Self { as_of, ttl_cap: None }
    }

    /// The node stands in for an owner that can't be reached.
    pub fn stand_in(as_of: u64) -> Self {
        Self { as_of, ttl_cap: Some(STAND_IN_TTL) }
    }

    /// Whether it is that of a stand-in.
    pub fn is_stand_in(self) -> bool {
        self.ttl_cap.is_some()
    }
}

/// What a read found.
#[derive(Debug)]
pub enum Found {
    /// An entry that was there.
    Hit(Item),
    /// An entry that the origin had.
    Loaded(Item),
    /// Nothing, here or at the origin.
    Absent,
    /// An entry whose time is over; the origin has just failed.
    Stale(Item),
    /// Nothing here, or what is [stale](Waiting::stale); the origin is being asked.
    Waiting(Waiting),
    /// Nothing here, and the origin can't be asked or has just failed.
    Failed(Error),
}

impl Found {
    /// What there is, wherever it came from.
    pub fn item(self) -> Option<Item> {
        match self {
            Self::Hit(item) | Self::Loaded(item) | Self::Stale(item) => Some(item),
            Self::Absent | Self::Waiting(_) | Self::Failed(_) => None,
        }
    }
}

/// An entry as it was at one moment.
#[derive(Debug, Clone)]
pub struct Item {
    /// Value, content type and version.
    pub entry: Stored,
    /// Time since it was stored.
    pub age: Duration,
    /// Time until it expires; `None`: it never does.
    pub ttl_left: Option<Duration>,
}

impl Item {
    fn new(entry: Stored, now: Duration) -> Self {
        Self { age: entry.age(now), ttl_left: entry.ttl_left(now), entry }
    }
}

/// A group at work.
pub struct Group {
    definition: Definition,
    supply: Supply,
    /// Room for loads that are under way or wait for their turn, and how many have theirs.
    waiting_loads: Arc<Semaphore>,
    loads: Semaphore,
    store: Box<dyn Store>,
    slots: Slots,
    critical: Critical,
    clock: Arc<dyn Clock>,
    hybrid: HybridClock,
    counters: Counters,
    floors: Floors,
    purges: Purges,
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
        let supply = definition.origin.supply();
        let loads = match &supply {
            Supply::Asked(asked) => asked.max_loads,
            Supply::None | Supply::Fixed(_) => 0,
        };
        Self {
            supply,
            waiting_loads: Arc::new(Semaphore::new(MAX_WAITING_LOADS)),
            loads: Semaphore::new(loads),
            store: definition.eviction.store(definition.capacity),
            slots,
            critical: Critical::new(loans),
            clock,
            hybrid,
            counters: Counters::default(),
            floors: Floors::default(),
            purges: Purges::default(),
            next_sweep_ms: AtomicU64::new(0),
            first_expiry_ms: AtomicU64::new(u64::MAX),
            definition,
        }
    }

    /// What it is.
    pub fn definition(&self) -> &Definition {
        &self.definition
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
        let there = self.store.get(slot, key);
        match there {
            Some(entry) if !self.is_absent(&entry, now) => {
                Ok(Found::Hit(self.hit(entry, most, now)))
            }
            None if matches!(self.supply, Supply::None) => {
                self.counters.misses.add();
                Ok(Found::Absent)
            }
            _ => self.miss(slot, most, key, now, owned),
        }
    }

    /// Whether it asks an origin for what is missing.
    pub fn has_origin(&self) -> bool {
        !matches!(self.supply, Supply::None)
    }

    fn hit(&self, entry: Stored, most: usize, now: Duration) -> Item {
        if entry.value_len() <= most {
            self.counters.hits.add();
        }
        if !self.definition.idle.is_zero() {
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
        let before = self.store.get(slot, key);
        if let Some(entry) = &before {
            if !self.is_absent(entry, now) {
                return Ok(Found::Hit(self.hit(entry.clone(), most, now)));
            }
            if self.is_over(entry, now) {
                self.store.remove_if(slot, &|held| held.is_of(key));
            }
        }
        self.counters.misses.add();
        let fixed = match &self.supply {
            Supply::None => return Ok(Found::Absent),
            Supply::Fixed(fixed) => fixed,
            Supply::Asked(_) => {
                let stale = before.filter(|entry| !self.is_over(entry, now));
                let stale = stale.map(|entry| Stale::new(entry, now, &self.definition));
                return Ok(self.wait_for_load(&mut stripe, slot, key, owned()?, now, stale));
            }
        };
        let authority = owned()?;
        let version = self.next_version(&stripe, slot, authority, before.as_ref(), now);
        let Some(value) = fixed.load(key) else {
            return Ok(Found::Absent);
        };
        self.counters.loads.add();
        let entry = NewEntry {
            key,
            content_type: fixed::TEXT,
            value: value.as_bytes(),
            version,
            stored: now,
            expires: self.expires(None, authority, now),
            is_stand_in: authority.is_stand_in(),
            now,
            ..NewEntry::default()
        };
        // The operator chose the origin's values: one that is too large to keep is still answered.
        let kept = self.check(&entry).is_ok();
        let entry = Stored::new(&entry);
        if kept {
            self.keep(slot, &entry, false);
        }
        // A read waits for nobody; the next write waits for these too.
        stripe.loans.call_back(self, key, version, now);
        Ok(Found::Loaded(Item::new(entry, now)))
    }

    /// Whether an entry that is stored is not there for anybody: over, or below a floor.
    fn is_absent(&self, entry: &Stored, now: Duration) -> bool {
        entry.is_expired(now, self.definition.idle) || self.is_hidden(entry)
    }

    /// Whether an entry is of no use any more: absent, and too old to be answered instead of nothing.
    fn is_over(&self, entry: &Stored, now: Duration) -> bool {
        let then = now.saturating_sub(self.stale_life(entry));
        entry.is_expired(then, self.definition.idle) || self.is_hidden(entry)
    }

    /// For how long after its time an entry may be of use. Not what was stored as a stand-in: that lives
    /// so shortly because its owner may have another value.
    fn stale_life(&self, entry: &Stored) -> Duration {
        match self.supply {
            Supply::Fixed(_) => Duration::ZERO,
            _ if entry.is_stand_in() => Duration::ZERO,
            // For those who wait while the holder of a load token brings the next value.
            Supply::None => self.definition.stale_while_revalidate,
            Supply::Asked(_) => {
                self.definition.stale_while_revalidate.max(self.definition.stale_if_error)
            }
        }
    }

    /// When an entry expires that asks for `ttl`, or for nothing.
    fn expires(
        &self,
        ttl: Option<Duration>,
        authority: Authority,
        now: Duration,
    ) -> Option<Duration> {
        let wanted = ttl.filter(|ttl| !ttl.is_zero()).unwrap_or(self.definition.ttl);
        let wanted = Some(wanted).filter(|ttl| !ttl.is_zero());
        let ttl = wanted.into_iter().chain(authority.ttl_cap).min()?;
        Some(now.saturating_add(ttl.max(Duration::from_millis(1))))
    }

    /// A version newer than everything known of the key.
    fn next_version(
        &self,
        stripe: &Stripe,
        slot: u64,
        authority: Authority,
        before: Option<&Stored>,
        now: Duration,
    ) -> Version {
        let known = before.map(Stored::version).max(stripe.tombstones.newest(slot, now));
        // The clock has ticked for or heard of all of these already, the epoch may be behind them.
        let as_of = known.map_or(0, |known| known.as_of).max(authority.as_of);
        Version { as_of, clock: self.hybrid.tick() }
    }

    /// Stores an entry. Its expiry is noted after that: a sweep then either meets it or hears of it.
    fn keep(&self, slot: u64, entry: &Stored, replaces: bool) {
        self.store.insert(slot, entry.clone(), replaces);
        self.expect_expiry(self.over_at(entry));
    }
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group").field("definition", &self.definition).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
