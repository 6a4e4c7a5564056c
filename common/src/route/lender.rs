//! Who lent a value of which group, and whether it is still the one to lend it.

use std::sync::Arc;

use uuid::Uuid;

use crate::topology::{Topologies, Topology};

/// The owner of a key as it was when it lent the key's value.
#[derive(Debug, Clone)]
pub struct Lender {
    topology: Arc<Topology>,
    node: usize,
}

impl Lender {
    /// The member of that index in a topology.
    pub fn new(topology: Arc<Topology>, node: usize) -> Self {
        Self { topology, node }
    }

    /// Whether the key has that owner, in that life, by the topology of now too, and its group is still
    /// that group and no other one of the same name. Cheap while the topology is the same; a new one
    /// is looked at once.
    pub fn is_owner_yet(&mut self, topologies: &Topologies, group: &str, key: &str) -> bool {
        if topologies.is_current(&self.topology) {
            return true;
        }
        let now = topologies.load();
        let lender = self.topology.member(self.node);
        let Some((owner, _)) = now.owner(group, key) else { return false };
        let member = now.member(owner);
        let is_same = member.id == lender.id
            && member.instance == lender.instance
            && group_id(&now, group) == group_id(&self.topology, group);
        if is_same {
            *self = Self { topology: now, node: owner };
        }
        is_same
    }

    /// Its id.
    pub fn id(&self) -> &str {
        self.topology.member(self.node).id.as_str()
    }
}

/// Which group has that name in the cluster state, if one has.
fn group_id(topology: &Topology, name: &str) -> Option<Uuid> {
    topology.group(name).filter(|group| group.definition.is_some()).map(|group| group.id)
}
