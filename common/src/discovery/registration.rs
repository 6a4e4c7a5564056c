//! The handle of a node's place in the cluster state, the same for every backend.
//!
//! The work is done by a task of the backend; this is how it is told what to do and how it says
//! how it stands.

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

/// A node's place in the cluster state.
///
/// Dropping it stops keeping the record without deleting it, as a crash would: the record stays
/// until its lease runs out. Use [`Registration::leave`] to go at once.
#[derive(Debug)]
pub struct Registration {
    state: watch::Receiver<RegistrationState>,
    orders: mpsc::Sender<Order>,
}

/// The task's end of a [`Registration`].
pub(crate) struct Keeper {
    pub(crate) state: watch::Sender<RegistrationState>,
    /// Ends when the registration is dropped.
    pub(crate) orders: mpsc::Receiver<Order>,
}

impl Registration {
    /// A handle and its task's end.
    pub(crate) fn new() -> (Self, Keeper) {
        let (state_in, state) = watch::channel(RegistrationState::Trying { problem: None });
        let (orders, orders_out) = mpsc::channel(MAX_WAITING_ORDERS);
        (Self { state, orders }, Keeper { state: state_in, orders: orders_out })
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
