//! From a key to an answer: owner first, then the next nodes of the preference list.
//!
//! What may be tried elsewhere follows from what is certain (docs/protocol.md): an operation that
//! was refused before it began may go anywhere; a read may be repeated; an unconditional write may
//! be repeated once its try is certainly over, because it carries an op id; a conditional write
//! whose fate is unknown is reported as such. Retries come out of a budget shared by all workers.
//!
//! Dropping a call's future gives up its answer; a write may still be applied.

mod ask;
mod attempt;
mod budget;
mod foreign;
mod lender;
mod many;
mod member;
mod metrics;
mod probe;
mod wired;

use std::{fmt, sync::Arc, time::Duration};

use proto::v1;
use tokio::{runtime::Handle, time::Instant};

use crate::{
    clock::Clock,
    discovery::{NodeId, NodeRecord},
    error::{Code, Error, Result},
    health::HealthTable,
    link::{Answer, Call, Identity, frame::MAX_VALUE_BYTES},
    near::Holder,
    topology::{Epoch, Topologies, Topology},
};

use ask::introduce;
pub use ask::{Ask, Write, version_of};
use attempt::{Asked, Errand, Manner, Next, Tried};
pub use budget::RetryBudget;
use foreign::Foreign;
pub use lender::Lender;
pub use many::{Done, Event, Large, Many};
pub use member::{Handed, Member};
pub use metrics::RouteMetrics;
pub use probe::{Probed, probe_members};
use wired::{Wired, Wiring};

/// When a refused caller may come again.
const COME_AGAIN: Duration = Duration::from_secs(1);

/// How often a request may hear that its key has moved.
const MAX_MOVES: usize = 2;

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
    foreign: Foreign,
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
            foreign: Foreign::default(),
        }
    }

    /// Somebody goes by another generation of the cluster state, with which this process's can't
    /// be compared: reads the state again, unless that was done a moment ago.
    ///
    /// # Errors
    /// [`Code::Timeout`] when it can't be read within `patience`.
    pub async fn meet_generation(&self, patience: Duration) -> Result<()> {
        self.foreign.meet(&self.topologies, patience).await
    }
}

/// An answer, and who gave it.
pub struct Answered {
    /// What the node replied; its code is OK.
    pub reply: v1::Reply,
    wired: Arc<Wired>,
    node: usize,
    position: u64,
}

impl fmt::Debug for Answered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let node = &self.node().id;
        f.debug_struct("Answered").field("reply", &self.reply).field("node", node).finish()
    }
}

impl Answered {
    /// Who answered.
    pub fn node(&self) -> &NodeRecord {
        self.wired.topology.member(self.node)
    }

    /// Who lent the value, if it was lent: the owner, by the topology by which it was asked.
    pub fn lender(&self) -> Option<Lender> {
        let topology = &self.wired.topology;
        let is_owner = topology.ring.owner(self.position) == Some(self.node);
        let is_lent = self.reply.loan_ms > 0 && is_owner;
        is_lent.then(|| Lender::new(Arc::clone(topology), self.node))
    }
}

/// Routes the operations of one worker over that worker's own links.
pub struct Router {
    shared: Arc<Shared>,
    wiring: Wiring,
    op_ids: ask::OpIds,
}

impl Router {
    /// A router whose links live on `runtime`.
    pub fn new(shared: Arc<Shared>, runtime: Handle) -> Self {
        Self::wired_with(Wiring::new(shared.identity.clone(), runtime, None), shared)
    }

    /// The same for a worker to whom nodes may lend values.
    pub fn lending(shared: Arc<Shared>, runtime: Handle, holder: Arc<dyn Holder>) -> Self {
        Self::wired_with(Wiring::new(shared.identity.clone(), runtime, Some(holder)), shared)
    }

    fn wired_with(wiring: Wiring, shared: Arc<Shared>) -> Self {
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
        let wired = self.wired();
        let request = self.named(ask, &wired.topology).map_err(|(_, error)| error)?;
        let position = wired.topology.ring.position(&request.group, &request.key);
        let asked = Asked { request, position, deadline };
        let Some(node) = wired.reachable_owner(position) else {
            let mut errand = Errand::new(asked, None);
            return Box::pin(async move { self.carry_out(&mut errand, wired).await }).await;
        };
        let started = Instant::now();
        let manner =
            Manner { stand_in: false, epoch: wired.topology.epoch, bulk: asked.is_bulky() };
        match self.send(&wired, node, &asked, manner, started).await {
            Answer::Reply(reply) if is_plain(&reply) => {
                wired.wires[node].health.succeeded();
                Ok(Answered { reply, wired, node, position })
            }
            answer => {
                let tried = Tried { node, manner, started, answer };
                let mut errand = Errand::new(asked, Some(tried));
                Box::pin(async move { self.carry_out(&mut errand, wired).await }).await
            }
        }
    }

