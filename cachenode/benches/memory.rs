//! What entries cost in resident memory, in either store: by size, and after the sizes have changed.
//! Besides, how long a hit takes.
//!
//! `cargo bench -p cachenode --bench memory`, with `--features bench-glibc` or `bench-mimalloc` for
//! another allocator than the node's; `make bench-memory` runs all three. Every figure comes from
//! a process of its own, which is this program again, because memory that was once used is seldom
//! given back. The command behind `PLACE_BYTES` of the stores and behind ADR 009.
#![allow(clippy::unwrap_used)]

use std::{
    io::{self, Write as _},
    process::{Command, ExitCode},
    sync::{Arc, Barrier},
    thread,
    time::{Duration, Instant},
};

use cachenode::{
    group::{Authority, Definition, Group, Write},
    store::Eviction,
};
use common::{
    clock::{Clock, SystemClock},
    entry::HybridClock,
    error::Error,
    key::GroupName,
};

#[cfg(feature = "bench-mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
#[cfg(not(any(feature = "bench-glibc", feature = "bench-mimalloc")))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const ALLOCATOR_NAME: &str = if cfg!(feature = "bench-mimalloc") {
    "mimalloc"
} else if cfg!(feature = "bench-glibc") {
    "glibc"
} else {
    "jemalloc"
};

const EVICTIONS: [Eviction; 2] = [Eviction::Lru, Eviction::TinyLfu];

/// Bytes of every key.
const KEY_BYTES: u64 = 20;
/// What an entry of 20 B and 1 KiB may cost.
const GOAL_BYTES: u64 = 1430;
/// What a group may take beside its capacity after its values have changed their sizes: this part
/// of its capacity, and so many bytes.
const GOAL_FACTOR: f64 = 1.25;
const GOAL_BESIDE: u64 = 64 << 20;

/// The capacity of the group whose values change their sizes.
const CHURN_CAPACITY: u64 = 256 << 20;
/// How often the capacity is written over at each size.
const CHURN_TURNS: u64 = 4;
/// Threads that write, as a node's workers do: what one has allocated, another frees.
const CHURN_THREADS: u64 = 2;
/// How long after the last write of each size the memory is judged. Row 23 waits for 30 s.
const SETTLE_SECONDS: u64 = 10;

/// Entries that are read again and again: 1 KiB each, as in the load bench.
const READ_ENTRIES: u64 = 10_000;
/// Reads of each thread.
const READS: u64 = 3_000_000;
/// Turns of which the median counts.
const READ_TURNS: usize = 9;

/// A range of value sizes, evenly spread.
#[derive(Debug, Clone, Copy)]
struct Sizes(&'static str, u64, u64);

const SMALL: Sizes = Sizes("64 to 512 B", 64, 512);
const LARGE: Sizes = Sizes("8 to 64 KiB", 8 << 10, 64 << 10);
/// How the sizes change.
const PHASES: [Sizes; 3] = [SMALL, LARGE, SMALL];

/// Resident bytes of this process, from `/proc/self/statm` with pages of 4 KiB.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    4096 * statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap()
}

fn group(eviction: Eviction, capacity: u64) -> Group {
    let name = GroupName::new("measured").unwrap();
    let definition = Definition { capacity, eviction, ..Definition::new(name) };
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    Group::new(definition, clock.clone(), HybridClock::new(clock))
}

fn owner() -> Result<Authority, Error> {
    Ok(Authority::owner(1))
}

fn set(group: &Group, number: u64, value: &[u8]) {
    let key = format!("{number:020}");
    group.set(&Write { key: &key, value, ..Write::default() }, owner).unwrap();
}

/// Stores entries of one size.
fn entries(eviction: Eviction, value_bytes: u64, count: u64) {
    let group = group(eviction, 1 << 40);
    let value = vec![7; value_bytes as usize];
    let before = resident();
    (0..count).for_each(|number| set(&group, number, &value));
    group.maintain();
    let each = (resident() - before) / count;
    let counted = group.stats().used_bytes / count;
    let overhead = each.saturating_sub(KEY_BYTES + value_bytes);
    println!(
        "{count} entries of {KEY_BYTES} + {value_bytes} B: {each} B each, {overhead} of them \
         overhead; counted as {counted}"
    );
    if value_bytes == 1 << 10 {
        goal("entry of 20 B + 1 KiB, bytes", each, GOAL_BYTES);
    }
}

