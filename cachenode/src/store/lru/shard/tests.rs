//! A shard does what a list does, whatever the order of calls.

use proptest::prelude::*;

use super::*;
use crate::store::tests::holding;

fn entry(value: &[u8]) -> Stored {
    holding("k", value)
}

fn value(entry: &Stored) -> u8 {
    entry.value()[0]
}

/// Oldest first.
#[derive(Debug, Default)]
struct Model(Vec<(u64, u8)>);

impl Model {
    fn take(&mut self, slot: u64) -> Option<u8> {
        let at = self.0.iter().position(|(held, _)| *held == slot)?;
        Some(self.0.remove(at).1)
    }
}

#[derive(Debug, Clone)]
enum Step {
    Get(u64),
    Put(u64, u8),
    Remove(u64),
    RemoveOldest,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    // The spread reaches over several chunks, and slots share buckets of the table.
    let slot = || (0..400_u64).prop_map(|n| n << (n % 3 * 20));
    let step = prop_oneof![
        2 => slot().prop_map(Step::Get),
        6 => (slot(), any::<u8>()).prop_map(|(slot, value)| Step::Put(slot, value)),
        2 => slot().prop_map(Step::Remove),
        1 => Just(Step::RemoveOldest),
    ];
    prop::collection::vec(step, 1..1500)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_shard_is_a_list_in_the_order_of_use(steps in steps()) {
        let (mut shard, mut model) = (Shard::new(), Model::default());
        for step in steps {
            match step {
                Step::Get(slot) => {
                    let held = model.take(slot);
                    model.0.extend(held.map(|value| (slot, value)));
                    prop_assert_eq!(shard.get(slot, "k").map(value), held);
                }
                Step::Put(slot, byte) => {
                    let displaced = shard.put(slot, entry(&[byte]));
                    prop_assert_eq!(displaced.as_ref().map(value), model.take(slot));
                    model.0.push((slot, byte));
                }
                Step::Remove(slot) => {
                    let removed = shard.remove(slot);
                    prop_assert_eq!(removed.as_ref().map(value), model.take(slot));
                }
                Step::RemoveOldest => {
                    let oldest = shard.oldest();
                    prop_assert_eq!(oldest, model.0.first().map(|(slot, _)| *slot));
                    if let Some(slot) = oldest {
                        model.take(slot);
                        shard.remove(slot);
                    }
                }
            }
            prop_assert_eq!(shard.len(), model.0.len());
        }
        let mut walked: Vec<u64> = Vec::new();
        let mut below = usize::MAX;
        while below > 0 {
            let (nodes, next) = shard.walk_down(below, 7);
            walked.extend(nodes.map(|(slot, _)| slot));
            below = next;
        }
        walked.sort_unstable();
        let mut held: Vec<u64> = model.0.iter().map(|(slot, _)| *slot).collect();
        held.sort_unstable();
        prop_assert_eq!(walked, held);
        for (slot, byte) in model.0 {
            prop_assert_eq!(shard.oldest(), Some(slot));
            prop_assert_eq!(shard.remove(slot).as_ref().map(value), Some(byte));
        }
        prop_assert_eq!((shard.oldest(), shard.len()), (None, 0));
    }
}

#[test]
fn another_key_in_the_slot_is_a_miss_and_no_use() {
    let mut shard = Shard::new();
    shard.put(1, entry(b"1"));
    shard.put(2, entry(b"2"));
    assert!(shard.get(1, "other").is_none());
    assert_eq!(shard.oldest(), Some(1));
    assert!(shard.peek(1).is_some());
    assert_eq!(shard.oldest(), Some(1));
    assert!(shard.get(1, "k").is_some());
    assert_eq!(shard.oldest(), Some(2));
}

#[test]
fn a_walk_misses_nothing_that_stays_while_others_go() {
    let mut shard = Shard::new();
    for slot in 0..1000 {
        shard.put(slot, entry(b"x"));
    }
    let (mut seen, mut below, mut next_to_go) = (Vec::new(), usize::MAX, 0);
    while below > 0 {
        let (nodes, next) = shard.walk_down(below, 50);
        seen.extend(nodes.map(|(slot, _)| slot));
        below = next;
        // Every third one goes, from the bottom: the last ones are moved down into their places.
        for _ in 0..10 {
            shard.remove(next_to_go);
            next_to_go += 3;
        }
    }
    for stays in (0..1000).filter(|slot| slot % 3 != 0) {
        assert!(seen.contains(&stays), "{stays} was missed");
    }
}

#[test]
fn memory_is_given_back_when_entries_go() {
    let mut shard = Shard::new();
    for slot in 0..100_000_u64 {
        shard.put(slot.wrapping_mul(0x9E37_79B9_7F4A_7C15), entry(b"x"));
    }
    let full = shard.table.allocation_size();
    while shard.len() > 100 {
        let oldest = shard.oldest().unwrap();
        shard.remove(oldest);
    }
    assert!(shard.table.allocation_size() < full / 100);
    assert!(shard.nodes.allocated() < 400, "{}", shard.nodes.allocated());
}
