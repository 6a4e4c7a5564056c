//! One try: asking one node once, and what its answer means for the request and for the node.

use std::{sync::Arc, time::Duration};

use proto::v1::{self, Lane, not_started::Reason};
use tokio::time::{Instant, sleep_until};

use super::{COME_AGAIN, Router, Shared, wired::Wired};
use crate::{
    discovery::NodeId,
    error::{Code, Error, Result},
    link::{Answer, Call, Unsent, frame},
    topology::Epoch,
};

/// How much longer than a small try one on the bulk lane may take.
const BULK_TRY_FACTOR: u32 = 4;
/// How much longer than its try a write waits before it is sent elsewhere: what is still on its
/// way by then is refused by its receiver as stale.
const SETTLE: f64 = 1.1;

/// What to do after a try.
pub(super) enum Next {
    Return(Result<v1::Reply>),
    /// The ring has moved on: look it up again.
    Reroute(v1::Moved),
    /// The group is another one as of that revision; the error is for when that is no help.
    Redefined(u64, Error),
    /// Try the next node; the error is for when there is none.
    Elsewhere(Error),
}

/// An answer, by whether the operation's fate is known.
enum Judged {
    Done(Next),
    /// `lasting`: the node may do it at any time yet, not only until the try is over.
    Unknown {
        error: Error,
        lasting: bool,
    },
}

/// In which way a node is asked.
#[derive(Clone, Copy)]
pub(super) struct Manner {
    pub(super) stand_in: bool,
    pub(super) epoch: Epoch,
    pub(super) bulk: bool,
}

/// A try and its answer.
pub(super) struct Tried {
    pub(super) node: usize,
    pub(super) manner: Manner,
    pub(super) started: Instant,
    pub(super) answer: Answer,
}

/// What is asked.
pub(super) struct Asked {
    pub(super) request: Arc<v1::Request>,
    pub(super) position: u64,
    pub(super) deadline: Instant,
}

impl Asked {
    /// Whether it travels on the bulk lane from the start.
    pub(super) fn is_bulky(&self) -> bool {
        self.request.value.len() > frame::BULK_OVER
    }
}

/// One request on its way, once it turns out that the way is not straight.
pub(super) struct Errand {
    pub(super) asked: Asked,
    /// Whoever is asked is to stand in for the owner.
    pub(super) stand_in: bool,
    /// The epoch by which it is sent, where that is not the topology's own.
    pub(super) epoch: Option<Epoch>,
    /// Set once a try may have applied the write: later refusals must not deny that.
    pub(super) unknown: Option<Error>,
    /// A first try whose answer is there, before the nodes are asked in turn.
    pub(super) tried: Option<Tried>,
}

impl Errand {
    pub(super) fn new(asked: Asked, tried: Option<Tried>) -> Self {
        Self { asked, stand_in: false, epoch: None, unknown: None, tried }
    }

    fn manner(&self, wired: &Wired) -> Manner {
        let epoch = self.epoch.unwrap_or(wired.topology.epoch);
        Manner { stand_in: self.stand_in, epoch, bulk: self.asked.is_bulky() }
    }

    /// What a last answer is worth after an earlier try whose fate is unknown: an error from
    /// another node must not deny what may have been done, except that a delete which finds
    /// nothing any more has done what was asked.
    pub(super) fn settle(&mut self, result: Result<v1::Reply>) -> Result<v1::Reply> {
        let (Err(error), Some(unknown)) = (&result, self.unknown.take()) else { return result };
        let deleted =
            self.asked.request.verb() == v1::Verb::Delete && error.code() == Code::NotFound;
        if deleted { Ok(v1::Reply::default()) } else { Err(unknown) }
    }

    /// What to tell the caller when nobody could be made to answer.
    pub(super) fn give_up(&mut self, last: Error) -> Error {
        self.unknown.take().unwrap_or(last).retry_after(COME_AGAIN)
    }
}

impl Router {
    /// Asks one node once, or twice if the value turns out to be large.
    pub(super) async fn try_node(&self, wired: &Wired, node: usize, errand: &mut Errand) -> Next {
        let is_read = errand.asked.request.verb() == v1::Verb::Get;
        let Tried { started, manner, mut answer, .. } = match errand.tried.take() {
            Some(tried) => tried,
            None => self.first_answer(wired, node, errand).await,
        };
        let mut bulk = manner.bulk;
        if is_read && matches!(&answer, Answer::Reply(reply) if reply.use_bulk) {
            bulk = true;
            let manner = Manner { bulk, ..manner };
            answer = self.send(wired, node, &errand.asked, manner, Instant::now()).await;
        }
        let lane = if bulk { Lane::Bulk } else { Lane::Small };
        judge_health(&self.shared, wired, node, &answer, lane, started);
        if let Some((revision, error)) = redefined(&errand.asked.request, &answer) {
            return Next::Redefined(revision, error);
        }
        match self.judge(wired, node, answer) {
            Judged::Done(next) => next,
            Judged::Unknown { error, .. } if is_read => Next::Elsewhere(error),
            Judged::Unknown { lasting, .. }
                if lasting || frame::is_conditional(&errand.asked.request) =>
            {
                Next::Return(Err(outcome_unknown()))
            }
            Judged::Unknown { error, .. } => {
                errand.unknown = Some(outcome_unknown());
                let over = started + self.try_timeout(bulk).mul_f64(SETTLE);
                sleep_until(over.min(errand.asked.deadline)).await;
                Next::Elsewhere(error)
            }
        }
    }

    async fn first_answer(&self, wired: &Wired, node: usize, errand: &Errand) -> Tried {
        let (started, manner) = (Instant::now(), errand.manner(wired));
        let answer = self.send(wired, node, &errand.asked, manner, started).await;
        Tried { node, manner, started, answer }
    }

