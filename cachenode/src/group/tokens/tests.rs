//! Load tokens by hand: who gets one, what ends it, and that its write is judged by that.

use common::{
    clock::{Clock, ManualClock},
    entry::{HybridClock, Version},
    key::GroupName,
};
use std::sync::Arc;

use super::*;
use crate::group::{Condition, Copied, Definition, Delete, Scope, Write};

const MS: Duration = Duration::from_millis(1);

struct Bench {
    group: Group,
    clock: ManualClock,
}

fn owner() -> Result<Authority, Error> {
    Ok(Authority::owner(1))
}

impl Bench {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut Definition)) -> Self {
        let mut definition = Definition::new(GroupName::new("g").unwrap());
        change(&mut definition);
        let clock = ManualClock::new();
        let shared: Arc<dyn Clock> = Arc::new(clock.clone());
        let group = Group::new(definition, shared.clone(), HybridClock::new(shared));
        Self { group, clock }
    }

    fn leased_as(&self, key: &str, authority: Authority) -> Leased {
        self.group.get_leased(usize::MAX, key, || Ok::<_, Error>(authority)).unwrap()
    }

    fn leased(&self, key: &str) -> Leased {
        self.leased_as(key, Authority::owner(1))
    }

    fn token(&self, key: &str) -> u64 {
        match self.leased(key) {
            Leased::Token(token) => token,
            other => panic!("no token: {other:?}"),
        }
    }

    fn bring(&self, key: &str, token: u64) -> Result<(), Code> {
        let write = Write { key, value: b"brought", token: Some(token), ..Write::default() };
        self.group.set(&write, owner).map(drop).map_err(|error| error.code())
    }

    fn set(&self, key: &str, value: &str) {
        let write = Write { key, value: value.as_bytes(), ..Write::default() };
        self.group.set(&write, owner).unwrap();
    }

    fn value(&self, key: &str) -> Option<String> {
        let found = self.group.get(key, self.clock.monotonic(), owner).unwrap();
        found.item().map(|item| String::from_utf8(item.entry.value().to_vec()).unwrap())
    }
}

#[test]
fn one_of_those_who_miss_a_key_gets_a_token_and_brings_the_value() {
    let bench = Bench::new();
    let token = bench.token("k");
    assert!(matches!(bench.leased("k"), Leased::Taken));
    assert_ne!(bench.token("other"), token);
    assert_eq!(bench.bring("k", token), Ok(()));
    assert_eq!(bench.value("k").as_deref(), Some("brought"));
    assert!(matches!(bench.leased("k"), Leased::Found(Found::Hit(_))));
    assert_eq!(bench.bring("k", token), Err(Code::LeaseLost), "it was used");
    let stats = bench.group.stats();
    assert_eq!((stats.tokens, stats.lost_tokens), (2, 1));
}

#[test]
fn whatever_changes_a_key_ends_its_token() {
    type Change = fn(&Bench);
    let changes: [(&str, Change); 10] = [
        ("set", |bench| bench.set("k", "newer")),
        ("delete", |bench| {
            let delete = Delete { key: "k", ..Delete::default() };
            assert!(bench.group.delete(&delete, owner).is_err(), "nothing is there");
        }),
        ("copy", |bench| {
            let version = Version { as_of: 9, clock: 1 };
            assert!(bench.group.apply(&Copied { key: "k", version, ..Copied::default() }));
        }),
        ("hint", |bench| assert!(!bench.group.forget("k", 1))),
        ("purge of all", |bench| drop(bench.group.purge(&[Scope::Everything]))),
        ("purge by prefix", |bench| drop(bench.group.purge(&[Scope::Prefix("k".into())]))),
        ("purge by any tag", |bench| drop(bench.group.purge(&[Scope::Tag("t".into())]))),
        ("floor", |bench| assert_eq!(bench.group.drop_everything(), 0)),
        ("ring", |bench| {
            assert!(bench.group.ring_changed(|_| false));
            bench.group.give_up();
        }),
        ("time", |bench| bench.clock.advance(TOKEN_LIFE)),
    ];
    for (name, change) in changes {
        let bench = Bench::new();
        let token = bench.token("k");
        change(&bench);
        let before = bench.value("k");
        assert_eq!(bench.bring("k", token), Err(Code::LeaseLost), "{name}");
        assert_eq!(bench.value("k"), before, "{name}");
    }
}

