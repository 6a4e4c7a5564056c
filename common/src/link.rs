//! Links: how a worker talks to a node.
//!
//! A link is one long-lived `Exchange` stream. Callers hand it single operations; whatever has
//! queued since its last write leaves as one batch, without any timer, and correlation ids bring
//! the answers back. Deadlines are kept by the link too, on one coarse tick, so that a request
//! costs no timer of its own.
//!
//! A link says what is certain about an operation (answered, certainly not executed, unknown) and
//! nothing else: where to try next is decided by [`route`](crate::route). It opens on first use
//! and closes when idle. Dropping the future of a call gives up its answer; the operation may
//! still be executed.

mod batch;
mod connect;
pub mod frame;
mod queue;
mod slab;
mod task;
mod waiter;
pub mod wire;

use std::{sync::Arc, time::Duration};

use proto::v1::{self, op::Kind};
use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot},
    time::Instant,
};
use uuid::Uuid;

use crate::{near::Holder, topology::Epoch};

pub use waiter::Inbox;
use waiter::Waiter;

/// Submissions on their way to a link's task; more are refused as [`Unsent::Full`].
const SUBMISSIONS: usize = 4096;
/// How long a link without work stays open.
pub const IDLE_CLOSE: Duration = Duration::from_secs(60);

/// Who this process is, in the Hello of its links.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The cluster's service name.
    pub service: String,
    /// Gateway, node or client.
    pub role: v1::Role,
    /// This process's id.
    pub id: String,
    /// This process's life.
    pub instance: Uuid,
}

/// Whom a link reaches.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Peer {
    /// The node's id.
    pub id: String,
    /// The node's life; nil when unknown.
    pub instance: Uuid,
    /// Its gRPC address, `host:port`.
    pub address: String,
}

/// One operation for a link.
#[derive(Debug)]
pub struct Call {
    /// What is asked, shared with whoever may have to ask somebody else next. The link says
    /// `try_ms` and `budget_ms`.
    pub request: Arc<v1::Request>,
    /// The node is to stand in for the owner; the request itself need not say so.
    pub stand_in: bool,
    /// An operation that is no request, sent in its place.
    pub other: Option<Box<Kind>>,
    /// The epoch by which the operation was routed.
    pub epoch: Epoch,
    /// The key's position on the ring: what identical reads are recognised by.
    pub position: u64,
    /// When the caller gives up on this try, unless the node says that it is loading.
    pub try_deadline: Instant,
    /// When the caller gives up altogether.
    pub deadline: Instant,
}

impl Call {
    /// A question whether the node still answers.
    pub fn ping(epoch: Epoch, deadline: Instant) -> Self {
        Self::other(Kind::Ping(v1::Ping {}), epoch, deadline)
    }

    /// An operation that is no request.
    pub fn other(kind: Kind, epoch: Epoch, deadline: Instant) -> Self {
        Self {
            request: Arc::default(),
            stand_in: false,
            other: Some(Box::new(kind)),
            epoch,
            position: 0,
            try_deadline: deadline,
            deadline,
        }
    }

    /// About how many bytes it takes in a batch.
    fn weight(&self) -> usize {
        let other = self.other.as_ref().map(|kind| frame::weight(kind));
        other.unwrap_or_else(|| frame::request_weight(&self.request))
    }
}

/// What became of an operation.
#[derive(Debug, Clone)]
pub enum Answer {
    /// The node did it, or says why it failed.
    Reply(v1::Reply),
    /// The key belongs to another node; nothing was done.
    Moved(v1::Moved),
    /// The node refused before doing anything.
    NotStarted(v1::not_started::Reason),
    /// It never left this process, or reached nobody: certainly not executed.
    Unsent(Unsent),
    /// The hints that a node keeps for this one.
    Hints(v1::Hint),
    /// The stream broke after it had left: it may have been executed, and if the node had said
    /// that it takes longer (`pending`), it may yet be.
    Lost {
        /// Whether the node had said so.
        pending: bool,
    },
    /// No answer in time: it may have been, or be, executed.
    TimedOut {
        /// Whether the node had said that it takes longer, and so that it lives.
        pending: bool,
    },
}

/// Why a node can't be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreachable {
    /// In words, for the log.
    pub why: String,
    /// Nobody listens at its address: the process is gone, or has closed its door.
    pub is_refused: bool,
}

/// Why an operation never left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unsent {
    /// No connection, or not the node that was expected there.
    Unreachable(Unreachable),
    /// The node has said goodbye.
    Leaving,
    /// The link's queue is full.
    Full,
    /// Its deadline passed while it was queued.
    Expired,
}

struct Submission {
    call: Call,
    answer: Waiter,
}

/// A link to one node, used by one worker. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Link {
    submissions: mpsc::Sender<Submission>,
}

impl Link {
    /// A link whose task runs on `runtime`; it connects with the first call. It ends when the last
    /// clone is gone and everything outstanding is answered.
    pub fn spawn(runtime: &Handle, identity: Identity, peer: Peer, lane: v1::Lane) -> Self {
        Self::start(runtime, task::Setup { identity, peer, lane, holder: None })
    }

    /// The same on the small lane, with somebody to whom the node may lend values.
    pub fn lending(
        runtime: &Handle,
        identity: Identity,
        peer: Peer,
        holder: Arc<dyn Holder>,
    ) -> Self {
        let lane = v1::Lane::Small;
        Self::start(runtime, task::Setup { identity, peer, lane, holder: Some(holder) })
    }

    fn start(runtime: &Handle, setup: task::Setup) -> Self {
        let (submissions, queue) = mpsc::channel(SUBMISSIONS);
        runtime.spawn(task::run(setup, queue));
        Self { submissions }
    }

    /// Does one operation. Always answers by the call's deadline (plus a tick). It is queued before
    /// this returns, so the future holds no call and is a small one.
    pub fn call(&self, call: Call) -> impl Future<Output = Answer> + use<> {
        let (answer, answered) = oneshot::channel();
        let queued = self.hand_over(call, Waiter::Alone(answer));
        async move {
            if let Err(why) = queued {
                return Answer::Unsent(why);
            }
            // The task answers everything it takes; it goes without answering only with its runtime.
            answered.await.unwrap_or(Answer::Lost { pending: true })
        }
    }

    /// Hands over one operation whose answer comes to `inbox`, under that number, as surely as that
    /// of [`Link::call`]. Operations that are submitted without an await between them leave
    /// together.
    pub fn submit(&self, call: Call, inbox: &Inbox, number: usize) {
        if let Err(why) = self.hand_over(call, inbox.waiter(number)) {
            inbox.waiter(number).answer(Answer::Unsent(why));
        }
    }

    fn hand_over(&self, call: Call, answer: Waiter) -> Result<(), Unsent> {
        match self.submissions.try_send(Submission { call, answer }) {
            Ok(()) => Ok(()),
            Err(mpsc::error::TrySendError::Full(_)) => Err(Unsent::Full),
            Err(mpsc::error::TrySendError::Closed(_)) => {
                let why = "the link has ended".to_owned();
                Err(Unsent::Unreachable(Unreachable { why, is_refused: false }))
            }
        }
    }
}
