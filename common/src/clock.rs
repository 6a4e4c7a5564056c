//! Time, injected: the only place where the machine's clocks are read.
//!
//! Two clocks are enough. The monotonic one counts on while the machine sleeps (CLOCK_BOOTTIME),
//! because leases and budgets must run out during a suspend too; the wall clock is only for
//! people and for the upper half of versions. Timers of the runtime are not made here.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rustix::time::{ClockId, clock_gettime};

/// A source of time. Everything that compares times takes one of these.
pub trait Clock: Send + Sync + 'static {
    /// Time since boot, never going backwards, counting on during a suspend.
    fn monotonic(&self) -> Duration;

    /// Wall-clock time since 1970-01-01T00:00:00Z; it may jump.
    fn unix(&self) -> Duration;
}

/// The machine's own clocks.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn monotonic(&self) -> Duration {
        let now = clock_gettime(ClockId::Boottime);
        Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs() as u32)
    }

    fn unix(&self) -> Duration {
        #[allow(clippy::disallowed_methods)] // the one place that may
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
    }
}

/// A clock that stands still until it is told to move. For tests.
#[derive(Debug, Clone)]
pub struct ManualClock {
    since_start: Arc<AtomicU64>,
}

/// Where a manual clock's wall time starts: 2026-01-01T00:00:00Z.
const MANUAL_EPOCH: Duration = Duration::from_secs(1_767_225_600);

impl ManualClock {
    /// A clock at its starting time.
    pub fn new() -> Self {
        Self { since_start: Arc::new(AtomicU64::new(1_000_000_000)) }
    }

    /// Moves both clocks forward.
    pub fn advance(&self, by: Duration) {
        self.since_start.fetch_add(by.as_nanos() as u64, Ordering::SeqCst);
    }
}

impl Default for ManualClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for ManualClock {
    fn monotonic(&self) -> Duration {
        Duration::from_nanos(self.since_start.load(Ordering::SeqCst))
    }

    fn unix(&self) -> Duration {
        MANUAL_EPOCH + self.monotonic()
    }
}
