//! What of a group follows from its definition, and how that changes while the group lives.
//!
//! A shape is immutable and swapped as a whole, so that whoever reads goes by one definition from
//! beginning to end, without a lock. Who changes a key loads the shape inside the key's critical
//! section: once a shape is in place and every section has been passed through, nobody changes
//! anything by the one before. A group that never changes does not pay for that it could: its first
//! shape is simply there.

use std::{
    ops::Deref,
    sync::{
        Arc, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::{ArcSwap, Guard};

use super::{Authority, Definition, Group, chance::Chance};
use crate::{
    origin::Supply,
    store::{Moving, Store, Stored},
};

/// For how long after its time an entry is kept that its origin can renew without sending it again.
pub const RENEWABLE_FOR: Duration = Duration::from_secs(300);

/// Later than any tick.
const NOT_YET: u64 = u64::MAX;

pub(super) struct Shape {
    pub(super) definition: Arc<Definition>,
    pub(super) supply: Supply,
    /// The tick since which its origin is the only one that values come from: what is older may be another
    /// one's, and this one knows nothing of it. [`NOT_YET`] while loads of the former one may still end.
    origin_since: Arc<AtomicU64>,
    pub(super) store: Arc<dyn Store>,
    /// The same store, while entries are moved into the one that the definition asks for.
    moving: Option<Arc<Moving>>,
    /// What stores that the group had before have thrown out.
    pub(super) evicted_before: u64,
    /// Whether values may have been lent by this definition or one before it.
    pub(super) may_have_lent: bool,
}

/// The shape of a group as it is and was.
pub(super) struct Shapes {
    first: Arc<Shape>,
    /// The last one, once there was another.
    later: OnceLock<ArcSwap<Shape>>,
}

/// A shape that was loaded.
pub(super) enum Current<'a> {
    First(&'a Arc<Shape>),
    Later(Guard<Arc<Shape>>),
}

impl Deref for Current<'_> {
    type Target = Arc<Shape>;

    fn deref(&self) -> &Arc<Shape> {
        match self {
            Self::First(shape) => shape,
            Self::Later(shape) => shape,
        }
    }
}

impl Shapes {
    pub(super) fn new(definition: Definition) -> Self {
        Self { first: Arc::new(Shape::new(definition)), later: OnceLock::new() }
    }

    fn load(&self) -> Current<'_> {
        match self.later.get() {
            None => Current::First(&self.first),
            Some(later) => Current::Later(later.load()),
        }
    }

    fn store(&self, shape: Shape) {
        let shape = Arc::new(shape);
        self.later.get_or_init(|| ArcSwap::new(Arc::clone(&shape))).store(shape);
    }
}

impl Shape {
    fn new(definition: Definition) -> Self {
        Self {
            supply: definition.origin.supply(),
            origin_since: Arc::default(),
            store: definition.eviction.store(definition.capacity),
            moving: None,
            evicted_before: 0,
            may_have_lent: definition.lends(),
            definition: Arc::new(definition),
        }
    }

    /// The shape by another definition.
    fn redefined(&self, definition: Definition, has_new_origin: bool) -> Self {
        let is_as_before = self.definition.eviction == definition.eviction
            && self.definition.capacity == definition.capacity;
        let (store, moving) = if is_as_before {
            (Arc::clone(&self.store), self.moving.clone())
        } else {
            let (eviction, capacity) = (definition.eviction, definition.capacity);
            let moving = Moving::new(Arc::clone(&self.store), eviction, capacity);
            (Arc::clone(&moving) as Arc<dyn Store>, Some(moving))
        };
        let (supply, origin_since) = if has_new_origin {
            (definition.origin.supply(), Arc::new(AtomicU64::new(NOT_YET)))
        } else {
            (self.supply.clone(), Arc::clone(&self.origin_since))
        };
        Self {
            supply,
            origin_since,
            store,
            moving,
            evicted_before: self.evicted_before,
            may_have_lent: self.may_have_lent || definition.lends(),
            definition: Arc::new(definition),
        }
    }

    /// Whether the origin can be asked if an entry is still true: it has something to recognise it by,
    /// and that is not from another origin.
    pub(super) fn can_renew(&self, entry: &Stored) -> bool {
        let since = || self.origin_since.load(Ordering::Acquire);
        !entry.validator().is_empty() && entry.version().clock >= since()
    }

    /// For how long after its time an entry may be of use. Not what was stored as a stand-in: that lives
    /// so shortly because its owner may have another value. Nor what its origin does not have any more.
    pub(super) fn stale_life(&self, entry: &Stored) -> Duration {
        match self.supply {
            Supply::Fixed(_) => Duration::ZERO,
            _ if entry.is_stand_in() || entry.is_last() => Duration::ZERO,
            // For those who wait while the holder of a load token brings the next value.
            Supply::None => self.definition.stale_while_revalidate,
            Supply::Asked(_) => {
                let renewable = if self.can_renew(entry) { RENEWABLE_FOR } else { Duration::ZERO };
                let Definition { stale_while_revalidate, stale_if_error, .. } = *self.definition;
                stale_while_revalidate.max(stale_if_error).max(renewable)
            }
        }
    }

