//! Word of a newer state of the cluster than this node has seen.
//!
//! Whoever knows a later revision and another ring may know another owner. From then on this node
//! can't vouch for its keys, whoever asks, until it has read the state itself. That it can't be read
//! is remembered for a moment, so that not every operation waits to find that out.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use common::topology::{Epoch, Topologies};
use proto::v1;
use tokio::time::{Instant, timeout};

use super::NodeService;

/// How long an operation waits for the state to be read: others can do it sooner than a registry
/// that hangs answers.
const READ_WITHIN: Duration = Duration::from_millis(250);
/// How long it is taken for granted that the state can't be read.
const UNREADABLE_FOR: Duration = Duration::from_millis(500);

/// What was heard, shared by all workers.
#[derive(Debug, Default)]
pub(crate) struct Newer {
    /// Whether there is a claim: without one nothing else is looked at.
    is_claimed: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The generation and the latest revision that somebody has seen.
    claim: Option<(Bytes, u64)>,
    failed: Option<Instant>,
}

impl Newer {
    /// A sender shows an epoch that is newer than ours.
    pub(super) fn told(&self, epoch: &v1::Epoch) {
        let mut state = self.lock();
        let known = state.claim.as_ref().filter(|(generation, _)| *generation == epoch.generation);
        let as_of = known.map_or(0, |(_, as_of)| *as_of).max(epoch.as_of);
        // A copy: it outlives the frame.
        state.claim = Some((Bytes::copy_from_slice(&epoch.generation), as_of));
        self.is_claimed.store(true, Ordering::Release);
    }

    /// Whether somebody has seen more than this.
    pub(super) fn is_ahead_of(&self, ours: &Epoch) -> bool {
        if !self.is_claimed.load(Ordering::Acquire) {
            return false;
        }
        let mut state = self.lock();
        let ahead = state.claim.as_ref().is_some_and(|(generation, as_of)| {
            ours.generation.as_bytes()[..] == generation[..] && *as_of > ours.as_of
        });
        if !ahead {
            self.forget(&mut state);
        }
        ahead
    }

    /// Reads the cluster state up to what was claimed. False: it can't be read now, or the claim was
    /// wrong.
    async fn catch_up(&self, topologies: &Topologies, patience: Duration) -> bool {
        let (as_of, failed) = {
            let state = self.lock();
            (state.claim.as_ref().map_or(0, |(_, as_of)| *as_of), state.failed)
        };
        if failed.is_some_and(|failed| failed.elapsed() < UNREADABLE_FOR) {
            return false;
        }
        let reading = timeout(patience.min(READ_WITHIN), topologies.catch_up(as_of)).await;
        let is_read = matches!(reading, Ok(Ok(_)));
        let mut state = self.lock();
        // Who claims a revision that the registry has not got, while it answers, is wrong.
        let is_refuted =
            matches!(reading, Ok(Err(_))) && topologies.discovery_status().borrow().connected;
        if is_read || is_refuted {
            state.failed = None;
            if state.claim.as_ref().is_some_and(|(_, claimed)| *claimed <= as_of) {
                self.forget(&mut state);
            }
        } else {
            state.failed = Some(Instant::now());
        }
        is_read
    }

    fn forget(&self, state: &mut State) {
        state.claim = None;
        self.is_claimed.store(false, Ordering::Release);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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
