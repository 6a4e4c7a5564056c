//! A topology with a worker's links to its members.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use arc_swap::ArcSwap;
use proto::v1::Lane;
use tokio::runtime::Handle;

use crate::{
    discovery::{NodeRecord, NodeState},
    health::{HealthTable, NodeHealth},
    link::{Identity, Link, Peer},
    topology::Topology,
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

    /// The link for large values, made when the first one comes.
    pub(super) fn bulk(&self) -> &Link {
        let Links { bulk, peer, identity, runtime, .. } = &*self.links;
        bulk.get_or_init(|| Link::spawn(runtime, identity.clone(), peer.clone(), Lane::Bulk))
    }
}

/// One topology, wired: `wires[i]` leads to member `i`.
pub(super) struct Wired {
    pub(super) topology: Arc<Topology>,
    pub(super) wires: Vec<Wire>,
}

impl Wired {
    /// The nodes to try, in order: those of the preference list that are called at present, or
    /// all of them when none is.
    pub(super) fn candidates(&self, position: u64) -> impl Iterator<Item = usize> {
        let callable = |&node: &usize| {
            self.wires[node].health.callable()
                && self.topology.member(node).state != NodeState::Draining
        };
        let mut preferred = self.topology.ring.preference(position).filter(callable).peekable();
        let nobody = preferred.peek().is_none();
        let rest = nobody.then(|| self.topology.ring.preference(position));
        preferred.chain(rest.into_iter().flatten())
    }
}

/// Keeps one worker's links while topologies come and go.
pub(super) struct Wiring {
    current: ArcSwap<Wired>,
    links: Mutex<HashMap<Peer, Arc<Links>>>,
    identity: Identity,
    runtime: Handle,
}

impl Wiring {
    pub(super) fn new(identity: Identity, runtime: Handle) -> Self {
        let nowhere = Wired { topology: Arc::new(Topology::empty()), wires: Vec::new() };
        Self { current: ArcSwap::from_pointee(nowhere), links: Mutex::default(), identity, runtime }
    }

    /// The topology, wired. Links to nodes that are members in both are kept.
    pub(super) fn to(&self, topology: Arc<Topology>, health: &HealthTable) -> Arc<Wired> {
        let current = self.current.load_full();
        if Arc::ptr_eq(&current.topology, &topology) {
            return current;
        }
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        let wire = |member: &NodeRecord| Wire {
            links: self.links_to(&mut links, member),
            // Asked anew each time: a node that left and came back has a new record.
            health: health.of(member),
        };
        let wires: Vec<_> = topology.members().iter().map(wire).collect();
        links.retain(|_, kept| wires.iter().any(|wire| Arc::ptr_eq(kept, &wire.links)));
        let wired = Arc::new(Wired { topology, wires });
        self.current.store(Arc::clone(&wired));
        wired
    }

    fn links_to(&self, links: &mut HashMap<Peer, Arc<Links>>, member: &NodeRecord) -> Arc<Links> {
        let peer = Peer {
            id: member.id.to_string(),
            instance: member.instance,
            address: member.grpc.clone(),
        };
        let (runtime, identity) = (self.runtime.clone(), self.identity.clone());
        let fresh = || {
            let small = Link::spawn(&runtime, identity.clone(), peer.clone(), Lane::Small);
            Arc::new(Links { small, bulk: OnceLock::new(), peer: peer.clone(), identity, runtime })
        };
        Arc::clone(links.entry(peer.clone()).or_insert_with(fresh))
    }
}
