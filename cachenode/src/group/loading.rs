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
    Authority, Before, Found, Group,
    arrival::Arrival,
    critical::Stripe,
    flights::{Flight, Outcome, Stale, Ticket, Waiting},
    shape::Shape,
};
use crate::{
    origin::{LoadError, Loaded, Reloaded, Source},
    store::Stored,
};

/// Loads of a group that are under way or wait for their turn, at most.
pub const MAX_WAITING_LOADS: usize = 16_384;
/// How long a failure is remembered: enough that a broken origin is not asked by every reader.
pub const ERROR_LIFE: Duration = Duration::from_millis(200);

/// What an origin said, or why it said nothing.
type Answer = Result<Reloaded, LoadError>;

/// A key that was not there, and by what right it may be loaded.
pub(super) struct Missed<'a> {
    pub(super) slot: u64,
    pub(super) key: &'a str,
    pub(super) authority: Authority,
    pub(super) now: Duration,
    /// What there is of it.
    pub(super) before: Option<Stored>,
    /// The same as it may be answered.
    pub(super) stale: Option<Stale>,
}

impl Group {
    /// A miss of a group whose origin is asked, in the key's critical section.
    pub(super) fn wait_for_load(
        &self,
        stripe: &mut Stripe,
        shape: &Shape,
        source: &Arc<Source>,
        missed: Missed<'_>,
    ) -> Found {
        let Missed { slot, key, authority, now, before, stale } = missed;
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
        let can_renew = before.as_ref().is_some_and(|before| shape.can_renew(before));
        let ticket = Ticket::new(slot, key, Arc::clone(source), flight, (before, can_renew), room);
        Found::Waiting(Waiting::first(ticket).or(stale))
    }

    /// Runs a load to its end. `owned` is asked in the key's critical section whether this node may
    /// still store what was loaded; it must not wait, nor call the group.
    pub async fn load(&self, ticket: Ticket, owned: impl FnOnce() -> Option<Authority>) {
        let answer = self.ask(&ticket).await;
        self.settle(ticket, answer, owned);
    }

    async fn ask(&self, ticket: &Ticket) -> Answer {
        let Source { asked, turns } = &*ticket.source;
        let (key, validator) = (ticket.key(), ticket.validator());
        let asking = async {
            // Never closed.
            let _turn = turns.acquire().await;
            let began = self.clock.monotonic();
            // The call itself may panic, not only its future.
            let load = AssertUnwindSafe(async {
                if validator.is_empty() {
                    asked.origin.load(key.to_owned()).await.map(Reloaded::Anew)
                } else {
                    asked.origin.reload(key.to_owned(), validator.to_owned()).await
                }
            });
            let answer = load.catch_unwind().await.unwrap_or(Err(LoadError::Panicked));
            if answer.is_ok() {
                self.load_time.took(self.clock.monotonic().saturating_sub(began));
            }
            answer
        };
        timeout(asked.timeout, asking).await.unwrap_or(Err(LoadError::TimedOut))
    }

    /// The load is over.
    fn settle(&self, ticket: Ticket, answer: Answer, owned: impl FnOnce() -> Option<Authority>) {
        let mut stripe = self.critical.enter(ticket.slot);
        let shape = self.shape();
        self.follow_floors();
        let tick = self.hybrid.tick();
        let counts = stripe.flights.end(&ticket) && !self.is_outdated(&ticket.flight, &ticket.key);
        let authority = owned().filter(|_| counts);
        let now = self.clock.monotonic();
        let mut section =
            Landing { stripe: &mut stripe, shape: &shape, ticket: &ticket, tick, authority, now };
        let outcome = match answer {
            Ok(Reloaded::Anew(Some(loaded))) => {
                self.counters.loads.add();
                self.loaded(&mut section, &loaded)
            }
            Ok(Reloaded::Unchanged { ttl }) => {
                self.counters.renewals.add();
                self.unchanged(&mut section, ttl)
            }
            Ok(Reloaded::Anew(None)) => {
                self.absent(&mut section);
                Outcome::Absent
            }
            // The origin was not asked, and would not be the next time.
            Err(LoadError::Refused) => Outcome::Failed(LoadError::Refused.into()),
            Err(error) => {
                self.counters.failed_loads.add();
                let error = Error::from(error);
                section.learn(Some(error.clone()), ERROR_LIFE);
                Outcome::Failed(error)
            }
        };
        drop(stripe);
        ticket.ends(outcome);
    }

