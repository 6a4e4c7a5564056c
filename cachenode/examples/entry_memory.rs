//! Measures what an entry costs in resident memory: the command behind the stores' `PLACE_BYTES`.
//!
//! `cargo run --release -p cachenode --example entry_memory -- [VALUE_BYTES] [ENTRIES]`
#![allow(clippy::unwrap_used)]

use std::{sync::Arc, time::Instant};

use cachenode::group::{Authority, Definition, Group, Write};
use common::{
    clock::{Clock, SystemClock},
    entry::HybridClock,
    error::Error,
    key::GroupName,
};

/// Resident bytes of this process, from `/proc/self/statm` with pages of 4 KiB.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    4096 * statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap()
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let mut argument = |or| arguments.next().map_or(or, |text| text.parse().unwrap());
    let (value_bytes, entries) = (argument(1024_u64), argument(300_000_u64));

    let name = GroupName::new("measured").unwrap();
    let definition = Definition { capacity: 1 << 40, ..Definition::new(name) };
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let group = Group::new(definition, clock.clone(), HybridClock::new(clock));
    let value = vec![7; value_bytes as usize];
    let owner = || Ok::<_, Error>(Authority::owner(1));

    let before = resident();
    let started = Instant::now();
    for n in 0..entries {
        let key = format!("{n:020}");
        group.set(&Write { key: &key, value: &value, ..Write::default() }, owner).unwrap();
    }
    let set_ns = started.elapsed().as_nanos() as u64 / entries;
    group.maintain();
    let per_entry = (resident() - before) / entries;
    let overhead = per_entry.saturating_sub(20 + value_bytes);

    let started = Instant::now();
    for n in 0..entries {
        let key = format!("{:020}", n * 7919 % entries);
        let now = SystemClock.monotonic();
        let item = group.get(&key, now, owner).unwrap().item().unwrap();
        std::hint::black_box(item.entry.value());
    }
    let get_ns = started.elapsed().as_nanos() as u64 / entries;
    println!(
        "{entries} entries of 20 + {value_bytes} bytes: {per_entry} resident bytes each, \
         {overhead} of them overhead; counted as {}; set {set_ns} ns, get {get_ns} ns",
        group.stats().used_bytes / entries
    );
}
