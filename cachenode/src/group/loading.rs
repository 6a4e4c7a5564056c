//! Misses that the origin has to be asked about.
//!
//! The reader that finds a key missing begins its load and gets the right to run it; whoever comes
//! meanwhile waits for the same. What the origin answers is judged in the key's critical section
//! again: only a load that nobody fenced, by a node that may still change the key, is stored. Its
//! waiters get what it brought in any case.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use common::error::{Code, Error};
use futures_util::FutureExt;
use tokio::time::timeout;

use super::{
    Authority, Found, Group,
    arrival::Arrival,
    critical::Stripe,
    flights::{Flight, Outcome, Stale, Ticket, Waiting},
    shape::Shape,
};
use crate::{
    origin::{LoadError, Loaded, Source},
    store::Stored,
};

/// Loads of a group that are under way or wait for their turn, at most.
pub const MAX_WAITING_LOADS: usize = 16_384;
/// How long a failure is remembered: enough that a broken origin is not asked by every reader.
pub const ERROR_LIFE: Duration = Duration::from_millis(200);

/// What an origin said, or why it said nothing.
type Answer = Result<Option<Loaded>, LoadError>;

/// A key that was not there, and by what right it may be loaded.
pub(super) struct Missed<'a> {
    pub(super) slot: u64,
    pub(super) key: &'a str,
    pub(super) authority: Authority,
    pub(super) now: Duration,
    /// What there is of it, past its time.
    pub(super) stale: Option<Stale>,
}

impl Group {
    /// A miss of a group whose origin is asked, in the key's critical section.
    pub(super) fn wait_for_load(
        &self,
        stripe: &mut Stripe,
        source: &Arc<Source>,
        missed: Missed<'_>,
    ) -> Found {
        let Missed { slot, key, authority, now, stale } = missed;
        let failed = |error, stale: Option<Stale>| match stale.filter(|stale| stale.on_error) {
            Some(stale) => Found::Stale(stale.item),
            None => Found::Failed(error),
        };
        match stripe.flights.known(key, now) {
            Some(Outcome::Absent) => return Found::Absent,
            Some(Outcome::Failed(error)) => return failed(error, stale),
            Some(Outcome::Loaded(_)) | None => {}
        }
        if let Some(flight) = stripe.flights.of(key)
            && !self.is_outdated(flight, key)
        {
            return Found::Waiting(Waiting::for_one(flight).or(stale));
        }
        let Ok(room) = self.waiting_loads.clone().try_acquire_owned() else {
            let text = "too many keys of the group wait for its origin";
            return failed(Error::new(Code::Overloaded, text).retry_after(ERROR_LIFE), stale);
        };
        let flight = Flight::new(self.hybrid.tick(), authority);
        stripe.flights.begin(key, flight.clone());
        let ticket = Ticket::new(slot, key, Arc::clone(source), flight, room);
        Found::Waiting(Waiting::first(ticket).or(stale))
    }

    /// Runs a load to its end. `owned` is asked in the key's critical section whether this node may
    /// still store what was loaded; it must not wait, nor call the group.
    pub async fn load(&self, ticket: Ticket, owned: impl FnOnce() -> Option<Authority>) {
        let answer = ask(&ticket.source, ticket.key()).await;
        self.settle(ticket, answer, owned);
    }

    /// The load is over.
    fn settle(&self, ticket: Ticket, answer: Answer, owned: impl FnOnce() -> Option<Authority>) {
        let mut stripe = self.critical.enter(ticket.slot);
        let shape = self.shape();
        self.follow_floors();
        let counts = stripe.flights.end(&ticket) && !self.is_outdated(&ticket.flight, &ticket.key);
        let authority = owned().filter(|_| counts);
        let now = self.clock.monotonic();
        let outcome = match answer {
            Ok(Some(loaded)) => {
                self.counters.loads.add();
                self.loaded(&mut stripe, &shape, &ticket, &loaded, authority, now)
            }
            Ok(None) => {
                if authority.is_some() {
                    // What there is, is stale: nobody has written it since the load began.
                    shape.store.remove_if(ticket.slot, &|held| held.is_of(&ticket.key));
                    let until = now + shape.definition.negative_ttl;
                    stripe.flights.learn(ticket.key.clone(), None, until);
                }
                Outcome::Absent
            }
            Err(error) => {
                self.counters.failed_loads.add();
                let error = Error::from(error);
                if authority.is_some() {
                    let error = Some(error.clone());
                    stripe.flights.learn(ticket.key.clone(), error, now + ERROR_LIFE);
                }
                Outcome::Failed(error)
            }
        };
        drop(stripe);
        ticket.ends(outcome);
    }

    /// What is answered to those who wait for a value; with an `authority` it is stored as well.
    fn loaded(
        &self,
        stripe: &mut Stripe,
        shape: &Shape,
        ticket: &Ticket,
        loaded: &Loaded,
        authority: Option<Authority>,
        now: Duration,
    ) -> Outcome {
        let before = shape.store.get(ticket.slot, &ticket.key);
        let arrival = Arrival {
            slot: ticket.slot,
            key: &ticket.key,
            content_type: &loaded.content_type,
            value: &loaded.value,
            ttl: loaded.ttl,
            known: before.as_ref().map(Stored::version),
            replaces: before.is_some(),
            authority: authority.unwrap_or(ticket.flight.authority),
            may_stay: authority.is_some(),
            now,
        };
        Outcome::Loaded(self.arrived(stripe, shape, &arrival))
    }

    /// Whether others may have written the key since the load began.
    fn is_outdated(&self, flight: &Flight, key: &str) -> bool {
        self.floors.hides_since(flight.began, flight.authority.is_stand_in(), || key)
    }
}

async fn ask(source: &Source, key: &str) -> Answer {
    let Source { asked, turns } = source;
    let asking = async {
        // Never closed.
        let _turn = turns.acquire().await;
        // The call itself may panic, not only its future.
        let load = AssertUnwindSafe(async { asked.origin.load(key.to_owned()).await });
        load.catch_unwind().await.unwrap_or(Err(LoadError::Panicked))
    };
    timeout(asked.timeout, asking).await.unwrap_or(Err(LoadError::TimedOut))
}
