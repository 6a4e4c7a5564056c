//! Keeps one node's record in the cluster state: who may have the id, and what to do when the
//! record is lost. The same for every backend; how keys and leases are handled is behind [`Seat`].
//!
//! The work ([`Registrar::keep`]) is a future that may be dropped at any await and begun again:
//! that is how an order interrupts it. Nothing it leaves half done survives the next claim, which
//! first reads what is there.
//!
//! A node damps itself: one that joined and left too often lately waits before it joins again. To
//! come back before others take note of it is no joining.

mod seat;
mod terms;

use std::{convert::Infallible, sync::Arc, time::Duration};

use tokio::{
    runtime::Handle,
    sync::{mpsc, watch},
    time::Instant,
};

pub(crate) use self::{
    seat::{Found, Holder, Seat, Setback, Try, Writing},
    terms::Terms,
};
use crate::{
    discovery::{
        NodeRecord, Registration, RegistrationState, Stint, View,
        backoff::Backoff,
        flaps::History,
        registration::{Keeper, Order},
    },
    error::{Code, Error, Result},
};

/// Who was registered for this long begins again with short waits when the record is lost.
const STEADY: Duration = Duration::from_secs(1);

/// The longest wait between tries; etcd may be away for days.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

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
