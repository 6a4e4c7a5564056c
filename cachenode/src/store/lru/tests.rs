//! The store keeps within its capacity at every moment, and throws out whom it should.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use super::*;
use crate::store::tests::{check_the_account, entry, spread};

fn entry_bytes(content: u64) -> u64 {
    Eviction::Lru.entry_bytes(content)
}

#[test]
fn the_least_recently_used_goes_first_and_is_counted() {
    let room_for_four = 4 * entry_bytes(1001);
    let store = LruStore::new(room_for_four);
    for slot in 0..4 {
        store.insert(slot, entry("k", 1000), false);
    }
    assert!(store.get(0, "k").is_some());
    assert_eq!(store.pick(&mut |_| true, 2).len(), 2, "which is no use");
    store.insert(1, entry("k", 1000), true);
    store.insert(4, entry("k", 1000), false);
    let held = (0..5).filter(|&slot| store.get(slot, "k").is_some()).collect::<Vec<_>>();
    assert_eq!(held, [0, 1, 3, 4]);
    assert_eq!((store.entries(), store.evictions()), (4, 1));
}

#[test]
fn a_large_entry_finds_room_beyond_its_own_shard() {
    let store = LruStore::new(32 << 20);
    assert_eq!(store.shards.len(), 8);
    for n in 0..20_000 {
        store.insert(spread(n), entry("k", 2000), false);
    }
    for n in 0..3 {
        let slot = spread(1 << 20 | n);
        store.insert(slot, entry("large", 24 << 20), false);
        assert!(store.weight() <= store.capacity, "{}", store.weight());
        assert!(store.get(slot, "large").is_some(), "who has just come stays");
        // Written again it needs no more room than before.
        store.insert(slot, entry("large", 24 << 20), true);
        assert!(store.get(slot, "large").is_some());
    }
}

#[test]
fn a_store_outgrows_its_capacity_by_what_is_being_written_at_most() {
    const WRITERS: u64 = 4;
    const LARGEST: usize = 32 << 10;
    let store = LruStore::new(2 << 20);
    let done = AtomicBool::new(false);
    let write = |writer: u64| {
        for n in 0..1500 {
            let value_len = if n / 500 == 1 { LARGEST } else { 100 };
            store.insert(spread(n * (writer + 3) % 400), entry("k", value_len), false);
        }
    };
    // Each writer may have one entry in that it has not made room for yet.
    let most = store.capacity + WRITERS * entry_bytes(1 + LARGEST as u64);
    let watch = || {
        while !done.load(Ordering::Acquire) {
            assert!(store.weight() <= most, "{}", store.weight());
        }
    };
    thread::scope(|scope| {
        let watcher = scope.spawn(watch);
        let writers: Vec<_> = (0..WRITERS).map(|n| scope.spawn(move || write(n))).collect();
        let ends: Vec<_> = writers.into_iter().map(|writer| writer.join()).collect();
        done.store(true, Ordering::Release);
        watcher.join().unwrap();
        assert!(ends.iter().all(Result::is_ok));
    });
    assert!(store.weight() <= store.capacity);
    check_the_account(&store, Eviction::Lru);
}
