//! The critical sections of a group's keys.
//!
//! A key's section is its stripe's lock. Whoever changes the key holds it from judging the change
//! to having stored it, and holds it for that only: never across an await, and never two at once.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use common::entry::Version;

use super::{
    Group, applied::Answers, flights::Flights, loans::Loans, tokens::Tokens, tombstones::Tombstones,
};
use crate::loans::LoanMetrics;

/// Stripes of a group: many more than a node has workers, so that they seldom meet.
const STRIPES: usize = 256;

/// What is known of a stripe's keys besides their entries.
#[derive(Debug)]
pub(super) struct Stripe {
    pub(super) tombstones: Tombstones,
    pub(super) answers: Answers,
    pub(super) loans: Loans,
    pub(super) flights: Flights,
    pub(super) tokens: Tokens,
}

impl Stripe {
    /// A key has another value since `now`, or none any more: what is lent of it is called back, and
    /// a load of it that is under way does not count any more, nor does a load token.
    pub(super) fn changed(&mut self, group: &Group, key: &str, version: Version, now: Duration) {
        self.loans.call_back(group, key, version, now);
        self.flights.fence(key);
        self.tokens.end(key);
    }
}

#[derive(Debug)]
pub(super) struct Critical {
    stripes: Box<[Mutex<Stripe>]>,
    loans: LoanMetrics,
}

impl Critical {
    pub(super) fn new(metrics: &LoanMetrics) -> Self {
        let stripe = || Stripe {
            tombstones: Tombstones::new(),
            answers: Answers::new(),
            loans: Loans::new(metrics.clone()),
            flights: Flights::new(),
            tokens: Tokens::new(),
        };
        let stripes = (0..STRIPES).map(|_| Mutex::new(stripe())).collect();
        Self { stripes, loans: metrics.clone() }
    }

    /// Enters the critical section of a slot's keys. A panic in one leaves each table whole, as
    /// each is changed by one call: the next may go on with it.
    pub(super) fn enter(&self, slot: u64) -> MutexGuard<'_, Stripe> {
        // The middle bits: the store's table goes by the others.
        let index = (slot >> 32) as usize % STRIPES;
        self.stripes[index].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether anything is lent, by this group or one that counts with it. Takes no lock.
    pub(super) fn has_lent(&self) -> bool {
        self.loans.outstanding() > 0
    }

    /// Enters one stripe after the other.
    pub(super) fn each(&self, mut visit: impl FnMut(&mut Stripe)) {
        for stripe in &self.stripes {
            visit(&mut stripe.lock().unwrap_or_else(PoisonError::into_inner));
        }
    }

    /// Drops what has had its time, stripe by stripe.
    pub(super) fn tidy(&self, now: Duration) {
        self.each(|stripe| {
            stripe.tombstones.tidy(now);
            stripe.answers.tidy(now);
            stripe.loans.tidy(now);
            stripe.flights.tidy(now);
            stripe.tokens.tidy(now);
        });
    }
}
