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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use common::{clock::ManualClock, entry::Version, key::GroupName, near::LEASE};

    use super::*;

    fn lent_to(features: u64, lane: Lane) -> (Option<Lent>, ManualClock) {
        let clock = ManualClock::new();
        let shared: Arc<dyn Clock> = Arc::new(clock.clone());
        let hello = v1::Hello { features, lane: lane.into(), ..Default::default() };
        (Lent::to(&hello, &shared), clock)
    }

    fn invalidation(until: Duration) -> Invalidation {
        Invalidation {
            group: GroupName::new("g").unwrap(),
            key: "k".into(),
            version: Version { as_of: 1, clock: 2 },
            recalled: Recalled::new(until),
        }
    }

    #[test]
    fn only_who_says_so_is_lent_anything_and_only_on_the_small_lane() {
        assert!(lent_to(FEATURE, Lane::Small).0.is_some());
        assert!(lent_to(0, Lane::Small).0.is_none());
        assert!(lent_to(FEATURE, Lane::Bulk).0.is_none());
        assert!(lent_to(FEATURE << 1, Lane::Small).0.is_none(), "a feature of a later version");
    }

    #[tokio::test]
    async fn a_confirmation_finds_its_loan_by_its_id_and_only_once() {
        let (mut lent, clock) = lent_to(FEATURE, Lane::Small);
        let (one, other) =
            (invalidation(clock.monotonic() + LEASE), invalidation(clock.monotonic() + LEASE));
        let recalled = [Arc::clone(&one.recalled), Arc::clone(&other.recalled)];
        let holder = Arc::clone(&lent.as_ref().unwrap().holder);
        holder.tell(one);
        holder.tell(other);
        let ops = Lent::next(&mut lent).await.unwrap();
        assert_eq!(ops.len(), 2, "both leave together");
        let lent = lent.as_mut().unwrap();
        lent.confirmed(999);
        lent.confirmed(ops[1].id);
        lent.confirmed(ops[1].id);
        let over = recalled.each_ref().map(|recalled| recalled.is_over(clock.monotonic()));
        assert_eq!(over, [false, true]);
    }

    #[test]
    fn who_does_not_confirm_is_given_up_and_loans_that_are_over_do_not_count() {
        let (lent, clock) = lent_to(FEATURE, Lane::Small);
        let mut lent = lent.unwrap();
        let until = clock.monotonic() + LEASE;
        for _ in 0..MAX_UNCONFIRMED {
            lent.announced(invalidation(until));
        }
        assert!(!lent.is_over_bounds());
        lent.announced(invalidation(until));
        assert!(lent.is_over_bounds());
        clock.advance(LEASE);
        assert!(!lent.is_over_bounds() && lent.unconfirmed.is_empty());
    }
}
