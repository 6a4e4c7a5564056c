//! The retry budget: retries stay a fraction of the requests, so that they never make an
//! overload worse, with a floor for quiet times.

use std::sync::{
    Arc,
    atomic::{AtomicI64, AtomicU64, Ordering},
};

use crate::clock::Clock;

/// A request earns this many hundredths of a retry.
const EARNED: i64 = 20;
/// What a retry costs, in the same unit.
const COST: i64 = 100;
/// Retries granted per second even without requests that earned them.
const FLOOR_PER_SECOND: i64 = 20;
/// Retries that can be saved up: enough for every request outstanding on a node that dies.
const MOST_SAVED: i64 = 4096;

/// A token bucket, shared by all workers of a process.
pub struct RetryBudget {
    /// Hundredths of retries.
    saved: AtomicI64,
    /// The second of the clock for which the floor was granted last.
    granted_second: AtomicU64,
    clock: Arc<dyn Clock>,
}

impl RetryBudget {
    /// A full budget.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { saved: AtomicI64::new(MOST_SAVED * COST), granted_second: AtomicU64::new(0), clock }
    }

    /// A request came. A full budget, the usual case, is only read.
    pub(super) fn earned(&self) {
        if self.saved.load(Ordering::Relaxed) < MOST_SAVED * COST {
            self.saved.fetch_add(EARNED, Ordering::Relaxed);
        }
    }

    /// Takes one retry out, if there is one.
    pub(super) fn spend(&self) -> bool {
        self.grant_floor();
        let take = |saved: i64| (saved >= COST).then_some(saved - COST);
        self.saved.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }

    fn grant_floor(&self) {
        let second = self.clock.monotonic().as_secs();
        if self.granted_second.swap(second, Ordering::Relaxed) != second {
            let raise = |saved: i64| Some(saved.max(FLOOR_PER_SECOND * COST));
            let _ = self.saved.fetch_update(Ordering::Relaxed, Ordering::Relaxed, raise);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::ManualClock;

    #[test]
    fn retries_are_a_fraction_of_the_requests() {
        let clock = ManualClock::new();
        let budget = RetryBudget::new(Arc::new(clock.clone()));
        let mut saved = 0;
        while budget.spend() {
            saved += 1;
        }
        assert_eq!(saved, MOST_SAVED);
        (0..10).for_each(|_| budget.earned());
        assert_eq!((0..10).filter(|_| budget.spend()).count(), 2);
        clock.advance(Duration::from_secs(1));
        assert_eq!((0..100).filter(|_| budget.spend()).count(), FLOOR_PER_SECOND as usize);
    }
}
