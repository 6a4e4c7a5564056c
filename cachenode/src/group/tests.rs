//! What a group promises, rule by rule: here what its callers see of one node that keeps its keys. Random sequences are in `tests/group_model.rs`, threads in
//! `tests/group_threads.rs`.

mod copies;
mod defined;
mod fresh;
mod given_up;
mod loading;
mod upkeep;

use std::convert::Infallible;

use common::{
    clock::ManualClock,
    error::{Code, Error, Result},
};
use uuid::Uuid;

use super::*;
use crate::{origin::OriginDefinition, store::Eviction};

const SECOND: Duration = Duration::from_secs(1);

struct Bench {
    group: Group,
    clock: ManualClock,
}

fn bench(change: impl FnOnce(&mut Definition)) -> Bench {
    bench_with(Slots::new(), change)
}

fn bench_with(slots: Slots, change: impl FnOnce(&mut Definition)) -> Bench {
    let mut definition = Definition::new(GroupName::new("scores").unwrap());
    change(&mut definition);
    let clock = ManualClock::new();
    let shared: Arc<dyn Clock> = Arc::new(clock.clone());
    let hybrid = HybridClock::new(shared.clone());
    Bench {
        group: Group::with_slots(definition, shared, hybrid, slots, &LoanMetrics::default()),
        clock,
    }
}

fn owner() -> Result<Authority> {
    Ok(Authority::owner(1))
}

fn write<'a>(key: &'a str, value: &'a str) -> Write<'a> {
    Write { key, value: value.as_bytes(), ..Write::default() }
}

fn op(seq: u64) -> Option<OpId> {
    Some(OpId { link: Uuid::from_u128(7), seq })
}

impl Bench {
    fn redefine(&self, change: impl FnOnce(&mut Definition)) -> bool {
        let mut definition = Definition::clone(&self.group.definition());
        change(&mut definition);
        self.group.define(definition)
    }

    fn get(&self, key: &str) -> Found {
        let right = || Ok::<_, Infallible>(Authority::owner(1));
        self.group.get(key, self.clock.monotonic(), right).unwrap()
    }

    fn value(&self, key: &str) -> Option<String> {
        let item = self.get(key).item()?;
        Some(String::from_utf8(item.entry.value().to_vec()).unwrap())
    }

    fn set(&self, key: &str, value: &str) -> Applied {
        self.group.set(&write(key, value), owner).unwrap()
    }

    fn delete(&self, key: &str) -> Result<Applied> {
        self.group.delete(&Delete { key, ..Delete::default() }, owner)
    }

    fn copy(&self, key: &str, value: &str, version: Version) -> bool {
        let value = value.as_bytes();
        self.group.apply(&Copied { key, value, version, ..Copied::default() })
    }
}

fn code<T: fmt::Debug>(result: Result<T>) -> Code {
    result.unwrap_err().code()
}

#[test]
fn what_was_set_is_there_until_it_is_deleted() {
    let bench = bench(|_| ());
    assert!(matches!(bench.get("Tom"), Found::Absent));
    let first = bench.set("Tom", "630");
    assert!(first.created);
    bench.clock.advance(SECOND);
    let Found::Hit(item) = bench.get("Tom") else { panic!("a hit") };
    assert_eq!((item.entry.value(), item.entry.version()), ("630".into(), first.version));
    assert_eq!((item.times.age(), item.times.ttl_left()), (SECOND, None));
    let second = bench.set("Tom", "631");
    assert!(!second.created && second.version > first.version);
    assert!(bench.delete("Tom").unwrap().version > second.version);
    assert_eq!(bench.value("Tom"), None);
    assert_eq!(code(bench.delete("Tom")), Code::NotFound);
    let stats = bench.group.stats();
    assert_eq!((stats.hits, stats.misses, stats.sets, stats.deletes), (1, 2, 2, 1));
}

#[test]
fn keys_of_one_slot_displace_each_other_and_are_never_mixed_up() {
    let bench = bench_with(Slots::using(0), |_| ());
    bench.set("Tom", "630");
    assert_eq!(bench.value("Jack"), None);
    assert_eq!(code(bench.delete("Jack")), Code::NotFound);
    assert_eq!(bench.value("Tom").as_deref(), Some("630"));
    assert!(bench.set("Jack", "589").created);
    assert_eq!((bench.value("Tom"), bench.value("Jack").as_deref()), (None, Some("589")));
}