    /// When an entry is of no use any more unless it is written again, in milliseconds.
    pub(super) fn over_at(&self, entry: &Stored) -> Option<u64> {
        let stale_ms = self.stale_life(entry).as_millis() as u64;
        entry.expires_at(Duration::ZERO).map(|at_ms| at_ms.saturating_add(stale_ms))
    }

    /// When an entry expires that asks for `ttl`, or for nothing.
    pub(super) fn expires(
        &self,
        ttl: Option<Duration>,
        authority: Authority,
        now: Duration,
        chance: &Chance,
    ) -> Option<Duration> {
        let wanted = ttl.filter(|ttl| !ttl.is_zero()).unwrap_or_else(|| self.own_ttl(chance));
        let wanted = Some(wanted).filter(|ttl| !ttl.is_zero());
        let ttl = wanted.into_iter().chain(authority.ttl_cap).min()?;
        Some(now.saturating_add(ttl.max(Duration::from_millis(1))))
    }
}

impl Shape {
    /// The lifetime of an entry that came without one.
    fn own_ttl(&self, chance: &Chance) -> Duration {
        let Definition { ttl, ttl_jitter, .. } = *self.definition;
        if ttl.is_zero() || ttl_jitter == 0 {
            return ttl;
        }
        ttl.mul_f64((f64::from(ttl_jitter) / 1000.0).mul_add(chance.swing(), 1.0))
    }
}

impl Group {
    /// What it is at present.
    pub fn definition(&self) -> Arc<Definition> {
        Arc::clone(&self.shape().definition)
    }

    /// Takes on another definition; the name stays. Entries stay as well, with the time to live that
    /// they have; what is stored from now on goes by the new one, and so does the next load. True: the
    /// entries have to be moved, by [`Group::move_entries`]. Waits for a move that is under way, and may
    /// walk all entries: not for a worker.
    pub fn define(&self, definition: Definition) -> bool {
        let _one_at_a_time = self.defining.lock().unwrap_or_else(PoisonError::into_inner);
        let before = Arc::clone(&self.shape());
        let definition = Definition { name: self.name.clone(), ..definition };
        if *before.definition == definition {
            return before.moving.is_some();
        }
        if before.definition.idle.is_zero() && !definition.idle.is_zero() {
            // Until now nobody noted when they were read.
            let now = self.clock.monotonic();
            let mut touch = |entry: &Stored| {
                entry.touch(now);
                false
            };
            before.store.pick(&mut touch, usize::MAX);
        }
        let has_new_origin = before.definition.origin != definition.origin;
        let shape = before.redefined(definition, has_new_origin);
        let (is_moving, origin_since) = (shape.moving.is_some(), Arc::clone(&shape.origin_since));
        self.shapes.store(shape);
        // After this nobody changes a key by the old one any more.
        self.critical.each(|stripe| {
            if has_new_origin {
                stripe.flights.fence_all();
                stripe.tokens.end_where(|_| true);
            }
        });
        if has_new_origin {
            // Loads of the former one store nothing from here on, and what they have stored is older.
            origin_since.store(self.hybrid.tick(), Ordering::Release);
        }
        // Entries may be over earlier than was noted.
        self.expect_expiry(Some(0));
        is_moving
    }

    /// Moves the entries into the store that the definition asks for, if they are in another one. Walks
    /// all of them: not for a worker.
    pub fn move_entries(&self) {
        let _one_at_a_time = self.defining.lock().unwrap_or_else(PoisonError::into_inner);
        let shape = Arc::clone(&self.shape());
        let Some(moving) = &shape.moving else { return };
        loop {
            let slots = moving.slots();
            if slots.is_empty() {
                break;
            }
            for slot in slots {
                let _section = self.critical.enter(slot);
                moving.step(slot);
            }
        }
        let done = Shape {
            store: moving.new_store(),
            moving: None,
            evicted_before: shape.evicted_before + moving.old_evictions(),
            definition: Arc::clone(&shape.definition),
            supply: shape.supply.clone(),
            origin_since: Arc::clone(&shape.origin_since),
            may_have_lent: shape.may_have_lent,
        };
        self.shapes.store(done);
    }

    /// How it is now. To be loaded in the key's critical section by whoever changes a key.
    pub(super) fn shape(&self) -> Current<'_> {
        self.shapes.load()
    }

    /// Whether it still is like that: what is not in its store may have been moved otherwise.
    pub(super) fn is_current(&self, shape: &Arc<Shape>) -> bool {
        Arc::ptr_eq(&self.shape(), shape)
    }
}
