//! Loading hot values anew before their time is over, so that nobody waits for them.
//!
//! Every hit near an entry's end draws: it begins a load with a probability that rises the less time is
//! left and the longer loads take (Vattani, Chierichetti, Lowenstein: Optimal probabilistic cache
//! stampede prevention, 2015). A key that is read often is so as good as certain to be loaded in time;
//! one that is read seldom is left to expire. How long loads take is known of the group as a whole: of
//! every entry it would cost memory, and an origin is about as fast for all its keys.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use super::{
    Authority, Found, Group, Item, Waiting, critical::Stripe, flights::Stale, loading::Missed,
    shape::Shape,
};
use crate::{origin::Supply, store::Stored};

/// No draw means more than so many times how long a load takes: it would be one of nine million.
const MOST: f64 = 16.0;
/// What one load counts in the mean.
const WEIGHT: u64 = 8;
/// `early_refresh` of 1.
const USUAL: f64 = 1000.0;

/// How long a group's loads take.
#[derive(Debug, Default)]
pub(super) struct LoadTime(AtomicU64);

impl LoadTime {
    /// A load took so long.
    pub(super) fn took(&self, time: Duration) {
        let us = time.as_micros() as u64;
        let mean = |before: u64| match before {
            0 => us,
            _ => (before * (WEIGHT - 1)).saturating_add(us) / WEIGHT,
        };
        let keep = |before| Some(mean(before));
        // It never says no.
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, keep);
    }

    fn mean(&self) -> Duration {
        Duration::from_micros(self.0.load(Ordering::Relaxed))
    }
}

impl Group {
    /// Whether a value that is there had better be loaded anew by the one who reads it. `until` is for
    /// how long others will not ask for it again, as they hold it.
    #[inline]
    pub(super) fn is_early(&self, shape: &Shape, item: &Item, until: Duration) -> bool {
        let earliness = shape.definition.early_refresh;
        if earliness == 0 || item.entry.is_stand_in() {
            return false;
        }
        let (Some(left), Supply::Asked(_)) = (item.times.ttl_left(), &shape.supply) else {
            return false;
        };
        let (left, unit) = (
            left.saturating_sub(until),
            self.load_time.mean().mul_f64(f64::from(earliness) / USUAL),
        );
        left < unit.mul_f64(MOST) && left <= unit.mul_f64((-self.chance.draw().ln()).min(MOST))
    }

    /// Reads a value of which it [is time](Group::is_early) to load it anew: begins that, unless somebody
    /// was faster, or the origin has just failed, or this node may not. The value is answered in any case.
    pub(super) fn refresh<E>(
        &self,
        slot: u64,
        key: &str,
        item: Item,
        now: Duration,
        owned: impl FnOnce() -> Result<Authority, E>,
    ) -> Found {
        let mut stripe = self.critical.enter(slot);
        let shape = self.shape();
        let before = shape.store.get(slot, key);
        let is_it = |entry: &Stored| {
            entry.version() == item.entry.version()
                && entry.times(now).ttl_left() == item.times.ttl_left()
        };
        if !before.as_ref().is_some_and(is_it) {
            return Found::Hit(item);
        }
        let Ok(authority) = owned() else { return Found::Hit(item) };
        let stale = Some(Stale::early(item.clone()));
        let missed = Missed { slot, key, authority, now, before, stale };
        let begun = self.begin_early(&mut stripe, &shape, missed);
        begun.map_or(Found::Hit(item), Found::Waiting)
    }

    /// Begins such a load, if it may begin, in the key's critical section.
    pub(super) fn begin_early(
        &self,
        stripe: &mut Stripe,
        shape: &Shape,
        missed: Missed<'_>,
    ) -> Option<Waiting> {
        let Supply::Asked(source) = &shape.supply else { return None };
        let is_known = stripe.flights.known(missed.key, missed.now).is_some();
        if is_known || stripe.flights.of(missed.key).is_some() {
            return None;
        }
        let Found::Waiting(waiting) = self.wait_for_load(stripe, shape, source, missed) else {
            return None;
        };
        self.counters.early_loads.add();
        Some(waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_follows_the_loads() {
        let time = LoadTime::default();
        time.took(Duration::from_millis(8));
        assert_eq!(time.mean(), Duration::from_millis(8), "the first one counts as it is");
        time.took(Duration::from_millis(16));
        assert_eq!(time.mean(), Duration::from_millis(9));
        for _ in 0..100 {
            time.took(Duration::from_millis(1));
        }
        assert!(time.mean() < Duration::from_micros(1100), "{:?}", time.mean());
    }
}
