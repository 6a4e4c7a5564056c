//! What maintenance takes away: the expired, and what is over the capacity.

use super::*;

#[test]
fn maintenance_sweeps_what_has_expired() {
    let bench = bench(|definition| definition.ttl = SECOND);
    for n in 0..100 {
        let ttl = (n % 2 == 0).then_some(1000 * SECOND);
        bench.group.set(&Write { ttl, ..write(&format!("k{n}"), "v") }, owner).unwrap();
    }
    bench.group.maintain();
    assert_eq!(bench.group.stats().entries, 100);
    bench.clock.advance(SECOND);
    bench.group.maintain();
    assert_eq!(bench.group.stats().entries, 50);
    bench.set("late", "v");
    bench.clock.advance(SECOND);
    bench.group.maintain();
    assert_eq!(bench.group.stats().entries, 51, "the next sweep is not due yet");
    bench.clock.advance(SWEEP_EVERY);
    bench.group.maintain();
    let stats = bench.group.stats();
    assert_eq!((stats.entries, stats.evictions), (50, 0));
    bench.clock.advance(1000 * SECOND);
    bench.group.maintain();
    assert_eq!(bench.group.stats().entries, 0, "a sweep remembers when the rest expires");
}

#[test]
fn a_sweep_that_stops_half_way_goes_on_at_the_next_call() {
    let bench = bench(|definition| definition.ttl = SECOND);
    let entries = SWEEP_LIMIT + 10;
    for n in 0..entries {
        bench.set(&n.to_string(), "");
    }
    bench.clock.advance(SECOND);
    bench.group.maintain();
    assert_eq!(bench.group.stats().entries, 10);
    bench.group.maintain();
    assert_eq!(bench.group.stats().entries, 0);
}

#[test]
fn a_group_stays_within_its_capacity() {
    for eviction in [Eviction::Lru, Eviction::TinyLfu] {
        let bench = bench(|definition| {
            definition.capacity = 32 << 20;
            definition.eviction = eviction;
        });
        let value = "v".repeat(1024);
        let weight = eviction.entry_bytes(1024 + 8);
        let fits = (32 << 20) / weight;
        for n in 0..3 * fits {
            bench.set(&format!("{n:08}"), &value);
        }
        bench.group.maintain();
        let stats = bench.group.stats();
        assert!(stats.used_bytes <= stats.capacity_bytes, "{stats:?}");
        assert!(stats.used_bytes >= stats.capacity_bytes / 100 * 95, "{stats:?}");
        assert_eq!(stats.evictions, 3 * fits - stats.entries, "{stats:?}");
        assert_eq!(stats.used_bytes, stats.entries * weight);
    }
}
