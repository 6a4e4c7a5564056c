//! The task of a link: it alone owns the queue, the stream and the waiters.

use std::{sync::Arc, time::Duration};

use proto::v1::{self, op::Kind};
use tokio::{
    sync::mpsc,
    task::yield_now,
    time::{Instant, Interval, MissedTickBehavior, interval, sleep_until},
};
use tonic::{Status, Streaming};

use super::{
    Answer, IDLE_CLOSE, Identity, Peer, Submission, Unreachable, Unsent, batch,
    connect::{self, Open},
    queue::Queue,
    slab::Slab,
    wire::Outgoing,
};
use crate::near::Holder;

/// How exactly deadlines are kept.
const TICK: Duration = Duration::from_millis(10);
/// A tick that comes so late says that this process stood still.
const STOOD_STILL: Duration = Duration::from_millis(50);
/// Operations on the small lane that have left and are not answered, at most.
const MAX_OUTSTANDING: usize = 4096;
/// The same on the bulk lane, where each may bring a large value.
const MAX_OUTSTANDING_BULK: usize = 64;
/// Cancellations and confirmations that wait to leave, at most: a node that goes on invalidating and
/// reads nothing loses the stream, and its loans run out.
const MAX_ASIDES: usize = 8192;
/// Submissions taken in at one go.
const TAKE: usize = 256;

/// What a link's task is told at its start.
pub(super) struct Setup {
    pub(super) identity: Identity,
    pub(super) peer: Peer,
    pub(super) lane: v1::Lane,
    /// To whom the node may lend values over this link.
    pub(super) holder: Option<Arc<dyn Holder>>,
}

/// Runs a link until its last handle is gone.
pub(super) async fn run(setup: Setup, submissions: mpsc::Receiver<Submission>) {
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut link = Task { setup, submissions, queue: Queue::default(), tick, handles_gone: false };
    while link.wait_for_work().await {
        match link.connect().await {
            Ok(open) => link.exchange(open).await,
            Err(why) => link.queue.refuse_all(&Unsent::Unreachable(why)),
        }
    }
}

struct Task {
    setup: Setup,
    submissions: mpsc::Receiver<Submission>,
    queue: Queue,
    tick: Interval,
    handles_gone: bool,
}

/// Why a stream is no longer used.
enum End {
    /// Nothing to do for a while, or nobody left to do it for.
    Idle,
    /// The node ended or broke it.
    Broken,
}

impl Task {
    /// Waits until something is queued. False: nobody can submit anything any more.
    async fn wait_for_work(&mut self) -> bool {
        while self.queue.is_empty() {
            match self.submissions.recv().await {
                Some(submission) => self.queue.push(submission),
                None => return false,
            }
        }
        true
    }

    /// Connects, taking in and timing out submissions meanwhile.
    async fn connect(&mut self) -> Result<Open, Unreachable> {
        let Self { setup, submissions, queue, tick, .. } = self;
        let opening = connect::open(setup);
        tokio::pin!(opening);
        loop {
            tokio::select! {
                opened = &mut opening => return opened,
                Some(submission) = submissions.recv() => queue.push(submission),
                now = tick.tick() => queue.sweep(now),
            }
        }
    }

    /// Uses a stream until it ends; afterwards nothing is outstanding.
    async fn exchange(&mut self, open: Open) {
        let limit = match self.setup.lane {
            v1::Lane::Small => MAX_OUTSTANDING,
            v1::Lane::Bulk => MAX_OUTSTANDING_BULK,
        };
        let Open { outbound, inbound, first } = open;
        let mut stream = Stream {
            outbound,
            inbound,
            slab: Slab::new(limit),
            asides: Vec::new(),
            holder: self.setup.holder.clone(),
            leaving: false,
            last_work: Instant::now(),
        };
        stream.receive(first);
        if let End::Broken = self.pump(&mut stream).await {
            tracing::debug!(peer = %self.setup.peer.id, "link ended by the node");
        }
        for outstanding in stream.slab.drain() {
            let pending = outstanding.pending;
            outstanding.waiters.answer(Answer::Lost { pending });
        }
    }

