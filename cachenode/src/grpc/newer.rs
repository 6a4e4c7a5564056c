//! Word of a newer state of the cluster than this node has seen.
//!
//! Whoever knows a later revision and another ring may know another owner. From then on this node
//! can't vouch for its keys, whoever asks, until it has read the state itself.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use common::{
    error::Code,
    topology::{Epoch, Topologies},
};
use proto::v1;

use super::NodeService;

/// How long an operation waits for the state to be read: others can do it sooner than a registry
/// that hangs answers.
pub(super) const READ_WITHIN: Duration = Duration::from_millis(250);

/// What was heard, shared by all workers.
#[derive(Debug, Default)]
pub(crate) struct Newer {
    /// Whether there is a claim: without one nothing else is looked at.
    is_claimed: AtomicBool,
    claim: Mutex<Claim>,
}

/// A generation and the latest revision of it that somebody has seen.
type Claim = Option<(Bytes, u64)>;

impl Newer {
    /// A sender shows an epoch that is newer than ours.
    pub(super) fn told(&self, epoch: &v1::Epoch) {
        let mut claim = self.lock();
        let known = claim.as_ref().filter(|(generation, _)| *generation == epoch.generation);
        let as_of = known.map_or(0, |(_, as_of)| *as_of).max(epoch.as_of);
        // A copy: it outlives the frame.
        *claim = Some((Bytes::copy_from_slice(&epoch.generation), as_of));
        self.is_claimed.store(true, Ordering::Release);
    }

    /// Whether somebody has seen more than this.
    pub(super) fn is_ahead_of(&self, ours: &Epoch) -> bool {
        if !self.is_claimed.load(Ordering::Acquire) {
            return false;
        }
        let mut claim = self.lock();
        let ahead = claim.as_ref().is_some_and(|(generation, as_of)| {
            ours.generation.as_bytes()[..] == generation[..] && *as_of > ours.as_of
        });
        if !ahead {
            self.forget(&mut claim);
        }
        ahead
    }

    /// Reads the cluster state up to what was claimed. False: it can't be read now, or the claim was
    /// wrong.
    async fn catch_up(&self, topologies: &Topologies, patience: Duration) -> bool {
        let as_of = self.claimed();
        let read = topologies.catch_up_within(as_of, patience.min(READ_WITHIN)).await;
        // Who claims a revision that the registry has not got is wrong.
        let is_over = read.as_ref().map_or_else(|error| error.code() != Code::Timeout, |_| true);
        let mut claim = self.lock();
        if is_over && claim.as_ref().is_some_and(|(_, claimed)| *claimed <= as_of) {
            self.forget(&mut claim);
        }
        read.is_ok()
    }

    fn claimed(&self) -> u64 {
        self.lock().as_ref().map_or(0, |(_, as_of)| *as_of)
    }

    fn forget(&self, claim: &mut Claim) {
        *claim = None;
        self.is_claimed.store(false, Ordering::Release);
    }

    fn lock(&self) -> MutexGuard<'_, Claim> {
        self.claim.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl NodeService {
    /// Reads the cluster state because somebody has seen more of it. False: that was of no use.
    pub(super) async fn catch_up(&self, patience: Duration) -> bool {
        self.newer.catch_up(&self.route.topologies, patience).await
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn epoch(generation: u128, as_of: u64) -> Epoch {
        Epoch { generation: Uuid::from_u128(generation), as_of, digest: as_of }
    }

    #[test]
    fn what_was_heard_stands_until_it_was_seen() {
        let newer = Newer::default();
        assert!(!newer.is_ahead_of(&epoch(1, 5)));
        newer.told(&epoch(1, 7).to_wire());
        newer.told(&epoch(1, 6).to_wire());
        assert!(newer.is_ahead_of(&epoch(1, 5)) && newer.is_ahead_of(&epoch(1, 6)));
        assert!(!newer.is_ahead_of(&epoch(1, 7)));
        assert!(!newer.is_ahead_of(&epoch(1, 5)), "it was seen: revisions never go back");
    }

    #[test]
    fn other_generations_can_not_be_compared() {
        let newer = Newer::default();
        newer.told(&epoch(1, 7).to_wire());
        assert!(!newer.is_ahead_of(&epoch(2, 3)));
    }
}
