//! Whether a worker takes on one more request: decided before anything is done for it.
//!
//! A worker has a number of requests under way that it does not exceed; what comes beyond it is
//! refused at once, which costs little, so that what was taken on is answered in time. The number is
//! its share of `gateway.max_in_flight`, and less while answers are late. Late is judged by the
//! *quickest* answer of a while: when even that took long, everything queues somewhere, here or at
//! the nodes. A node that hangs makes some answers late and not the quickest, and is no reason to
//! refuse anybody; neither are misses, which an origin may hold up.
//!
//! How many would be answered in time follows from how many are under way (Little's law). If fewer
//! do not make answers quicker, then it is not the queue that takes the time, and the worker goes
//! back to as many as before. Left out: which client sends how much, and bytes ([`budget`]).
//!
//! [`budget`]: crate::budget

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use common::error::{Code, Error};
use tokio::time::Instant;

use crate::metrics::LoadMetrics;

/// The quickest answer of a while takes longer than this: the worker has taken on too much.
const LATE: Duration = Duration::from_millis(25);
/// For how long answers are collected before they are judged; longer if they take longer.
const WHILE: Duration = Duration::from_millis(100);
/// However late answers are, so many requests a worker has under way.
const LEAST_IN_FLIGHT: i64 = 64;
/// When a limit is lowered, it is at most halved.
const MOST_CUT: f64 = 0.5;
/// After a cut that did not help the worker waits for so long before it tries again, and doubles
/// that each time.
const FIRST_PATIENCE: Duration = Duration::from_secs(1);
const LONGEST_PATIENCE: Duration = Duration::from_secs(60);
/// When a refused caller may come again.
pub(crate) const COME_AGAIN: Duration = Duration::from_secs(1);

/// No answer yet.
const NONE: u64 = u64::MAX;

/// The requests of one worker. Only that worker uses it, so that its counters are in nobody's way.
pub(crate) struct Admission {
    /// The share of `gateway.max_in_flight`.
    most: i64,
    metrics: LoadMetrics,
    began: Instant,
    /// The quickest answer of this while, in microseconds.
    quickest: AtomicU64,
    /// The most requests that were under way in this while.
    peak: AtomicI64,
    /// When this while is over, in microseconds since `began`.
    over: AtomicU64,
    limit: Mutex<Limit>,
}

/// A request that was taken on, until it is dropped.
#[must_use]
pub(crate) struct Admitted<'a>(&'a Admission);

impl Admission {
    /// For one of `workers`, which together may have `max_in_flight` requests under way.
    pub(crate) fn new(max_in_flight: usize, workers: usize, metrics: LoadMetrics) -> Self {
        let most = max_in_flight.div_ceil(workers.max(1)) as i64;
        metrics.limit.set(most);
        Self {
            most,
            metrics,
            began: Instant::now(),
            quickest: AtomicU64::new(NONE),
            peak: AtomicI64::new(0),
            over: AtomicU64::new(WHILE.as_micros() as u64),
            limit: Mutex::new(Limit::new(most)),
        }
    }

    /// Takes on a request, unless there are too many.
    ///
    /// # Errors
    /// [`Code::Overloaded`]; nothing was done.
    pub(crate) fn admit(&self) -> Result<Admitted<'_>, Error> {
        let others = self.metrics.in_flight.inc();
        let admitted = Admitted(self);
        if others >= self.metrics.limit.get() {
            return Err(self.refusal(others));
        }
        if others >= self.peak.load(Ordering::Relaxed) {
            self.peak.store(others + 1, Ordering::Relaxed);
        }
        Ok(admitted)
    }

    fn refusal(&self, others: i64) -> Error {
        let (counter, text) = if others >= self.most {
            (&self.metrics.shed_full, "the gateway has as many requests under way as it may")
        } else {
            (&self.metrics.shed_late, "the gateway can't answer more requests in time")
        };
        counter.inc();
        Error::new(Code::Overloaded, text).retry_after(COME_AGAIN)
    }

    /// A node has answered, with what it holds: of a request that began then, and ends now.
    pub(crate) fn answered(&self, began: Instant, now: Instant) {
        let took = now.saturating_duration_since(began).as_micros() as u64;
        if took < self.quickest.load(Ordering::Relaxed) {
            self.quickest.store(took, Ordering::Relaxed);
        }
        let now = now.saturating_duration_since(self.began).as_micros() as u64;
        if now >= self.over.load(Ordering::Relaxed) {
            self.judge(Duration::from_micros(now));
        }
    }

    /// A while is over.
    fn judge(&self, now: Duration) {
        let quickest = Duration::from_micros(self.quickest.swap(NONE, Ordering::Relaxed));
        let peak = self.peak.swap(self.metrics.in_flight.get(), Ordering::Relaxed);
        let limit = self.limit.lock().unwrap_or_else(PoisonError::into_inner).next(
            self.most, peak, quickest, now,
        );
        self.metrics.limit.set(limit);
        // Answers to what was taken on by the old limit must not be judged by the new one.
        let over = now + WHILE.max(quickest * 2);
        self.over.store(over.as_micros() as u64, Ordering::Relaxed);
    }
}

impl Drop for Admitted<'_> {
    fn drop(&mut self) {
        self.0.metrics.in_flight.dec();
    }
}

/// How many requests may be under way, and what is known of that.
#[derive(Debug)]
struct Limit {
    now: i64,
    /// A cut that has not been judged.
    cut: Option<Cut>,
    /// No further cut before this.
    not_before: Duration,
    patience: Duration,
}

/// A limit that was lowered.
#[derive(Debug)]
struct Cut {
    /// What it was before.
    from: i64,
    /// Answers quicker than this show that it has helped.
    hoped: Duration,
}

impl Limit {
    fn new(limit: i64) -> Self {
        Self { now: limit, cut: None, not_before: Duration::ZERO, patience: FIRST_PATIENCE }
    }

    /// The limit after a while with that quickest answer, and at most `peak` requests under way.
    fn next(&mut self, most: i64, peak: i64, quickest: Duration, now: Duration) -> i64 {
        let cut = self.cut.take();
        if quickest <= LATE {
            self.patience = FIRST_PATIENCE;
            self.now = (self.now + self.now / 8 + 1).min(most);
        } else if let Some(Cut { from, .. }) = cut.filter(|cut| quickest >= cut.hoped) {
            self.now = from;
            self.not_before = now + self.patience;
            self.patience = (self.patience * 2).min(LONGEST_PATIENCE);
        } else if now >= self.not_before {
            self.cut(peak, quickest);
        }
        self.now
    }

    fn cut(&mut self, peak: i64, quickest: Duration) {
        let share = LATE.div_duration_f64(quickest).max(MOST_CUT);
        let lower = ((peak as f64 * share) as i64).max(LEAST_IN_FLIGHT);
        if lower < self.now {
            // Half of what it should bring is enough: other things vary, too.
            let hoped = quickest.mul_f64((1.0 + share) / 2.0);
            self.cut = Some(Cut { from: self.now, hoped });
            self.now = lower;
        }
    }
}

#[cfg(test)]
mod tests;