#[test]
fn entries_expire_by_the_groups_ttl_or_their_own() {
    let bench = bench(|definition| definition.ttl = 10 * SECOND);
    bench.set("group", "x");
    for (key, ttl) in [("own", 3 * SECOND), ("zero", Duration::ZERO)] {
        let own = Write { ttl: Some(ttl), ..write(key, "x") };
        bench.group.set(&own, owner).unwrap();
    }
    bench.clock.advance(3 * SECOND - Duration::from_millis(1));
    assert!(bench.value("own").is_some());
    bench.clock.advance(Duration::from_millis(1));
    assert!(bench.value("own").is_none());
    assert_eq!(bench.get("group").item().unwrap().times.ttl_left(), Some(7 * SECOND));
    assert_eq!(bench.get("zero").item().unwrap().times.ttl_left(), Some(7 * SECOND));
    bench.clock.advance(7 * SECOND);
    assert!(bench.set("group", "y").created, "expired is absent");
    assert_eq!(code(bench.delete("zero")), Code::NotFound);
}

#[test]
fn a_stand_in_keeps_nothing_for_long() {
    let bench = bench(|definition| definition.origin = static_origin());
    let stand_in = || Ok::<_, Error>(Authority::stand_in(1));
    for ttl in [None, Some(60 * SECOND), Some(2 * SECOND)] {
        bench.group.set(&Write { ttl, ..write("k", "v") }, stand_in).unwrap();
        let left = bench.get("k").item().unwrap().times.ttl_left();
        assert_eq!(left, Some(ttl.unwrap_or(STAND_IN_TTL).min(STAND_IN_TTL)));
    }
    let loaded = bench.group.get("Tom", bench.clock.monotonic(), stand_in).unwrap();
    assert_eq!(loaded.item().unwrap().times.ttl_left(), Some(STAND_IN_TTL));
}

#[test]
fn what_nobody_reads_ends_after_idle() {
    let bench = bench(|definition| definition.idle = 5 * SECOND);
    bench.set("read", "x");
    bench.set("unread", "x");
    for _ in 0..3 {
        bench.clock.advance(4 * SECOND);
        assert!(bench.value("read").is_some());
    }
    assert!(bench.value("unread").is_none());
    bench.clock.advance(5 * SECOND);
    assert!(bench.value("read").is_none());
}

fn static_origin() -> OriginDefinition {
    OriginDefinition::Static([("Tom".to_owned(), "630".to_owned())].into())
}

#[test]
fn a_missing_value_is_loaded_once() {
    let bench = bench(|definition| {
        definition.origin = static_origin();
        definition.ttl = 5 * SECOND;
    });
    let Found::Loaded(item) = bench.get("Tom") else { panic!("a load") };
    assert_eq!((item.entry.value(), item.entry.content_type()), ("630".into(), "text/plain"));
    let Found::Hit(again) = bench.get("Tom") else { panic!("a hit") };
    assert_eq!(again.entry.version(), item.entry.version());
    assert!(matches!(bench.get("Sam"), Found::Absent));
    bench.clock.advance(5 * SECOND);
    let Found::Loaded(fresh) = bench.get("Tom") else { panic!("expired: a load") };
    assert!(fresh.entry.version() > item.entry.version());
    bench.delete("Tom").unwrap();
    assert!(matches!(bench.get("Tom"), Found::Loaded(_)), "deleted from the cache only");
    let stats = bench.group.stats();
    assert_eq!((stats.hits, stats.misses, stats.loads), (1, 4, 3));
}

#[test]
fn an_origins_value_that_is_too_large_is_answered_and_not_kept() {
    let bench = bench(|definition| {
        definition.origin = static_origin();
        definition.max_value = 2;
    });
    assert!(matches!(bench.get("Tom"), Found::Loaded(_)));
    assert!(matches!(bench.get("Tom"), Found::Loaded(_)));
}