    pub(super) fn send(
        &self,
        wired: &Wired,
        node: usize,
        asked: &Asked,
        manner: Manner,
        started: Instant,
    ) -> impl Future<Output = Answer> + use<> {
        wired.wires[node].link(manner.bulk).call(self.try_of(asked, manner, started))
    }

    /// What is asked, as one try of it goes over a link.
    pub(super) fn try_of(&self, asked: &Asked, manner: Manner, started: Instant) -> Call {
        Call {
            request: Arc::clone(&asked.request),
            stand_in: manner.stand_in,
            other: None,
            epoch: manner.epoch,
            position: asked.position,
            try_deadline: (started + self.try_timeout(manner.bulk)).min(asked.deadline),
            deadline: asked.deadline,
        }
    }

    fn try_timeout(&self, bulk: bool) -> Duration {
        let timeout = self.shared.persistence.try_timeout;
        if bulk { timeout * BULK_TRY_FACTOR } else { timeout }
    }

    /// What an answer means for the request.
    fn judge(&self, wired: &Wired, node: usize, answer: Answer) -> Judged {
        let id = &wired.topology.member(node).id;
        let unavailable = |text: String| Error::new(Code::NodeUnavailable, text);
        let elsewhere = |error| Judged::Done(Next::Elsewhere(error));
        match answer {
            Answer::Reply(reply) => {
                let error = Error::from_reply(&reply);
                Judged::Done(Next::Return(error.map_or(Ok(reply), Err)))
            }
            Answer::Moved(moved) => Judged::Done(Next::Reroute(moved)),
            Answer::NotStarted(reason) => elsewhere(refused(id, reason)),
            // The node is well, this process asks too much of it: elsewhere would be no better,
            // and a write there would leave an older value with the owner.
            Answer::Unsent(Unsent::Full) => {
                let text = format!("too much is queued for node {id}");
                let full = Error::new(Code::Overloaded, text).retry_after(COME_AGAIN);
                Judged::Done(Next::Return(Err(full)))
            }
            Answer::Unsent(Unsent::Leaving) => {
                elsewhere(unavailable(format!("node {id} is leaving")))
            }
            Answer::Unsent(Unsent::Unreachable(_)) => {
                elsewhere(unavailable(format!("node {id} can't be reached")))
            }
            Answer::Unsent(Unsent::Expired) => elsewhere(timed_out(id)),
            Answer::Lost { pending } => {
                let error = unavailable(format!("the connection to node {id} broke"));
                Judged::Unknown { error, lasting: pending }
            }
            // Hints are not what was asked for.
            Answer::TimedOut { .. } | Answer::Hints(_) => {
                Judged::Unknown { error: timed_out(id), lasting: false }
            }
        }
    }
}

/// Whether an answer says that the request's group is not the one that the sender takes it for, as of
/// a revision that the sender did not know.
pub(super) fn redefined(request: &v1::Request, answer: &Answer) -> Option<(u64, Error)> {
    let Answer::Reply(reply) = answer else { return None };
    let is_gone = reply.code() == v1::Code::GroupNotFound;
    let is_news = is_gone && reply.version_hi > request.group_revision;
    let error = is_news.then(|| Error::from_reply(reply)).flatten()?;
    Some((reply.version_hi, error))
}

/// What an answer to a call that began at `started` says about the node's health.
pub(super) fn judge_health(
    shared: &Shared,
    wired: &Wired,
    node: usize,
    answer: &Answer,
    lane: Lane,
    started: Instant,
) {
    let health = &wired.wires[node].health;
    let why = match answer {
        // It lives, but whoever asks it is sent elsewhere: better not to ask it for a while.
        Answer::NotStarted(Reason::CatchingUp) => "it is not up to date with the cluster",
        Answer::Reply(_) | Answer::Moved(_) | Answer::NotStarted(_) | Answer::Hints(_) => {
            return health.succeeded();
        }
        Answer::Unsent(Unsent::Full | Unsent::Leaving) => return,
        // It waits for something itself, an origin perhaps, and has said so.
        Answer::TimedOut { pending: true } => return,
        // On the bulk lane it is our own bound that keeps operations back.
        Answer::Unsent(Unsent::Expired) if lane == Lane::Bulk => return,
        Answer::Unsent(Unsent::Expired) => "it takes no more operations",
        Answer::Unsent(Unsent::Unreachable(unreachable)) => &unreachable.why,
        Answer::Lost { .. } => "the stream broke",
        Answer::TimedOut { pending: false } => "no answer in time",
    };
    if shared.health.failed(health, wired.wires.len(), why, started) {
        let id = &wired.topology.member(node).id;
        tracing::warn!("node {id} ejected because {why}: calls go to the next one meanwhile");
    }
}

fn refused(id: &NodeId, reason: Reason) -> Error {
    let (code, why) = match reason {
        Reason::Overloaded => (Code::Overloaded, "is overloaded"),
        Reason::Draining => (Code::NodeUnavailable, "is leaving"),
        Reason::Expired => (Code::Timeout, "got it too late"),
        Reason::CatchingUp => (Code::NodeUnavailable, "is not up to date with the cluster"),
        Reason::Unspecified => (Code::NodeUnavailable, "refused it"),
    };
    Error::new(code, format!("node {id} {why}"))
}

fn timed_out(id: &NodeId) -> Error {
    Error::new(Code::Timeout, format!("node {id} did not answer in time"))
}

fn outcome_unknown() -> Error {
    let text = "the node did not answer in time; whether the write was applied is unknown";
    Error::new(Code::Timeout, text)
}
