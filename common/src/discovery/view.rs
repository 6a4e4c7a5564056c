//! One consistent reading of the cluster state.
//!
//! How it was read, and what happens when it can't be, is each backend's business; what follows
//! from it (the ring, the epoch) is made by `topology`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use uuid::Uuid;

use super::{
    groups::GroupRecords,
    record::{NodeId, NodeRecord},
};

/// Virtual nodes of a member of normal weight, where the cluster says nothing else.
pub const DEFAULT_VIRTUAL_NODES: u32 = 100;

/// What every process must use to compute the same ring; kept in the cluster state.
#[derive(Clone, PartialEq, Eq)]
pub struct RingSettings {
    /// Virtual nodes of a member of weight 100.
    pub virtual_nodes: u32,
    /// Mixed into every hash, so that outsiders can't choose keys that fall on one node.
    pub seed: String,
}

impl Default for RingSettings {
    fn default() -> Self {
        Self { virtual_nodes: DEFAULT_VIRTUAL_NODES, seed: String::new() }
    }
}

impl fmt::Debug for RingSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The seed is a secret of the cluster: logs may say that there is one, not what it is.
        let seed = if self.seed.is_empty() { "(none)" } else { "(set)" };
        let mut out = f.debug_struct("RingSettings");
        out.field("virtual_nodes", &self.virtual_nodes).field("seed", &seed).finish()
    }
}

/// The cluster as of one revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// The life of the cluster state; another one after it was wiped.
    pub generation: Uuid,
    /// The revision up to which history has been seen.
    pub as_of: u64,
    /// How the ring is computed.
    pub ring: RingSettings,
    /// Everybody in the ring: who is registered, draining members too, and who is carried.
    pub members: BTreeMap<NodeId, NodeRecord>,
    /// Those of the members that are not registered (any more): after a disaster they are kept
    /// for a while, so that their keys stay where they are until they have registered again.
    pub carried: BTreeSet<NodeId>,
    /// The groups that were defined for all, and those that were deleted.
    pub groups: Arc<GroupRecords>,
}

impl View {
    /// A view of members who are all registered.
    pub fn new(
        generation: Uuid,
        as_of: u64,
        ring: RingSettings,
        members: impl IntoIterator<Item = NodeRecord>,
    ) -> Self {
        let members = members.into_iter().map(|record| (record.id.clone(), record)).collect();
        let (carried, groups) = (BTreeSet::new(), Arc::default());
        Self { generation, as_of, ring, members, carried, groups }
    }

    /// The record of a member that is registered.
    pub fn live(&self, id: &str) -> Option<&NodeRecord> {
        self.members.get(id).filter(|_| !self.carried.contains(id))
    }
}
