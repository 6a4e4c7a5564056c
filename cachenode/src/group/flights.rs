//! The loads that are under way for a group's keys, and what was learnt from those that brought
//! nothing.
//!
//! A load runs outside the key's critical section, as it may take long, but begins and ends inside.
//! Whoever changes the key in between takes it off the table: what it brings then is for those who
//! waited already, whose reads began before the change ended, and is not stored; who comes later
//! begins another. So a key has one load at a time that counts.

use std::{collections::HashMap, fmt, sync::Arc, time::Duration};

use common::error::Error;
use foldhash::fast::RandomState;
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::{Authority, Definition, Item, generations::Generations};
use crate::{origin::Source, store::Stored};

/// What is remembered of a stripe's keys that an origin did not have, at most. 16,384 a group.
const KNOWN_PER_STRIPE: usize = 64;

/// How a load ended.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// With a value.
    Loaded(Item),
    /// The origin has none.
    Absent,
    /// It failed.
    Failed(Error),
}

/// A load under way.
#[derive(Debug)]
pub(super) struct Flight {
    /// The hybrid clock's tick when it began: what floors raised since then hide, it must not bring.
    pub(super) began: u64,
    /// By what right it began.
    pub(super) authority: Authority,
    outcome: watch::Sender<Option<Outcome>>,
}

impl Flight {
    pub(super) fn new(began: u64, authority: Authority) -> Arc<Self> {
        Arc::new(Self { began, authority, outcome: watch::Sender::new(None) })
    }

    pub(super) fn is_over(&self) -> bool {
        self.outcome.borrow().is_some()
    }

    fn ends(&self, outcome: Outcome) {
        self.outcome.send_replace(Some(outcome));
    }
}

/// A value whose time is over, or nearly, and when it may be answered all the same.
#[derive(Debug, Clone)]
pub struct Stale {
    /// The value.
    pub item: Item,
    /// At once: the load is for the next reader.
    pub now: bool,
    /// If the load fails, or is too late.
    pub on_error: bool,
    /// How long to wait before the load is too late; `None`: as long as the reader can.
    pub patience: Option<Duration>,
}

impl Stale {
    pub(super) fn new(entry: Stored, now: Duration, definition: &Definition) -> Self {
        let times = entry.unused_times(now, definition.idle);
        let expired = times.over_for();
        let within = |life: Duration| expired < life;
        Self {
            now: within(definition.stale_while_revalidate),
            on_error: within(definition.stale_if_error),
            patience: Some(definition.soft_timeout).filter(|patience| !patience.is_zero()),
            item: Item { times, ..Item::new(entry, now) },
        }
    }

    /// One that has some time left.
    pub(super) fn early(item: Item) -> Self {
        Self { now: true, on_error: true, patience: None, item }
    }
}

/// A load to wait for.
#[must_use]
pub struct Waiting {
    outcome: watch::Receiver<Option<Outcome>>,
    /// For the first who waits: it has to be run.
    ticket: Option<Ticket>,
    /// Somebody else began it.
    joined: bool,
    /// Seldom there, and large.
    stale: Option<Box<Stale>>,
}

impl fmt::Debug for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waiting").field("ticket", &self.ticket).finish_non_exhaustive()
    }
}

impl Waiting {
    pub(super) fn for_one(flight: &Flight) -> Self {
        Self { outcome: flight.outcome.subscribe(), ticket: None, joined: true, stale: None }
    }

    pub(super) fn first(ticket: Ticket) -> Self {
        let outcome = ticket.flight.outcome.subscribe();
        Self { outcome, ticket: Some(ticket), joined: false, stale: None }
    }

    pub(super) fn or(self, stale: Option<Stale>) -> Self {
        Self { stale: stale.map(Box::new), ..self }
    }

    /// Whether somebody else began the load.
    pub fn is_joined(&self) -> bool {
        self.joined
    }

    /// What may be answered while waiting, or instead.
    pub fn stale(&self) -> Option<&Stale> {
        self.stale.as_deref()
    }

    /// The right to run the load, for one of those who wait for it: it is for
    /// [`Group::load`](super::Group::load), in a task that lives on when this caller does not.
    pub fn take_ticket(&mut self) -> Option<Ticket> {
        self.ticket.take()
    }

