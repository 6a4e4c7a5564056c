//! A definition changes while the group lives.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use super::*;

#[test]
fn a_changed_ttl_is_that_of_what_is_stored_from_then_on() {
    let bench = bench(|it| it.ttl = SECOND);
    bench.set("old", "1");
    bench.redefine(|it| it.ttl = SECOND * 3);
    bench.set("new", "2");
    assert_eq!(bench.value("old").as_deref(), Some("1"));
    bench.clock.advance(SECOND);
    assert_eq!((bench.value("old"), bench.value("new").as_deref()), (None, Some("2")));
    bench.clock.advance(SECOND * 2);
    assert_eq!(bench.value("new"), None);
}

#[test]
fn entries_that_nobody_watched_being_read_have_all_of_a_new_idle_time() {
    let bench = bench(|it| it.ttl = Duration::ZERO);
    bench.set("Tom", "630");
    bench.clock.advance(SECOND * 60);
    bench.redefine(|it| it.idle = SECOND);
    assert_eq!(bench.value("Tom").as_deref(), Some("630"));
    bench.clock.advance(SECOND);
    assert_eq!(bench.value("Tom"), None);
}

#[test]
fn a_changed_largest_value_keeps_what_is_there() {
    let bench = bench(|_| {});
    bench.set("Tom", "630");
    bench.redefine(|it| it.max_value = 2);
    assert_eq!(bench.value("Tom").as_deref(), Some("630"));
    assert_eq!(code(bench.group.set(&write("Jack", "589"), owner)), Code::TooLarge);
}

#[test]
fn the_next_miss_asks_the_new_origin() {
    let bench = bench(|it| it.origin = static_origin());
    assert_eq!(bench.value("Tom").as_deref(), Some("630"));
    let other = [("Tom", "1"), ("Jack", "2")].map(|(k, v)| (k.to_owned(), v.to_owned()));
    bench.redefine(|it| it.origin = OriginDefinition::Static(other.into()));
    assert_eq!(bench.value("Tom").as_deref(), Some("630"), "an entry stays");
    assert_eq!(bench.value("Jack").as_deref(), Some("2"));
    bench.redefine(|it| it.origin = OriginDefinition::None);
    assert_eq!(bench.value("Sam"), None);
    assert_eq!(bench.group.name().as_str(), "scores");
}

#[test]
fn entries_move_into_the_other_store_and_the_most_used_stay() {
    for (from, to) in [(Eviction::Lru, Eviction::TinyLfu), (Eviction::TinyLfu, Eviction::Lru)] {
        let bench = bench(|it| it.eviction = from);
        for n in 0..500 {
            bench.set(&n.to_string(), "value");
        }
        assert!(bench.redefine(|it| it.eviction = to));
        // While they are on their way they are read, written and deleted like any.
        assert_eq!(bench.value("7").as_deref(), Some("value"));
        assert!(!bench.set("8", "other").created);
        bench.delete("9").unwrap();
        assert!(bench.set("500", "new").created);
        bench.group.move_entries();
        assert_eq!(bench.value("8").as_deref(), Some("other"));
        assert_eq!(bench.value("9"), None);
        assert!((0..=500).filter(|n| *n != 9).all(|n| bench.value(&n.to_string()).is_some()));
        bench.group.maintain();
        let stats = bench.group.stats();
        assert_eq!((stats.entries, stats.evictions), (500, 0), "{from:?} to {to:?}");
        assert!(!bench.redefine(|_| {}));
    }
}

#[test]
fn a_smaller_capacity_keeps_what_was_used_last_and_a_larger_one_everything() {
    let bench = bench(|it| it.capacity = 64 << 20);
    let value = "v".repeat(1000);
    let keys: Vec<_> = (0..4000).map(|n| n.to_string()).collect();
    for key in &keys {
        bench.set(key, &value);
    }
    let used = &keys[..500];
    assert!(used.iter().all(|key| bench.value(key).is_some()));
    assert!(bench.redefine(|it| it.capacity = 2 << 20));
    bench.group.move_entries();
    let stats = bench.group.stats();
    assert!(stats.used_bytes <= 2 << 20 && stats.capacity_bytes == 2 << 20, "{stats:?}");
    assert!(used.iter().all(|key| bench.value(key).is_some()));
    assert_eq!(stats.evictions, 4000 - stats.entries);
    assert!(bench.redefine(|it| it.capacity = 128 << 20));
    bench.group.move_entries();
    let grown = bench.group.stats();
    assert_eq!((grown.entries, grown.evictions), (stats.entries, stats.evictions));
}

#[test]
fn what_is_too_large_for_a_smaller_capacity_does_not_drive_out_the_rest() {
    let bench = bench(|it| it.max_value = 4 << 20);
    for n in 0..100 {
        bench.set(&n.to_string(), "value");
    }
    bench.set("large", &"v".repeat(2 << 20));
    assert!(bench.redefine(|it| (it.capacity, it.max_value) = (1 << 20, 1 << 19)));
    bench.group.move_entries();
    assert_eq!(bench.value("large"), None);
    assert!((0..100).all(|n| bench.value(&n.to_string()).is_some()));
    assert_eq!((bench.group.stats().entries, bench.group.stats().evictions), (100, 1));
}

#[test]
fn a_retry_is_answered_though_the_group_would_not_take_such_a_value_any_more() {
    let bench = bench(|_| {});
    let first = Write { op: op(1), ..write("k", "first") };
    let answer = bench.group.set(&first, owner).unwrap();
    bench.redefine(|it| it.max_value = 2);
    assert_eq!(bench.group.set(&first, owner).unwrap(), answer);
    assert_eq!(code(bench.group.set(&Write { op: op(2), ..first }, owner)), Code::TooLarge);
}

#[test]
fn what_is_written_while_entries_move_is_never_lost() {
    let bench = bench(|_| {});
    let group = &bench.group;
    let set = |n: u64, round: u64| {
        let value = round.to_string();
        group.set(&write(&n.to_string(), &value), owner).unwrap();
    };
    (0..64).for_each(|n| set(n, 0));
    let is_moved = AtomicBool::new(false);
    let (set, is_moved, bench) = (&set, &is_moved, &bench);
    thread::scope(|scope| {
        scope.spawn(move || {
            for eviction in [Eviction::TinyLfu, Eviction::Lru].repeat(20) {
                bench.redefine(|it| it.eviction = eviction);
                group.move_entries();
            }
            is_moved.store(true, Ordering::Release);
        });
        let writer = move |first: u64| {
            let mut round = 0;
            while !is_moved.load(Ordering::Acquire) {
                round += 1;
                for n in first..first + 32 {
                    set(n, round);
                    assert_eq!(bench.value(&n.to_string()), Some(round.to_string()), "{n}");
                }
            }
        };
        for first in [0, 32] {
            scope.spawn(move || writer(first));
        }
    });
}
