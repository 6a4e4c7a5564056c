//! A topology with a worker's links to its members.

use std::{
    collections::HashMap,
    iter, mem, ptr,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use arc_swap::ArcSwap;
use proto::v1::Lane;
use tokio::runtime::Handle;

use crate::{
    discovery::NodeRecord,
    health::{HealthTable, NodeHealth},
    link::{Identity, Link, Peer},
    near::Holder,
    topology::{Topologies, Topology},
};

/// A worker's links to one node. They stay while the node does, whatever else changes.
pub(super) struct Links {
    small: Link,
    bulk: OnceLock<Link>,
    peer: Peer,
    identity: Identity,
    runtime: Handle,
}

/// The way to one member of a topology.
pub(super) struct Wire {
    links: Arc<Links>,
    pub(super) health: Arc<NodeHealth>,
}

impl Wire {
    pub(super) fn small(&self) -> &Link {
        &self.links.small
    }

    pub(super) fn link(&self, bulk: bool) -> &Link {
        if bulk { self.bulk() } else { self.small() }
    }

    /// The link for large values, made when the first one comes.
    pub(super) fn bulk(&self) -> &Link {
        let Links { bulk, peer, identity, runtime, .. } = &*self.links;
        bulk.get_or_init(|| Link::spawn(runtime, identity.clone(), peer.clone(), Lane::Bulk))
    }
}

/// One topology, wired: `wires[i]` leads to member `i`.
pub(super) struct Wired {
    pub(super) topology: Arc<Topology>,
    pub(super) wires: Arc<[Wire]>,
}

impl Wired {
    /// The owner, if this process calls it at present.
    pub(super) fn reachable_owner(&self, position: u64) -> Option<usize> {
        let owner = self.topology.preference(position).next()?;
        self.wires[owner].health.callable().then_some(owner)
    }

    /// The owner, and the nodes to try in order: those of the preference list that are called at
    /// present, or all of them when none is. `None` when nobody owns anything.
    pub(super) fn candidates(&self, position: u64) -> Option<(usize, impl Iterator<Item = usize>)> {
        // A draining member is still the owner, and answers until it has left.
        let callable = |&node: &usize| self.wires[node].health.callable();
        let mut others = self.topology.preference(position);
        let owner = others.next()?;
        let mut preferred = iter::once(owner).chain(others).filter(callable).peekable();
        let nobody = preferred.peek().is_none();
        let rest = nobody.then(|| self.topology.preference(position));
        Some((owner, preferred.chain(rest.into_iter().flatten())))
    }
}

/// Keeps one worker's links while topologies come and go.
pub(super) struct Wiring {
    current: ArcSwap<Wired>,
    links: Mutex<HashMap<Peer, Arc<Links>>>,
    identity: Identity,
    runtime: Handle,
    /// To whom nodes may lend values over these links.
    holder: Option<Arc<dyn Holder>>,
}

impl Wiring {
    pub(super) fn new(
        identity: Identity,
        runtime: Handle,
        holder: Option<Arc<dyn Holder>>,
    ) -> Self {
        let nowhere = Wired { topology: Arc::new(Topology::empty()), wires: Arc::new([]) };
        let (current, links) = (ArcSwap::from_pointee(nowhere), Mutex::default());
        Self { current, links, identity, runtime, holder }
    }

    /// The topology of now, wired. Links to nodes that were members before are kept.
    pub(super) fn now(&self, topologies: &Topologies, health: &HealthTable) -> Arc<Wired> {
        let current = self.current.load_full();
        if topologies.is_current(&current.topology) {
            return current;
        }
        let topology = topologies.load();
        // Revisions that change no member share the members, so this is the usual case.
        let same_members = ptr::eq(current.topology.members(), topology.members());
        let wires = if same_members {
            Arc::clone(&current.wires)
        } else {
            self.wire(topology.members(), health)
        };
        let wired = Arc::new(Wired { topology, wires });
        self.current.store(Arc::clone(&wired));
        wired
    }

    /// Finds or makes the links to all members, and lets go of the others.
    fn wire(&self, members: &[NodeRecord], health: &HealthTable) -> Arc<[Wire]> {
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        let mut before = mem::take(&mut *links);
        let wire = |member: &NodeRecord| {
            let peer = Peer {
                id: member.id.to_string(),
                instance: member.instance,
                address: member.grpc.clone(),
            };
            let kept = before.remove(&peer).unwrap_or_else(|| self.links_to(&peer));
            links.insert(peer, Arc::clone(&kept));
            // Asked anew each time: a node that left and came back has a new record.
            Wire { links: kept, health: health.of(member) }
        };
        members.iter().map(wire).collect()
    }

    fn links_to(&self, peer: &Peer) -> Arc<Links> {
        let (runtime, identity) = (self.runtime.clone(), self.identity.clone());
        let small = match &self.holder {
            Some(holder) => {
                Link::lending(&runtime, identity.clone(), peer.clone(), Arc::clone(holder))
            }
            None => Link::spawn(&runtime, identity.clone(), peer.clone(), Lane::Small),
        };
        Arc::new(Links { small, bulk: OnceLock::new(), peer: peer.clone(), identity, runtime })
    }
}
