//! Misses that the origin has to be asked about.
//!
//! The reader that finds a key missing begins its load and gets the right to run it; whoever comes
//! meanwhile waits for the same. What the origin answers is judged in the key's critical section
//! again: only a load that nobody fenced, by a node that may still change the key, is stored. Its
//! waiters get what it brought in any case.

use std::{panic::AssertUnwindSafe, time::Duration};

use common::error::{Code, Error};
use futures_util::FutureExt;
use tokio::time::timeout;

use super::{
    Authority, Found, Group, Item,
    critical::Stripe,
    flights::{Flight, Outcome, Stale, Ticket, Waiting},
};
use crate::{
    origin::{Asked, LoadError, Loaded, Supply},
    store::{NewEntry, Stored},
};

/// Loads of a group that are under way or wait for their turn, at most.
pub const MAX_WAITING_LOADS: usize = 16_384;
/// How long a failure is remembered: enough that a broken origin is not asked by every reader.
pub const ERROR_LIFE: Duration = Duration::from_millis(200);

/// What an origin said, or why it said nothing.
type Answer = Result<Option<Loaded>, LoadError>;

impl Group {
    /// A miss of a group whose origin is asked, in the key's critical section.
    pub(super) fn wait_for_load(
        &self,
        stripe: &mut Stripe,
        slot: u64,
        key: &str,
        authority: Authority,
        now: Duration,
        stale: Option<Stale>,
    ) -> Found {
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
        Found::Waiting(Waiting::first(Ticket::new(slot, key, flight, room)).or(stale))
    }

    /// Runs a load to its end. `owned` is asked in the key's critical section whether this node may
    /// still store what was loaded; it must not wait, nor call the group.
    pub async fn load(&self, ticket: Ticket, owned: impl FnOnce() -> Option<Authority>) {
        let Supply::Asked(asked) = &self.supply else { return };
        let answer = self.ask(asked, ticket.key()).await;
        self.settle(ticket, answer, owned);
    }

    async fn ask(&self, asked: &Asked, key: &str) -> Answer {
        let asking = async {
            // Never closed.
            let _turn = self.loads.acquire().await;
            // The call itself may panic, not only its future.
            let load = AssertUnwindSafe(async { asked.origin.load(key.to_owned()).await });
            load.catch_unwind().await.unwrap_or(Err(LoadError::Panicked))
        };
        timeout(asked.timeout, asking).await.unwrap_or(Err(LoadError::TimedOut))
    }

    /// The load is over.
    fn settle(&self, ticket: Ticket, answer: Answer, owned: impl FnOnce() -> Option<Authority>) {
        let mut stripe = self.critical.enter(ticket.slot);
        self.follow_floors();
        let counts = stripe.flights.end(&ticket) && !self.is_outdated(&ticket.flight, &ticket.key);
        let authority = owned().filter(|_| counts);
        let now = self.clock.monotonic();
        let outcome = match answer {
            Ok(Some(loaded)) => {
                self.counters.loads.add();
                self.loaded(&mut stripe, &ticket, &loaded, authority, now)
            }
            Ok(None) => {
                if authority.is_some() {
                    // What there is, is stale: nobody has written it since the load began.
                    self.store.remove_if(ticket.slot, &|held| held.is_of(&ticket.key));
                    let until = now + self.definition.negative_ttl;
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
        ticket: &Ticket,
        loaded: &Loaded,
        authority: Option<Authority>,
        now: Duration,
    ) -> Outcome {
        let Ticket { slot, key, flight, .. } = ticket;
        let Loaded { value, content_type, tags, ttl } = loaded;
        let is_kept = ttl.is_none_or(|ttl| !ttl.is_zero());
        let before = self.store.get(*slot, key);
        let right = authority.unwrap_or(flight.authority);
        let version = self.next_version(stripe, *slot, right, before.as_ref(), now);
        let entry = NewEntry {
            key,
            content_type,
            tags,
            value,
            version,
            stored: now,
            expires: if is_kept { self.expires(*ttl, right, now) } else { Some(now) },
            is_stand_in: right.is_stand_in(),
            now,
        };
        let check = self.check(&entry);
        let entry = Stored::new(&entry);
        // The operator chose the origin's values: one that is too large to keep is still answered.
        // Once more, now that it has its version: a purge that has come in since the first look has its
        // tick above that, or is seen here.
        let is_current = authority.is_some() && !self.is_outdated(flight, key);
        if is_kept && check.is_ok() && is_current {
            self.keep(*slot, &entry, before.is_some());
            // A read waits for nobody; the next write waits for these too.
            stripe.loans.call_back(self, key, version, now);
        }
        Outcome::Loaded(Item::new(entry, now))
    }

    /// Whether others may have written the key since the load began.
    fn is_outdated(&self, flight: &Flight, key: &str) -> bool {
        self.floors.hides_since(flight.began, flight.authority.is_stand_in(), || key)
            || self.purges.hide_since(flight.began, key)
    }
}
