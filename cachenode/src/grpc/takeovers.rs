//! Keys that this node has gained: their former owners may have lent them.
//!
//! After a change of the ring everybody else is asked to go by it (`node::taking_over` does that). Who
//! has answered neither applies nor lends by an older ring any more, and what it lent before is over
//! one lease later; a node that can't be reached is taken for dead, and is waited for as long. Until
//! then writes of gained keys are applied, but not acknowledged. Everybody is asked and not only the
//! owners before, because a ring in between may have gone unseen here.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use common::{
    clock::Clock,
    discovery::{NodeId, NodeRecord},
    near::LEASE,
    topology::{Epoch, Topology},
};
use proto::v1::{self, not_started::Reason, op::Kind};
use tokio::sync::{Notify, watch};

use super::{NodeService, operation::not_started};
use crate::loans::Recall;

/// Changes of the ring that are being taken over, at most; further ones stand for the oldest, and for
/// all keys.
const MAX_TAKEOVERS: usize = 8;

/// The changes of the ring whose gains may be lent by others yet.
#[derive(Default)]
pub(crate) struct Takeovers {
    /// How many there are, so that writes need no lock while there is none.
    count: AtomicUsize,
    under_way: Mutex<Vec<Arc<Takeover>>>,
    /// Somebody has to be asked.
    pub(crate) wake: Notify,
}

/// One change of the ring.
pub(crate) struct Takeover {
    /// The ring before; `None`: any key may have been another node's.
    before: Option<Arc<Topology>>,
    /// By what the others are to go.
    pub(crate) epoch: Epoch,
    /// Everybody who is or was a member.
    pub(crate) others: Vec<NodeRecord>,
    is_taken_up: AtomicBool,
    /// When it is over, once that is known.
    over: watch::Sender<Option<Duration>>,
}

impl Takeover {
    /// Whether the key was another node's.
    fn has_gained(&self, own: &NodeId, group: &str, key: &str) -> bool {
        let Some(before) = &self.before else { return true };
        let owner = before.owner(group, key).map(|(owner, _)| owner);
        owner.is_some_and(|owner| before.member(owner).id != *own)
    }

    fn is_over(&self, now: Duration) -> bool {
        self.over.borrow().is_some_and(|at| at <= now)
    }

    /// Everybody has been asked, and has answered or can't be reached.
    pub(crate) fn asked(&self, clock: &dyn Clock) {
        self.over.send_replace(Some(clock.monotonic() + LEASE));
    }
}

impl Takeovers {
    /// The ring has changed. Without a ring before it, all keys may have been others'.
    pub(super) fn begin(&self, own: &NodeId, before: Option<&Arc<Topology>>, now: &Topology) {
        let former = before.map_or(&[][..], |before| before.members());
        let mut others: Vec<NodeRecord> = now.members().to_vec();
        let is_new = |it: &&NodeRecord| {
            !now.members().iter().any(|member| member.id == it.id && member.instance == it.instance)
        };
        others.extend(former.iter().filter(is_new).cloned());
        let is_member = others.iter().any(|member| member.id == *own);
        others.retain(|member| member.id != *own);
        if !is_member || others.is_empty() || before.is_some_and(|it| it.members().is_empty()) {
            return;
        }
        let mut under_way = self.lock();
        let has_room = under_way.len() < MAX_TAKEOVERS;
        let takeover = Takeover {
            before: before.filter(|_| has_room).cloned(),
            epoch: now.epoch,
            others,
            is_taken_up: AtomicBool::new(false),
            over: watch::Sender::new(None),
        };
        if !has_room {
            under_way.remove(0);
        }
        under_way.push(Arc::new(takeover));
        self.count.store(under_way.len(), Ordering::Release);
        self.wake.notify_one();
    }

    /// Those about which nobody has been asked yet.
    pub(crate) fn take_up(&self) -> Vec<Arc<Takeover>> {
        let is_new = |it: &&Arc<Takeover>| !it.is_taken_up.swap(true, Ordering::AcqRel);
        self.lock().iter().filter(is_new).cloned().collect()
    }

    /// Lets a write wait for those by which its key was gained.
    pub(super) fn delay(&self, node: &NodeService, request: &v1::Request, recall: &mut Recall) {
        if self.count.load(Ordering::Acquire) == 0 {
            return;
        }
        let now = node.clock.monotonic();
        let mut under_way = self.lock();
        under_way.retain(|it| !it.is_over(now));
        self.count.store(under_way.len(), Ordering::Release);
        let gained = under_way.iter();
        gained
            .filter(|it| it.has_gained(&node.id, &request.group, &request.key))
            .for_each(|it| recall.and_after(it.over.subscribe()));
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Takeover>>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl NodeService {
    /// Another node goes by that epoch and takes over what it gained: from here on this node does
    /// and lends nothing by an older ring.
    pub(super) fn taken_over(&self, epoch: &v1::Epoch) -> Kind {
        let ours = self.topology().epoch;
        if ours.digest == epoch.digest {
            return Kind::Reply(v1::Reply::default());
        }
        if ours.generation.as_bytes()[..] != epoch.generation[..] {
            return not_started(Reason::CatchingUp);
        }
        if ours.as_of < epoch.as_of {
            // It vouches for no key until it has read the cluster state up to there.
            self.newer.told(epoch);
        }
        Kind::Reply(v1::Reply::default())
    }
}
