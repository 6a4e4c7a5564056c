//! Keeps one node's record in the cluster state: who may have the id, and what to do when the
//! record is lost. The same for every backend; how keys and leases are handled is behind [`Seat`].
//!
//! The work ([`Registrar::keep`]) is a future that may be dropped at any await and begun again:
//! that is how an order interrupts it. Nothing it leaves half done survives the next claim, which
//! first reads what is there.
//!
//! A node damps itself: one that joined and left too often lately waits before it joins again. To
//! come back before others take note of it is no joining.

use std::{convert::Infallible, future::Future, sync::Arc, time::Duration};

use tokio::{
    runtime::Handle,
    sync::{mpsc, watch},
    time::Instant,
};
use uuid::Uuid;

use crate::{
    clock::Clock,
    discovery::{
        DiscoveryStatus, NodeRecord, Prober, Registration, RegistrationState, Stint, View,
        backoff::Backoff,
        continuity,
        flaps::{Damped, FLAP_WINDOW, History},
        registration::{Keeper, Order},
        status::moment,
    },
    error::{Code, Error, Result},
};

/// Who was registered for this long begins again with short waits when the record is lost.
const STEADY: Duration = Duration::from_secs(1);

/// The longest wait between tries; etcd may be away for days.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// Why a record is not (or no longer) in the cluster state.
#[derive(Debug)]
pub(crate) enum Setback {
    /// The backend can't be reached; in plain words.
    Unreachable(String),
    /// A live node holds the id.
    Held { instance: Uuid, address: String },
    /// The lease has run out or was revoked.
    LeaseLost,
    /// The record vanished or was replaced.
    Vanished,
    /// Somebody wrote the key between our look and our write.
    Raced,
    /// The record itself is not fit to be read by others; in plain words.
    Unfit(String),
    /// The node joined and left too often lately.
    Damped(Damped, UnixMs),
}

/// Wall-clock milliseconds.
type UnixMs = u64;

impl Setback {
    fn in_words(&self) -> String {
        match self {
            Self::Unreachable(why) | Self::Unfit(why) => why.clone(),
            Self::Held { instance, address } => {
                format!("instance {instance} at {address} holds the id and answers")
            }
            Self::LeaseLost => "the lease has run out or was revoked".into(),
            Self::Vanished => "the record vanished or was replaced".into(),
            Self::Raced => "the record was written by somebody else at the same time".into(),
            Self::Damped(Damped { times, wait }, now) => {
                let until = moment(now + wait.as_millis() as u64);
                format!("joined or left {times} times within {FLAP_WINDOW:?}: waits until {until}")
            }
        }
    }
}

/// What an attempt comes to.
pub(crate) type Try<T> = std::result::Result<T, Setback>;

/// What stands under a node's key.
pub(crate) struct Holder {
    pub(crate) value: Vec<u8>,
    pub(crate) revision: u64,
    /// Whether it is bound to the seat's own lease.
    pub(crate) on_our_lease: bool,
}

/// What a node finds at its place.
#[derive(Default)]
pub(crate) struct Found {
    pub(crate) holder: Option<Holder>,
    /// The node's recent joins and leaves as they were written; empty if nothing is known.
    pub(crate) history: Vec<u8>,
}

/// What is to be written at a node's place.
#[derive(Debug, Clone)]
pub(crate) struct Writing {
    pub(crate) record: Vec<u8>,
    /// The revision that the record there must still be of; 0: there must be none.
    pub(crate) seen: u64,
    /// News of the node's joins and leaves, to be written with it.
    pub(crate) history: Option<Vec<u8>>,
    /// Whether members must still be carried.
    pub(crate) while_carried: bool,
}

/// One node's keys and lease in a backend. Every call is bounded in time.
pub(crate) trait Seat: Send + 'static {
    /// What stands there now.
    fn found(&mut self) -> impl Future<Output = Try<Found>> + Send;

    /// Writes the record under a lease, if all is still as it says; the revision of the write.
    fn put(&mut self, writing: Writing) -> impl Future<Output = Try<u64>> + Send;

    /// Writes the history alone.
    fn note(&mut self, history: Vec<u8>) -> impl Future<Output = Try<()>> + Send;

    /// Keeps the lease alive until it can't.
    fn renew(&mut self) -> impl Future<Output = Setback> + Send;

    /// Removes the record if it is on our lease, noting the history with it, and the lease.
    fn leave(&mut self, history: Vec<u8>) -> impl Future<Output = Try<()>> + Send;
}

