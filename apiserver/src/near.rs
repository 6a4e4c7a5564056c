//! The near cache: hot values held by a worker under leases from their owners, so that they are never
//! stale (docs/adr/008).
//!
//! Every worker has one of its own, as it has links of its own: what is lent over a worker's link is
//! called back over it. The lock is only ever taken on that worker's thread, except by who lists the
//! hot keys. Where values come from, and what becomes of a read that is not answered here, is the
//! business of `cache`.

mod floors;
mod metrics;
mod sketch;
mod table;

use std::{
    collections::HashSet,
    fmt,
    hash::BuildHasher,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use common::{
    clock::Clock,
    entry::Version,
    link::frame::BULK_OVER,
    near::{Holder, believed},
    route::{Lender, version_of},
    topology::Topologies,
};
use foldhash::fast::RandomState;
use proto::v1;

use self::{
    floors::Floors,
    sketch::Sketch,
    table::{Held, Kept, Rate, Table, Term},
};
pub(crate) use metrics::NearFamilies;
pub use metrics::NearMetrics;

/// Reads, by the sketch's count, from which a key is hot. The count is between once and twice the
/// reads of a lease, so this is about three of them: a held value then spares at least every second
/// read. With Zipf's 0.99 over 10,000 keys and 45,000 reads a second that is two thirds of all reads.
const HOT: u32 = 4;
/// Keys that are remembered for not being lent, at most; about 64 KiB.
const MAX_UNLENT: usize = 4096;

/// One worker's near cache.
pub struct Near {
    state: Mutex<State>,
    hasher: RandomState,
    clock: Arc<dyn Clock>,
    metrics: NearMetrics,
}

struct State {
    sketch: Sketch,
    table: Table,
    floors: Floors,
    /// Reads from which a key is asked for: [`HOT`], and more while there is no room.
    bar: u32,
    /// Keys whose owners would not lend them of late: there is no use in asking at every read.
    unlent: HashSet<u64, RandomState>,
}

/// What a look found.
#[derive(Debug)]
pub enum Look {
    /// A value that may be believed.
    Held(Lent),
    /// Nothing: the owner has to be asked, and if there is a wish, for a loan.
    Ask(Option<Wish>),
}

/// A held value, as of now.
#[derive(Debug)]
pub struct Lent {
    /// The value.
    pub value: Bytes,
    /// Text; empty: `application/octet-stream`.
    pub content_type: Bytes,
    /// Which write made it.
    pub version: Version,
    /// Time since it was stored.
    pub age: Duration,
    /// Time until it expires; `None`: it never does.
    pub ttl: Option<Duration>,
}

/// The wish to hold a key's value.
#[derive(Debug)]
pub struct Wish {
    hash: u64,
    /// Before the owner was asked: what it lends runs from here.
    sent: Duration,
}

/// A key that is held.
#[derive(Debug, PartialEq)]
pub struct HotKey {
    /// Its group.
    pub group: String,
    /// The key.
    pub key: String,
    /// The id of the node that lent it.
    pub owner: String,
    /// About how often it is read here.
    pub reads_per_second: f64,
}

impl fmt::Debug for Near {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Near").finish_non_exhaustive()
    }
}

impl Near {
    /// An empty one for values of so many bytes in all.
    pub fn new(capacity: usize, clock: Arc<dyn Clock>, metrics: NearMetrics) -> Self {
        let state = State {
            sketch: Sketch::new(clock.monotonic()),
            table: Table::new(capacity),
            floors: Floors::default(),
            bar: HOT,
            unlent: HashSet::default(),
        };
        Self { state: Mutex::new(state), hasher: RandomState::default(), clock, metrics }
    }

