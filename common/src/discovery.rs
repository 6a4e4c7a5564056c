//! Who the members of the cluster are, and telling the others about oneself.

mod record;
mod view;

pub use record::{
    MAX_NODE_ID_BYTES, MAX_RECORD_BYTES, MAX_WEIGHT, NORMAL_WEIGHT, NodeId, NodeIdError,
    NodeRecord, NodeState, RECORD_VERSION, RecordError,
};
pub use view::{DEFAULT_VIRTUAL_NODES, RingSettings, View};
