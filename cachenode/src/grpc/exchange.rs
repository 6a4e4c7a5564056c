//! One Exchange stream, from its Hello to its end.
//!
//! Operations are answered inline, in the order in which they came, and the answers to a batch
//! leave as one batch. Whatever has to wait runs in a task of its own and answers when it is done,
//! so that it never holds up the stream. The stream is always read, even while its peer does not
//! take what is written; that is safe because both sides bound what may be outstanding.

mod waiting;

use std::{sync::Arc, time::Duration};

use common::{
    discovery::NodeId,
    error::{Code, Error},
    link::frame,
    route::Router,
};
use proto::v1::{self, Verb, not_started::Reason, op::Kind};
use tokio::{sync::mpsc, time::timeout};
use tonic::{Status, Streaming};
use uuid::Uuid;

use self::waiting::Waiting;
use super::{
    NodeService,
    behind::Behind,
    deferred::Deferred,
    lent::Lent,
    loading,
    operation::{Later, Moment, NotYet, Sender as OpSender, execute, not_started, unsupported},
    relay,
    stale::MailAge,
    unknown::Looked,
};
use crate::loans::Recall;

/// Batches handed to the transport ahead of its writing them.
const WRITE_AHEAD: usize = 4;
/// Operations of one stream that run in tasks of their own, at most: as many as a peer has
/// outstanding, which may all wait for one load.
const MAX_DEFERRED: usize = 4096;
/// Who tells a hint gives up by itself: there is no use in saying that it takes longer.
const NEVER_PENDING: u32 = u32::MAX;
/// When a peer that was refused for that may come again.
const COME_AGAIN: Duration = Duration::from_secs(1);
/// How long a peer may take for its Hello.
const HELLO_TIME: Duration = Duration::from_secs(5);

type Outbound = mpsc::Sender<Result<v1::Batch, Status>>;

/// Starts serving a stream; the receiver is what goes back to the peer.
pub(super) fn start(
    node: Arc<NodeService>,
    router: Arc<Router>,
    inbound: Streaming<v1::Batch>,
) -> mpsc::Receiver<Result<v1::Batch, Status>> {
    let (outbound, receiver) = mpsc::channel(WRITE_AHEAD);
    tokio::spawn(async move {
        if let Err(status) = serve(node, router, inbound, &outbound).await {
            // The peer may be gone already; then nobody needs to be told.
            let _ = outbound.try_send(Err(status));
        }
    });
    receiver
}

async fn serve(
    node: Arc<NodeService>,
    router: Arc<Router>,
    mut inbound: Streaming<v1::Batch>,
    outbound: &Outbound,
) -> Result<(), Status> {
    let first = timeout(HELLO_TIME, inbound.message())
        .await
        .map_err(|_| Status::deadline_exceeded("no Hello in time"))??;
    let hello = first.as_ref().and_then(|batch| batch.hello.as_ref());
    frame::accept_hello(&node.identity, hello)
        .map_err(|error| Status::failed_precondition(error.to_string()))?;
    let lane = hello.map_or(v1::Lane::Small, v1::Hello::lane);
    let (deferred, answers) = mpsc::channel(MAX_DEFERRED);
    let mut stream = Stream {
        router,
        lane,
        peer: hello.and_then(node_of),
        lent: hello.and_then(|hello| Lent::to(hello, &node.clock)),
        mail: MailAge::default(),
        behind: Behind::default(),
        waiting: Waiting::default(),
        deferred,
        node,
    };
    stream.hello(outbound)?;
    stream.receive(first.unwrap_or_default());
    stream.pump(inbound, outbound, answers).await
}

/// Who opened a stream, if that is a node.
fn node_of(hello: &v1::Hello) -> Option<(NodeId, Uuid)> {
    let id = hello.id.parse().ok()?;
    (hello.role() == v1::Role::Node).then(|| (id, frame::uuid_of(&hello.instance)))
}

struct Stream {
    node: Arc<NodeService>,
    /// This worker's links to other nodes.
    router: Arc<Router>,
    lane: v1::Lane,
    peer: Option<(NodeId, Uuid)>,
    mail: MailAge,
    behind: Behind,
    /// What was lent to the peer.
    lent: Option<Lent>,
    waiting: Waiting,
    deferred: mpsc::Sender<v1::Op>,
}

impl Stream {
    fn hello(&self, outbound: &Outbound) -> Result<(), Status> {
        let node = &self.node;
        let epoch = node.topology().epoch;
        let hello = frame::hello(&node.identity, Uuid::nil(), self.lane, Some(&epoch));
        let batch = v1::Batch { hello: Some(hello), ..self.batch(Vec::new()) };
        outbound.try_send(Ok(batch)).map_err(|_| Status::cancelled("the peer is gone"))
    }

