//! From a key to an answer: owner first, then the next nodes of the preference list.
//!
//! What may be tried elsewhere follows from what is certain (docs/protocol.md): an operation that
//! was refused before it began may go anywhere; a read may be repeated; an unconditional write may
//! be repeated once its try is certainly over, because it carries an op id; a conditional write
//! whose fate is unknown is reported as such. Retries come out of a budget shared by all workers.
//!
//! Dropping a call's future gives up its answer; a write may still be applied.

mod ask;
mod budget;
mod metrics;
mod probe;
mod wired;

use std::{sync::Arc, time::Duration};

use proto::v1::{self, not_started::Reason};
use tokio::{
    runtime::Handle,
    time::{Instant, sleep_until},
};

use crate::{
    clock::Clock,
    error::{Code, Error, Result},
    health::HealthTable,
    link::{Answer, Call, Identity, Unsent, frame},
    topology::{Topologies, Topology},
};

pub use ask::{Ask, Write, version_of};
pub use budget::RetryBudget;
pub use metrics::RouteMetrics;
pub use probe::probe_members;
use wired::{Wire, Wired, Wiring};

/// How much longer than a small try one on the bulk lane may take.
const BULK_TRY_FACTOR: u32 = 4;
/// How much longer than its try a write waits before it is sent elsewhere: what is still on its
/// way by then is refused by its receiver as stale.
const SETTLE: f64 = 1.1;
/// When a refused caller may come again.
const COME_AGAIN: Duration = Duration::from_secs(1);

/// How persistently a router tries.
#[derive(Debug, Clone, Copy)]
pub struct Persistence {
    /// How long one node may take to answer or to say that it is loading.
    pub try_timeout: Duration,
    /// Further nodes tried after the first.
    pub max_retries: usize,
}

/// What all workers of a process share.
pub struct Shared {
    /// Who this process is.
    pub identity: Identity,
    /// The ring and its members.
    pub topologies: Topologies,
    /// Whom to call.
    pub health: Arc<HealthTable>,
    /// How often a request may be tried again.
    pub budget: RetryBudget,
    /// What happened.
    pub metrics: RouteMetrics,
    /// How persistently to try.
    pub persistence: Persistence,
}

impl Shared {
    /// Everything a process's routers share, all nodes well and the budget full.
    pub fn new(
        identity: Identity,
        topologies: Topologies,
        persistence: Persistence,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            identity,
            topologies,
            health: Arc::new(HealthTable::new(Arc::clone(&clock))),
            budget: RetryBudget::new(clock),
            metrics: RouteMetrics::default(),
            persistence,
        }
    }
}

/// An answer, and who gave it.
#[derive(Debug)]
pub struct Answered {
    /// What the node replied; its code is OK.
    pub reply: v1::Reply,
    /// The topology by which it was routed.
    pub topology: Arc<Topology>,
    /// The node's index in that topology.
    pub node: usize,
}

/// Routes the operations of one worker over that worker's own links.
pub struct Router {
    shared: Arc<Shared>,
    wiring: Wiring,
    op_ids: ask::OpIds,
}

/// What to do after a try.
enum Next {
    Return(Result<v1::Reply>),
    /// The ring has moved on: look it up again.
    Reroute(v1::Moved),
    /// Try the next node; the error is for when there is none.
    Elsewhere(Error),
}

impl Router {
    /// A router whose links live on `runtime`.
    pub fn new(shared: Arc<Shared>, runtime: Handle) -> Self {
        let wiring = Wiring::new(shared.identity.clone(), runtime);
        Self { shared, wiring, op_ids: ask::OpIds::new() }
    }

