//! Whether a worker takes on one more request: decided before anything is done for it.
//!
//! A worker has a number of requests under way that it does not exceed; what comes beyond it is
//! refused at once, which costs little, so that what was taken on is answered in time. The number is
//! its share of `gateway.max_in_flight`, and less while answers are late. Late is judged by the
//! *quickest* answer of a while: when even that took long, everything queues somewhere, here or at
//! the nodes. A node that hangs makes some answers late and not the quickest, and is no reason to
//! refuse anybody; neither are misses, which an origin may hold up.
//!
//! How many would be answered in time follows from how many are answered (Little's law). Where it
//! is a queue that takes the time, as many are answered although fewer are under way; if fewer are,
//! the nodes are far away, and the worker goes back to as many as before and takes their distance
//! for granted. Left out: which client sends how much, and bytes ([`budget`]).
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
/// A limit is lowered to so much of what is under way at least: what that does to the number of
/// answers must stand out.
const CUT: f64 = 0.5;
/// After a cut that did harm the worker waits for so long before it tries another, and doubles
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
    /// From when to when answers are collected, in microseconds since `began`.
    from: AtomicU64,
    over: AtomicU64,
    /// How many there were since, and the quickest, in microseconds.
    answers: AtomicU64,
    quickest: AtomicU64,
    /// The most requests that were under way, and how many were refused for being late.
    peak: AtomicI64,
    refused: AtomicU64,
    limit: Mutex<Limit>,
}

/// What was seen in a while.
#[derive(Debug)]
struct Seen {
    /// Answers per second.
    rate: f64,
    quickest: Duration,
    peak: i64,
    refused: bool,
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
            from: AtomicU64::new(0),
            over: AtomicU64::new(micros(WHILE)),
            answers: AtomicU64::new(0),
            quickest: AtomicU64::new(NONE),
            peak: AtomicI64::new(0),
            refused: AtomicU64::new(0),
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
            add_one(&self.refused);
            (&self.metrics.shed_late, "the gateway can't answer more requests in time")
        };
        counter.inc();
        Error::new(Code::Overloaded, text).retry_after(COME_AGAIN)
    }

    /// A node has answered, with what it holds: of a request that began then, and ends now.
    pub(crate) fn answered(&self, began: Instant, now: Instant) {
        let took = micros(now.saturating_duration_since(began));
        let now = micros(now.saturating_duration_since(self.began));
        // Before it is counted: after a standstill everything is late, for a moment.
        if now >= self.over.load(Ordering::Relaxed) {
            self.judge(now);
        }
        if now < self.from.load(Ordering::Relaxed) {
            return;
        }
        add_one(&self.answers);
        if took < self.quickest.load(Ordering::Relaxed) {
            self.quickest.store(took, Ordering::Relaxed);
        }
    }

    /// A while is over, and the next one begins.
    fn judge(&self, now: u64) {
        let (from, over) = (self.from.load(Ordering::Relaxed), self.over.load(Ordering::Relaxed));
        let answers = self.answers.swap(0, Ordering::Relaxed);
        let quickest = self.quickest.swap(NONE, Ordering::Relaxed);
        let seen = Seen {
            rate: answers as f64 * 1e6 / over.saturating_sub(from).max(1) as f64,
            quickest: Duration::from_micros(quickest),
            peak: self.peak.swap(self.metrics.in_flight.get(), Ordering::Relaxed),
            refused: self.refused.swap(0, Ordering::Relaxed) > 0,
        };
        let (mut from, mut collect) = (now, micros(WHILE));
        if quickest != NONE {
            let mut limit = self.limit.lock().unwrap_or_else(PoisonError::into_inner);
            let before = limit.now;
            self.metrics.limit.set(limit.next(self.most, &seen, Duration::from_micros(now)));
            if limit.now != before && seen.quickest > LATE {
                // What was taken on by the old limit says nothing about the new one.
                from += quickest;
                collect = collect.max(quickest);
            }
        }
        self.from.store(from, Ordering::Relaxed);
        self.over.store(from + collect, Ordering::Relaxed);
    }
}

fn micros(span: Duration) -> u64 {
    span.as_micros() as u64
}

/// Only one worker writes, so this needs no read-modify-write.
fn add_one(counter: &AtomicU64) {
    counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
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
    /// How far away the nodes are, if that is why answers are late.
    distance: Duration,
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
    /// With fewer answers per second than this it has done harm.
    least_rate: f64,
}

impl Limit {
    fn new(limit: i64) -> Self {
        Self {
            now: limit,
            distance: Duration::ZERO,
            cut: None,
            not_before: Duration::ZERO,
            patience: FIRST_PATIENCE,
        }
    }

    /// The limit after a while in which that was seen.
    fn next(&mut self, most: i64, seen: &Seen, now: Duration) -> i64 {
        // Where nobody was refused it was not the limit that made them fewer.
        let harmed = |cut: &Cut| seen.refused && seen.rate < cut.least_rate;
        if let Some(cut) = self.cut.take() {
            if harmed(&cut) {
                (self.now, self.distance) = (cut.from, seen.quickest);
                self.not_before = now + self.patience;
                self.patience = (self.patience * 2).min(LONGEST_PATIENCE);
                return self.now;
            }
            self.patience = FIRST_PATIENCE;
        }
        if seen.quickest <= LATE {
            self.distance = Duration::ZERO;
        }
        if seen.quickest <= LATE + self.distance {
            self.now = (self.now + self.now / 8 + 1).min(most);
        } else if now >= self.not_before {
            self.cut(seen);
        }
        self.now
    }

    fn cut(&mut self, seen: &Seen) {
        let under_way = seen.peak.min(self.now);
        let in_time = seen.rate * (LATE + self.distance).as_secs_f64();
        let lower = in_time.min(under_way as f64 * CUT).max(LEAST_IN_FLIGHT as f64) as i64;
        // With so little under way there is no queue.
        if lower < under_way {
            let share = lower as f64 / under_way as f64;
            let least_rate = seen.rate * (1.0 + share) / 2.0;
            self.cut = Some(Cut { from: self.now, least_rate });
            self.now = lower;
        }
    }
}

#[cfg(test)]
mod tests;