    /// What is asked, with a name if it needs one, of the group as it is known here; or why it can't be
    /// sent.
    fn named(
        &self,
        ask: Ask,
        topology: &Topology,
    ) -> std::result::Result<Arc<v1::Request>, (Arc<v1::Request>, Error)> {
        let mut request = ask.into_request();
        if let Err(error) = fits_a_frame(&request) {
            return Err((request, error));
        }
        self.shared.budget.earned();
        self.op_ids.name(&mut request);
        introduce(&mut request, topology);
        Ok(request)
    }

    /// Brings an errand to its end, by this topology to begin with. Apart from [`Router::call`],
    /// whose future is one of every request and had better be small.
    async fn carry_out(&self, errand: &mut Errand, mut wired: Arc<Wired>) -> Result<Answered> {
        let deadline = errand.asked.deadline;
        let mut named = None;
        let mut moves = 0;
        let mut is_met = false;
        loop {
            let Asked { request, position, .. } = &mut errand.asked;
            *position = wired.topology.ring.position(&request.group, &request.key);
            let routed = match named.take() {
                Some(nodes) => self.in_turn(&wired, nodes, errand).await?,
                None => self.along_preference(&wired, errand).await?,
            };
            let (moved, mover) = match routed {
                Routed::Answered(reply, node) => {
                    return Ok(Answered { reply, wired, node, position: errand.asked.position });
                }
                Routed::Redefined(revision, error) => {
                    let met = self.meet_group(&mut errand.asked, revision);
                    let met = if is_met { Ok(false) } else { met.await };
                    if let Some(error) = met.map_or_else(Some, |met| (!met).then_some(error)) {
                        return Err(errand.unknown.take().unwrap_or(error));
                    }
                    is_met = true;
                    wired = self.wired();
                    continue;
                }
                Routed::Moved(moved, mover) => (moved, mover),
            };
            moves += 1;
            if moves > MAX_MOVES {
                return Err(errand.give_up(disagreement(&moved)));
            }
            self.shared.metrics.moved.inc();
            if moves == 1 && self.catch_up(&moved, deadline).await {
                wired = self.wired();
                continue;
            }
            if Instant::now() >= deadline {
                let late = Error::new(Code::Timeout, "the new ring could not be read in time");
                return Err(errand.give_up(late));
            }
            // Whoever can't read the cluster state, or hears it twice, goes by what it was told.
            // The node that named the owner knows it better: it is to relay, if need be.
            let owner = moved.owner.parse().ok().and_then(|id| wired.topology.index_of(&id));
            let owner = owner.filter(|&owner| wired.wires[owner].health.callable());
            named = Some(owner.map(|owner| (owner, false)).into_iter().chain([(mover, true)]));
            errand.epoch = moved.epoch.as_ref().and_then(|epoch| Epoch::from_wire(epoch).ok());
        }
    }

    /// Asks one member whether it answers, and tells the health table.
    async fn ping(&self, wired: &Wired, node: usize, timeout: Duration) {
        let started = Instant::now();
        let call = Call::ping(wired.topology.epoch, started + timeout);
        let wire = &wired.wires[node];
        let answered = matches!(wire.small().call(call).await, Answer::Reply(_));
        if !answered {
            self.shared.health.probe_failed(&wire.health);
        } else if let Some(away) = self.shared.health.probed(&wire.health, started.elapsed()) {
            // Not only after an ejection that was there when the probe was sent.
            tell_back(&wired.topology.member(node).id, away);
        }
    }

    fn wired(&self) -> Arc<Wired> {
        self.wiring.now(&self.shared.topologies, &self.shared.health)
    }

