//! The handle of a node's place in the cluster state, the same for every backend.
//!
//! The work is done by a task of the backend; this is how it is told what to do and how it says
//! how it stands.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use tokio::sync::{mpsc, oneshot, watch};
use uuid::Uuid;

use crate::{
    discovery::NodeState,
    error::{Code, Error, Result},
};

/// Most orders that may wait for a registration's task.
const MAX_WAITING_ORDERS: usize = 8;

/// Where a registration stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RegistrationState {
    /// Not registered, and trying.
    Trying {
        /// Why it has not succeeded, in plain words.
        problem: Option<String>,
    },
    /// The record is in the cluster state.
    Registered {
        /// The revision that put it there.
        revision: u64,
    },
    /// A live node holds the id; tried again from time to time.
    HeldByOther {
        /// The holder's instance.
        instance: Uuid,
        /// The address it answers at.
        address: String,
    },
    /// The record was removed on purpose. Final.
    Left,
}

/// What a registration's task is told. Each order is answered when it is done.
pub(crate) enum Order {
    SetState(NodeState, oneshot::Sender<Result<()>>),
    Leave(oneshot::Sender<Result<()>>),
}

/// Since which revision a node has been a member without a break: what it wrote before is not to
/// be trusted, because others may have owned its keys in between. Cheap to clone and to read.
#[derive(Debug, Clone, Default)]
pub struct Stint(Arc<AtomicU64>);

impl Stint {
    /// The revision; 0 in a node's first stint, before which it had nothing, and `u64::MAX` while
    /// it is about to return.
    pub fn began_at(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    /// The node was out of the cluster state, and is about to write its record again.
    pub(crate) fn is_about_to_begin(&self) {
        self.0.store(u64::MAX, Ordering::Release);
    }

    /// Its record was written.
    pub(crate) fn has_begun(&self, revision: u64) {
        self.0.store(revision, Ordering::Release);
    }
}

/// A node's place in the cluster state.
///
/// Dropping it stops keeping the record without deleting it, as a crash would: the record stays
/// until its lease runs out. Use [`Registration::leave`] to go at once.
#[derive(Debug)]
pub struct Registration {
    state: watch::Receiver<RegistrationState>,
    stint: Stint,
    orders: mpsc::Sender<Order>,
}

/// The task's end of a [`Registration`].
pub(crate) struct Keeper {
    pub(crate) state: watch::Sender<RegistrationState>,
    pub(crate) stint: Stint,
    /// Ends when the registration is dropped.
    pub(crate) orders: mpsc::Receiver<Order>,
}

impl Registration {
    /// A handle and its task's end.
    pub(crate) fn new() -> (Self, Keeper) {
        let (state_in, state) = watch::channel(RegistrationState::Trying { problem: None });
        let (orders, orders_out) = mpsc::channel(MAX_WAITING_ORDERS);
        let stint = Stint::default();
        let keeper = Keeper { state: state_in, stint: stint.clone(), orders: orders_out };
        (Self { state, stint, orders }, keeper)
    }

    /// Since when the node has been a member without a break.
    pub fn stint(&self) -> Stint {
        self.stint.clone()
    }

    /// Where the registration stands.
    pub fn state(&self) -> watch::Receiver<RegistrationState> {
        self.state.clone()
    }

    /// Changes the record's state. If the record can't be written now, the new state is kept
    /// and is part of the next try.
    ///
    /// # Errors
    /// [`Code::NodeUnavailable`] when it is not in the cluster state yet,
    /// [`Code::PreconditionFailed`] after [`Registration::leave`].
    pub async fn set_state(&self, state: NodeState) -> Result<()> {
        let left = || Error::new(Code::PreconditionFailed, "the node has left the cluster");
        self.order(|done| Order::SetState(state, done)).await.unwrap_or_else(|| Err(left()))
    }

    /// Removes the record and its lease at once. Idempotent. Whatever happens, nothing is kept
    /// alive any more.
    ///
    /// # Errors
    /// [`Code::NodeUnavailable`] when the backend did not confirm: the record may stay until its
    /// lease runs out.
    pub async fn leave(&self) -> Result<()> {
        self.order(Order::Leave).await.unwrap_or(Ok(()))
    }

    /// `None` when the task has ended, which it does only after having left.
    async fn order(
        &self,
        order: impl FnOnce(oneshot::Sender<Result<()>>) -> Order,
    ) -> Option<Result<()>> {
        let (done, answer) = oneshot::channel();
        self.orders.send(order(done)).await.ok()?;
        answer.await.ok()
    }
}
