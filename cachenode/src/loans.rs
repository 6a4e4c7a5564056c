//! What a node has lent to near caches, seen from outside the groups: who holds something, how a
//! holder is told that it must not any more, and what a write waits for.
//!
//! The loans themselves lie with their keys, in the critical sections (`group::loans`). A loan ends
//! when its holder has confirmed an invalidation or when its time is over by this node's clock,
//! whichever comes first; nothing here needs the holder to live (docs/adr/008).

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use common::{clock::Clock, entry::Version, key::GroupName, near::LEASE};
use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge},
    registry::Registry,
};
use tokio::{
    sync::{Notify, futures::Notified, mpsc, watch},
    time::{sleep, timeout},
};

/// Loans of a node that have not been forgotten yet, at most; beyond that nothing more is lent.
pub const MAX_LOANS: usize = 65_536;
/// Invalidations of a holder that have not been written to its stream yet; one more, and the stream
/// is closed, so that its loans run out.
pub const MAX_INVALIDATIONS: usize = 4096;

/// What a node lends, in numbers. Clones count together.
#[derive(Debug, Clone, Default)]
pub struct LoanMetrics {
    given: Counter,
    outstanding: Gauge,
    refused: Counter,
    invalidations: Counter,
    delayed: Counter,
    delayed_for: Counter<f64, AtomicU64>,
}

impl LoanMetrics {
    /// Makes them visible.
    pub(crate) fn register(&self, registry: &mut Registry) {
        let mut counter = |name: &str, help: &str, counter: &Counter| {
            registry.register(name, help, counter.clone())
        };
        counter("ringway_loans", "Values lent to near caches", &self.given);
        counter("ringway_loans_refused", "Values not lent for want of room", &self.refused);
        counter("ringway_invalidations", "Loans called back by a write", &self.invalidations);
        counter("ringway_writes_delayed", "Writes that waited for holders", &self.delayed);
        registry.register(
            "ringway_write_delay_seconds",
            "How long they waited, all together",
            self.delayed_for.clone(),
        );
        registry.register(
            "ringway_loans_outstanding",
            "Loans that have not been forgotten yet",
            self.outstanding.clone(),
        );
    }

    /// Loans that have not been forgotten yet.
    pub fn outstanding(&self) -> u64 {
        self.outstanding.get() as u64
    }

    pub(crate) fn has_room(&self) -> bool {
        self.outstanding() < MAX_LOANS as u64
    }

    pub(crate) fn lent(&self) {
        self.given.inc();
        self.outstanding.inc();
    }

    pub(crate) fn renewed(&self) {
        self.given.inc();
    }

    pub(crate) fn refused(&self) {
        self.refused.inc();
    }

    pub(crate) fn called_back(&self) {
        self.invalidations.inc();
    }

    pub(crate) fn forgotten(&self, loans: usize) {
        self.outstanding.dec_by(loans as i64);
    }
}

/// Somebody who holds what was lent: one stream of a gateway's worker.
#[derive(Debug)]
pub struct Holder {
    invalidations: mpsc::Sender<Invalidation>,
    overflowed: AtomicBool,
}

/// What a holder has to be told.
#[derive(Debug)]
pub struct Invalidation {
    /// The group of the key that was written.
    pub group: GroupName,
    /// The key.
    pub key: Box<str>,
    /// Nothing older may be held.
    pub version: Version,
    /// To be told when the holder has confirmed.
    pub recalled: Arc<Recalled>,
}

impl Holder {
    /// A holder, and where its invalidations come out.
    pub fn new() -> (Arc<Self>, mpsc::Receiver<Invalidation>) {
        let (invalidations, queue) = mpsc::channel(MAX_INVALIDATIONS);
        (Arc::new(Self { invalidations, overflowed: AtomicBool::new(false) }), queue)
    }

    /// Whether it takes its invalidations too slowly: its stream is to be closed.
    pub fn is_overflowed(&self) -> bool {
        self.overflowed.load(Ordering::Acquire)
    }

    /// Tells it; never waits. A holder that can't be told keeps its loan until that runs out.
    pub(crate) fn tell(&self, invalidation: Invalidation) {
        if let Err(mpsc::error::TrySendError::Full(_)) = self.invalidations.try_send(invalidation) {
            self.overflowed.store(true, Ordering::Release);
        }
    }

    /// Tells it unless it has much to take already: for what concerns many keys at once, and may as well
    /// run out, so that the room for what writes have to tell is left.
    pub(crate) fn tell_if_idle(&self, invalidation: Invalidation) {
        if self.invalidations.capacity() > MAX_INVALIDATIONS / 2 {
            self.tell(invalidation);
        }
    }
}

/// A loan that was called back.
#[derive(Debug)]
pub struct Recalled {
    /// When it runs out, by the node's monotonic clock.
    until: Duration,
    is_confirmed: AtomicBool,
    confirmed: Notify,
}

impl Recalled {
    pub(crate) fn new(until: Duration) -> Arc<Self> {
        let (is_confirmed, confirmed) = (AtomicBool::new(false), Notify::new());
        Arc::new(Self { until, is_confirmed, confirmed })
    }