    /// What this router shares with the other workers'.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Does one operation by `deadline`.
    ///
    /// # Errors
    /// The node's own errors, and [`Code::NoNodes`], [`Code::NodeUnavailable`],
    /// [`Code::Overloaded`] or [`Code::Timeout`] when none could be made to answer. After a
    /// timeout the outcome of a write is unknown.
    pub async fn call(&self, ask: Ask, deadline: Instant) -> Result<Answered> {
        self.shared.budget.earned();
        let mut request = ask.into_request();
        self.op_ids.name(&mut request);
        let mut wired = self.wired();
        let mut rerouted = false;
        loop {
            let position = wired.topology.ring.position(&request.group, &request.key);
            match self.along_preference(&wired, &request, position, deadline).await? {
                Routed::Answered(reply, node) => {
                    return Ok(Answered { reply, topology: Arc::clone(&wired.topology), node });
                }
                Routed::Moved(moved) if !rerouted => {
                    rerouted = true;
                    self.shared.metrics.moved.inc();
                    self.catch_up(&moved).await?;
                    wired = self.wired();
                }
                Routed::Moved(moved) => {
                    let text = format!("the nodes do not agree yet that {} owns it", moved.owner);
                    return Err(Error::new(Code::NodeUnavailable, text).retry_after(COME_AGAIN));
                }
            }
        }
    }

    /// Asks one member whether it answers, and tells the health table.
    async fn ping(&self, wired: &Wired, node: usize, timeout: Duration) -> bool {
        let started = Instant::now();
        let call = Call::ping(wired.topology.epoch, started + timeout);
        let wire = &wired.wires[node];
        let answered = matches!(wire.small().call(call).await, Answer::Reply(_));
        if answered {
            self.shared.health.probed(&wire.health, started.elapsed());
        } else {
            self.shared.health.probe_failed(&wire.health);
        }
        answered
    }

    fn wired(&self) -> Arc<Wired> {
        self.wiring.to(self.shared.topologies.load(), &self.shared.health)
    }

    async fn catch_up(&self, moved: &v1::Moved) -> Result<()> {
        let as_of = moved.epoch.as_ref().map_or(0, |epoch| epoch.as_of);
        self.shared.topologies.catch_up(as_of).await.map(drop)
    }

    async fn along_preference(
        &self,
        wired: &Wired,
        request: &v1::Request,
        position: u64,
        deadline: Instant,
    ) -> Result<Routed> {
        let Some(owner) = wired.topology.ring.owner(position) else {
            let text = "the cluster has no nodes, as far as this process knows";
            return Err(Error::new(Code::NoNodes, text).retry_after(COME_AGAIN));
        };
        let mut failure = None;
        let tries = 1 + self.shared.persistence.max_retries;
        for node in wired.candidates(position).take(tries) {
            if failure.is_some() && !self.may_retry(deadline) {
                break;
            }
            let mut request = request.clone();
            request.stand_in = node != owner;
            match self.try_node(wired, node, request, position, deadline).await {
                Next::Return(result) => return Ok(Routed::Answered(result?, node)),
                Next::Reroute(moved) => return Ok(Routed::Moved(moved)),
                Next::Elsewhere(error) => failure = Some(error),
            }
        }
        let unreachable = || Error::new(Code::NodeUnavailable, "no node could be reached");
        Err(failure.unwrap_or_else(unreachable).retry_after(COME_AGAIN))
    }

    fn may_retry(&self, deadline: Instant) -> bool {
        if Instant::now() >= deadline {
            return false;
        }
        let granted = self.shared.budget.spend();
        let counter =
            if granted { &self.shared.metrics.retries } else { &self.shared.metrics.budget_empty };
        counter.inc();
        granted
    }

    async fn try_node(
        &self,
        wired: &Wired,
        node: usize,
        request: v1::Request,
        position: u64,
        deadline: Instant,
    ) -> Next {
        let started = Instant::now();
        let wire = &wired.wires[node];
        let mut bulk = request.value.len() > frame::BULK_OVER;
        let (verb, conditional) = (request.verb(), request.condition.is_some());
        let again = (verb == v1::Verb::Get).then(|| request.clone());
        let mut answer = self.send(wire, wired, request, position, deadline, bulk).await;
        if let (Answer::Reply(v1::Reply { use_bulk: true, .. }), Some(request)) = (&answer, again) {
            bulk = true;
            answer = self.send(wire, wired, request, position, deadline, bulk).await;
        }
        let next = self.judge(wired, node, answer);
        let is_write = verb != v1::Verb::Get;
        match next {
            Judged::Done(next) => next,
            Judged::Unknown(_) if is_write && conditional => Next::Return(Err(Error::new(
                Code::Timeout,
                "the node did not answer in time; whether the write was applied is unknown",
            ))),
            Judged::Unknown(error) => {
                if is_write {
                    let over = started + self.try_timeout(bulk).mul_f64(SETTLE);
                    sleep_until(over.min(deadline)).await;
                }
                Next::Elsewhere(error)
            }
        }
    }