/// Reads some entries again and again, by so many threads at once.
fn reads(eviction: Eviction, threads: u64) {
    let group = group(eviction, 1 << 30);
    (0..READ_ENTRIES).for_each(|number| set(&group, number, &[7; 1 << 10]));
    let keys: Vec<String> = (0..READ_ENTRIES).map(|number| format!("{number:020}")).collect();
    let now = SystemClock.monotonic();
    let read = |seed| {
        let mut random = fastrand::Rng::with_seed(seed);
        let started = Instant::now();
        for _ in 0..READS {
            let key = &keys[random.usize(..keys.len())];
            std::hint::black_box(group.get(key, now, owner).unwrap().item().unwrap());
        }
        started.elapsed().as_nanos() as u64 / READS
    };
    let turn = || {
        let slowest = thread::scope(|scope| {
            let readers = (0..threads).map(|seed| scope.spawn(move || read(seed)));
            let readers: Vec<_> = readers.collect();
            readers.into_iter().map(|reader| reader.join().unwrap()).max()
        });
        slowest.unwrap_or_default()
    };
    let mut turns: Vec<u64> = (0..READ_TURNS).map(|_| turn()).collect();
    turns.sort_unstable();
    let (least, median) = (turns[0], turns[READ_TURNS / 2]);
    println!("a hit, {threads} reading at once: {median} ns, at least {least}");
}

fn goal(name: &str, found: u64, most: u64) {
    let verdict = if found <= most { "ok" } else { "MISSED" };
    println!("goal {name}: {found} <= {most} {verdict}");
}

/// Writes values of changing sizes to a full group, over keys of which a part fits. The threads
/// live on in between, as a node's workers do, and what they hold with them.
fn churn(eviction: Eviction) {
    let before = resident();
    let group = group(eviction, CHURN_CAPACITY);
    let turn = Barrier::new(CHURN_THREADS as usize + 1);
    let write = |thread| {
        for sizes in PHASES {
            turn.wait();
            write_over(&group, sizes, thread);
            turn.wait();
        }
    };
    thread::scope(|scope| {
        for thread in 0..CHURN_THREADS {
            let write = &write;
            scope.spawn(move || write(thread));
        }
        for Sizes(name, ..) in PHASES {
            turn.wait();
            turn.wait();
            report(&format!("after values of {name}"), &group, before);
            settle(&group);
            report(&format!("{SETTLE_SECONDS} s later"), &group, before);
            let most = (CHURN_CAPACITY as f64 * GOAL_FACTOR) as u64 + GOAL_BESIDE;
            goal("resident MiB in all", resident() >> 20, most >> 20);
        }
    });
}

fn write_over(group: &Group, Sizes(_, least, most): Sizes, seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    // Three times as many keys as fit, so that writes meet entries, and others make room for them.
    let keys = 3 * CHURN_CAPACITY / ((least + most) / 2);
    let value = vec![7; most as usize];
    let mut left = CHURN_TURNS * CHURN_CAPACITY / CHURN_THREADS;
    while left > 0 {
        let bytes = random.u64(least..=most);
        set(group, random.u64(..keys), &value[..bytes as usize]);
        left = left.saturating_sub(bytes);
    }
}

/// As a node does while nothing happens.
#[allow(clippy::disallowed_methods, reason = "time has to pass here, nothing else")]
fn settle(group: &Group) {
    for _ in 0..SETTLE_SECONDS {
        thread::sleep(Duration::from_secs(1));
        group.maintain();
    }
}

fn report(when: &str, group: &Group, before: u64) {
    let (resident, stats) = (resident() - before, group.stats());
    println!(
        "churn {when}: {} MiB resident for {} entries counted as {} MiB, {:.2} x the capacity",
        resident >> 20,
        stats.entries,
        stats.used_bytes >> 20,
        resident as f64 / CHURN_CAPACITY as f64
    );
}

/// What is measured of each store, each in a process of its own.
const MEASURES: [&[&str]; 5] = [
    &["entries", "64", "1000000"],
    &["entries", "1024", "1000000"],
    &["reads", "1"],
    &["reads", "2"],
    &["churn"],
];

/// Runs this program again for one figure.
fn measure(eviction: &str, what: &[&str]) -> bool {
    print!("{eviction}, {ALLOCATOR_NAME}: ");
    io::stdout().flush().unwrap();
    let program = std::env::current_exe().unwrap();
    let status = Command::new(program).args(["measure", eviction]).args(what).status();
    status.unwrap().success()
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if let ["measure", eviction, ref what @ ..] = arguments[..] {
        let eviction = EVICTIONS.into_iter().find(|it| it.as_str() == eviction).unwrap();
        match what {
            ["entries", value_bytes, count] => {
                entries(eviction, value_bytes.parse().unwrap(), count.parse().unwrap());
            }
            ["reads", threads] => reads(eviction, threads.parse().unwrap()),
            _ => churn(eviction),
        }
        return ExitCode::SUCCESS;
    }
    println!("{ALLOCATOR_NAME}: {} KiB resident when empty", resident() >> 10);
    let measured = MEASURES
        .iter()
        .all(|what| EVICTIONS.iter().all(|eviction| measure(eviction.as_str(), what)));
    if measured { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
