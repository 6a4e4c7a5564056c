//! Noticing that this process stood still: stopped, suspended, or starved of its processor.
//!
//! Others may have passed it over meanwhile and written its keys elsewhere, so it must not answer
//! as an owner before it has asked them. A pulse writes down the time again and again; whoever is
//! about to do operations compares that with a real clock. What is then done about it is the
//! business of `node::steadying`.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use common::{clock::Clock, topology::Topology};
use tokio::sync::watch;

/// How often the pulse beats.
pub(crate) const PULSE: Duration = Duration::from_millis(20);
/// A beat that is later than this says that the process stood still.
pub(crate) const LATE: Duration = Duration::from_millis(100);

/// Whether this process has been running all the time. Shared by all its threads.
pub(crate) struct Steadiness {
    clock: Arc<dyn Clock>,
    /// The last beat, in milliseconds.
    beat_ms: AtomicU64,
    /// How often it was found to have stood still, and how many of those are settled.
    found: AtomicU64,
    settled: watch::Sender<u64>,
    settled_up_to: AtomicU64,
    finding: watch::Sender<u64>,
    last: Mutex<Last>,
}

struct Last {
    longest: Duration,
    topology: Arc<Topology>,
}

/// A time that this process stood still, not settled yet.
#[derive(Debug)]
pub(crate) struct Standstill {
    number: u64,
    /// How long it was; of several the longest.
    pub(crate) length: Duration,
    /// The topology from before it.
    pub(crate) before: Arc<Topology>,
}

impl Steadiness {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        let last = Last { longest: Duration::ZERO, topology: Arc::new(Topology::empty()) };
        Self {
            beat_ms: AtomicU64::new(clock.monotonic().as_millis() as u64),
            clock,
            found: AtomicU64::new(0),
            settled: watch::Sender::new(0),
            settled_up_to: AtomicU64::new(0),
            finding: watch::Sender::new(0),
            last: Mutex::new(last),
        }
    }

    /// Whether this process ran until `now`, as the monotonic clock has just said, or has settled
    /// since what happened while it did not.
    pub(crate) fn is_steady(&self, now: Duration) -> bool {
        let now_ms = now.as_millis() as u64;
        if now_ms.saturating_sub(self.beat_ms.load(Ordering::Acquire)) > LATE.as_millis() as u64 {
            self.stood_still(now_ms);
        }
        self.found.load(Ordering::Acquire) == self.settled_up_to.load(Ordering::Acquire)
    }

    /// The same, by a look at the clock.
    pub(crate) fn is_steady_now(&self) -> bool {
        self.is_steady(self.clock.monotonic())
    }

    fn stood_still(&self, now_ms: u64) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let stood =
            Duration::from_millis(now_ms.saturating_sub(self.beat_ms.load(Ordering::Acquire)));
        // Another thread may have been quicker.
        if stood <= LATE {
            return;
        }
        last.longest = last.longest.max(stood);
        let number = self.found.fetch_add(1, Ordering::AcqRel) + 1;
        // After the number: whoever sees this beat sees the number too.
        self.beat_ms.fetch_max(now_ms, Ordering::AcqRel);
        self.finding.send_replace(number);
    }

    /// One beat of the pulse, which is itself the first to notice if nothing else runs.
    pub(crate) fn beat(&self, topology: Arc<Topology>) {
        let now = self.clock.monotonic();
        if self.is_steady(now) {
            self.last.lock().unwrap_or_else(PoisonError::into_inner).topology = topology;
        }
        self.beat_ms.fetch_max(now.as_millis() as u64, Ordering::AcqRel);
    }

    /// Waits until this process has stood still.
    pub(crate) async fn standstill(&self) -> Standstill {
        let mut finding = self.finding.subscribe();
        let settled = || self.settled_up_to.load(Ordering::Acquire);
        // The sender is part of self: this can't fail.
        let _ = finding.wait_for(|number| *number != settled()).await;
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        Standstill {
            number: self.found.load(Ordering::Acquire),
            length: last.longest,
            before: Arc::clone(&last.topology),
        }
    }

    /// What others did meanwhile is known. Not if it stood still again since.
    pub(crate) fn settle(&self, standstill: &Standstill) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if self.found.load(Ordering::Acquire) == standstill.number {
            last.longest = Duration::ZERO;
        }
        drop(last);
        self.settled_up_to.store(standstill.number, Ordering::Release);
        self.settled.send_replace(standstill.number);
    }

    /// Waits until everything is settled.
    pub(crate) async fn steady(&self) {
        let mut settled = self.settled.subscribe();
        // As above.
        let _ = settled.wait_for(|number| *number == self.found.load(Ordering::Acquire)).await;
    }
}

#[cfg(test)]
mod tests {
    use common::clock::ManualClock;

    use super::*;

    fn steadiness() -> (Steadiness, ManualClock) {
        let clock = ManualClock::new();
        (Steadiness::new(Arc::new(clock.clone())), clock)
    }

    fn empty() -> Arc<Topology> {
        Arc::new(Topology::empty())
    }

    #[tokio::test]
    async fn a_late_beat_is_noticed_by_whoever_comes_first_and_stays_until_it_is_settled() {
        let (steady, clock) = steadiness();
        for _ in 0..10 {
            clock.advance(LATE);
            assert!(steady.is_steady_now());
            steady.beat(empty());
        }
        clock.advance(LATE + Duration::from_millis(1));
        assert!(!steady.is_steady_now(), "before the pulse has beaten again");
        steady.beat(empty());
        assert!(!steady.is_steady_now(), "a beat does not settle it");
        let first = steady.standstill().await;
        clock.advance(LATE * 4);
        steady.beat(empty());
        steady.settle(&first);
        assert!(!steady.is_steady_now(), "it has stood still again");
        let second = steady.standstill().await;
        assert_eq!(second.length, LATE * 4);
        steady.settle(&second);
        assert!(steady.is_steady_now());
        steady.steady().await;
    }

    #[tokio::test]
    async fn a_pulse_that_runs_first_says_so_before_it_beats() {
        let (steady, clock) = steadiness();
        clock.advance(LATE * 2);
        steady.beat(empty());
        assert!(!steady.is_steady_now());
        assert_eq!(steady.standstill().await.length, LATE * 2);
    }
}
