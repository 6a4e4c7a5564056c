//! From queued operations to one batch.

use proto::v1;
use tokio::time::Instant;

use super::{
    frame::{MAX_BATCH_BYTES, MAX_BATCH_OPS},
    queue::{Queue, Queued},
    slab::{Outstanding, Slab},
    wire::{Outgoing, OutgoingOp},
};
use crate::clock::{Clock, SystemClock};

/// Takes as many operations as one batch holds: all of one epoch, within the frame's bounds and
/// the stream's bound on outstanding operations. `None` when there is nothing to send.
pub(super) fn next(
    queue: &mut Queue,
    slab: &mut Slab,
    asides: &mut Vec<v1::Op>,
    now: Instant,
) -> Option<Outgoing> {
    let most = (asides.len() + queue.len()).min(MAX_BATCH_OPS);
    let mut ops = Vec::with_capacity(most);
    ops.extend(
        asides.drain(..asides.len().min(MAX_BATCH_OPS)).map(|op| OutgoingOp::Whole(Box::new(op))),
    );
    let epoch = queue.front().map(|queued| queued.call.epoch);
    let mut bytes = 0;
    while ops.len() < MAX_BATCH_OPS && !slab.is_full() {
        let Some(queued) = queue.front() else { break };
        let size = queued.call.weight();
        if Some(queued.call.epoch) != epoch || (bytes > 0 && bytes + size > MAX_BATCH_BYTES) {
            break;
        }
        let Some(queued) = queue.pop() else { break };
        bytes += size;
        ops.push(depart(queued, slab, now));
    }
    if ops.is_empty() {
        return None;
    }
    let stamp_us = SystemClock.monotonic().as_micros() as u64;
    Some(Outgoing { hello: None, epoch, stamp_us, ops })
}

/// Moves one operation from the queue to the slab, and to the batch.
fn depart(queued: Queued, slab: &mut Slab, now: Instant) -> OutgoingOp {
    let Queued { call, waiters } = queued;
    let (try_ms, budget_ms) = (millis(call.try_deadline, now), millis(call.deadline, now));
    let id = slab.insert(Outstanding {
        waiters,
        deadline: call.try_deadline,
        request_deadline: call.deadline,
        pending: false,
    });
    match call.other {
        None => OutgoingOp::Request {
            id,
            request: call.request,
            try_ms,
            budget_ms,
            stand_in: call.stand_in,
        },
        Some(other) => OutgoingOp::Whole(Box::new(v1::Op { id, kind: Some(*other) })),
    }
}

fn millis(until: Instant, now: Instant) -> u32 {
    (until.saturating_duration_since(now).as_millis() as u32).max(1)
}