    /// What is answered to those who wait for a value; by who may, it is stored as well.
    fn loaded(&self, landing: &mut Landing<'_>, loaded: &Loaded) -> Outcome {
        let Landing { shape, ticket, tick, authority, now, .. } = *landing;
        let held = shape.store.get(ticket.slot, &ticket.key);
        let arrival = Arrival {
            tick,
            slot: ticket.slot,
            key: &ticket.key,
            content_type: &loaded.content_type,
            tags: &loaded.tags,
            validator: &loaded.validator,
            value: &loaded.value,
            ttl: loaded.ttl,
            known: held.as_ref().map(Stored::version),
            replaces: held.is_some(),
            before: ticket.before.as_ref().map_or(Before::Nothing, |_| Before::Replaced),
            authority: authority.unwrap_or(ticket.flight.authority),
            may_stay: authority.is_some(),
            now,
        };
        Outcome::Loaded(self.arrived(landing.stripe, shape, &arrival))
    }

    /// The origin says that what there was is still true.
    fn unchanged(&self, landing: &mut Landing<'_>, ttl: Option<Duration>) -> Outcome {
        let Landing { shape, ticket, authority, now, .. } = *landing;
        let Some(before) = &ticket.before else {
            return Outcome::Failed(LoadError::failed("it was not asked whether").into());
        };
        let held = shape.store.get(ticket.slot, &ticket.key);
        let is_kept = ttl.is_none_or(|ttl| !ttl.is_zero());
        match (held, authority) {
            (Some(held), Some(authority))
                if is_kept && held.version() == before.version() && !authority.is_stand_in() =>
            {
                Outcome::Loaded(self.renewed(shape, held, ttl, authority, now))
            }
            // It was evicted meanwhile, or is not to be kept like this: it is as good as sent again.
            _ => self.loaded(
                landing,
                &Loaded {
                    value: before.value(),
                    content_type: before.content_type().to_owned(),
                    tags: before.tags().to_owned(),
                    validator: before.validator().to_owned(),
                    ttl,
                },
            ),
        }
    }

    /// The origin has no value.
    fn absent(&self, landing: &mut Landing<'_>) {
        let Landing { shape, ticket, authority, now, .. } = *landing;
        if authority.is_some() {
            // What there is, is stale, as nobody has written it since the load began. Or its time is not
            // over yet: so long it was promised, and not a moment longer.
            let is_over = |held: &Stored| {
                held.is_of(&ticket.key) && {
                    held.mark_last();
                    self.is_absent(shape, held, now)
                }
            };
            shape.store.remove_if(ticket.slot, &is_over);
            self.expect_expiry(Some(0));
            landing.learn(None, shape.definition.negative_ttl);
        }
    }

    /// Whether others may have written the key since the load began.
    pub(super) fn is_outdated(&self, flight: &Flight, key: &str) -> bool {
        self.floors.hides_since(flight.began, flight.authority.is_stand_in(), || key)
            || self.purges.hide_since(flight.began, key)
    }
}

/// The end of a load, in its key's critical section.
struct Landing<'a> {
    stripe: &'a mut Stripe,
    shape: &'a Shape,
    ticket: &'a Ticket,
    /// What it brought gets this one in its version.
    tick: u64,
    /// By what right what it brought is stored; `None`: it is not.
    authority: Option<Authority>,
    now: Duration,
}

impl Landing<'_> {
    /// Remembers why there is no value, if this node may.
    fn learn(&mut self, error: Option<Error>, life: Duration) {
        if self.authority.is_some() {
            self.stripe.flights.learn(self.ticket.key.clone(), error, self.now + life);
        }
    }
}
