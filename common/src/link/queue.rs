//! Operations that have not left yet. Identical reads among them become one.
//!
//! A read joins only an operation that is still here, never one that is encoded already: a read
//! that starts after a write was acknowledged must not be answered by one from before it.

use std::{collections::VecDeque, time::Duration};

use proto::v1;
use tokio::time::Instant;

use super::{Answer, Call, Submission, Unsent, waiter::Waiter};

/// Operations waiting to leave, at most; the bound on a link whose peer does not read.
const MAX_QUEUED: usize = 4096;
/// Bytes of values waiting to leave, at most.
const MAX_QUEUED_BYTES: usize = 96 << 20;
/// How far back a read looks for another one it could join.
const JOIN_WINDOW: usize = 64;

/// Reads that join one operation, at most; the next one starts another.
const MAX_JOINED: usize = 1024;
/// How much longer than the operation a read that joins it may be willing to wait.
const JOIN_SLACK: Duration = Duration::from_millis(20);

/// Everyone who gets the answer of one operation.
pub(super) struct Waiters {
    first: Waiter,
    joined: Vec<Waiter>,
}

impl Waiters {
    pub(super) fn new(first: Waiter) -> Self {
        Self { first, joined: Vec::new() }
    }

    /// Answers them all. A caller that has left does not mind.
    pub(super) fn answer(self, answer: Answer) {
        for waiter in self.joined {
            let mut answer = answer.clone();
            if let Answer::Reply(reply) = &mut answer {
                reply.collapsed = true;
            }
            waiter.answer(answer);
        }
        self.first.answer(answer);
    }

    pub(super) fn nobody_waits(&self) -> bool {
        self.first.has_left() && self.joined.iter().all(Waiter::has_left)
    }
}

/// One operation and its waiters.
pub(super) struct Queued {
    pub(super) call: Call,
    pub(super) waiters: Waiters,
}

impl Queued {
    /// Whether a read may join this one: the answer is the same, and comes about when it should.
    /// Whoever joins shares the deadlines; they must neither outlast its own nor end long before.
    fn takes_in(&self, call: &Call) -> bool {
        let in_time =
            |own: Instant, other: Instant| own <= other && other.duration_since(own) <= JOIN_SLACK;
        same_read(&self.call, call)
            && in_time(self.call.try_deadline, call.try_deadline)
            && in_time(self.call.deadline, call.deadline)
            && self.waiters.joined.len() < MAX_JOINED
    }
}

/// The operations that have not left yet, oldest first.
#[derive(Default)]
pub(super) struct Queue {
    waiting: VecDeque<Queued>,
    bytes: usize,
}

impl Queue {
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Takes a submission in: joins it to an identical read, queues it, or refuses it when full.
    pub(super) fn push(&mut self, submission: Submission) {
        let Submission { call, answer } = submission;
        if call.request.verb == v1::Verb::Get as i32
            && let Some(same) =
                self.waiting.iter_mut().rev().take(JOIN_WINDOW).find(|q| q.takes_in(&call))
        {
            same.waiters.joined.push(answer);
            return;
        }
        let size = call.request.value.len();
        if self.waiting.len() >= MAX_QUEUED || self.bytes + size > MAX_QUEUED_BYTES {
            answer.answer(Answer::Unsent(Unsent::Full));
            return;
        }
        self.bytes += size;
        self.waiting.push_back(Queued { call, waiters: Waiters::new(answer) });
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn front(&self) -> Option<&Queued> {
        self.waiting.front()
    }

    pub(super) fn pop(&mut self) -> Option<Queued> {
        let queued = self.waiting.pop_front()?;
        self.bytes -= queued.call.request.value.len();
        Some(queued)
    }

    /// Answers those whose time is up and drops those nobody waits for.
    pub(super) fn sweep(&mut self, now: Instant) {
        let over = |q: &Queued| q.call.try_deadline <= now || q.waiters.nobody_waits();
        if !self.waiting.iter().any(over) {
            return;
        }
        for queued in std::mem::take(self).waiting {
            if over(&queued) {
                queued.waiters.answer(Answer::Unsent(Unsent::Expired));
            } else {
                self.bytes += queued.call.request.value.len();
                self.waiting.push_back(queued);
            }
        }
    }

    /// Answers everything: nothing of it has left.
    pub(super) fn refuse_all(&mut self, why: &Unsent) {
        for queued in std::mem::take(self).waiting {
            queued.waiters.answer(Answer::Unsent(why.clone()));
        }
    }
}

fn same_read(a: &Call, b: &Call) -> bool {
    a.position == b.position
        && a.epoch == b.epoch
        && a.request.verb == b.request.verb
        // One of those who would load what is missing is told to, and not the others.
        && !a.request.lease
        && !b.request.lease
        && a.stand_in == b.stand_in
        && a.request.stand_in == b.request.stand_in
        && a.request.key == b.request.key
        && a.request.group == b.request.group
        && a.request.group_id_hi == b.request.group_id_hi
        && a.request.group_id_lo == b.request.group_id_lo
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::oneshot;

    use super::*;
    use crate::topology::Epoch;

    /// An operation that began at `now`.
    fn submission(
        now: Instant,
        verb: v1::Verb,
        key: &str,
    ) -> (Submission, oneshot::Receiver<Answer>) {
        let (answer, answered) = oneshot::channel();
        let request = v1::Request { verb: verb.into(), key: key.to_owned(), ..Default::default() };
        let call = Call {
            request: request.into(),
            stand_in: false,
            epoch: Epoch::default(),
            position: key.len() as u64,
            other: None,
            try_deadline: now + Duration::from_secs(1),
            deadline: now + Duration::from_secs(2),
        };
        (Submission { call, answer: Waiter::Alone(answer) }, answered)
    }

    #[test]
    fn identical_reads_leave_as_one_and_all_are_answered() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        let (a, mut a_answer) = submission(now, v1::Verb::Get, "k");
        let (b, mut b_answer) = submission(now, v1::Verb::Get, "k");
        let (other, _other_answer) = submission(now, v1::Verb::Get, "x");
        for s in [a, b, other] {
            queue.push(s);
        }
        let one = queue.pop().expect("the joined reads");
        assert_eq!(queue.pop().map(|q| q.call.request.key.clone()), Some("x".to_owned()));
        assert!(queue.is_empty());
        one.waiters.answer(Answer::Lost { pending: false });
        assert!(matches!(a_answer.try_recv(), Ok(Answer::Lost { .. })));
        assert!(matches!(b_answer.try_recv(), Ok(Answer::Lost { .. })));
    }