#[test]
fn a_change_applies_only_where_the_key_is_owned() {
    let bench = bench(|definition| definition.origin = static_origin());
    let moved = || Err(Error::new(Code::NodeUnavailable, "moved"));
    assert_eq!(code(bench.group.set(&write("k", "v"), moved)), Code::NodeUnavailable);
    let get = bench.group.get("Tom", bench.clock.monotonic(), moved);
    assert_eq!(code(get), Code::NodeUnavailable);
    bench.set("k", "v");
    let delete = Delete { key: "k", ..Delete::default() };
    assert_eq!(code(bench.group.delete(&delete, moved)), Code::NodeUnavailable);
    assert!(bench.value("k").is_some());
    assert!(bench.group.get("k", bench.clock.monotonic(), moved).is_ok(), "a hit asks nobody");
}

#[test]
fn conditions_are_judged_against_what_is_there() {
    let bench = bench(|_| ());
    let set =
        |condition: Condition| bench.group.set(&Write { condition, ..write("k", "v") }, owner);
    let if_absent = Condition { if_absent: true, ..Condition::default() };
    let if_present = Condition { if_present: true, ..Condition::default() };
    let if_version = |of: &[Version]| Condition { if_version: of.to_vec(), ..Condition::default() };
    assert_eq!(code(set(if_present.clone())), Code::PreconditionFailed);
    assert_eq!(code(set(if_version(&[Version::default()]))), Code::PreconditionFailed);
    let first = set(if_absent.clone()).unwrap();
    assert_eq!(code(set(if_absent)), Code::PreconditionFailed);
    let second = set(if_version(&[Version::default(), first.version])).unwrap();
    assert_eq!(code(set(if_version(&[first.version]))), Code::PreconditionFailed);
    let third = set(if_present).unwrap();
    let delete =
        |condition| bench.group.delete(&Delete { key: "k", condition, ..Delete::default() }, owner);
    assert_eq!(code(delete(if_version(&[second.version]))), Code::PreconditionFailed);
    assert!(delete(if_version(&[third.version])).is_ok());
    assert_eq!(code(delete(if_version(&[third.version]))), Code::PreconditionFailed);
}

#[test]
fn a_retried_write_is_answered_and_not_applied_again() {
    let bench = bench(|_| ());
    let first = Write { op: op(1), ..write("k", "first") };
    let answer = bench.group.set(&first, owner).unwrap();
    bench.set("k", "second");
    let nobody = || Err(Error::new(Code::NodeUnavailable, "not asked"));
    assert_eq!(bench.group.set(&first, nobody).unwrap(), answer);
    assert_eq!(bench.value("k").as_deref(), Some("second"));

    let delete = Delete { key: "k", op: op(2), ..Delete::default() };
    let gone = bench.group.delete(&delete, owner).unwrap();
    bench.set("k", "third");
    assert_eq!(bench.group.delete(&delete, owner).unwrap(), gone);
    let absent = Delete { key: "none", op: op(3), ..Delete::default() };
    assert_eq!(code(bench.group.delete(&absent, owner)), Code::NotFound);
    bench.set("none", "x");
    assert_eq!(code(bench.group.delete(&absent, owner)), Code::NotFound);
    assert!(bench.value("k").is_some() && bench.value("none").is_some());

    bench.clock.advance(REMEMBER_FOR);
    assert!(bench.group.set(&first, owner).unwrap().version > answer.version);
    assert_eq!(bench.value("k").as_deref(), Some("first"));
}

#[test]
fn values_that_cannot_be_kept_are_refused_with_the_limit() {
    let bench = bench(|definition| {
        definition.max_value = 4;
        definition.capacity = 1000;
    });
    assert!(bench.group.set(&write("k", "1234"), owner).is_ok());
    let error = bench.group.set(&write("k", "12345"), owner).unwrap_err();
    assert_eq!(error.code(), Code::TooLarge);
    assert!(error.message().contains("'scores' takes at most 4"), "{error}");
    assert_eq!(code(bench.group.set(&write("", "1"), owner)), Code::InvalidRequest);
    assert_eq!(code(bench.group.set(&write(&"k".repeat(1000), "1"), owner)), Code::TooLarge);
    let long = "t".repeat(MAX_CONTENT_TYPE_BYTES + 1);
    let odd = Write { content_type: &long, ..write("k", "1") };
    assert_eq!(code(bench.group.set(&odd, owner)), Code::InvalidRequest);
}
