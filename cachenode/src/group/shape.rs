//! What of a group follows from its definition, and how that changes while the group lives.
//!
//! A shape is immutable and swapped as a whole, so that whoever reads goes by one definition from
//! beginning to end, without a lock. Who changes a key loads the shape inside the key's critical
//! section: once a shape is in place and every section has been passed through, nobody changes
//! anything by the one before.

use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

use arc_swap::Guard;

use super::{Authority, Definition, Group, chance::Chance};
use crate::{
    origin::Supply,
    store::{Store, Stored},
};

/// For how long after its time an entry is kept that its origin can renew without sending it again.
pub const RENEWABLE_FOR: Duration = Duration::from_secs(300);

pub(super) struct Shape {
    pub(super) definition: Arc<Definition>,
    pub(super) supply: Supply,
    pub(super) store: Arc<dyn Store>,
    /// Whether values may have been lent by this definition or one before it.
    pub(super) may_have_lent: bool,
}

impl Shape {
    pub(super) fn new(definition: Definition) -> Self {
        Self {
            supply: definition.origin.supply(),
            store: definition.eviction.store(definition.capacity),
            may_have_lent: definition.lends(),
            definition: Arc::new(definition),
        }
    }

    /// For how long after its time an entry may be of use. Not what was stored as a stand-in: that lives
    /// so shortly because its owner may have another value.
    pub(super) fn stale_life(&self, entry: &Stored) -> Duration {
        match self.supply {
            Supply::Fixed(_) => Duration::ZERO,
            _ if entry.is_stand_in() => Duration::ZERO,
            // For those who wait while the holder of a load token brings the next value.
            Supply::None => self.definition.stale_while_revalidate,
            Supply::Asked(_) => {
                let renewable =
                    if entry.validator().is_empty() { Duration::ZERO } else { RENEWABLE_FOR };
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
    /// they have; what is stored from now on goes by the new one, and so does the next load. May walk
    /// all entries: not for a worker.
    pub fn define(&self, definition: Definition) {
        let _one_at_a_time = self.defining.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.shape.load_full();
        let definition = Definition { name: self.name.clone(), ..definition };
        if *before.definition == definition {
            return;
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
        let shape = Shape {
            supply: if has_new_origin { definition.origin.supply() } else { before.supply.clone() },
            store: Arc::clone(&before.store),
            may_have_lent: before.may_have_lent || definition.lends(),
            definition: Arc::new(definition),
        };
        self.shape.store(Arc::new(shape));
        // After this nobody changes a key by the old one any more.
        self.critical.each(|stripe| {
            if has_new_origin {
                stripe.flights.fence_all();
                stripe.tokens.end_where(|_| true);
            }
        });
        // Entries may be over earlier than was noted.
        self.expect_expiry(Some(0));
    }

    /// How it is now. To be loaded in the key's critical section by whoever changes a key.
    pub(super) fn shape(&self) -> Guard<Arc<Shape>> {
        self.shape.load()
    }
}
