//! Copies of other nodes' entries, and what deletions leave behind against old ones.

use super::*;

#[test]
fn a_copy_applies_only_if_it_is_newer() {
    let bench = bench(|_| ());
    let set = bench.set("k", "here").version;
    let older = Version { clock: set.clock - 1, ..set };
    let newer = Version { as_of: set.as_of + 5, clock: 3 };
    assert!(!bench.copy("k", "older", older));
    assert!(!bench.copy("k", "same", set));
    assert!(bench.copy("k", "newer", newer));
    assert_eq!(bench.value("k").as_deref(), Some("newer"));
    let after = bench.set("k", "after").version;
    assert!(after > newer, "newer than what is there, whatever the epoch says: {after}");
}

#[test]
fn a_copy_does_not_bring_back_what_was_deleted() {
    let bench = bench(|_| ());
    let set = bench.set("k", "v").version;
    bench.delete("k").unwrap();
    assert!(!bench.copy("k", "v", set));
    let unknown = Version { as_of: 0, clock: 1 };
    assert_eq!(code(bench.delete("elsewhere")), Code::NotFound);
    assert!(!bench.copy("elsewhere", "v", unknown), "deleted before its copy came");
    bench.clock.advance(TOMBSTONE_LIFE);
    assert!(bench.copy("k", "v", set));
}

#[test]
fn a_copys_clock_is_heard() {
    let bench = bench(|_| ());
    let ahead = Version { as_of: 1, clock: (1 << 63) + 7 };
    assert!(bench.copy("k", "v", ahead));
    assert!(bench.set("another", "v").version > ahead);
}

#[test]
fn a_copy_keeps_its_age_and_end() {
    let bench = bench(|definition| definition.ttl = 100 * SECOND);
    bench.clock.advance(50 * SECOND);
    let copy = Copied {
        key: "k",
        version: Version { as_of: 1, clock: 1 },
        age: 7 * SECOND,
        ttl_left: Some(3 * SECOND),
        ..Copied::default()
    };
    assert!(bench.group.apply(&copy));
    let item = bench.get("k").item().unwrap();
    assert_eq!((item.times.age(), item.times.ttl_left()), (7 * SECOND, Some(3 * SECOND)));
    bench.clock.advance(3 * SECOND);
    assert!(bench.value("k").is_none());
}

#[test]
fn too_many_deletions_refuse_old_copies_of_every_key() {
    let bench = bench_with(Slots::using(0xffff), |_| ()); // one stripe, many slots
    let old = bench.set("old", "v").version;
    assert!(bench.copy("before", "v", old));
    for n in 0..1000 {
        assert_eq!(code(bench.delete(&format!("k{n}"))), Code::NotFound);
    }
    assert!(!bench.copy("after", "v", old));
    assert!(bench.set("after", "v").created, "a write here is always newer");
    bench.clock.advance(TOMBSTONE_LIFE);
    assert!(bench.copy("later", "v", old));
}
