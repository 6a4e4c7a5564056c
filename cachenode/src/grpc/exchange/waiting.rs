//! What waits on a stream for its peer to read.

use std::collections::VecDeque;

use common::link::frame::{self, MAX_BATCH_BYTES, MAX_BATCH_OPS};
use proto::v1;

/// Answers that wait to be written, at most; a peer that reads so little has its stream closed.
const MAX_WAITING: usize = 8192;
/// The same, in bytes.
const MAX_WAITING_BYTES: usize = 256 << 20;

/// Answers that have not been handed to the transport yet.
#[derive(Default)]
pub(super) struct Waiting {
    ops: VecDeque<v1::Op>,
    bytes: usize,
}

impl Waiting {
    pub(super) fn push(&mut self, op: v1::Op) {
        self.bytes += op.kind.as_ref().map_or(0, frame::weight);
        self.ops.push_back(op);
    }

    /// Whether it is time to refuse more work. A peer that reads comes never so far by small
    /// values, but a few dozen large ones do.
    pub(super) fn is_crowded(&self) -> bool {
        self.ops.len() > MAX_WAITING / 2 || self.bytes > MAX_WAITING_BYTES / 2
    }

    pub(super) fn is_over_bounds(&self) -> bool {
        self.ops.len() > MAX_WAITING || self.bytes > MAX_WAITING_BYTES
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    pub(super) fn next_batch(&mut self) -> Vec<v1::Op> {
        let mut ops = Vec::with_capacity(self.ops.len().min(MAX_BATCH_OPS));
        let mut bytes = 0;
        while let Some(op) = self.ops.front() {
            let weight = op.kind.as_ref().map_or(0, frame::weight);
            let fits =
                ops.is_empty() || (ops.len() < MAX_BATCH_OPS && bytes + weight <= MAX_BATCH_BYTES);
            if !fits {
                break;
            }
            bytes += weight;
            ops.extend(self.ops.pop_front());
        }
        self.bytes -= bytes;
        ops
    }
}

#[cfg(test)]
mod tests {
    use proto::v1::op::Kind;

    use super::*;

    fn reply(size: usize) -> v1::Op {
        let value = vec![0; size].into();
        let kind = Some(Kind::Reply(v1::Reply { value, ..Default::default() }));
        v1::Op { id: 1, kind }
    }

    #[test]
    fn batches_keep_within_their_bounds() {
        let mut waiting = Waiting::default();
        (0..100).for_each(|_| waiting.push(reply(1)));
        assert_eq!(waiting.next_batch().len(), MAX_BATCH_OPS);
        assert_eq!(waiting.next_batch().len(), 100 - MAX_BATCH_OPS);
        assert_eq!(waiting.bytes, 0);
        (0..3).for_each(|_| waiting.push(reply(MAX_BATCH_BYTES / 2)));
        assert_eq!(waiting.next_batch().len(), 1, "two and what they weigh are too much");
        waiting = Waiting::default();
        waiting.push(reply(2 * MAX_BATCH_BYTES));
        assert_eq!(waiting.next_batch().len(), 1, "one operation always fits");
    }

    #[test]
    fn a_peer_that_reads_nothing_is_noticed() {
        let mut waiting = Waiting::default();
        (0..=MAX_WAITING).for_each(|_| waiting.push(reply(0)));
        assert!(waiting.is_over_bounds());
    }
}
