//! What the ring promises: golden vectors, properties, statistics.

mod golden;
mod properties;
mod statistics;

use super::*;

fn member(id: &str, weight: u32, zone: &str) -> RingMember {
    RingMember { id: NodeId::new(id).unwrap(), weight, zone: zone.into() }
}

fn settings(virtual_nodes: u32, seed: &str) -> RingSettings {
    RingSettings { virtual_nodes, seed: seed.into() }
}

fn ids(ring: &Ring, indices: impl Iterator<Item = usize>) -> Vec<&str> {
    indices.map(|index| ring.members()[index].id.as_str()).collect()
}

/// Asserts that two rings are one: members, points, and all that is made of them.
fn assert_same(left: &Ring, right: &Ring) {
    assert_eq!(left.settings(), right.settings());
    assert_eq!(left.members(), right.members());
    assert_eq!(left.circle.points(), right.circle.points());
    assert_eq!(left.digest(), right.digest());
}

/// Walks both rings' arcs side by side: the part of the circle that changes hands, exactly. Each
/// move is shown to `check` as (from, to).
fn moved(old: &Ring, new: &Ring, mut check: impl FnMut(&NodeId, &NodeId)) -> f64 {
    let ends = |ring: &Ring| ring.circle.points().iter().map(|p| p.position()).collect::<Vec<_>>();
    let mut ends = [ends(old), ends(new)].concat();
    ends.sort_unstable();
    ends.dedup();
    let mut before = *ends.last().unwrap();
    let mut moved = 0u128;
    for end in ends {
        let from = &old.members()[old.owner(end).unwrap()].id;
        let to = &new.members()[new.owner(end).unwrap()].id;
        if from != to {
            check(from, to);
            moved += u128::from(end.wrapping_sub(before));
        }
        before = end;
    }
    moved as f64 / 2f64.powi(64)
}
