//! Whom an operation has passed by before it came here: its owner, and whoever comes between that and
//! this node in the key's preference list.
//!
//! Each of them may be asked for the key by others, and each but the owner may stand in for it as
//! this node does. So what is done here concerns all of them, and not the owner alone.

use std::sync::Arc;

use common::{
    discovery::{NodeId, NodeRecord},
    topology::Topology,
};

/// The members before this node in a key's preference list, by one topology. Never empty.
pub(super) struct Passed {
    topology: Arc<Topology>,
    members: Vec<usize>,
}

impl Passed {
    /// `None`: nobody owns the key, or this node does.
    pub(super) fn of(
        topology: Arc<Topology>,
        own: &NodeId,
        group: &str,
        key: &str,
    ) -> Option<Self> {
        let members: Vec<usize> = before(&topology, own, group, key).collect();
        (!members.is_empty()).then_some(Self { topology, members })
    }

    /// The key's owner.
    pub(super) fn owner(&self) -> &NodeRecord {
        self.topology.member(self.members[0])
    }

    /// The members after the owner.
    pub(super) fn between(&self) -> impl Iterator<Item = &NodeRecord> {
        self.all().skip(1)
    }

    /// All of them, the owner first.
    pub(super) fn all(&self) -> impl Iterator<Item = &NodeRecord> {
        self.members.iter().map(|&member| self.topology.member(member))
    }

    /// Whether they are the same by another topology.
    pub(super) fn are_the_same(
        &self,
        topology: &Topology,
        own: &NodeId,
        group: &str,
        key: &str,
    ) -> bool {
        let now = before(topology, own, group, key).map(|member| &topology.member(member).id);
        now.eq(self.all().map(|member| &member.id))
    }
}

fn before<'a>(
    topology: &'a Topology,
    own: &'a NodeId,
    group: &str,
    key: &str,
) -> impl Iterator<Item = usize> + use<'a> {
    let position = topology.owner(group, key).map(|(_, position)| position);
    let all = position.into_iter().flat_map(|position| topology.preference(position));
    all.take_while(|&member| topology.member(member).id != *own)
}