    async fn send(
        &self,
        wire: &Wire,
        wired: &Wired,
        request: v1::Request,
        position: u64,
        deadline: Instant,
        bulk: bool,
    ) -> Answer {
        let try_deadline = (Instant::now() + self.try_timeout(bulk)).min(deadline);
        let epoch = wired.topology.epoch;
        let link = if bulk { wire.bulk() } else { wire.small() };
        link.call(Call { request, epoch, position, try_deadline, deadline }).await
    }

    fn try_timeout(&self, bulk: bool) -> Duration {
        let timeout = self.shared.persistence.try_timeout;
        if bulk { timeout * BULK_TRY_FACTOR } else { timeout }
    }

    /// What an answer means for the request, and for the node's health.
    fn judge(&self, wired: &Wired, node: usize, answer: Answer) -> Judged {
        let wire = &wired.wires[node];
        let id = &wired.topology.member(node).id;
        let blame = |why: &str| {
            if self.shared.health.failed(&wire.health, wired.wires.len(), why) {
                tracing::warn!(node = %id, why, "node ejected: calls go to the next one meanwhile");
            }
        };
        let unavailable = |text: String| Error::new(Code::NodeUnavailable, text);
        match answer {
            Answer::Reply(reply) => {
                wire.health.succeeded();
                let error = Error::from_reply(&reply);
                Judged::Done(Next::Return(error.map_or(Ok(reply), Err)))
            }
            Answer::Moved(moved) => {
                wire.health.succeeded();
                Judged::Done(Next::Reroute(moved))
            }
            Answer::NotStarted(reason) => Judged::Done(Next::Elsewhere(refused(id, reason))),
            Answer::Unsent(Unsent::Full) => Judged::Done(Next::Elsewhere(Error::new(
                Code::Overloaded,
                format!("too much is queued for node {id}"),
            ))),
            Answer::Unsent(Unsent::Leaving) => {
                Judged::Done(Next::Elsewhere(unavailable(format!("node {id} is leaving"))))
            }
            Answer::Unsent(Unsent::Unreachable(why)) => {
                blame(&why);
                Judged::Done(Next::Elsewhere(unavailable(format!("node {id} can't be reached"))))
            }
            Answer::Unsent(Unsent::Expired) => {
                blame("it takes no more operations");
                Judged::Done(Next::Elsewhere(timed_out(id)))
            }
            Answer::Lost => {
                blame("the stream broke");
                Judged::Unknown(unavailable(format!("the connection to node {id} broke")))
            }
            Answer::TimedOut => {
                blame("no answer in time");
                Judged::Unknown(timed_out(id))
            }
        }
    }
}

enum Routed {
    Answered(v1::Reply, usize),
    Moved(v1::Moved),
}

/// An answer, by whether the operation's fate is known.
enum Judged {
    Done(Next),
    Unknown(Error),
}

fn refused(id: &crate::discovery::NodeId, reason: Reason) -> Error {
    let (code, why) = match reason {
        Reason::Overloaded => (Code::Overloaded, "is overloaded"),
        Reason::Draining => (Code::NodeUnavailable, "is leaving"),
        Reason::Expired => (Code::Timeout, "got it too late"),
        Reason::CatchingUp => (Code::NodeUnavailable, "is not up to date with the cluster"),
        Reason::Unspecified => (Code::NodeUnavailable, "refused it"),
    };
    Error::new(code, format!("node {id} {why}"))
}

fn timed_out(id: &crate::discovery::NodeId) -> Error {
    Error::new(Code::Timeout, format!("node {id} did not answer in time"))
}