    fn hash(&self, group: &str, key: &str) -> u64 {
        self.hasher.hash_one((group, key))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a read, and answers it if the key's value is held.
    pub fn look(&self, topologies: &Topologies, group: &str, key: &str) -> Look {
        let hash = self.hash(group, key);
        let mut state = self.lock();
        let State { sketch, table, bar, unlent, .. } = &mut *state;
        // Read here and now: a time from before a standstill would make a lease longer.
        let now = self.clock.monotonic();
        if sketch.turn(now) {
            table.turn(now);
            *bar = (*bar - 1).max(HOT);
            unlent.clear();
            self.metrics.holds(table.len(), table.bytes());
        }
        let reads = sketch.count(hash);
        let is_wanted = reads >= *bar && !unlent.contains(&hash);
        let wish = || Look::Ask(is_wanted.then_some(Wish { hash, sent: now }));
        let Some(held) = table.find(hash, group, key) else { return wish() };
        if now >= held.term.until || !held.lender.is_owner_yet(topologies, group, key) {
            table.remove(hash);
            return wish();
        }
        held.rate.count();
        // One asks again while the others are still answered from here.
        if reads >= HOT && held.term.claim_renewal(now) {
            return Look::Ask(Some(Wish { hash, sent: now }));
        }
        self.metrics.hit();
        Look::Held(held.lent(now))
    }

    /// Holds what `lender` has lent with a reply, if it may be held yet.
    pub fn install(&self, wish: &Wish, group: &str, key: &str, reply: &v1::Reply, lender: Lender) {
        let is_stale = matches!(reply.source(), v1::Source::Stale | v1::Source::Outdated);
        let is_current = !is_stale && !reply.use_bulk;
        if !is_current || reply.value.len() > BULK_OVER {
            return;
        }
        let Wish { hash, sent } = *wish;
        let ttl = (reply.ttl_ms > 0).then(|| Duration::from_millis(reply.ttl_ms));
        let expires = ttl.map(|ttl| sent + ttl);
        let lease = sent + believed(Duration::from_millis(reply.loan_ms.into()));
        let until = expires.map_or(lease, |expires| lease.min(expires));
        let version = version_of(reply);
        let mut state = self.lock();
        let now = self.clock.monotonic();
        if now >= until || !state.floors.admit(hash, version, sent) {
            return;
        }
        let term = Term::new(sent, until);
        if let Some(held) = state.table.find(hash, group, key)
            && held.version >= version
        {
            // A reply that was overtaken by a newer one changes nothing.
            if held.version == version && until > held.term.until {
                (held.term, held.expires, held.lender) = (term, expires, lender);
                self.metrics.renewed();
            }
            return;
        }
        let held = Held {
            hash,
            group: group.into(),
            key: key.into(),
            // Copied: what came with the frame would keep the frame.
            value: Bytes::copy_from_slice(&reply.value),
            content_type: reply.content_type.clone().into(),
            version,
            asked: sent,
            age: Duration::from_millis(reply.age_ms),
            expires,
            lender,
            term,
            rate: Rate::new(state.sketch.estimate(hash), now),
        };
        state.keep(held, &self.metrics);
    }

    /// The wish was not granted: there is no other for the key until the reads are counted anew.
    pub fn not_lent(&self, wish: &Wish) {
        let unlent = &mut self.lock().unlent;
        if unlent.len() < MAX_UNLENT {
            unlent.insert(wish.hash);
        }
    }

    /// The keys that are held now, in no particular order.
    pub fn hot_keys(&self) -> Vec<HotKey> {
        let state = self.lock();
        let now = self.clock.monotonic();
        let valid = state.table.iter().filter(|held| held.term.until > now);
        let hot = valid.map(|held| HotKey {
            group: held.group.to_string(),
            key: held.key.to_string(),
            owner: held.lender.id().to_owned(),
            reads_per_second: held.rate.per_second(now),
        });
        hot.collect()
    }
}

impl State {
    fn keep(&mut self, held: Held, metrics: &NearMetrics) {
        let Self { sketch, table, bar, .. } = self;
        let reads = sketch.estimate(held.hash);
        match table.keep(held, |hash| sketch.estimate(hash)) {
            Kept::Yes { evicted } => {
                metrics.installed();
                metrics.evicted(evicted);
            }
            // To ask for a loan was in vain: the next who asks has to be hotter.
            Kept::NoRoom => *bar = (*bar).max(reads.saturating_add(1)),
            Kept::TooLarge => {}
        }
        metrics.holds(table.len(), table.bytes());
    }
}

impl Holder for Near {
    fn invalidate(&self, invalidate: &v1::Invalidate) {
        let v1::Invalidate { group, key, version_hi, version_lo } = invalidate;
        let version = Version { as_of: *version_hi, clock: *version_lo };
        let hash = self.hash(group, key);
        let mut state = self.lock();
        state.floors.raise(hash, version, self.clock.monotonic());
        self.metrics.invalidated();
        if state.table.find(hash, group, key).is_some_and(|held| held.version < version) {
            state.table.remove(hash);
            self.metrics.holds(state.table.len(), state.table.bytes());
        }
    }
}

impl Held {
    fn lent(&self, now: Duration) -> Lent {
        Lent {
            value: self.value.clone(),
            content_type: self.content_type.clone(),
            version: self.version,
            age: self.age + now.saturating_sub(self.asked),
            ttl: self.expires.map(|expires| expires.saturating_sub(now)),
        }
    }
}

#[cfg(test)]
mod tests;
