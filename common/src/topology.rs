//! One immutable snapshot of the cluster: epoch, members and ring, and following it as it changes.
//!
//! A request loads the topology once and keeps it to its end; whoever must act on a change
//! watches the epoch. Topology adds no judgement to what discovery says: members that do not
//! answer or are draining stay where they are in the ring, because the ring must be the same for
//! everybody who has seen the same cluster state.

mod define;
mod epoch;
mod follow;

use std::sync::Arc;

use crate::{
    discovery::{GroupRecord, GroupRecords, NodeId, NodeRecord, RingSettings, View},
    ring::{Preference, Ring, RingMember},
};

pub use define::{DEFAULT_GROUP, Defined, When};
pub use epoch::Epoch;
pub use follow::{Topologies, follow};

/// The cluster as of one epoch.
#[derive(Debug, Clone)]
pub struct Topology {
    /// Which state of the cluster this is.
    pub epoch: Epoch,
    /// Who owns what. Topologies of equal members share it.
    pub ring: Arc<Ring>,
    members: Arc<[NodeRecord]>,
    groups: Arc<GroupRecords>,
}

impl Topology {
    /// What is known before the cluster state has been read: nobody.
    pub fn empty() -> Self {
        let ring = Ring::build(&RingSettings::default(), Vec::new());
        let epoch = Epoch { digest: ring.digest(), ..Epoch::default() };
        Self { epoch, ring: Arc::new(ring), members: Arc::new([]), groups: Arc::default() }
    }

    /// The topology that follows from a view. What did not change is shared with this one.
    #[must_use]
    pub fn next(&self, view: &View) -> Self {
        let members = if self.members.iter().eq(view.members.values()) {
            self.members.clone()
        } else {
            view.members.values().cloned().collect()
        };
        let ring = if is_ring_of(&self.ring, view) {
            self.ring.clone()
        } else {
            Arc::new(self.ring.rebuilt(&view.ring, members.iter().map(ring_member).collect()))
        };
        let epoch = Epoch { generation: view.generation, as_of: view.as_of, digest: ring.digest() };
        let groups = if self.groups == view.groups { &self.groups } else { &view.groups };
        Self { epoch, ring, members, groups: Arc::clone(groups) }
    }

    /// The groups that are cluster state, deleted ones too. Topologies of equal groups share them.
    pub fn groups(&self) -> &Arc<GroupRecords> {
        &self.groups
    }

    /// The record of a group in the cluster state.
    pub fn group(&self, name: &str) -> Option<&GroupRecord> {
        self.groups.get(name).map(|record| &**record)
    }

    /// Everybody registered, ordered by id; draining members too. The indices are the ring's.
    pub fn members(&self) -> &[NodeRecord] {
        &self.members
    }

    /// The member of an index that the ring gave.
    ///
    /// # Panics
    /// When the index is not one of this topology's.
    pub fn member(&self, index: usize) -> &NodeRecord {
        &self.members[index]
    }

    /// The index of a member.
    pub fn index_of(&self, id: &NodeId) -> Option<usize> {
        self.ring.index_of(id)
    }

    /// The owner of a key and the key's position; `None` if nobody owns anything.
    pub fn owner(&self, group: &str, key: &str) -> Option<(usize, u64)> {
        let position = self.ring.position(group, key);
        self.ring.owner(position).map(|owner| (owner, position))
    }

    /// Everybody in the order in which to turn to them; see [`Ring::preference`].
    pub fn preference(&self, position: u64) -> Preference<'_> {
        self.ring.preference(position)
    }
}

fn ring_member(record: &NodeRecord) -> RingMember {
    RingMember { id: record.id.clone(), weight: record.weight, zone: record.zone.clone() }
}

/// Whether a ring is already that of a view: states, addresses and instances are not part of it.
fn is_ring_of(ring: &Ring, view: &View) -> bool {
    let is_same = |(member, record): (&RingMember, &NodeRecord)| {
        member.id == record.id && member.weight == record.weight && member.zone == record.zone
    };
    *ring.settings() == view.ring
        && ring.members().len() == view.members.len()
        && ring.members().iter().zip(view.members.values()).all(is_same)
}

#[cfg(test)]
mod tests;
