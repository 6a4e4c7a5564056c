//! How many reads each store answers, on generated traces, next to an exact LRU of the same size.
//!
//! `make bench-hit-ratio`. A trace is a sequence of keys; a key that is missing is set. The capacity is
//! given in bytes, as for any group; each store has an exact LRU beside it that counts the same bytes for
//! an entry as the store does. Everything is drawn from a seed, so that every run prints the same. Sizes follow from keys, so
//! that entries are not all alike.
#![allow(clippy::unwrap_used)]

use std::{
    collections::{BTreeMap, HashMap},
    convert::Infallible,
    sync::Arc,
};

use cachenode::{
    group::{Authority, Definition, Found, Group, Write},
    store::Eviction,
};
use common::{
    clock::{Clock, ManualClock},
    entry::HybridClock,
    error::Error,
    key::GroupName,
};
use fastrand::Rng;

/// Keys that are read again and again.
const KEYS: u64 = 100_000;
/// How unevenly: the n-th key is read as often as n to the power of minus this.
const SKEW: f64 = 0.99;
/// Reads of a trace, and how many of them come before it counts.
const READS: usize = 1_500_000;
const WARM_UP: usize = 500_000;
/// The scan-mixed trace has so many reads of popular keys, then so many of keys that are read once.
const POPULAR_RUN: usize = 20_000;
const SCAN_RUN: usize = 10_000;
/// Capacities, in parts of what all popular keys would take.
const CAPACITIES: [u64; 3] = [100, 20, 5];
/// Values have from this many bytes to twice as many.
const VALUE_BYTES: u64 = 128;

/// Keys in the order in which they are read.
type Trace = Vec<u64>;

/// Draws keys by Zipf's law.
struct Zipf {
    /// For each key, how likely it or one before it is.
    sums: Vec<f64>,
}

impl Zipf {
    fn new() -> Self {
        let weights = (1..=KEYS).map(|n| (n as f64).powf(-SKEW));
        let sums: Vec<_> = weights
            .scan(0.0, |sum, weight| {
                *sum += weight;
                Some(*sum)
            })
            .collect();
        Self { sums }
    }

    fn draw(&self, random: &mut Rng) -> u64 {
        let at = random.f64() * self.sums[self.sums.len() - 1];
        self.sums.partition_point(|sum| *sum <= at) as u64
    }
}

fn zipf_trace() -> Trace {
    let (zipf, mut random) = (Zipf::new(), Rng::with_seed(1));
    (0..READS).map(|_| zipf.draw(&mut random)).collect()
}

/// The same with scans in between: keys that nobody reads before or after.
fn scan_trace() -> Trace {
    let (zipf, mut random, mut next) = (Zipf::new(), Rng::with_seed(1), KEYS);
    let in_scan = |n: usize| n % (POPULAR_RUN + SCAN_RUN) >= POPULAR_RUN;
    let read = |n| {
        if in_scan(n) {
            next += 1;
            next
        } else {
            zipf.draw(&mut random)
        }
    };
    (0..READS).map(read).collect()
}

fn key_of(n: u64) -> String {
    format!("key-{n:016}")
}

fn value_bytes(n: u64) -> u64 {
    VALUE_BYTES + n.wrapping_mul(0x9e37_79b9_7f4a_7c15) % (VALUE_BYTES + 1)
}

/// What an entry counts in a store.
fn entry_bytes(n: u64, eviction: Eviction) -> u64 {
    eviction.entry_bytes(key_of(n).len() as u64 + value_bytes(n))
}

/// Hits per read that counts.
fn ratio(trace: &Trace, mut is_hit: impl FnMut(u64) -> bool) -> f64 {
    let mut hits = 0;
    for (at, &key) in trace.iter().enumerate() {
        if is_hit(key) && at >= WARM_UP {
            hits += 1;
        }
    }
    f64::from(hits) / (READS - WARM_UP) as f64
}

fn of_group(trace: &Trace, eviction: Eviction, capacity: u64) -> f64 {
    let name = GroupName::new("traced").unwrap();
    let definition = Definition { capacity, eviction, ..Definition::new(name) };
    let clock = ManualClock::new();
    let shared: Arc<dyn Clock> = Arc::new(clock.clone());
    let group = Group::new(definition, Arc::clone(&shared), HybridClock::new(shared));
    let zeros = vec![0; 2 * VALUE_BYTES as usize];
    let mut reads = 0_u64;
    ratio(trace, |n| {
        let key = key_of(n);
        let right = || Ok::<_, Infallible>(Authority::owner(1));
        let is_hit = matches!(group.get(&key, clock.monotonic(), right), Ok(Found::Hit(_)));
        if !is_hit {
            let value = &zeros[..value_bytes(n) as usize];
            let write = Write { key: &key, value, ..Write::default() };
            group.set(&write, || Ok::<_, Error>(Authority::owner(1))).unwrap();
        }
        reads += 1;
        // What a node's ticker does every second; reads come quicker than that here.
        if reads.is_multiple_of(10_000) {
            group.maintain();
        }
        is_hit
    })
}

/// Least recently used first, to the last.
struct Exact {
    capacity: u64,
    used: u64,
    eviction: Eviction,
    clock: u64,
    last_use: HashMap<u64, u64>,
    by_use: BTreeMap<u64, u64>,
}

impl Exact {
    fn new(capacity: u64, eviction: Eviction) -> Self {
        let (last_use, by_use) = (HashMap::new(), BTreeMap::new());
        Self { capacity, used: 0, eviction, clock: 0, last_use, by_use }
    }

    fn read(&mut self, key: u64) -> bool {
        self.clock += 1;
        let before = self.last_use.insert(key, self.clock);
        self.by_use.insert(self.clock, key);
        if let Some(before) = before {
            self.by_use.remove(&before);
        } else {
            self.used += entry_bytes(key, self.eviction);
        }
        while self.used > self.capacity {
            let (_, oldest) = self.by_use.pop_first().unwrap();
            self.last_use.remove(&oldest);
            self.used -= entry_bytes(oldest, self.eviction);
        }
        before.is_some()
    }
}

fn main() {
    let all: u64 = (0..KEYS).map(|n| entry_bytes(n, Eviction::Lru)).sum();
    println!("| trace | capacity | exact LRU | `lru` | exact LRU | `tinylfu` |");
    println!("|---|---|---|---|---|---|");
    for (name, trace) in [("Zipf", zipf_trace()), ("Zipf with scans", scan_trace())] {
        for part in CAPACITIES {
            let capacity = all / part;
            let both = [Eviction::Lru, Eviction::TinyLfu].map(|eviction| {
                let mut exact = Exact::new(capacity, eviction);
                let exact = ratio(&trace, |key| exact.read(key));
                let group = of_group(&trace, eviction, capacity);
                [exact, group].map(|ratio| format!("{:.1} %", 100.0 * ratio)).join(" | ")
            });
            let capacity = format!("{:.1} MiB, 1/{part} of all", capacity as f64 / 1048576.0);
            println!("| {name} | {capacity} | {} |", both.join(" | "));
        }
    }
}
