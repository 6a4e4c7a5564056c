//! Loans of one group by hand: who may still believe what, and for how long.

use std::convert::Infallible;

use common::{
    clock::{Clock, ManualClock},
    entry::HybridClock,
    error::Error,
    key::GroupName,
};
use tokio::sync::mpsc;

use super::*;
use crate::{
    group::{Condition, Definition, Delete, OpId, Write},
    loans::MAX_LOANS,
};

const MS: Duration = Duration::from_millis(1);

struct Bench {
    group: Group,
    clock: ManualClock,
}

type Told = mpsc::Receiver<Invalidation>;

impl Bench {
    fn new() -> Self {
        Self::of(Definition::new(GroupName::new("g").unwrap()))
    }

    fn of(definition: Definition) -> Self {
        let clock = ManualClock::new();
        let shared: Arc<dyn Clock> = Arc::new(clock.clone());
        let group = Group::new(definition, shared.clone(), HybridClock::new(shared));
        Self { group, clock }
    }

    fn set(&self, key: &str, value: &str) -> Version {
        let value = value.as_bytes();
        self.write(&Write { key, value, ..Write::default() }).unwrap()
    }

    fn write(&self, write: &Write<'_>) -> Result<Version, Error> {
        self.group.set(write, || Ok::<_, Error>(Authority::owner(1))).map(|it| it.version)
    }

    fn lend_as(&self, key: &str, holder: &Arc<Holder>, authority: Authority) -> Option<Version> {
        let owned = || Ok::<_, Infallible>(authority);
        let lent = self.group.lend(1000, key, holder, LEASE * 9, owned).unwrap();
        let Lending::Lent(item, loan) = lent else { return None };
        assert_eq!(loan, LEASE, "no longer than the longest");
        Some(item.entry.version())
    }

    fn lend(&self, key: &str, holder: &Arc<Holder>) -> Option<Version> {
        self.lend_as(key, holder, Authority::owner(1))
    }

    fn waits(&self, key: &str) -> bool {
        !self.group.recall(key).is_over(self.clock.monotonic())
    }
}

fn told(queue: &mut Told) -> Invalidation {
    queue.try_recv().expect("an invalidation")
}

#[test]
fn a_write_calls_back_what_was_lent_and_waits_for_all_holders() {
    let bench = Bench::new();
    let ((one, mut one_told), (two, mut two_told)) = (Holder::new(), Holder::new());
    let lent = bench.set("k", "old");
    assert!(!bench.waits("k"), "nothing was lent");
    assert_eq!((bench.lend("k", &one), bench.lend("k", &two)), (Some(lent), Some(lent)));
    assert!(!bench.waits("k"), "nothing was written");
    let written = bench.set("k", "new");
    let told = [told(&mut one_told), told(&mut two_told)];
    for told in told {
        assert!(told.version == written && written > lent && *told.key == *"k");
        assert!(bench.waits("k"));
        told.recalled.confirm();
    }
    assert!(!bench.waits("k"));
    assert!(one_told.try_recv().is_err(), "once");
}

#[test]
fn a_holder_that_does_not_answer_is_waited_for_as_long_as_its_loan() {
    let bench = Bench::new();
    let (holder, _told) = Holder::new();
    bench.set("k", "old");
    bench.lend("k", &holder);
    bench.clock.advance(100 * MS);
    bench.lend("k", &holder);
    bench.set("k", "new");
    bench.clock.advance(LEASE - MS);
    assert!(bench.waits("k"), "from when it was lent last");
    bench.clock.advance(MS);
    assert!(!bench.waits("k"));
}

#[test]
fn a_stream_that_has_ended_has_its_loans_run_out() {
    let bench = Bench::new();
    let (holder, told) = Holder::new();
    bench.set("k", "old");
    bench.lend("k", &holder);
    drop((told, holder));
    bench.set("k", "new");
    assert!(bench.waits("k"));
    bench.clock.advance(LEASE);
    assert!(!bench.waits("k"));
}

#[test]
fn no_later_answer_overtakes_a_write_that_waits() {
    let bench = Bench::new();
    let (holder, mut queue) = Holder::new();
    let op = Some(OpId { link: uuid::Uuid::from_u128(1), seq: 1 });
    bench.set("k", "old");
    bench.lend("k", &holder);
    let write = Write { key: "k", value: b"new", op, ..Write::default() };
    bench.write(&write).unwrap();
    let first = told(&mut queue);
    // The same once more, another one, one that fails, and a deletion of nothing: each would
    // tell of the first.
    bench.write(&write).unwrap();
    assert!(bench.waits("k"), "a retry is answered from memory");
    let condition = Condition { if_absent: true, ..Condition::default() };
    assert!(bench.write(&Write { key: "k", condition, ..Write::default() }).is_err());
    bench.set("k", "newer");
    assert!(bench.waits("k") && queue.try_recv().is_err(), "it has been told already");
    first.recalled.confirm();
    assert!(!bench.waits("k"));
}

