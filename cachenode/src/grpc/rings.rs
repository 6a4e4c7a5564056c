//! Noting every change of the ring before the first operation by it.
//!
//! A key that this node gave up and got back within moments may have been written by another node
//! in between, so what is stored under it counts as absent from the change on, whenever the walk
//! that removes it comes (`node::relinquish`). Topologies come from a task of their own; whoever
//! meets a new one first, that walk's task or a worker with a batch, notes it for all.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

use common::topology::Topology;
use tokio::sync::Notify;

use super::NodeService;

/// The last ring that was noted.
pub(crate) struct Rings {
    /// Where it lies in memory: it is kept alive below, so no other one can lie there.
    noted: AtomicUsize,
    last: Mutex<Arc<Topology>>,
    /// There are changes to walk the groups for.
    pub(crate) changed: Notify,
}

impl Rings {
    pub(crate) fn new() -> Self {
        let nothing = Arc::new(Topology::empty());
        Self {
            noted: AtomicUsize::new(place(&nothing)),
            last: Mutex::new(nothing),
            changed: Notify::new(),
        }
    }
}

fn place(topology: &Topology) -> usize {
    Arc::as_ptr(&topology.ring).addr()
}

impl NodeService {
    /// The topology of now, by which operations may be done.
    pub(crate) fn topology(&self) -> Arc<Topology> {
        let topology = self.route.topologies.load();
        if place(&topology) != self.rings.noted.load(Ordering::Acquire) {
            self.note_ring(&topology);
        }
        topology
    }

    fn note_ring(&self, topology: &Arc<Topology>) {
        let mut last = self.rings.last.lock().unwrap_or_else(PoisonError::into_inner);
        let (before, now) = (last.epoch, topology.epoch);
        let is_older = before.generation == now.generation && before.as_of > now.as_of;
        if is_older || Arc::ptr_eq(&last.ring, &topology.ring) {
            return;
        }
        // A ring that was made anew and is the same: there was another one in between, which
        // nobody here has seen.
        let missed_one = before.digest == now.digest;
        for group in self.groups.now().iter() {
            let (name, own) = (group.name().clone(), self.id.clone());
            let ring = Arc::clone(topology);
            let is_ours = move |key: &str| {
                let owner = ring.owner(name.as_str(), key).map(|(owner, _)| owner);
                owner.is_some_and(|owner| ring.member(owner).id == own)
            };
            if missed_one {
                self.metrics.entries_dropped.inc_by(group.drop_everything());
            } else if !group.ring_changed(is_ours) {
                self.metrics.entries_dropped.inc_by(group.stats().entries);
            }
        }
        let before = (!missed_one).then_some(&*last);
        self.takeovers.begin(&self.id, before, topology);
        *last = Arc::clone(topology);
        self.rings.noted.store(place(topology), Ordering::Release);
        self.rings.changed.notify_one();
    }
}