    /// The holder does not hold it any more.
    pub fn confirm(&self) {
        self.is_confirmed.store(true, Ordering::Release);
        self.confirmed.notify_waiters();
    }

    /// Whether it is over.
    pub fn is_over(&self, now: Duration) -> bool {
        self.is_confirmed.load(Ordering::Acquire) || self.until <= now
    }

    /// Waits until it is over.
    async fn over(&self, clock: &dyn Clock) {
        loop {
            // Before the look: what comes after it is not missed.
            let confirmed: Notified<'_> = self.confirmed.notified();
            let now = clock.monotonic();
            if self.is_over(now) {
                return;
            }
            // The timer may run ahead of the clock; the clock decides.
            let _ = timeout(self.until - now, confirmed).await;
        }
    }
}

/// What a write has to wait for before it is acknowledged.
#[derive(Debug, Default)]
#[must_use]
pub struct Recall {
    loans: Vec<Arc<Recalled>>,
    not_before: Duration,
    /// Moments that are not known yet.
    after: Vec<watch::Receiver<Option<Duration>>>,
}

impl Recall {
    pub(crate) fn of(loans: Vec<Arc<Recalled>>) -> Self {
        Self { loans, ..Self::default() }
    }

    /// And for this moment of the node's monotonic clock.
    pub fn not_before(&mut self, at: Duration) {
        self.not_before = self.not_before.max(at);
    }

    /// And for a moment of that clock which is not known yet.
    pub(crate) fn and_after(&mut self, moment: watch::Receiver<Option<Duration>>) {
        self.after.push(moment);
    }

    /// And for what another one waits for.
    pub fn and(&mut self, other: Self) {
        self.loans.extend(other.loans);
        self.after.extend(other.after);
        self.not_before(other.not_before);
    }

    /// Whether there is nothing to wait for.
    pub fn is_over(&self, now: Duration) -> bool {
        let is_past = |moment: &watch::Receiver<Option<Duration>>| {
            moment.borrow().is_some_and(|at| at <= now)
        };
        self.not_before <= now
            && self.loans.iter().all(|loan| loan.is_over(now))
            && self.after.iter().all(is_past)
    }

    /// Waits until no holder can believe an older value any more. Dropping the future ends only the
    /// waiting.
    pub async fn over(&self, clock: &dyn Clock, metrics: &LoanMetrics) {
        let began = clock.monotonic();
        for loan in &self.loans {
            loan.over(clock).await;
        }
        let mut not_before = self.not_before;
        for moment in &self.after {
            let known = moment.clone().wait_for(Option::is_some).await.ok().and_then(|at| *at);
            // Nobody will say when: the node is stopping, and what is lent runs out.
            not_before = not_before.max(known.unwrap_or_else(|| clock.monotonic() + LEASE));
        }
        loop {
            let left = not_before.saturating_sub(clock.monotonic());
            if left.is_zero() {
                break;
            }
            sleep(left).await;
        }
        metrics.delayed.inc();
        metrics.delayed_for.inc_by(clock.monotonic().saturating_sub(began).as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use common::clock::ManualClock;
    use tokio::task::yield_now;

    use super::*;

    const LATER: Duration = Duration::from_millis(250);

    fn recall(clock: &ManualClock) -> (Recall, Arc<Recalled>) {
        let loan = Recalled::new(clock.monotonic() + LATER);
        (Recall::of(vec![Arc::clone(&loan)]), loan)
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_waits_for_the_holder_or_for_the_end_of_the_loan() {
        let clock = ManualClock::new();
        let metrics = LoanMetrics::default();
        for confirms in [true, false] {
            let (recall, loan) = recall(&clock);
            assert!(!recall.is_over(clock.monotonic()));
            let waiting = recall.over(&clock, &metrics);
            tokio::pin!(waiting);
            tokio::select! {
                biased;
                () = &mut waiting => panic!("nothing has happened yet"),
                () = yield_now() => {}
            }
            if confirms {
                loan.confirm();
            } else {
                clock.advance(LATER);
            }
            waiting.await;
        }
        assert_eq!(metrics.delayed.get(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn the_clock_decides_and_not_the_timer() {
        let clock = ManualClock::new();
        let metrics = LoanMetrics::default();
        let (mut recall, loan) = recall(&clock);
        loan.confirm();
        recall.not_before(clock.monotonic() + LATER);
        let waiting = recall.over(&clock, &metrics);
        tokio::pin!(waiting);
        // The runtime's time is far ahead of the node's clock by the time that this is over.
        tokio::select! {
            biased;
            () = &mut waiting => panic!("the clock stands still"),
            () = sleep(LATER * 4) => {}
        }
        clock.advance(LATER);
        waiting.await;
    }

    #[tokio::test]
    async fn a_holder_that_takes_nothing_overflows() {
        let (holder, queue) = Holder::new();
        let invalidation = || Invalidation {
            group: GroupName::new("g").unwrap(),
            key: "k".into(),
            version: Version::default(),
            recalled: Recalled::new(LATER),
        };
        (0..MAX_INVALIDATIONS).for_each(|_| holder.tell(invalidation()));
        assert!(!holder.is_overflowed());
        holder.tell(invalidation());
        assert!(holder.is_overflowed());
        drop(queue);
        holder.tell(invalidation());
    }
}
