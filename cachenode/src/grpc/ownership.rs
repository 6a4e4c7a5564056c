//! Whether this node may do an operation on a key: decided by the ring, at the moment it applies.

use common::{
    discovery::NodeId,
    topology::{Epoch, Topology},
};
use proto::v1::{self, Moved, not_started::Reason};

/// As what a node does an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// The key is its own.
    Owner,
    /// The sender could not reach the owner.
    StandIn,
}

/// Why it does not.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Refusal {
    /// The key belongs to another node.
    Moved(Moved),
    /// The sender knows a newer ring: this node has to catch up first.
    Behind,
    /// It takes no operations at present.
    NotStarted(Reason),
}

/// Judges one operation by this node's topology.
pub(crate) fn judge(
    topology: &Topology,
    own: &NodeId,
    sender: &v1::Epoch,
    request: &v1::Request,
) -> Result<Standing, Refusal> {
    // Same ring: the sender computed the same owner, and says so when this is not it.
    if sender.digest == topology.epoch.digest {
        return Ok(if request.stand_in { Standing::StandIn } else { Standing::Owner });
    }
    let owner = topology.owner(&request.group, &request.key).map(|(owner, _)| owner);
    let owner = owner.map(|index| &topology.member(index).id);
    if owner == Some(own) {
        return Ok(Standing::Owner);
    }
    if request.stand_in {
        return Ok(Standing::StandIn);
    }
    if is_behind(&topology.epoch, sender) {
        return Err(Refusal::Behind);
    }
    match owner {
        Some(owner) => {
            let epoch = Some(topology.epoch.to_wire());
            Err(Refusal::Moved(Moved { owner: owner.to_string(), epoch }))
        }
        None => Err(Refusal::NotStarted(Reason::CatchingUp)),
    }
}

/// Whether the sender has seen later history of the same cluster state.
fn is_behind(own: &Epoch, sender: &v1::Epoch) -> bool {
    own.generation.as_bytes()[..] == sender.generation[..] && own.as_of < sender.as_of
}
