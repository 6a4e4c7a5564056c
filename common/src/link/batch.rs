//! From queued operations to one batch.

use proto::v1;
use tokio::time::Instant;

use super::{
    frame::{MAX_BATCH_BYTES, MAX_BATCH_OPS},
    queue::{Queue, Queued},
    slab::{Outstanding, Slab},
};
use crate::clock::{Clock, SystemClock};

/// Takes as many operations as one batch holds: all of one epoch, within the frame's bounds and
/// the stream's bound on outstanding operations. `None` when there is nothing to send.
pub(super) fn next(
    queue: &mut Queue,
    slab: &mut Slab,
    asides: &mut Vec<v1::Op>,
    now: Instant,
) -> Option<v1::Batch> {
    let mut ops: Vec<v1::Op> = asides.drain(..asides.len().min(MAX_BATCH_OPS)).collect();
    let epoch = queue.front().map(|queued| queued.call.epoch);
    let mut bytes = 0;
    while ops.len() < MAX_BATCH_OPS && !slab.is_full() {
        let fits = |queued: &Queued| {
            let size = queued.call.weight();
            Some(queued.call.epoch) == epoch && (bytes == 0 || bytes + size <= MAX_BATCH_BYTES)
        };
        if !queue.front().is_some_and(fits) {
            break;
        }
        let Some(queued) = queue.pop() else { break };
        bytes += queued.call.weight();
        ops.push(depart(queued, slab, now));
    }
    if ops.is_empty() {
        return None;
    }
    let stamp_us = SystemClock.monotonic().as_micros() as u64;
    Some(v1::Batch { hello: None, epoch: epoch.map(|e| e.to_wire()), stamp_us, ops })
}

/// Moves one operation from the queue to the slab, and makes its frame.
fn depart(queued: Queued, slab: &mut Slab, now: Instant) -> v1::Op {
    let Queued { mut call, waiters } = queued;
    call.request.try_ms = millis(call.try_deadline, now);
    call.request.budget_ms = millis(call.deadline, now);
    let id = slab.insert(Outstanding {
        waiters,
        deadline: call.try_deadline,
        request_deadline: call.deadline,
        pending: false,
    });
    let kind = call.other.map_or_else(|| v1::op::Kind::Request(call.request), |other| *other);
    v1::Op { id, kind: Some(kind) }
}

fn millis(until: Instant, now: Instant) -> u32 {
    (until.saturating_duration_since(now).as_millis() as u32).max(1)
}
