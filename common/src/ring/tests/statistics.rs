//! How evenly the ring spreads keys: the goals of the design, as medians over 50 sets of random
//! node ids. Shares of the circle are exact, so no keys need to be drawn, and the sets come from
//! fixed seeds, so a run says the same everywhere.

use super::*;

const SETS: u64 = 50;

/// The members of one set: addresses as they might be.
fn set_of(count: usize, set: u64) -> Vec<RingMember> {
    let mut random = fastrand::Rng::with_seed(set);
    let mut members: Vec<RingMember> = Vec::with_capacity(count);
    while members.len() < count {
        let [a, b, c, ..] = random.u64(..).to_be_bytes();
        let id = format!("10.{a}.{b}.{c}:{}", random.u16(1024..));
        members.push(member(&id, NORMAL_WEIGHT, ""));
    }
    members
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The busiest member's share of the circle, in mean shares.
fn busiest(ring: &Ring) -> f64 {
    let count = ring.members().len();
    (0..count).map(|index| ring.share(index)).fold(0.0, f64::max) * count as f64
}

fn median_busiest(count: usize) -> f64 {
    let settings = RingSettings::default();
    median((0..SETS).map(|set| busiest(&Ring::build(&settings, set_of(count, set)))).collect())
}

#[test]
fn the_busiest_of_ten_has_little_more_than_the_mean() {
    let found = median_busiest(10);
    assert!(found <= 1.10, "{found}");
}

#[test]
fn the_busiest_of_a_hundred_has_little_more_than_the_mean() {
    let found = median_busiest(100);
    assert!(found <= 1.16, "{found}");
}

#[test]
fn one_more_member_moves_little_more_than_its_share_and_only_to_itself() {
    for count in [1, 3, 10, 20] {
        let moves = (0..SETS).map(|set| {
            let mut members = set_of(count + 1, set);
            let all = Ring::build(&RingSettings::default(), members.clone());
            let newcomer = members.pop().unwrap().id;
            let before = Ring::build(&RingSettings::default(), members);
            moved(&before, &all, |_, to| assert_eq!(to, &newcomer)) * (count + 1) as f64
        });
        let found = median(moves.collect());
        assert!(found <= 1.15, "{count}: {found}");
    }
}

#[test]
fn shares_follow_weights() {
    let weights = [50, 100, 100, 200, 400];
    let whole: u32 = weights.iter().sum();
    for (index, weight) in weights.iter().enumerate() {
        let shares = (0..SETS).map(|set| {
            let mut members = set_of(weights.len(), set);
            members.iter_mut().zip(weights).for_each(|(member, weight)| member.weight = weight);
            let id = members[index].id.clone();
            let ring = Ring::build(&RingSettings::default(), members);
            ring.share(ring.index_of(&id).unwrap())
        });
        let found = median(shares.collect()) * f64::from(whole) / f64::from(*weight);
        assert!((0.97..=1.03).contains(&found), "{weight}: {found}");
    }
}