    /// Makes sure that the topology is at least as new as the one by which a node refused. False:
    /// it can't be, or not within a try's time; then that is not tried again for a moment.
    async fn catch_up(&self, moved: &v1::Moved, deadline: Instant) -> bool {
        let Some(told) = &moved.epoch else { return true };
        let known = self.shared.topologies.load().epoch;
        let comparable = known.generation.as_bytes()[..] == told.generation;
        // When a ring changes many requests hear it at once; only the first has to read it.
        if comparable && known.as_of >= told.as_of {
            return true;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        let patience = left.min(self.shared.persistence.try_timeout);
        if comparable {
            self.shared.topologies.catch_up_within(told.as_of, patience).await.is_ok()
        } else {
            self.shared.meet_generation(patience).await.is_ok()
        }
    }

    /// A node knows the group's name as another group's, as of a revision that the request does not
    /// know of: reads the state up to there. Whether there is now another group to ask for.
    ///
    /// # Errors
    /// [`Code::NodeUnavailable`] when it can't be read: there may be a group of that name.
    async fn meet_group(&self, asked: &mut Asked, revision: u64) -> Result<bool> {
        let topologies = &self.shared.topologies;
        let mut topology = topologies.load();
        // Many requests hear it at once; only the first has to read it.
        if topology.epoch.as_of < revision {
            let left = asked.deadline.saturating_duration_since(Instant::now());
            let patience = left.min(self.shared.persistence.try_timeout);
            topology = topologies.catch_up_within(revision, patience).await.map_err(|error| {
                let text = "a node knows another group of that name, and the cluster state can't be \
                            read now";
                Error::new(Code::NodeUnavailable, text).caused_by(error).retry_after(COME_AGAIN)
            })?;
        }
        let before = (asked.request.group_id_hi, asked.request.group_id_lo);
        introduce(&mut asked.request, &topology);
        Ok(before != (asked.request.group_id_hi, asked.request.group_id_lo))
    }

    async fn along_preference(&self, wired: &Wired, errand: &mut Errand) -> Result<Routed> {
        let Some((owner, candidates)) = wired.candidates(errand.asked.position) else {
            return Err(no_nodes());
        };
        let tries = 1 + self.shared.persistence.max_retries;
        // A try that is over already counts as the first, whoever would be asked first by now.
        let tried = errand.tried.as_ref().map(|tried| (tried.node, tried.manner.stand_in));
        let others = candidates
            .filter(|&node| tried.is_none_or(|(before, _)| node != before))
            .map(|node| (node, node != owner));
        let asked = tried.into_iter().chain(others).take(tries);
        self.in_turn(wired, asked, errand).await
    }

    /// Asks each of these nodes until one answers; those marked so are to stand in for the owner.
    async fn in_turn(
        &self,
        wired: &Wired,
        nodes: impl Iterator<Item = (usize, bool)>,
        errand: &mut Errand,
    ) -> Result<Routed> {
        let mut failure = None;
        for (node, stand_in) in nodes {
            if failure.is_some() && !self.may_retry(errand.asked.deadline) {
                break;
            }
            errand.stand_in = stand_in;
            if stand_in && errand.asked.request.loan_ms > 0 {
                // Only owners lend.
                Arc::make_mut(&mut errand.asked.request).loan_ms = 0;
            }
            match self.try_node(wired, node, errand).await {
                Next::Return(result) => {
                    return Ok(Routed::Answered(errand.settle(result)?, node));
                }
                Next::Reroute(moved) => return Ok(Routed::Moved(moved, node)),
                Next::Redefined(revision, error) => {
                    return Ok(Routed::Redefined(revision, error));
                }
                Next::Elsewhere(error) => failure = Some(error),
            }
        }
        let unreachable = || Error::new(Code::NodeUnavailable, "no node could be reached");
        Err(errand.give_up(failure.unwrap_or_else(unreachable)))
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
}

/// A request that no frame can hold would break the stream for everybody's operations.
fn fits_a_frame(request: &v1::Request) -> Result<()> {
    if request.value.len() <= MAX_VALUE_BYTES {
        return Ok(());
    }
    let text = format!("the value is larger than {MAX_VALUE_BYTES} bytes");
    Err(Error::new(Code::TooLarge, text))
}

fn no_nodes() -> Error {
    let text = "the cluster has no nodes, as far as this process knows";
    Error::new(Code::NoNodes, text).retry_after(COME_AGAIN)
}

/// Whether it is all there is to say.
fn is_plain(reply: &v1::Reply) -> bool {
    reply.code == v1::Code::Ok as i32 && !reply.use_bulk
}

fn tell_back(id: &NodeId, away: Duration) {
    tracing::info!("node {id} is back after {} s", away.as_secs());
}

fn disagreement(moved: &v1::Moved) -> Error {
    let text = format!("the nodes do not agree yet that {} owns it", moved.owner);
    Error::new(Code::NodeUnavailable, text)
}

enum Routed {
    Answered(v1::Reply, usize),
    /// And by which node.
    Moved(v1::Moved, usize),
    /// The group is another one as of that revision.
    Redefined(u64, Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size_of_future<F>(_: fn(&'static Router, Ask, Instant) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn a_calls_future_is_small() {
        // It is part of every request's; what is rare in it has a box of its own.
        let size = size_of_future(Router::call);
        assert!(size <= 360, "{size} bytes");
    }
}