    /// Serves until the peer ends the stream. A peer that has heard Goodbye ends it when it has
    /// all its answers; the process's deadline bounds the wait.
    async fn pump(
        &mut self,
        mut inbound: Streaming<v1::Batch>,
        outbound: &Outbound,
        mut answers: mpsc::Receiver<v1::Op>,
    ) -> Result<(), Status> {
        let mut said_goodbye = false;
        // Made once: a new one would queue for the token's lock at every turn.
        let leaving = self.node.leaving.clone().cancelled_owned();
        tokio::pin!(leaving);
        loop {
            self.flush(outbound);
            let blocked = !self.waiting.is_empty();
            tokio::select! {
                received = inbound.message() => match received? {
                    Some(batch) => self.receive(batch),
                    None => {
                        self.finish(outbound, &mut answers).await;
                        return Ok(());
                    }
                },
                Some(answer) = answers.recv() => self.waiting.push(answer),
                Some(ops) = Lent::next(&mut self.lent) => {
                    ops.into_iter().for_each(|op| self.waiting.push(op));
                }
                writable = writable(outbound), if blocked => if !writable {
                    return Ok(());
                },
                () = &mut leaving, if !said_goodbye => {
                    said_goodbye = true;
                    self.waiting.push(v1::Op { id: 0, kind: Some(Kind::Goodbye(v1::Goodbye {})) });
                }
            }
            if self.waiting.is_over_bounds() {
                return Err(Status::resource_exhausted("answers are not read"));
            }
            if self.lent.as_mut().is_some_and(Lent::is_over_bounds) {
                return Err(Status::resource_exhausted("invalidations are not taken"));
            }
        }
    }

    /// The peer has ended its side, and still gets what it waits for, if it reads it.
    async fn finish(&mut self, outbound: &Outbound, answers: &mut mpsc::Receiver<v1::Op>) {
        loop {
            self.flush(outbound);
            let blocked = !self.waiting.is_empty();
            let deferred = self.deferred.capacity() < self.deferred.max_capacity();
            if !blocked && !deferred {
                return;
            }
            tokio::select! {
                Some(answer) = answers.recv(), if deferred => self.waiting.push(answer),
                writable = writable(outbound), if blocked => if !writable {
                    return;
                },
                () = outbound.closed() => return,
            }
        }
    }

    fn receive(&mut self, batch: v1::Batch) {
        let age = self.mail.of(&batch);
        let epoch = batch.epoch.unwrap_or_default();
        let moment = Moment::of(&self.node);
        // Not what nodes ask: one that is refused a relay stands in, which is more work, not less.
        // And not large values: those are on their way for long without waiting anywhere.
        let may_be_late = self.peer.is_none() && self.lane == v1::Lane::Small;
        let is_late = may_be_late && self.behind.refuses(age, moment.now);
        let holder = self.lent.as_ref().map(|lent| Arc::clone(&lent.holder));
        let sender = OpSender {
            epoch: &epoch,
            age,
            lane: self.lane,
            moment: &moment,
            pending: false,
            met: false,
            looked: Looked::NotYet,
            stands_in_for: None,
            holder: holder.as_ref(),
        };
        for v1::Op { id, kind } in batch.ops {
            let answer = match kind {
                Some(Kind::Request(_)) if self.waiting.is_crowded() => {
                    Some(overloaded("too many answers wait to be read"))
                }
                Some(Kind::Request(_)) if is_late => {
                    self.node.metrics.refused_late.inc();
                    Some(overloaded("this node is behind with its work"))
                }
                Some(Kind::Request(request)) => self.request(id, request, &sender),
                Some(Kind::Ping(_)) => Some(Kind::Pong(v1::Pong { draining: moment.leaving })),
                // What was not deferred is done by now, and what was will not take long.
                Some(Kind::Cancel(_)) => None,
                Some(Kind::InvalidateAck(_)) => {
                    self.lent.iter_mut().for_each(|lent| lent.confirmed(id));
                    None
                }
                Some(Kind::Takeover(_)) if self.peer.is_some() => {
                    Some(self.node.taken_over(&epoch))
                }
                Some(Kind::Hint(hint)) if self.peer.is_some() => {
                    let (reply, recall) = self.node.take_hints(&hint);
                    self.acknowledge(id, Kind::Reply(reply), Some(recall), NEVER_PENDING)
                }
                Some(Kind::HintsWanted(wanted)) => Some(self.hints(&wanted)),
                _ => Some(Kind::Reply(unsupported("operation"))),
            };
            if let Some(kind) = answer {
                self.waiting.push(v1::Op { id, kind: Some(kind) });
            }
        }
    }

    /// The hints for the node that opened this stream, which stood still.
    fn hints(&self, wanted: &v1::HintsWanted) -> Kind {
        let Some((id, instance)) = &self.peer else {
            return Kind::Reply(unsupported("operation"));
        };
        Kind::Hint(self.node.hints_for(&self.router, (id, *instance), wanted))
    }

