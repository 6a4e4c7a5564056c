//! Groups under threads: no update is lost, versions only rise, memory has an end.
#![allow(clippy::unwrap_used)]

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use cachenode::{
    group::{Authority, Condition, Copied, Definition, Delete, Found, Group, Item, Write},
    store::Eviction,
};
use common::{
    clock::{Clock, SystemClock},
    entry::{HybridClock, Version},
    error::{Code, Error, Result},
    key::GroupName,
};

fn group(change: impl FnOnce(&mut Definition)) -> Group {
    let mut definition = Definition::new(GroupName::new("threads").unwrap());
    change(&mut definition);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    Group::new(definition, clock.clone(), HybridClock::new(clock))
}

fn owner() -> Result<Authority> {
    Ok(Authority::owner(1))
}

fn get(group: &Group, key: &str) -> Option<Item> {
    let found = group.get::<Error>(key, SystemClock.monotonic(), owner).unwrap();
    assert!(!matches!(found, Found::Loaded(_)));
    found.item()
}

fn number(item: &Item) -> u64 {
    std::str::from_utf8(&item.entry.value()).unwrap().parse().unwrap()
}

#[test]
fn compare_and_set_loses_no_update() {
    const THREADS: u64 = 4;
    const ROUNDS: u64 = 500;
    let group = group(|_| ());
    group.set(&Write { key: "n", value: b"0", ..Write::default() }, owner).unwrap();
    let increment = || {
        for _ in 0..ROUNDS {
            loop {
                let item = get(&group, "n").unwrap();
                let value = (number(&item) + 1).to_string();
                let if_version = vec![item.entry.version()];
                let condition = Condition { if_version, ..Condition::default() };
                let value = value.as_bytes();
                match group.set(&Write { key: "n", value, condition, ..Write::default() }, owner) {
                    Ok(applied) => break assert!(!applied.created),
                    Err(error) => assert_eq!(error.code(), Code::PreconditionFailed),
                }
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(increment);
        }
    });
    assert_eq!(number(&get(&group, "n").unwrap()), THREADS * ROUNDS);
}

#[test]
fn versions_rise_whoever_writes() {
    let group = group(|_| ());
    let done = AtomicBool::new(false);
    let write = |thread: u64| {
        let mut last = Version::default();
        for n in 0..2000 {
            let applied = match (thread + n) % 4 {
                0 => group.delete(&Delete { key: "k", ..Delete::default() }, owner),
                1 => {
                    // An old copy comes round again: it must never show.
                    let version = Version { as_of: 1, clock: 1 };
                    let copy = Copied { key: "k", value: b"old", version, ..Copied::default() };
                    group.apply(&copy);
                    continue;
                }
                _ => group.set(&Write { key: "k", value: b"new", ..Write::default() }, owner),
            };
            if let Ok(applied) = applied {
                assert!(applied.version > last);
                last = applied.version;
            }
        }
    };
    let read = || {
        let mut last = Version::default();
        while !done.load(Ordering::Acquire) {
            if let Some(item) = get(&group, "k") {
                assert_eq!(item.entry.value(), "new");
                assert!(item.entry.version() >= last);
                last = item.entry.version();
            }
        }
    };
    // Before anyone deletes, so that the old copy is older than something from the start.
    group.set(&Write { key: "k", value: b"new", ..Write::default() }, owner).unwrap();
    thread::scope(|scope| {
        scope.spawn(read);
        let writers = [1, 2, 3].map(|thread| scope.spawn(move || write(thread)));
        let results = writers.map(thread::ScopedJoinHandle::join);
        done.store(true, Ordering::Release);
        assert!(results.into_iter().all(|result| result.is_ok()));
    });
}

#[test]
fn writers_that_use_keys_again_do_not_outgrow_the_group() {
    let group = group(|definition| definition.capacity = 4 << 20);
    let value = vec![7; 4096];
    let write = |thread: usize| {
        for n in 0..3000 {
            let key = format!("{}", (n * 7 + thread) % 2500);
            group.set(&Write { key: &key, value: &value, ..Write::default() }, owner).unwrap();
            // Each writer makes room before its write is over, and all may be at it at once.
            let (used, entry) = (group.stats().used_bytes, Eviction::Lru.entry_bytes(4 + 4096));
            assert!(used <= (4 << 20) + 4 * entry, "{used} bytes while writing");
        }
    };
    thread::scope(|scope| {
        for thread in 0..4 {
            scope.spawn(move || write(thread));
        }
    });
    group.maintain();
    let stats = group.stats();
    assert!(stats.used_bytes <= stats.capacity_bytes, "{stats:?}");
    assert!(stats.evictions > 0, "{stats:?}");
}