    async fn pump(&mut self, stream: &mut Stream) -> End {
        let mut taken = Vec::with_capacity(TAKE);
        loop {
            if stream.leaving {
                self.queue.refuse_all(&Unsent::Leaving);
                // Nothing more will come: the node ends when this side has.
                if stream.slab.is_empty() && stream.asides.is_empty() {
                    return End::Idle;
                }
            }
            stream.flush(&mut self.queue);
            if stream.asides.len() > MAX_ASIDES {
                return End::Broken;
            }
            let blocked = stream.blocked(&self.queue);
            // No ticks without work: an idle link must not keep its worker awake.
            let idle = self.queue.is_empty() && stream.slab.is_empty();
            if idle && self.handles_gone {
                return End::Idle;
            }
            tokio::select! {
                biased;
                // First, because deadlines must be kept on a busy link too; it is rarely ready.
                due = self.tick.tick(), if !idle => {
                    let now = Instant::now();
                    // After standing still, answers may lie in the socket: they are read first.
                    if now - due < STOOD_STILL {
                        self.queue.sweep(now);
                        stream.cancel_overdue(now);
                    }
                }
                received = stream.inbound.message() => match received {
                    Ok(Some(batch)) => stream.receive(batch),
                    ended => return self.stream_ended(ended),
                },
                count = self.submissions.recv_many(&mut taken, TAKE), if !self.handles_gone => {
                    self.handles_gone = count == 0;
                    stream.last_work = Instant::now();
                    taken.drain(..).for_each(|submission| self.queue.push(submission));
                    self.take_the_rest_of_the_turn().await;
                }
                // Space again: the next turn of the loop fills it.
                writable = connect::writable(&stream.outbound), if blocked => if !writable {
                    return End::Broken;
                },
                () = sleep_until(stream.last_work + IDLE_CLOSE), if idle => return End::Idle,
            }
        }
    }

    /// Lets the reactor turn once, without waiting for anything: whoever else has a request ready
    /// by then travels along. Without it most batches leave with what the first few of a turn had,
    /// and every batch costs both sides their system calls and wake-ups.
    async fn take_the_rest_of_the_turn(&mut self) {
        yield_now().await;
        while let Ok(submission) = self.submissions.try_recv() {
            self.queue.push(submission);
        }
    }

    fn stream_ended(&self, ended: Result<Option<v1::Batch>, Status>) -> End {
        if let Err(status) = ended {
            tracing::debug!(peer = %self.setup.peer.id, %status, "link broke");
        }
        End::Broken
    }
}

/// An open stream and what is outstanding on it.
struct Stream {
    outbound: mpsc::Sender<Outgoing>,
    inbound: Streaming<v1::Batch>,
    slab: Slab,
    /// What leaves ahead of the queue: cancellations, and confirmations to the node.
    asides: Vec<v1::Op>,
    holder: Option<Arc<dyn Holder>>,
    leaving: bool,
    last_work: Instant,
}

impl Stream {
    /// Sends batches for as long as there is something to send and room for it.
    fn flush(&mut self, queue: &mut Queue) {
        while !queue.is_empty() || !self.asides.is_empty() {
            let Ok(permit) = self.outbound.try_reserve() else { return };
            match batch::next(queue, &mut self.slab, &mut self.asides, Instant::now()) {
                Some(batch) => permit.send(batch),
                None => return,
            }
        }
    }

    /// Whether something could leave if the transport took it. (A transport that has gone has
    /// room, but takes nothing.)
    fn blocked(&self, queue: &Queue) -> bool {
        let has_work = !self.asides.is_empty() || (!queue.is_empty() && !self.slab.is_full());
        has_work && (self.outbound.capacity() == 0 || self.outbound.is_closed())
    }

    fn cancel_overdue(&mut self, now: Instant) {
        let cancel = |id| v1::Op { id, kind: Some(Kind::Cancel(v1::Cancel {})) };
        self.asides.extend(self.slab.sweep(now).into_iter().map(cancel));
    }

    /// A value that was lent here is not to be held any more; at once, so that it is certain when
    /// the node hears of it.
    fn invalidate(&mut self, id: u64, invalidate: &v1::Invalidate) {
        if let Some(holder) = &self.holder {
            holder.invalidate(invalidate);
            let confirmed = Kind::InvalidateAck(v1::InvalidateAck {});
            self.asides.push(v1::Op { id, kind: Some(confirmed) });
        }
    }

    fn receive(&mut self, batch: v1::Batch) {
        for op in batch.ops {
            let answer = match op.kind {
                Some(Kind::Invalidate(invalidate)) => {
                    self.invalidate(op.id, &invalidate);
                    continue;
                }
                Some(Kind::Reply(reply)) => Answer::Reply(reply),
                Some(Kind::Moved(moved)) => Answer::Moved(moved),
                Some(Kind::NotStarted(refusal)) => Answer::NotStarted(refusal.reason()),
                Some(Kind::Hint(hint)) => Answer::Hints(hint),
                Some(Kind::Pong(_)) => Answer::Reply(v1::Reply::default()),
                Some(Kind::Pending(_)) => {
                    self.slab.pending(op.id);
                    continue;
                }
                Some(Kind::Goodbye(_)) => {
                    self.leaving = true;
                    continue;
                }
                // Operations of later versions are for those who announced them.
                _ => continue,
            };
            if let Some(outstanding) = self.slab.remove(op.id) {
                outstanding.waiters.answer(answer);
            }
        }
    }
}
