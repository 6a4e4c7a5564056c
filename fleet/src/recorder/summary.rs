//! A recording in numbers: counts, latencies, and when it was that things failed.
//!
//! Pure arithmetic. The latencies are of answered operations only; what was not answered is in the
//! counts.

use std::{collections::BTreeMap, fmt, time::Duration};

use hdrhistogram::Histogram;

use super::Operation;

/// The largest latency that is told apart, in microseconds; the client's deadline is far below.
const MAX_MICROS: u64 = 120_000_000;

/// How many significant digits latencies keep.
const DIGITS: u8 = 3;

/// Latencies of the answered operations.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Latency {
    /// Half were faster.
    pub p50: Duration,
    /// 9 of 10 were faster.
    pub p90: Duration,
    /// 99 of 100 were faster.
    pub p99: Duration,
    /// 999 of 1,000 were faster.
    pub p999: Duration,
    /// The slowest.
    pub max: Duration,
}

/// What a recording adds up to.
#[derive(Debug, Clone, Default)]
pub struct Summary {
    /// How many operations.
    pub total: u64,
    /// How many failed (see [`super::Outcome::failed`]).
    pub failed: u64,
    /// How many of each outcome.
    pub counts: BTreeMap<String, u64>,
    /// Latencies of the answered ones.
    pub latency: Latency,
    /// Operations answered per second, from the first due moment to the last.
    pub answered_per_second: f64,
    /// Second since the client started → how many of the operations due in it failed. Only seconds
    /// with failures.
    pub failures: BTreeMap<u64, u64>,
}

/// Operations added up one after the other, in a bounded space however many there are.
#[derive(Debug, Clone)]
pub(crate) struct Totals {
    started: Duration,
    summary: Summary,
    answered: u64,
    /// None if the bounds were no bounds; they are constants.
    latencies: Option<Histogram<u64>>,
    first: Duration,
    last: Duration,
}

impl Totals {
    /// Nothing yet, of a client that started then.
    pub(crate) fn new(started: Duration) -> Self {
        Self {
            started,
            summary: Summary::default(),
            answered: 0,
            latencies: Histogram::new_with_bounds(1, MAX_MICROS, DIGITS).ok(),
            first: Duration::MAX,
            last: Duration::ZERO,
        }
    }

    pub(crate) fn add(&mut self, operation: &Operation) {
        let summary = &mut self.summary;
        summary.total += 1;
        *summary.counts.entry(operation.outcome.label()).or_default() += 1;
        if operation.outcome.failed() {
            summary.failed += 1;
            let second = operation.due.saturating_sub(self.started).as_secs();
            *summary.failures.entry(second).or_default() += 1;
        }
        if let Some(latency) = operation.latency() {
            self.answered += 1;
            let micros = latency.as_micros().try_into().unwrap_or(MAX_MICROS);
            if let Some(latencies) = &mut self.latencies {
                latencies.saturating_record(micros);
            }
        }
        (self.first, self.last) = (self.first.min(operation.due), self.last.max(operation.due));
    }

    pub(crate) fn failed(&self) -> u64 {
        self.summary.failed
    }

    /// What they add up to so far.
    pub(crate) fn summary(&self) -> Summary {
        let mut summary = self.summary.clone();
        let span = self.last.saturating_sub(self.first).as_secs_f64();
        if span > 0.0 {
            summary.answered_per_second = self.answered as f64 / span;
        }
        summary.latency = self.latencies.as_ref().map(Latency::of).unwrap_or_default();
        summary
    }
}

impl Latency {
    fn of(latencies: &Histogram<u64>) -> Self {
        let at = |quantile| Duration::from_micros(latencies.value_at_quantile(quantile));
        Self {
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: Duration::from_micros(latencies.max()),
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Latency { p50, p90, p99, p999, max } = self.latency;
        writeln!(
            f,
            "{} operations, {} failed, {:.0} answered/s",
            self.total, self.failed, self.answered_per_second
        )?;
        for (outcome, count) in &self.counts {
            writeln!(f, "  {outcome}: {count}")?;
        }
        writeln!(
            f,
            "  latency p50 {p50:.1?} p90 {p90:.1?} p99 {p99:.1?} p99.9 {p999:.1?} max {max:.1?}"
        )?;
        for (second, count) in &self.failures {
            writeln!(f, "  failed in second {second}: {count}")?;
        }
        Ok(())
    }
}
