//! The invalidations of one stream: what was lent over it and written since.
//!
//! Their ids are this stream's own, and come back in the confirmations. A peer that does not take
//! them, or does not confirm, costs a write no more than the time of a loan.

use std::{collections::HashMap, sync::Arc};

use common::{clock::Clock, link::frame::MAX_BATCH_OPS, near::FEATURE};
use foldhash::fast::RandomState;
use proto::v1::{self, Lane, op::Kind};
use tokio::sync::mpsc;

use crate::loans::{Holder, Invalidation, MAX_INVALIDATIONS, Recalled};

/// Invalidations that were sent and are not confirmed, at most; a loan that has run out does not count.
const MAX_UNCONFIRMED: usize = 2 * MAX_INVALIDATIONS;

/// What a stream knows of the loans made over it.
pub(super) struct Lent {
    pub(super) holder: Arc<Holder>,
    queue: mpsc::Receiver<Invalidation>,
    unconfirmed: HashMap<u64, Arc<Recalled>, RandomState>,
    next_id: u64,
    clock: Arc<dyn Clock>,
}

impl Lent {
    /// If whoever said that Hello takes loans.
    pub(super) fn to(hello: &v1::Hello, clock: &Arc<dyn Clock>) -> Option<Self> {
        if hello.features & FEATURE == 0 || hello.lane() != Lane::Small {
            return None;
        }
        let (holder, queue) = Holder::new();
        let (unconfirmed, clock) = (HashMap::default(), Arc::clone(clock));
        Some(Self { holder, queue, unconfirmed, next_id: 1, clock })
    }

    /// The next invalidations to be sent, for a stream that lends; it is safe to give that up.
    pub(super) async fn next(lent: &mut Option<Self>) -> Option<Vec<v1::Op>> {
        let lent = lent.as_mut()?;
        let mut invalidations = Vec::new();
        lent.queue.recv_many(&mut invalidations, MAX_BATCH_OPS).await;
        Some(invalidations.into_iter().map(|it| lent.announced(it)).collect())
    }

    fn announced(&mut self, invalidation: Invalidation) -> v1::Op {
        let Invalidation { group, key, version, recalled } = invalidation;
        let id = self.next_id;
        self.next_id += 1;
        self.unconfirmed.insert(id, recalled);
        let kind = Kind::Invalidate(v1::Invalidate {
            group: group.into_string(),
            key: key.into(),
            version_hi: version.as_of,
            version_lo: version.clock,
        });
        v1::Op { id, kind: Some(kind) }
    }

    /// The peer holds nothing of that any more.
    pub(super) fn confirmed(&mut self, id: u64) {
        if let Some(recalled) = self.unconfirmed.remove(&id) {
            recalled.confirm();
        }
    }

    /// Whether the peer takes or confirms its invalidations too slowly to be lent anything.
    pub(super) fn is_over_bounds(&mut self) -> bool {
        if self.unconfirmed.len() > MAX_UNCONFIRMED {
            let now = self.clock.monotonic();
            self.unconfirmed.retain(|_, recalled| !recalled.is_over(now));
        }
        self.holder.is_overflowed() || self.unconfirmed.len() > MAX_UNCONFIRMED
    }
}