    #[test]
    fn a_read_joins_only_one_that_ends_when_it_would_itself() {
        let now = Instant::now();
        for (more, less) in [(JOIN_SLACK * 2, Duration::ZERO), (Duration::ZERO, JOIN_SLACK)] {
            let mut queue = Queue::default();
            let (a, _a) = submission(now, v1::Verb::Get, "k");
            let (mut b, _b) = submission(now, v1::Verb::Get, "k");
            b.call.deadline = a.call.deadline + more - less;
            queue.push(a);
            queue.push(b);
            assert!(queue.pop().is_some() && queue.pop().is_some());
        }
    }

    #[test]
    fn so_many_join_and_the_next_starts_another() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        let mut answers = Vec::new();
        for _ in 0..MAX_JOINED + 2 {
            let (s, answered) = submission(now, v1::Verb::Get, "k");
            queue.push(s);
            answers.push(answered);
        }
        assert!(queue.pop().is_some() && queue.pop().is_some() && queue.is_empty());
    }

    #[test]
    fn writes_are_never_joined() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        let (a, _a) = submission(now, v1::Verb::Set, "k");
        let (b, _b) = submission(now, v1::Verb::Set, "k");
        queue.push(a);
        queue.push(b);
        assert!(queue.pop().is_some() && queue.pop().is_some());
    }

    #[test]
    fn a_read_does_not_join_one_that_has_left() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        let (a, _a) = submission(now, v1::Verb::Get, "k");
        let (b, _b) = submission(now, v1::Verb::Get, "k");
        queue.push(a);
        assert!(queue.pop().is_some());
        queue.push(b);
        assert!(queue.pop().is_some());
    }

    #[test]
    fn a_full_queue_refuses_at_once() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        let mut kept = Vec::new();
        for i in 0..=MAX_QUEUED {
            let (s, answered) = submission(now, v1::Verb::Set, &i.to_string());
            queue.push(s);
            kept.push(answered);
        }
        let mut last = kept.pop().expect("pushed");
        assert!(matches!(last.try_recv(), Ok(Answer::Unsent(Unsent::Full))));
        assert!(kept.iter_mut().all(|answered| answered.try_recv().is_err()));
    }

    #[test]
    fn what_waits_too_long_is_certainly_unsent() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        let (a, mut answered) = submission(now, v1::Verb::Set, "k");
        queue.push(a);
        queue.sweep(now);
        assert!(answered.try_recv().is_err());
        queue.sweep(now + Duration::from_secs(1));
        assert!(matches!(answered.try_recv(), Ok(Answer::Unsent(Unsent::Expired))));
        assert!(queue.is_empty());
    }
}
