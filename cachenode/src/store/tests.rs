//! What every store does, whichever way it evicts. What one of them does besides is tested with it.

use std::{collections::HashMap, sync::Mutex, thread};

use proptest::prelude::*;

use super::*;

const BOTH: [Eviction; 2] = [Eviction::Lru, Eviction::TinyLfu];
/// Room for everything.
const PLENTY: u64 = 64 << 20;

pub(super) fn entry(key: &str, value_len: usize) -> Stored {
    holding(key, &vec![7; value_len])
}

pub(super) fn holding(key: &str, value: &[u8]) -> Stored {
    Stored::new(&NewEntry { key, value, ..NewEntry::default() })
}

/// Slots as the hash of keys spreads them.
pub(super) fn spread(n: u64) -> u64 {
    (n + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

fn has(store: &dyn Store, slot: u64, key: &str) -> bool {
    store.get(slot, key).is_some()
}

/// Holds a store's numbers against what is there.
pub(super) fn check_the_account(store: &dyn Store, eviction: Eviction) {
    store.run_pending();
    let (mut entries, mut weight) = (0, 0);
    let picked = store.pick(
        &mut |held| {
            entries += 1;
            weight += eviction.entry_bytes(held.content_bytes());
            false
        },
        usize::MAX,
    );
    assert!(picked.is_empty());
    assert_eq!((store.entries(), store.weight()), (entries, weight), "{eviction:?}");
}

#[test]
fn another_key_in_the_slot_is_a_miss() {
    for eviction in BOTH {
        let store = eviction.store(PLENTY);
        store.insert(7, entry("a", 1), false);
        assert!(has(&*store, 7, "a"));
        assert!(!has(&*store, 7, "b"));
        assert!(!store.remove_if(7, &|held| held.is_of("b")));
        store.insert(7, entry("b", 1), false);
        assert!(!has(&*store, 7, "a"));
        assert!(has(&*store, 7, "b"));
        store.run_pending();
        assert_eq!((store.entries(), store.evictions()), (1, 1), "{eviction:?}");
    }
}

#[test]
fn weight_follows_what_is_there() {
    for eviction in BOTH {
        let store = eviction.store(PLENTY);
        let numbers = || {
            store.run_pending();
            (store.entries(), store.weight(), store.evictions())
        };
        store.insert(1, entry("a", 100), false);
        store.insert(2, entry("b", 500), false);
        store.insert(2, entry("b", 10), true);
        let small = eviction.entry_bytes(101) + eviction.entry_bytes(11);
        assert_eq!(numbers(), (2, small, 0));
        store.insert(2, entry("b", 900), true);
        assert_eq!(numbers(), (2, eviction.entry_bytes(101) + eviction.entry_bytes(901), 0));
        assert!(store.remove_if(1, &|_| true));
        assert!(!store.remove_if(1, &|_| true));
        assert_eq!(numbers(), (1, eviction.entry_bytes(901), 0));
    }
}

#[test]
fn what_was_got_outlives_its_removal() {
    for eviction in BOTH {
        let store = eviction.store(PLENTY);
        store.insert(1, holding("a", b"old"), false);
        let old = store.get(1, "a").unwrap();
        store.insert(1, holding("a", b"new"), true);
        let new = store.get(1, "a").unwrap();
        assert!(store.remove_if(1, &|held| held.value() == "new"));
        assert_eq!((old.value().as_ref(), new.value().as_ref()), (&b"old"[..], &b"new"[..]));
    }
}

#[test]
fn picking_stops_at_its_limit() {
    for eviction in BOTH {
        let store = eviction.store(PLENTY);
        for n in 0..20 {
            store.insert(spread(n), entry(if n < 10 { "old" } else { "new" }, 1), false);
        }
        assert_eq!(store.pick(&mut |held| held.is_of("old"), 100).len(), 10);
        assert_eq!(store.pick(&mut |held| held.is_of("old"), 4).len(), 4);
    }
}

#[test]
fn everything_can_be_picked_and_removed() {
    for eviction in BOTH {
        let store = eviction.store(PLENTY);
        (0..5000).for_each(|n| store.insert(spread(n), entry("k", 100), false));
        let slots = store.pick(&mut |_| true, usize::MAX);
        assert_eq!(slots.iter().filter(|slot| store.remove_if(**slot, &|_| true)).count(), 5000);
        store.run_pending();
        assert_eq!((store.entries(), store.weight(), store.evictions()), (0, 0, 0));
        assert!(!has(&*store, spread(0), "k"));
    }
}

#[test]
fn what_is_used_often_outlives_a_crowd_that_comes_once_where_uses_are_counted() {
    let kept = |eviction: Eviction| {
        let store = eviction.store(1 << 20);
        let often: Vec<u64> = (0..200).map(spread).collect();
        for &slot in &often {
            store.insert(slot, entry("k", 1000), false);
            (0..5).for_each(|_| assert!(has(&*store, slot, "k")));
            store.run_pending();
        }
        for n in 0..4000 {
            store.insert(spread(1000 + n), entry("k", 1000), false);
        }
        check_the_account(&*store, eviction);
        assert_eq!(store.evictions(), 4200 - store.entries());
        often.iter().filter(|&&slot| has(&*store, slot, "k")).count()
    };
    assert_eq!(kept(Eviction::Lru), 0);
    assert!(kept(Eviction::TinyLfu) > 150, "{}", kept(Eviction::TinyLfu));
}

#[test]
fn who_comes_again_and_again_gets_in() {
    for eviction in BOTH {
        let store = eviction.store(1 << 20);
        for n in 0..2000 {
            store.insert(spread(n), entry("k", 1000), false);
            store.get(spread(n), "k");
        }
        let newcomer = spread(1 << 30);
        let tries = (1..20).find(|_| {
            store.run_pending();
            let found = has(&*store, newcomer, "k");
            if !found {
                store.insert(newcomer, entry("k", 1000), false);
            }
            found
        });
        assert!(tries.is_some_and(|tries| tries < 6), "{eviction:?}: {tries:?}");
    }
}

#[test]
fn threads_find_what_they_have_put_and_nothing_that_they_have_removed() {
    const THREADS: u64 = 4;
    const SLOTS: u64 = 1000;
    for eviction in BOTH {
        let store = eviction.store(PLENTY);
        let value = |n: u64, round: u8| [n.to_be_bytes()[7], round, 7];
        // A slot is changed by one thread, and read by all.
        let work = |thread: u64| {
            for round in 0..6 {
                for n in 0..SLOTS {
                    let (slot, value) = (spread(n), value(n, round));
                    let got = store.get(slot, "k").map(|held| held.value());
                    assert!(got.is_none_or(|got| got[0] == value[0] && got[2] == 7));
                    if n % THREADS != thread {
                        continue;
                    }
                    store.insert(slot, holding("k", &value), round % 3 != 0);
                    assert_eq!(store.get(slot, "k").unwrap().value().as_ref(), value);
                    if round % 3 == 2 && n % 2 == 0 {
                        assert!(store.remove_if(slot, &|held| held.value().as_ref() == value));
                        assert!(!has(&*store, slot, "k"));
                    }
                }
            }
        };
        thread::scope(|scope| {
            for thread in 0..THREADS {
                let work = &work;
                scope.spawn(move || work(thread));
            }
        });
        check_the_account(&*store, eviction);
        assert!((0..SLOTS).all(|n| has(&*store, spread(n), "k") == (n % 2 == 1)));
    }
}

#[test]
fn keys_that_are_written_again_and_again_never_outgrow_the_store() {
    const WRITERS: u64 = 4;
    const KEYS: u64 = 400;
    const CAPACITY: u64 = 2 << 20;
    const LARGEST: usize = 32 << 10;
    for eviction in BOTH {
        let store = eviction.store(CAPACITY);
        let sections: Vec<Mutex<()>> = (0..KEYS).map(|_| Mutex::new(())).collect();
        let write = |writer: u64| {
            for n in 0..1500 {
                // From small to large and back, over keys of which only a part fits.
                let value_len = if n / 500 == 1 { LARGEST } else { 100 };
                let key = n * (writer + 3) % KEYS;
                let _section = sections[key as usize].lock().unwrap();
                let replaces = has(&*store, spread(key), "k");
                store.insert(spread(key), entry("k", value_len), replaces);
            }
        };
        thread::scope(|scope| {
            for writer in 0..WRITERS {
                let write = &write;
                scope.spawn(move || write(writer));
            }
        });
        check_the_account(&*store, eviction);
        assert!(store.weight() <= CAPACITY, "{eviction:?}: {}", store.weight());
        assert!(store.evictions() > 0);
    }
}

#[derive(Debug, Clone)]
enum Step {
    Get(u64),
    Insert(u64, u8, usize),
    Remove(u64),
    Purge(u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let slot = || (0..60_u64).prop_map(spread);
    let insert = (slot(), any::<u8>(), 1..4000_usize);
    let step = prop_oneof![
        4 => slot().prop_map(Step::Get),
        6 => insert.prop_map(|(slot, value, len)| Step::Insert(slot, value, len)),
        2 => slot().prop_map(Step::Remove),
        1 => any::<u8>().prop_map(Step::Purge),
    ];
    prop::collection::vec(step, 1..300)
}

/// A store of so many bytes beside a map that nothing is evicted from.
struct Beside {
    eviction: Eviction,
    store: Arc<dyn Store>,
    model: HashMap<u64, (u8, usize)>,
    made: u64,
    removed: u64,
}

impl Beside {
    fn new(eviction: Eviction, capacity: u64) -> Self {
        let store = eviction.store(capacity);
        Self { eviction, store, model: HashMap::new(), made: 0, removed: 0 }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Get(slot) => {
                let got = self.get(slot);
                assert!(got.is_none() || got == self.model.get(&slot).copied());
            }
            Step::Insert(slot, byte, len) => {
                let replaces = self.get(slot).is_some();
                self.made += u64::from(!replaces);
                self.store.insert(slot, holding("k", &vec![byte; len]), replaces);
                self.model.insert(slot, (byte, len));
            }
            Step::Remove(slot) => {
                let was_there = self.get(slot).is_some();
                assert_eq!(self.store.remove_if(slot, &|_| true), was_there);
                self.removed += u64::from(was_there);
                self.model.remove(&slot);
            }
            Step::Purge(least) => {
                let which = |held: &Stored| held.value()[0] >= least;
                let slots = self.store.pick(&mut |held| which(held), usize::MAX);
                for slot in slots {
                    assert!(self.store.remove_if(slot, &which), "{:?}", self.eviction);
                    self.removed += 1;
                }
                self.model.retain(|_, (byte, _)| *byte < least);
            }
        }
        // So that nothing goes between a look and what follows from it.
        self.store.run_pending();
    }

    fn get(&self, slot: u64) -> Option<(u8, usize)> {
        self.store.get(slot, "k").map(|held| (held.value()[0], held.value_len()))
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_store_with_room_is_a_map(steps in steps()) {
        for eviction in BOTH {
            let mut beside = Beside::new(eviction, PLENTY);
            steps.iter().for_each(|step| beside.step(step));
            for (slot, held) in &beside.model {
                prop_assert_eq!(beside.get(*slot), Some(*held), "{:?}", eviction);
            }
            check_the_account(&*beside.store, eviction);
            prop_assert_eq!(beside.store.entries(), beside.model.len() as u64);
            prop_assert_eq!(beside.store.evictions(), 0);
        }
    }

    #[test]
    fn a_full_store_holds_what_was_put_last_or_nothing(steps in steps()) {
        const CAPACITY: u64 = 32 << 10;
        for eviction in BOTH {
            let mut beside = Beside::new(eviction, CAPACITY);
            for step in &steps {
                beside.step(step);
                let weight = beside.store.weight();
                prop_assert!(weight <= CAPACITY, "{:?}: {}", eviction, weight);
            }
            check_the_account(&*beside.store, eviction);
            let gone = beside.made - beside.removed - beside.store.entries();
            prop_assert_eq!(beside.store.evictions(), gone, "{:?}", eviction);
        }
    }
}