    /// How it ends. Dropping the future ends the waiting only.
    ///
    /// A failure is told as such, whatever is [stale](Waiting::stale).
    pub async fn outcome(mut self) -> Outcome {
        // A ticket that nobody took would be waited for in vain.
        drop(self.ticket.take());
        let outcome = self.outcome.wait_for(Option::is_some).await.ok();
        outcome.and_then(|it| it.clone()).unwrap_or_else(|| Outcome::Failed(given_up()))
    }
}

/// The right to run a load. Whoever drops it without [`Group::load`](super::Group::load) fails it,
/// for all who wait.
#[derive(Debug)]
pub struct Ticket {
    pub(super) slot: u64,
    pub(super) key: Box<str>,
    /// Whom to ask, also if the group has got another origin meanwhile.
    pub(super) source: Arc<Source>,
    pub(super) flight: Arc<Flight>,
    /// What there is of the key.
    pub(super) before: Option<Stored>,
    /// The origin can be asked whether that is still true.
    can_renew: bool,
    /// Its room among the loads of the group.
    _room: OwnedSemaphorePermit,
}

impl Ticket {
    pub(super) fn new(
        slot: u64,
        key: &str,
        source: Arc<Source>,
        flight: Arc<Flight>,
        (before, can_renew): (Option<Stored>, bool),
        room: OwnedSemaphorePermit,
    ) -> Self {
        Self { slot, key: key.into(), source, flight, before, can_renew, _room: room }
    }

    /// Whose load it is.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// By what the origin can tell whether what there is, is still true; empty: nothing.
    pub(super) fn validator(&self) -> &str {
        let before = self.before.as_ref().filter(|_| self.can_renew);
        before.map_or("", Stored::validator)
    }

    /// By what right it began.
    pub fn authority(&self) -> Authority {
        self.flight.authority
    }

    pub(super) fn ends(self, outcome: Outcome) {
        self.flight.ends(outcome);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.flight.is_over() {
            self.flight.ends(Outcome::Failed(given_up()));
        }
    }
}

fn given_up() -> Error {
    Error::new(common::error::Code::OriginError, "the load was given up")
}

/// What is known of a key without asking.
#[derive(Debug, Clone)]
struct Known {
    /// `None`: the origin has no value.
    error: Option<Error>,
    until: Duration,
}

/// The loads of a stripe's keys.
#[derive(Debug)]
pub(super) struct Flights {
    by_key: HashMap<Box<str>, Arc<Flight>, RandomState>,
    known: Generations<Box<str>, Known, RandomState>,
}

impl Flights {
    pub(super) fn new() -> Self {
        Self { by_key: HashMap::default(), known: Generations::new(KNOWN_PER_STRIPE) }
    }

    /// The load of a key that is under way.
    pub(super) fn of(&self, key: &str) -> Option<&Arc<Flight>> {
        self.by_key.get(key).filter(|flight| !flight.is_over())
    }

    pub(super) fn begin(&mut self, key: &str, flight: Arc<Flight>) {
        self.by_key.insert(key.into(), flight);
    }

    /// Takes a load that has its answer off the table. False: it was fenced.
    pub(super) fn end(&mut self, ticket: &Ticket) -> bool {
        let counts = self.by_key.get(&ticket.key).is_some_and(|it| Arc::ptr_eq(it, &ticket.flight));
        if counts {
            self.by_key.remove(&ticket.key);
        }
        counts
    }

    /// The key has changed.
    pub(super) fn fence(&mut self, key: &str) {
        self.by_key.remove(key);
        self.known.remove(key);
    }

    /// All keys of which that is true may have changed.
    pub(super) fn fence_where(&mut self, which: impl Fn(&str) -> bool) {
        self.by_key.retain(|key, _| !which(key));
        self.known.retain(|key, _| !which(key));
    }

    /// Any key may have changed.
    pub(super) fn fence_all(&mut self) {
        self.by_key = HashMap::default();
        self.known.clear();
    }

    /// Remembers that there was no value, or why there was no answer.
    pub(super) fn learn(&mut self, key: Box<str>, error: Option<Error>, until: Duration) {
        drop(self.known.put(key, Known { error, until }));
    }

    /// What was learnt of a key and is still to be believed.
    pub(super) fn known(&self, key: &str, now: Duration) -> Option<Outcome> {
        let known = self.known.get(key).filter(|known| now < known.until)?;
        Some(known.error.clone().map_or(Outcome::Absent, Outcome::Failed))
    }

    /// Drops what has had its time.
    pub(super) fn tidy(&mut self, now: Duration) {
        self.known.retain(|_, known| now < known.until);
        self.by_key.retain(|_, flight| !flight.is_over());
    }
}
