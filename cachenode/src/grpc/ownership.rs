//! Whether this node may do an operation on a key: decided by the ring, at the moment it applies.

use common::{discovery::NodeId, topology::Topology};
use proto::v1::{self, Moved, not_started::Reason};

use super::operation::Later;

/// As what a node does an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// The key is its own.
    Owner,
    /// The key is another node's, which the sender could not reach.
    PassedOver,
}

/// Why it does not.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Refusal {
    /// The key belongs to another node.
    Moved(Moved),
    /// Something has to happen first.
    Later(Later),
    /// It takes no operations at present.
    NotStarted(Reason),
}

/// Judges one operation by this node's topology.
pub(crate) fn judge(
    topology: &Topology,
    own: &NodeId,
    sender: &v1::Epoch,
    request: &v1::Request,
    met: bool,
) -> Result<Standing, Refusal> {
    let owner = || {
        let (index, _) = topology.owner(&request.group, &request.key)?;
        Some(&topology.member(index).id)
    };
    // Same ring: the sender computed the same owner, and says so when this is not it.
    if sender.digest == topology.epoch.digest {
        let passed_over = request.stand_in && owner() != Some(own);
        return Ok(if passed_over { Standing::PassedOver } else { Standing::Owner });
    }
    let ours = &topology.epoch;
    let comparable = ours.generation.as_bytes()[..] == sender.generation[..];
    // Whoever has seen less catches up before it answers, whatever its own ring says; who can't
    // tell looks again, once.
    if comparable && ours.as_of < sender.as_of {
        return Err(Refusal::Later(Later::Behind));
    }
    if !comparable && !met {
        return Err(Refusal::Later(Later::Foreign));
    }
    let owner = owner();
    if owner == Some(own) {
        return Ok(Standing::Owner);
    }
    // By a newer ring another node may be the owner, alive and well: the sender has to ask it
    // itself. Other generations can't be compared, so it is asked from here.
    if request.stand_in && !comparable {
        return Ok(Standing::PassedOver);
    }
    match owner {
        Some(owner) => {
            let epoch = Some(ours.to_wire());
            Err(Refusal::Moved(Moved { owner: owner.to_string(), epoch }))
        }
        None => Err(Refusal::NotStarted(Reason::CatchingUp)),
    }
}

#[cfg(test)]
mod tests {
    use common::discovery::{NodeRecord, RingSettings, View};
    use uuid::Uuid;

    use super::*;

    const GENERATION: Uuid = Uuid::from_u128(1);

    fn topology(as_of: u64, ids: &[&str]) -> Topology {
        let record = |id: &&str| NodeRecord::new(id.parse().unwrap(), Uuid::nil(), "127.0.0.1:1");
        let members = ids.iter().map(record);
        Topology::empty().next(&View::new(GENERATION, as_of, RingSettings::default(), members))
    }

    fn request(stand_in: bool) -> v1::Request {
        let (group, key) = ("g".to_owned(), "k".to_owned());
        v1::Request { group, key, stand_in, ..Default::default() }
    }

    fn judged(
        ours: &Topology,
        theirs: &Topology,
        own: &str,
        stand_in: bool,
    ) -> Result<Standing, Refusal> {
        judge(ours, &own.parse().unwrap(), &theirs.epoch.to_wire(), &request(stand_in), false)
    }

    #[test]
    fn by_the_same_ring_the_sender_is_believed() {
        let ring = topology(5, &["a", "b"]);
        for id in ["a", "b"] {
            assert_eq!(judged(&ring, &ring, id, false), Ok(Standing::Owner));
        }
        let owner = ring.member(ring.owner("g", "k").unwrap().0).id.to_string();
        let other = if owner == "a" { "b" } else { "a" };
        assert_eq!(judged(&ring, &ring, other, true), Ok(Standing::PassedOver));
        assert_eq!(judged(&ring, &ring, &owner, true), Ok(Standing::Owner), "not passed over");
    }

    #[test]
    fn who_has_seen_less_catches_up_even_as_the_owner() {
        let (old, new) = (topology(5, &["a"]), topology(6, &["a", "b"]));
        for stand_in in [false, true] {
            assert_eq!(judged(&old, &new, "a", stand_in), Err(Refusal::Later(Later::Behind)));
        }
    }

    #[test]
    fn an_old_sender_is_told_who_owns_the_key_now() {
        let (old, new) = (topology(5, &["a"]), topology(6, &["b"]));
        for stand_in in [false, true] {
            let Err(Refusal::Moved(moved)) = judged(&new, &old, "a", stand_in) else {
                panic!("the key is b's")
            };
            assert_eq!(moved.owner, "b");
            assert_eq!(judged(&new, &old, "b", stand_in), Ok(Standing::Owner));
        }
    }

    #[test]
    fn other_generations_can_not_be_compared() {
        let ours = topology(5, &["b"]);
        let theirs = v1::Epoch { as_of: 99, ..v1::Epoch::default() };
        let judged =
            |stand_in, met| judge(&ours, &"a".parse().unwrap(), &theirs, &request(stand_in), met);
        for stand_in in [false, true] {
            assert_eq!(judged(stand_in, false), Err(Refusal::Later(Later::Foreign)));
        }
        assert_eq!(judged(true, true), Ok(Standing::PassedOver));
        assert!(matches!(judged(false, true), Err(Refusal::Moved(_))));
    }
}
