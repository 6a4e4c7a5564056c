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

/// Whether a node may own keys now that were others' before: not where others only joined or became
/// heavier.
fn may_gain(own: &NodeId, before: &Topology, now: &Topology) -> bool {
    let weight = |topology: &Topology, id: &NodeId| {
        topology.index_of(id).map_or(0, |index| topology.member(index).weight)
    };
    let has_less = |former: &NodeRecord| weight(now, &former.id) < former.weight;
    let mut others = before.members().iter().filter(|member| member.id != *own);
    let is_the_same_circle = before.ring.settings() == now.ring.settings();
    let has_more = weight(now, own) > weight(before, own);
    !is_the_same_circle || has_more || others.any(has_less)
}

impl Takeovers {
    /// The ring has changed. Without a ring before it, all keys may have been others': a node that has
    /// just started may have died in a former life before everybody went by the ring that it is in.
    pub(super) fn begin(&self, own: &NodeId, before: Option<&Arc<Topology>>, now: &Topology) {
        let before = before.filter(|before| !before.members().is_empty());
        let former = before.map_or(&[][..], |before| before.members());
        let mut others: Vec<NodeRecord> = now.members().to_vec();
        let is_new = |it: &&NodeRecord| {
            !now.members().iter().any(|member| member.id == it.id && member.instance == it.instance)
        };
        others.extend(former.iter().filter(is_new).cloned());
        let is_member = now.index_of(own).is_some();
        others.retain(|member| member.id != *own);
        let may_gain = before.is_none_or(|before| may_gain(own, before, now));
        if !is_member || others.is_empty() || !may_gain {
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
    pub(super) fn delay(&self, node: &NodeService, group: &str, key: &str, recall: &mut Recall) {
        let has_gained = |it: &Takeover| it.has_gained(&node.id, group, key);
        self.delay_by(node, has_gained, recall);
    }

    /// Lets what concerns many keys wait for all of them.
    pub(super) fn delay_all(&self, node: &NodeService, recall: &mut Recall) {
        self.delay_by(node, |_| true, recall);
    }

    fn delay_by(&self, node: &NodeService, which: impl Fn(&Takeover) -> bool, recall: &mut Recall) {
        if self.count.load(Ordering::Acquire) == 0 {
            return;
        }
        let now = node.clock.monotonic();
        let mut under_way = self.lock();
        under_way.retain(|it| !it.is_over(now));
        self.count.store(under_way.len(), Ordering::Release);
        let waited_for = under_way.iter().filter(|it| which(it));
        waited_for.for_each(|it| recall.and_after(it.over.subscribe()));
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

#[cfg(test)]
mod tests {
    use common::{
        clock::ManualClock,
        discovery::{RingSettings, View},
    };
    use uuid::Uuid;

    use super::*;

    fn ring(as_of: u64, members: &[(&str, u32)]) -> Arc<Topology> {
        let record = |&(id, weight): &(&str, u32)| {
            let member = NodeRecord::new(id.parse().unwrap(), Uuid::nil(), "127.0.0.1:1");
            NodeRecord { weight, ..member }
        };
        let members = members.iter().map(record);
        let view = View::new(Uuid::nil(), as_of, RingSettings::default(), members);
        Arc::new(Topology::empty().next(&view))
    }

    fn begun(before: &Arc<Topology>, now: &Topology) -> Vec<Arc<Takeover>> {
        let takeovers = Takeovers::default();
        takeovers.begin(&"a".parse().unwrap(), Some(before), now);
        takeovers.take_up()
    }

    #[test]
    fn only_who_may_have_gained_keys_asks() {
        let alone = ring(1, &[("a", 100)]);
        let two = ring(2, &[("a", 100), ("b", 100)]);
        let lighter = ring(3, &[("a", 100), ("b", 50)]);
        let without = ring(4, &[("b", 100)]);
        let nobody = Arc::new(Topology::empty());
        for (before, now, asks) in [
            (&alone, &two, false),
            (&two, &alone, true),
            (&two, &lighter, true),
            (&lighter, &two, false),
            (&without, &two, true),
            (&two, &without, false),
            (&nobody, &two, true),
            (&nobody, &without, false),
        ] {
            assert_eq!(!begun(before, now).is_empty(), asks, "{:?}", now.epoch);
        }
        assert_eq!(begun(&two, &alone)[0].others[0].id.as_str(), "b", "also who is gone");
    }

    #[test]
    fn a_gained_key_waits_for_all_answers_and_a_lease_and_its_own_for_nothing() {
        let (two, alone) = (ring(1, &[("a", 100), ("b", 100)]), ring(2, &[("a", 100)]));
        let takeover = begun(&two, &alone).remove(0);
        let own: NodeId = "a".parse().unwrap();
        for key in 0..100 {
            let key = key.to_string();
            let (owner, _) = two.owner("g", &key).unwrap();
            let was_others = two.member(owner).id.as_str() == "b";
            assert_eq!(takeover.has_gained(&own, "g", &key), was_others);
        }
        let clock = ManualClock::new();
        assert!(!takeover.is_over(clock.monotonic() + LEASE * 100), "nobody has answered");
        takeover.asked(&clock);
        assert!(!takeover.is_over(clock.monotonic()));
        clock.advance(LEASE);
        assert!(takeover.is_over(clock.monotonic()));
    }

    #[test]
    fn many_changes_at_once_stand_for_all_keys() {
        let (two, alone) = (ring(1, &[("a", 100), ("b", 100)]), ring(2, &[("a", 100)]));
        let takeovers = Takeovers::default();
        let own: NodeId = "a".parse().unwrap();
        (0..=MAX_TAKEOVERS).for_each(|_| takeovers.begin(&own, Some(&two), &alone));
        let under_way = takeovers.take_up();
        assert_eq!(under_way.len(), MAX_TAKEOVERS);
        let last = under_way.last().unwrap();
        assert!((0..100).all(|key| last.has_gained(&own, "g", &key.to_string())));
        assert!(takeovers.take_up().is_empty(), "each is asked about once");
    }
}
