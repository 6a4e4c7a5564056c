//! What the clients of a soak do: read, write and delete a few thousand keys, at random.
//!
//! Every write of a key has a number of its own, so that a read shows which write it saw.

use fastrand::Rng;

use crate::{history::value, recorder::Planned};

/// The group that the soak is about.
pub const GROUP: &str = "default";
/// How many keys there are: few enough that each is written every now and then, and what a fault
/// lost comes back.
const KEYS: usize = 2_000;
/// Of a hundred operations, so many writes and deletes; the rest are reads.
const WRITES: u32 = 25;
const DELETES: u32 = 3;

/// The keys, for a last look at each.
pub fn keys() -> impl Iterator<Item = String> {
    (0..KEYS).map(|n| format!("soak-{n}"))
}

/// Operation number `n` of a seed, for each `n` in turn.
pub fn mixture(seed: u64) -> impl FnMut(u64) -> Option<Planned> + Send + 'static {
    let keys: Vec<String> = keys().collect();
    let mut random = Rng::with_seed(seed);
    move |n| {
        let key = keys[random.usize(..keys.len())].as_str();
        Some(match random.u32(..100) {
            draw if draw < WRITES => Planned::set(GROUP, key, value(key, n + 1)),
            draw if draw < WRITES + DELETES => Planned::delete(GROUP, key),
            _ => Planned::get(GROUP, key),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::recorder::Op;

    #[test]
    fn all_of_the_kinds_come_and_no_value_comes_twice() {
        let mut mixture = mixture(3);
        let planned: Vec<_> = (0..2_000).filter_map(&mut mixture).collect();
        for (op, share) in [(Op::Get, 0.72), (Op::Set, 0.25), (Op::Delete, 0.03)] {
            let part = planned.iter().filter(|it| it.op == op).count() as f64 / 2_000.0;
            assert!((part - share).abs() < 0.03, "{op:?}: {part}");
        }
        let values: Vec<_> = planned.iter().filter(|it| it.op == Op::Set).collect();
        let distinct: HashSet<_> = values.iter().map(|it| it.value.clone()).collect();
        assert_eq!(distinct.len(), values.len());
    }
}
