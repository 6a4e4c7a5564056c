//! What holds for every ring, tried on generated ones.

use std::collections::{BTreeMap, BTreeSet};

use proptest::{prelude::*, sample::Index};

use super::*;

/// Members by id with weight and zone; small rings find the same mistakes as large ones.
fn members(most: usize) -> impl Strategy<Value = Vec<RingMember>> {
    let weight = prop_oneof![Just(0u32), Just(100), 1u32..400];
    let one = (weight, prop_oneof![Just(""), Just("a"), Just("b"), Just("c")]);
    proptest::collection::btree_map("[a-z]{1,3}", one, 1..=most).prop_map(|members| {
        members.iter().map(|(id, (weight, zone))| member(id, *weight, zone)).collect()
    })
}

fn ring_settings() -> impl Strategy<Value = RingSettings> {
    (1u32..12, "[a-z]{0,2}").prop_map(|(nodes, seed)| settings(nodes, &seed))
}

/// The same by the plainest means: the clockwise order of distinct members, each zone's first one
/// before the rest, the weightless at the end.
fn plain_preference(ring: &Ring, position: u64) -> Vec<usize> {
    let points = ring.circle.points();
    let start = points.iter().position(|point| point.position() >= position).unwrap_or(0);
    let mut clockwise = Vec::new();
    for point in points[start..].iter().chain(&points[..start]) {
        if !clockwise.contains(&(point.owner())) {
            clockwise.push(point.owner());
        }
    }
    let mut zones = BTreeSet::new();
    let (mut order, rest): (Vec<_>, Vec<_>) =
        clockwise.into_iter().partition(|&index| zones.insert(&ring.members()[index].zone));
    order.extend(rest);
    if !order.is_empty() {
        order.extend((0..ring.members().len()).filter(|&i| ring.members()[i].weight == 0));
    }
    order
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn the_order_of_members_does_not_matter(
        settings in ring_settings(),
        (sorted, shuffled) in members(12).prop_flat_map(|m| (Just(m.clone()), Just(m).prop_shuffle())),
    ) {
        assert_same(&Ring::build(&settings, sorted), &Ring::build(&settings, shuffled));
    }

    #[test]
    fn a_rebuilt_ring_is_the_built_one(
        settings in ring_settings(), old in members(12), new in members(12), chosen: Vec<bool>,
    ) {
        // A mixture: some members stay as they are, some come, go, or change weight and zone.
        let mut mixed: BTreeMap<_, _> = new.into_iter().map(|m| (m.id.clone(), m)).collect();
        for (member, _) in old.iter().zip(chosen).filter(|(_, chosen)| *chosen) {
            mixed.insert(member.id.clone(), member.clone());
        }
        let mixed: Vec<RingMember> = mixed.into_values().collect();
        let rebuilt = Ring::build(&settings, old).rebuilt(&settings, mixed.clone());
        assert_same(&rebuilt, &Ring::build(&settings, mixed));
    }

    #[test]
    fn preference_is_every_member_once_owner_first_other_zones_next(
        settings in ring_settings(), members in members(12), position: u64,
    ) {
        let ring = Ring::build(&settings, members);
        let order: Vec<usize> = ring.preference(position).collect();
        prop_assert_eq!(&order, &plain_preference(&ring, position));
        prop_assert_eq!(ring.preference(position).len(), order.len());
        prop_assert_eq!(ring.owner(position), order.first().copied());
        if !order.is_empty() {
            prop_assert_eq!(order.iter().collect::<BTreeSet<_>>().len(), ring.members().len());
            prop_assert_eq!(order.len(), ring.members().len());
        }
    }

    #[test]
    fn a_member_joining_or_leaving_moves_only_its_own_keys(
        settings in ring_settings(), members in members(12), who: Index,
    ) {
        let all = Ring::build(&settings, members.clone());
        let who = who.index(members.len());
        let id = members[who].id.clone();
        let others: Vec<_> = members.into_iter().filter(|m| m.id != id).collect();
        prop_assume!(others.iter().any(|m| m.weight > 0));
        let without = Ring::build(&settings, others);
        let joining = moved(&without, &all, |_, to| assert_eq!(to, &id));
        let leaving = moved(&all, &without, |from, _| assert_eq!(from, &id));
        let share = all.share(who);
        prop_assert!((joining - share).abs() < 1e-9 && (leaving - share).abs() < 1e-9);
    }

    #[test]
    fn shares_are_what_is_owned_and_together_the_whole(
        settings in ring_settings(), members in members(12),
    ) {
        let ring = Ring::build(&settings, members);
        prop_assume!(ring.members().iter().any(|m| m.weight > 0));
        let sum: f64 = (0..ring.members().len()).map(|index| ring.share(index)).sum();
        prop_assert!((sum - 1.0).abs() < 1e-9, "{sum}");
        for (index, member) in ring.members().iter().enumerate() {
            prop_assert_eq!(member.weight == 0, ring.share(index) == 0.0);
        }
    }

    #[test]
    fn every_part_of_members_and_settings_is_in_the_digest(
        settings in ring_settings(), members in members(6), who: Index,
    ) {
        let digest = Ring::build(&settings, members.clone()).digest();
        let who = who.index(members.len());
        let changed = |change: &dyn Fn(&mut RingMember)| {
            let mut members = members.clone();
            change(&mut members[who]);
            Ring::build(&settings, members).digest()
        };
        prop_assert_ne!(digest, changed(&|m| m.weight += 1));
        prop_assert_ne!(digest, changed(&|m| m.zone.push('x')));
        prop_assert_ne!(digest, changed(&|m| m.id = NodeId::new(format!("{}-x", m.id)).unwrap()));
        let other = RingSettings { seed: format!("{}x", settings.seed), ..settings.clone() };
        prop_assert_ne!(digest, Ring::build(&other, members.clone()).digest());
        let other = RingSettings { virtual_nodes: settings.virtual_nodes + 1, ..settings.clone() };
        prop_assert_ne!(digest, Ring::build(&other, members.clone()).digest());
    }
}

#[test]
fn other_settings_make_another_ring() {
    let members: Vec<_> = ["a", "b", "c"].map(|id| member(id, 100, "")).into();
    let ring = Ring::build(&settings(10, ""), members.clone());
    for settings in [settings(11, ""), settings(10, "s")] {
        assert_same(
            &ring.rebuilt(&settings, members.clone()),
            &Ring::build(&settings, members.clone()),
        );
    }
}

#[test]
fn of_members_with_one_id_one_is_kept_whatever_their_order() {
    let (a, b) = (member("a", 100, "x"), member("a", 200, "y"));
    let ring = Ring::build(&settings(10, ""), vec![a.clone(), b.clone()]);
    assert_eq!(ring.members().len(), 1);
    assert_same(&ring, &Ring::build(&settings(10, ""), vec![b, a]));
}

#[test]
fn the_number_of_virtual_nodes_follows_the_weight_within_bounds() {
    for (setting, weight, expected) in [
        (100, 100, 100),
        (100, 50, 50),
        (100, 0, 0),
        (10, 1, 1),
        (0, 100, 1),
        (10, 14, 1),
        (10, 15, 2),
        (u32::MAX, u32::MAX, MAX_VIRTUAL_NODES),
    ] {
        assert_eq!(virtual_nodes(&settings(setting, ""), weight), expected, "{setting} × {weight}");
    }
}