/// How a registration is set up.
pub(crate) struct Terms {
    pub(crate) record: NodeRecord,
    pub(crate) lease_ttl: Duration,
    pub(crate) prober: Arc<dyn Prober>,
    /// What the backend says.
    pub(crate) raw: watch::Receiver<Option<Arc<View>>>,
    /// What others are shown, as far as this process can know.
    pub(crate) shown: watch::Receiver<Option<Arc<View>>>,
    pub(crate) status: watch::Receiver<DiscoveryStatus>,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Terms {
    /// Whether the holder of our id has to make room. Only a holder that answers may stay: a
    /// restart after a crash must not wait for the old lease.
    async fn judge(&self, holder: &Holder, was_registered: bool) -> Try<()> {
        let ours = &self.record;
        // Nobody can be called by a record that can't be read.
        let Ok(theirs) = NodeRecord::parse(&holder.value) else { return Ok(()) };
        if theirs.instance == ours.instance {
            return Ok(());
        }
        // On the first claim we hold the port, so whoever had it before is dead. Later it may be
        // us who lost the address; then ask.
        if theirs.grpc == ours.grpc && !was_registered {
            return Ok(());
        }
        if self.prober.instance_at(&theirs.grpc).await == Some(theirs.instance) {
            return Err(Setback::Held { instance: theirs.instance, address: theirs.grpc });
        }
        tracing::info!(id = %ours.id, instance = %theirs.instance, address = theirs.grpc,
            "the record of an instance that does not answer is replaced");
        Ok(())
    }
}

impl Terms {
    /// Waits until the ring's settings are known here, and refuses to be a member of a ring that
    /// this process would compute differently, be it only for the moment until it ends.
    async fn agree(&self) -> Try<()> {
        let mut views = self.raw.clone();
        // Conflicts are told before the first view. The bound is for a watcher whose connection
        // hangs while ours works.
        let known = tokio::time::timeout(self.lease_ttl, views.wait_for(Option::is_some)).await;
        if let Some(conflict) = &self.status.borrow().conflict {
            return Err(Setback::Unfit(conflict.clone()));
        }
        let why = || Setback::Unreachable("the cluster state has not been read yet".into());
        known.map(drop).map_err(|_| why())
    }

    fn now(&self) -> UnixMs {
        self.clock.unix().as_millis() as u64
    }

    /// Whether this node is in the ring all the same, so that nobody else owned its keys.
    async fn is_carried(&self) -> bool {
        let Self { record, raw, shown, lease_ttl, .. } = self;
        continuity::is_carried(record, raw.clone(), shown, *lease_ttl / 3).await
    }

    /// Whether others still see this node as a member: then its return changes nothing for them.
    fn is_shown(&self) -> bool {
        let shown = self.shown.borrow();
        shown.as_ref().is_some_and(|view| view.members.contains_key(&self.record.id))
    }
}

/// Registers in the background.
pub(crate) fn spawn(on: &Handle, seat: impl Seat, terms: Terms) -> Registration {
    let (registration, Keeper { state, stint, orders }) = Registration::new();
    // Tried again sooner than a lease could run out meanwhile.
    let backoff = Backoff::up_to(LONGEST_WAIT.min(terms.lease_ttl / 3));
    let registrar = Registrar {
        seat,
        terms,
        state,
        stint,
        backoff,
        history: History::default(),
        has_wished: false,
        was_registered: false,
    };
    on.spawn(registrar.run(orders));
    registration
}

struct Registrar<S> {
    seat: S,
    terms: Terms,
    state: watch::Sender<RegistrationState>,
    stint: Stint,
    backoff: Backoff,
    /// Recent joins and leaves, as last found or written.
    history: History,
    /// Whether it is written down that this node wishes to join.
    has_wished: bool,
    was_registered: bool,
}

impl<S: Seat> Registrar<S> {
    /// Works until the node leaves or the registration is dropped.
    async fn run(mut self, mut orders: mpsc::Receiver<Order>) {
        let mut leaving = false;
        loop {
            let order = tokio::select! {
                biased;
                order = orders.recv() => order,
                never = self.keep(), if !leaving => match never {},
            };
            match order {
                None => return,
                Some(Order::SetState(state, done)) => {
                    self.terms.record.state = state;
                    let _ = done.send(if leaving { Err(left()) } else { self.write_now().await });
                }
                Some(Order::Leave(done)) => {
                    leaving = true;
                    let outcome = self.leave_now().await;
                    let over = outcome.is_ok();
                    let _ = done.send(outcome);
                    if over {
                        return;
                    }
                }
            }
        }
    }

    async fn write_now(&mut self) -> Result<()> {
        let revision = self.claim().await.map_err(|setback| {
            let why = setback.in_words();
            Error::new(Code::NodeUnavailable, format!("not written yet, tried again soon: {why}"))
        })?;
        self.settle(revision);
        Ok(())
    }

    async fn leave_now(&mut self) -> Result<()> {
        let mut history = self.history.clone();
        history.left(self.terms.now());
        match self.seat.leave(history.to_json()).await {
            Ok(()) => {
                self.state.send_replace(RegistrationState::Left);
                Ok(())
            }
            Err(setback) => {
                let why =
                    format!("the record stays until its lease is over: {}", setback.in_words());
                let problem = Some(why.clone());
                self.state.send_replace(RegistrationState::Trying { problem });
                Err(Error::new(Code::NodeUnavailable, why))
            }
        }
    }