#[test]
fn a_deletion_calls_back_what_is_not_stored_any_more() {
    let bench = Bench::new();
    let (holder, mut queue) = Holder::new();
    bench.set("k", "old");
    bench.lend("k", &holder);
    let slot = bench.group.slots.of("k");
    assert!(bench.group.shape().store.remove_if(slot, &|_| true), "as if evicted");
    let delete = Delete { key: "k", ..Delete::default() };
    let deleted = bench.group.delete(&delete, || Ok::<_, Error>(Authority::owner(1)));
    assert!(deleted.is_err() && bench.waits("k"), "not found, but held");
    told(&mut queue).recalled.confirm();
    assert!(!bench.waits("k"));
}

#[test]
fn forgetting_a_key_calls_it_back() {
    let bench = Bench::new();
    let (holder, mut queue) = Holder::new();
    let lent = bench.set("k", "old");
    bench.lend("k", &holder);
    assert!(bench.group.forget("k", 1));
    assert!(bench.waits("k") && told(&mut queue).version > lent);
}

#[test]
fn a_new_value_is_lent_while_the_old_one_is_called_back() {
    let bench = Bench::new();
    let (holder, mut queue) = Holder::new();
    bench.set("k", "old");
    bench.lend("k", &holder);
    let new = bench.set("k", "new");
    let first = told(&mut queue);
    assert_eq!(bench.lend("k", &holder), Some(new));
    bench.set("k", "newest");
    first.recalled.confirm();
    assert!(bench.waits("k"), "for the second loan");
    told(&mut queue).recalled.confirm();
    assert!(!bench.waits("k"));
}

#[test]
fn what_must_not_be_lent_is_not() {
    let definition = || Definition::new(GroupName::new("g").unwrap());
    let (holder, _told) = Holder::new();
    for definition in [
        Definition { near: false, ..definition() },
        Definition { idle: LEASE * 100, ..definition() },
    ] {
        let bench = Bench::of(definition);
        bench.set("k", "v");
        assert_eq!(bench.lend("k", &holder), None);
    }
    let bench = Bench::new();
    assert_eq!(bench.lend("missing", &holder), None);
    bench.set("large", &"x".repeat(1001));
    assert_eq!(bench.lend("large", &holder), None);
    bench.set("k", "v");
    assert_eq!(bench.lend_as("k", &holder, Authority::stand_in(1)), None);
    let stand_in = || Ok::<_, Error>(Authority::stand_in(1));
    let write = Write { key: "elses", value: b"v", ..Write::default() };
    bench.group.set(&write, stand_in).unwrap();
    assert_eq!(bench.lend("elses", &holder), None, "stored in somebody's stead");
    let refused = bench.group.lend(1000, "k", &holder, LEASE, || Err("not ours"));
    assert_eq!(refused.err(), Some("not ours"));
    assert!(bench.group.lent_keys(10).is_empty());
}

#[test]
fn loans_are_bounded_and_forgotten_when_they_are_over() {
    let metrics = LoanMetrics::default();
    let mut loans = Loans::new(metrics.clone());
    let (holder, _told) = Holder::new();
    let now = LEASE;
    for key in 0..MAX_LOANS {
        assert!(loans.lend(&key.to_string(), &holder, now + LEASE, now));
    }
    assert!(!loans.lend("one more", &holder, now + LEASE, now));
    assert!(loans.lend("0", &holder, now + LEASE, now), "a renewal takes no room");
    assert!(loans.lend("later", &holder, now + 2 * LEASE, now + LEASE), "the others are over");
    assert_eq!(metrics.outstanding(), 1);
    loans.tidy(now + 2 * LEASE);
    assert!(metrics.outstanding() == 0 && loans.by_key.is_empty());
}

#[test]
fn who_holds_what_can_be_seen() {
    let bench = Bench::new();
    let ((one, _a), (two, _b)) = (Holder::new(), Holder::new());
    for key in ["x", "y"] {
        bench.set(key, "v");
        bench.lend(key, &one);
    }
    bench.lend("y", &two);
    let lent = |key: &str, holders| LentKey { key: key.to_owned(), holders };
    assert_eq!(bench.group.lent_keys(9), [lent("y", 2), lent("x", 1)]);
    assert_eq!(bench.group.lent_keys(1), [lent("y", 2)]);
    bench.clock.advance(LEASE);
    bench.group.maintain();
    assert!(bench.group.lent_keys(9).is_empty());
}