#[test]
fn what_happens_to_other_keys_or_fails_leaves_a_token_alone() {
    let bench = Bench::new();
    let token = bench.token("k");
    bench.set("other", "x");
    drop(bench.group.purge(&[Scope::Prefix("other".into())]));
    bench.group.carry_out_purges();
    let condition = Condition { if_present: true, ..Condition::default() };
    let write = Write { key: "k", condition, ..Write::default() };
    assert!(bench.group.set(&write, owner).is_err());
    assert_eq!(bench.bring("k", token ^ 1), Err(Code::LeaseLost), "another one's");
    bench.clock.advance(TOKEN_LIFE - MS);
    bench.group.maintain();
    assert!(matches!(bench.leased("k"), Leased::Taken));
    assert_eq!(bench.bring("k", token), Ok(()));
}

#[test]
fn when_the_time_of_a_token_is_over_another_one_gets_one() {
    let bench = Bench::new();
    let first = bench.token("k");
    bench.clock.advance(TOKEN_LIFE);
    let second = bench.token("k");
    assert_eq!(bench.bring("k", first), Err(Code::LeaseLost));
    assert_eq!(bench.bring("k", second), Ok(()));
}

#[test]
fn a_token_that_was_ended_is_followed_by_another_at_once() {
    let bench = Bench::new();
    let first = bench.token("k");
    drop(bench.group.purge(&[Scope::Everything]));
    let second = bench.token("k");
    assert_eq!(bench.bring("k", first), Err(Code::LeaseLost));
    assert_eq!(bench.bring("k", second), Ok(()));
}

#[test]
fn who_stands_in_hands_out_no_token_and_takes_none() {
    let bench = Bench::new();
    assert!(matches!(bench.leased_as("k", Authority::stand_in(1)), Leased::Taken));
    let token = bench.token("k");
    let write = Write { key: "k", token: Some(token), ..Write::default() };
    let stored = bench.group.set(&write, || Ok::<_, Error>(Authority::stand_in(1)));
    assert_eq!(stored.unwrap_err().code(), Code::LeaseLost);
}

#[test]
fn the_oldest_tokens_end_when_there_are_too_many() {
    let bench = Bench::new();
    let keys = 256 * TOKENS_PER_STRIPE * 4;
    let first = bench.token("first");
    for n in 0..keys {
        bench.token(&format!("k{n}"));
    }
    let last = bench.token("last");
    assert_eq!(bench.bring("first", first), Err(Code::LeaseLost));
    assert_eq!(bench.bring("last", last), Ok(()));
}

#[test]
fn those_who_wait_get_what_is_stale_where_the_group_permits_that() {
    let bench = Bench::with(|definition| {
        definition.ttl = Duration::from_secs(1);
        definition.stale_while_revalidate = Duration::from_secs(5);
    });
    bench.set("k", "old");
    bench.clock.advance(Duration::from_secs(2));
    assert_eq!(bench.value("k"), None, "a plain read finds nothing that is over");
    let token = bench.token("k");
    let Leased::Found(Found::Stale(item)) = bench.leased("k") else { panic!("nothing stale") };
    assert_eq!(item.entry.value(), "old");
    let _ = bench.group.purge(&[Scope::Prefix("k".into())]);
    let again = bench.token("k");
    assert!(matches!(bench.leased("k"), Leased::Taken), "what is purged is not even stale");
    assert_eq!(bench.bring("k", token), Err(Code::LeaseLost));
    assert_eq!(bench.bring("k", again), Ok(()));
}