    /// Registers, again and again.
    async fn keep(&mut self) -> Infallible {
        loop {
            let began = Instant::now();
            let setback = self.hold().await;
            if began.elapsed() >= STEADY {
                self.backoff.reset();
            }
            let wait = match &setback {
                // The clock may be set meanwhile: looked at again before long.
                Setback::Damped(damped, _) => damped.wait.min(self.terms.lease_ttl),
                _ => self.backoff.next(),
            };
            self.report(setback);
            tokio::time::sleep(wait).await;
        }
    }

    /// Registers, and stays registered until something happens.
    async fn hold(&mut self) -> Setback {
        let revision = match self.claim().await {
            Ok(revision) => revision,
            Err(setback) => return setback,
        };
        self.settle(revision);
        let views = self.terms.raw.clone();
        tokio::select! {
            setback = self.seat.renew() => setback,
            () = replaced(views, &self.terms.record, revision) => Setback::Vanished,
        }
    }

    /// Puts the record where it belongs, unless it is there already or somebody else may stay.
    async fn claim(&mut self) -> Try<u64> {
        let json =
            self.terms.record.to_json().map_err(|error| Setback::Unfit(error.to_string()))?;
        NodeRecord::parse(&json).map_err(|error| Setback::Unfit(error.to_string()))?;
        // First of all, because whether the backend can be reached at all is the better news.
        let Found { holder, history } = self.seat.found().await?;
        self.history = History::parse(&history);
        if !self.was_registered {
            self.terms.agree().await?;
        }
        let (seen, is_ours) = match holder {
            None => (0, false),
            Some(holder) if holder.on_our_lease && holder.value == json => {
                return Ok(self.begun(holder.revision));
            }
            Some(holder) => {
                self.terms.judge(&holder, self.was_registered).await?;
                (holder.revision, holder.on_our_lease)
            }
        };
        let joins = seen == 0 && !self.terms.is_shown();
        if joins {
            self.damp().await?;
        }
        let returns = self.was_registered && !is_ours;
        let while_carried = returns && seen == 0 && self.terms.is_carried().await;
        if returns && !while_carried {
            self.stint.is_about_to_begin();
        }
        let history = joins.then(|| self.history.to_json());
        let writing = Writing { record: json, seen, history, while_carried };
        let put = match self.seat.put(writing.clone()).await {
            // The lease that was thought to be alive is not: with another one, at once.
            Err(Setback::LeaseLost) => self.seat.put(writing).await,
            put => put,
        };
        put.map(|revision| self.begun(revision))
    }

    /// Writes into the history that the node joins now, unless it has to wait.
    async fn damp(&mut self) -> Try<()> {
        let now = self.terms.now();
        self.history.is_out(now);
        let Some(damped) = self.history.damped(now) else {
            self.history.joined(now);
            return Ok(());
        };
        if !self.has_wished {
            self.history.wished(now);
            self.seat.note(self.history.to_json()).await?;
            self.has_wished = true;
        }
        // Again, because the wish counts.
        let damped = self.history.damped(now).unwrap_or(damped);
        Err(Setback::Damped(damped, now))
    }

    /// Our record stands in the cluster state as of that revision.
    fn begun(&self, revision: u64) -> u64 {
        if self.stint.began_at() == u64::MAX {
            self.stint.has_begun(revision);
        }
        revision
    }

    fn settle(&mut self, revision: u64) {
        (self.was_registered, self.has_wished) = (true, false);
        let settled = RegistrationState::Registered { revision };
        if self.state.send_replace(settled.clone()) != settled {
            tracing::info!(id = %self.terms.record.id, revision, "registered");
        }
    }

    fn report(&self, setback: Setback) {
        let (id, problem) = (&self.terms.record.id, setback.in_words());
        let next = match setback {
            Setback::Held { instance, address } => {
                RegistrationState::HeldByOther { instance, address }
            }
            _ => RegistrationState::Trying { problem: Some(problem.clone()) },
        };
        if self.state.send_replace(next.clone()) != next {
            tracing::warn!(%id, problem, "not registered, trying again");
        }
    }
}

fn left() -> Error {
    Error::new(Code::PreconditionFailed, "the node is leaving the cluster")
}

/// Waits until a view that is recent enough to hold our record does not hold it, or until the
/// cluster state begins another life. A lease may be renewed although the record is gone, so the
/// lease alone says nothing.
async fn replaced(mut views: watch::Receiver<Option<Arc<View>>>, ours: &NodeRecord, revision: u64) {
    let life = views.borrow().as_ref().map(|view| view.generation);
    let gone = |view: &View| {
        let theirs = view.live(ours.id.as_str());
        view.as_of >= revision && theirs.is_none_or(|theirs| theirs.instance != ours.instance)
    };
    let reborn = |view: &View| life.is_some_and(|life| life != view.generation);
    let suspicious =
        |view: &Option<Arc<View>>| view.as_ref().is_some_and(|view| gone(view) || reborn(view));
    if views.wait_for(suspicious).await.is_err() {
        std::future::pending::<()>().await; // the backend's watcher has ended; the lease goes on
    }
}
