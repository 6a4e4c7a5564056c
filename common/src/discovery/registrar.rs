//! Keeps one node's record in the cluster state: who may have the id, and what to do when the
//! record is lost. The same for every backend; how keys and leases are handled is behind [`Seat`].
//!
//! The work ([`Registrar::keep`]) is a future that may be dropped at any await and begun again:
//! that is how an order interrupts it. Nothing it leaves half done survives the next claim, which
//! first reads what is there.

use std::{convert::Infallible, future::Future, sync::Arc, time::Duration};

use tokio::{
    runtime::Handle,
    sync::{mpsc, watch},
    time::Instant,
};
use uuid::Uuid;

use crate::{
    discovery::{
        DiscoveryStatus, NodeRecord, Prober, Registration, RegistrationState, Stint, View,
        backoff::Backoff,
        registration::{Keeper, Order},
    },
    error::{Code, Error, Result},
};

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
}

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

/// One key and one lease in a backend. Every call is bounded in time.
pub(crate) trait Seat: Send + 'static {
    /// What stands under the key now.
    fn holder(&mut self) -> impl Future<Output = Try<Option<Holder>>> + Send;

    /// Writes the record under a lease if the key is still as of revision `seen` (0: absent);
    /// the revision of the write.
    fn put(&mut self, record: Vec<u8>, seen: u64) -> impl Future<Output = Try<u64>> + Send;

    /// Keeps the lease alive until it can't.
    fn renew(&mut self) -> impl Future<Output = Setback> + Send;

    /// Removes the record if it is on our lease, and the lease.
    fn leave(&mut self) -> impl Future<Output = Try<()>> + Send;
}

/// How a registration is set up.
pub(crate) struct Terms {
    pub(crate) record: NodeRecord,
    pub(crate) lease_ttl: Duration,
    pub(crate) prober: Arc<dyn Prober>,
    pub(crate) views: watch::Receiver<Option<Arc<View>>>,
    pub(crate) status: watch::Receiver<DiscoveryStatus>,
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
        let mut views = self.views.clone();
        // Conflicts are told before the first view. The bound is for a watcher whose connection
        // hangs while ours works.
        let known = tokio::time::timeout(self.lease_ttl, views.wait_for(Option::is_some)).await;
        if let Some(conflict) = &self.status.borrow().conflict {
            return Err(Setback::Unfit(conflict.clone()));
        }
        let why = || Setback::Unreachable("the cluster state has not been read yet".into());
        known.map(drop).map_err(|_| why())
    }
}

/// Registers in the background.
pub(crate) fn spawn(on: &Handle, seat: impl Seat, terms: Terms) -> Registration {
    let (registration, Keeper { state, stint, orders }) = Registration::new();
    // Tried again sooner than a lease could run out meanwhile.
    let backoff = Backoff::up_to(terms.lease_ttl / 3);
    on.spawn(Registrar { seat, terms, state, stint, backoff, was_registered: false }.run(orders));
    registration
}

struct Registrar<S> {
    seat: S,
    terms: Terms,
    state: watch::Sender<RegistrationState>,
    stint: Stint,
    backoff: Backoff,
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
        match self.seat.leave().await {
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
            if began.elapsed() >= self.terms.lease_ttl {
                self.backoff.reset();
            }
            self.report(setback);
            tokio::time::sleep(self.backoff.next()).await;
        }
    }

    /// Registers, and stays registered until something happens.
    async fn hold(&mut self) -> Setback {
        let revision = match self.claim().await {
            Ok(revision) => revision,
            Err(setback) => return setback,
        };
        self.settle(revision);
        let views = self.terms.views.clone();
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
        let holder = self.seat.holder().await?;
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
        if self.was_registered && !is_ours {
            self.stint.is_about_to_begin();
        }
        self.seat.put(json, seen).await.map(|revision| self.begun(revision))
    }

    /// Our record stands in the cluster state as of that revision.
    fn begun(&self, revision: u64) -> u64 {
        if self.stint.began_at() == u64::MAX {
            self.stint.has_begun(revision);
        }
        revision
    }

    fn settle(&mut self, revision: u64) {
        self.was_registered = true;
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
        let theirs = view.members.get(&ours.id);
        view.as_of >= revision && theirs.is_none_or(|theirs| theirs.instance != ours.instance)
    };
    let reborn = |view: &View| life.is_some_and(|life| life != view.generation);
    let suspicious =
        |view: &Option<Arc<View>>| view.as_ref().is_some_and(|view| gone(view) || reborn(view));
    if views.wait_for(suspicious).await.is_err() {
        std::future::pending::<()>().await; // the backend's watcher has ended; the lease goes on
    }
}
