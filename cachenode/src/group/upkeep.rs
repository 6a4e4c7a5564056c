//! What has to happen in a group from time to time, though nobody asks for it.
//!
//! Entries that are expired or below a floor are never answered (unless stale ones may be), whether
//! they are swept or not; sweeping gives their memory back before eviction would. The store can only be walked as a whole (about half a microsecond
//! an entry), so a sweep happens seldom and only when something can have expired.

use std::{sync::atomic::Ordering, time::Duration};

use super::Group;

/// How long a group is left alone after a sweep that found everything.
pub const SWEEP_EVERY: Duration = Duration::from_secs(30);

/// Entries that one sweep removes at most; more are left to the next call.
pub const SWEEP_LIMIT: usize = 16_384;

impl Group {
    /// Settles the store's accounts, forgets what need not be remembered any more, and removes
    /// expired entries. To be called every second or so, outside the workers.
    pub fn maintain(&self) {
        self.follow_floors();
        let now = self.clock.monotonic();
        self.critical.tidy(now);
        self.purges.tidy(now);
        if self.sweep_is_due(now) {
            self.sweep(now);
        }
        self.shape().store.run_pending();
    }

    /// Notes when an entry is going to expire.
    pub(super) fn expect_expiry(&self, at_ms: Option<u64>) {
        if let Some(at_ms) = at_ms
            && at_ms < self.first_expiry_ms.load(Ordering::Acquire)
        {
            self.first_expiry_ms.fetch_min(at_ms, Ordering::AcqRel);
        }
    }

    fn sweep_is_due(&self, now: Duration) -> bool {
        let now_ms = now.as_millis() as u64;
        let may_have_expired = !self.shape().definition.idle.is_zero()
            || now_ms >= self.first_expiry_ms.load(Ordering::Acquire);
        may_have_expired && now_ms >= self.next_sweep_ms.load(Ordering::Acquire)
    }

    fn sweep(&self, now: Duration) {
        // Forgotten before the walk, so that an entry which comes in meanwhile is noted.
        self.first_expiry_ms.store(u64::MAX, Ordering::Release);
        let mut first = None;
        let shape = self.shape();
        let expired = shape.store.pick(
            &mut |entry| {
                let is_over = self.is_over(&shape, entry, now);
                if !is_over {
                    first = [first, shape.over_at(entry)].into_iter().flatten().min();
                }
                is_over
            },
            SWEEP_LIMIT,
        );
        for &slot in &expired {
            let _section = self.critical.enter(slot);
            let shape = self.shape();
            shape.store.remove_if(slot, &|entry| self.is_over(&shape, entry, now));
        }
        if expired.len() < SWEEP_LIMIT {
            self.expect_expiry(first);
            let next = now.saturating_add(SWEEP_EVERY);
            self.next_sweep_ms.store(next.as_millis() as u64, Ordering::Release);
        } else {
            self.expect_expiry(Some(0)); // stopped half-way: go on at the next call
        }
    }
}