    /// Does a request; `None`: it will answer later.
    fn request(&self, id: u64, request: v1::Request, sender: &OpSender<'_>) -> Option<Kind> {
        let is_write = request.verb() != Verb::Get;
        // A write that is applied and can't wait for its acknowledgement could not be answered.
        if is_write && self.deferred.capacity() == 0 {
            return Some(full(&request));
        }
        match execute(&self.node, &request, sender) {
            Ok(kind) if is_write => {
                let recall = self.node.recall(&request, &kind);
                self.acknowledge(id, kind, recall, request.try_ms)
            }
            Ok(kind) => Some(kind),
            Err(NotYet::Later(Later::PassedOver)) => {
                match relay::at_once(&self.node, &self.router, &request, sender) {
                    Ok(kind) => {
                        // What this node lent as the owner before.
                        let recall = self.node.recall(&request, &kind);
                        self.acknowledge(id, kind, recall, request.try_ms)
                    }
                    Err(why) => self.wait(id, request, sender, why),
                }
            }
            Err(why) => self.wait(id, request, sender, why),
        }
    }

    /// Answers with what is at hand while its key is loaded, if that may be, or later.
    fn wait(
        &self,
        id: u64,
        request: v1::Request,
        sender: &OpSender<'_>,
        mut why: NotYet,
    ) -> Option<Kind> {
        if let NotYet::Loading(waiting) = &mut why
            && let Some(reply) = loading::at_once(&self.node, &request, self.lane, waiting)
        {
            return Some(Kind::Reply(reply));
        }
        self.defer(id, request, sender, why)
    }

    /// Gives an answer when everybody has confirmed who may hold what it replaced. Its requester
    /// hears `pending` only if that takes most of its try: usually it is a matter of a millisecond,
    /// and if this node dies meanwhile, the requester may still go elsewhere.
    fn acknowledge(
        &self,
        id: u64,
        kind: Kind,
        recall: Option<Recall>,
        try_ms: u32,
    ) -> Option<Kind> {
        let now = self.node.clock.monotonic();
        let Some(recall) = recall.filter(|recall| !recall.is_over(now)) else { return Some(kind) };
        let Ok(permit) = self.deferred.clone().try_reserve_owned() else {
            let text = "too much waits on this stream; whether it was applied is unknown";
            return Some(Kind::Reply(Error::new(Code::Timeout, text).to_reply()));
        };
        let (node, answers) = (Arc::clone(&self.node), self.deferred.clone());
        tokio::spawn(async move {
            let waiting = node.wait_for(&recall);
            tokio::pin!(waiting);
            if timeout(Duration::from_millis(try_ms.into()) / 2, &mut waiting).await.is_err() {
                // Without room for it the requester tries again, and hears the same.
                let _ = answers.try_send(v1::Op { id, kind: Some(Kind::Pending(v1::Pending {})) });
                waiting.await;
            }
            permit.send(v1::Op { id, kind: Some(kind) });
        });
        None
    }

    /// Does a request in a task of its own. Whoever is to wait for longer than its try hears that.
    fn defer(
        &self,
        id: u64,
        request: v1::Request,
        sender: &OpSender<'_>,
        why: NotYet,
    ) -> Option<Kind> {
        let Ok(permit) = self.deferred.clone().try_reserve_owned() else {
            return Some(full(&request));
        };
        let deferred = Deferred::new(&self.node, &self.router, request, sender, &why);
        let pending = deferred.pending;
        tokio::spawn(async move {
            let kind = deferred.run(why).await;
            permit.send(v1::Op { id, kind: Some(kind) });
        });
        pending.then_some(Kind::Pending(v1::Pending {}))
    }

    fn flush(&mut self, outbound: &Outbound) {
        while !self.waiting.is_empty() {
            let Ok(permit) = outbound.try_reserve() else { return };
            let ops = self.waiting.next_batch();
            permit.send(Ok(self.batch(ops)));
        }
    }

    fn batch(&self, ops: Vec<v1::Op>) -> v1::Batch {
        let stamp_us = self.node.clock.monotonic().as_micros() as u64;
        let epoch = Some(self.node.topology().epoch.to_wire());
        v1::Batch { hello: None, epoch, stamp_us, ops }
    }
}

/// A refusal that is final: `not_started` would be tried at the next node, which could only ask this
/// one again.
fn overloaded(why: &'static str) -> Kind {
    Kind::Reply(Error::new(Code::Overloaded, why).retry_after(COME_AGAIN).to_reply())
}

/// The refusal of what would have to wait where too much does. What came past its owner ends here: the next
/// node could only ask this one whether it holds anything.
fn full(request: &v1::Request) -> Kind {
    if request.stand_in {
        return overloaded("too much waits on this stream");
    }
    not_started(Reason::Overloaded)
}

async fn writable(outbound: &Outbound) -> bool {
    outbound.reserve().await.is_ok()
}
