//! Random sequences of reads with a lease, of writes with and without a token, and of what ends
//! tokens, against a model of the promises:
//!
//! - a key has at most one live token;
//! - what is brought with a token is stored only if nothing happened to the key since it was given,
//!   and by whom it was given to;
//! - who reads gets the last write that nothing has removed, or nothing;
//! - somebody gets a token for a missing key unless another one has a live one.
#![allow(clippy::unwrap_used)]

use std::{sync::Arc, time::Duration};

use cachenode::group::{
    Authority, Definition, Delete, Found, Group, Leased, Scope, TOKEN_LIFE, Write,
};
use common::{
    clock::{Clock, ManualClock},
    entry::HybridClock,
    error::{Code, Error},
    key::GroupName,
};
use proptest::{collection::vec, prelude::*, sample::Index};

const KEYS: [&str; 4] = ["a/1", "a/2", "b/1", "b/2"];
const TAGS: [&str; 2] = ["red", "blue"];
const TTL: Duration = Duration::from_secs(20);

#[derive(Debug, Clone)]
enum Step {
    Read {
        key: usize,
        as_owner: bool,
    },
    /// Brings a value with one of the tokens that were ever given, to its key or to another one.
    Bring {
        token: Index,
        to: Option<usize>,
        tag: usize,
        as_owner: bool,
    },
    Set {
        key: usize,
        tag: usize,
    },
    Delete(usize),
    Purge(Purge),
    CarryOut,
    /// The ring changes twice, and the node loses its keys in between.
    Lose,
    DropAll,
    Advance(Duration),
    Maintain,
}

#[derive(Debug, Clone, Copy)]
enum Purge {
    All,
    Prefix(&'static str),
    Tag(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let key = || 0..KEYS.len();
    let tag = || 0..TAGS.len();
    let as_owner = || prop::bool::weighted(0.9);
    let purge = prop_oneof![
        1 => Just(Purge::All),
        2 => prop_oneof![Just("a/"), Just("b/"), Just("a/1")].prop_map(Purge::Prefix),
        2 => tag().prop_map(Purge::Tag),
    ];
    prop_oneof![
        8 => (key(), as_owner()).prop_map(|(key, as_owner)| Step::Read { key, as_owner }),
        6 => (any::<Index>(), prop::option::weighted(0.1, key()), tag(), as_owner())
            .prop_map(|(token, to, tag, as_owner)| Step::Bring { token, to, tag, as_owner }),
        2 => (key(), tag()).prop_map(|(key, tag)| Step::Set { key, tag }),
        2 => key().prop_map(Step::Delete),
        2 => purge.prop_map(Step::Purge),
        1 => Just(Step::CarryOut),
        1 => Just(Step::Lose),
        1 => Just(Step::DropAll),
        2 => prop_oneof![
            Just(Duration::from_secs(1)), Just(TOKEN_LIFE / 2), Just(TOKEN_LIFE), Just(TTL),
        ].prop_map(Step::Advance),
        1 => Just(Step::Maintain),
    ]
}

/// What a key holds.
#[derive(Debug, Clone)]
struct Held {
    value: String,
    tag: usize,
    until: Duration,
}

#[derive(Debug, Clone, Copy)]
struct Given {
    key: usize,
    number: u64,
    until: Duration,
    /// Nothing has happened to the key since.
    is_live: bool,
}

struct Bench {
    group: Group,
    clock: ManualClock,
    held: [Option<Held>; KEYS.len()],
    given: Vec<Given>,
    now: usize,
}

fn right(as_owner: bool) -> Result<Authority, Error> {
    Ok(if as_owner { Authority::owner(1) } else { Authority::stand_in(1) })
}

impl Bench {
    fn new() -> Self {
        let definition = Definition { ttl: TTL, ..Definition::new(GroupName::new("g").unwrap()) };
        let clock = ManualClock::new();
        let shared: Arc<dyn Clock> = Arc::new(clock.clone());
        let group = Group::new(definition, Arc::clone(&shared), HybridClock::new(shared));
        Self { group, clock, held: Default::default(), given: Vec::new(), now: 0 }
    }

    fn live(&self, key: usize) -> Vec<Given> {
        let now = self.clock.monotonic();
        let is_live = |it: &&Given| it.key == key && it.is_live && now < it.until;
        self.given.iter().filter(is_live).copied().collect()
    }

    fn end(&mut self, which: impl Fn(usize) -> bool) {
        self.given.iter_mut().filter(|it| which(it.key)).for_each(|it| it.is_live = false);
    }

    fn expected(&mut self, key: usize) -> Option<String> {
        let now = self.clock.monotonic();
        self.held[key].take_if(|held| held.until <= now);
        self.held[key].as_ref().map(|held| held.value.clone())
    }

    fn read(&mut self, key: usize, as_owner: bool) -> Result<(), TestCaseError> {
        let expected = self.expected(key);
        let leased = self.group.get_leased(usize::MAX, KEYS[key], || right(as_owner)).unwrap();
        match leased {
            Leased::Found(Found::Hit(item)) => {
                let value = String::from_utf8(item.entry.value().to_vec()).unwrap();
                prop_assert_eq!(Some(value), expected);
            }
            Leased::Found(other) => prop_assert!(false, "no such answer here: {other:?}"),
            Leased::Token(number) => {
                prop_assert!(as_owner, "a stand-in has given a token");
                prop_assert_eq!(expected, None);
                prop_assert!(self.live(key).is_empty(), "a second live token of {}", KEYS[key]);
                let until = self.clock.monotonic() + TOKEN_LIFE;
                self.given.push(Given { key, number, until, is_live: true });
            }
            Leased::Taken => {
                prop_assert_eq!(expected, None);
                let nobody_has_one = self.live(key).is_empty();
                prop_assert!(!as_owner || !nobody_has_one, "nobody is to bring {}", KEYS[key]);
            }
        }
        Ok(())
    }

    fn write(
        &mut self,
        key: usize,
        tag: usize,
        token: Option<u64>,
        as_owner: bool,
    ) -> Result<(), Code> {
        let value = format!("value {}", self.now);
        let write = Write {
            key: KEYS[key],
            tags: TAGS[tag],
            value: value.as_bytes(),
            token,
            ..Write::default()
        };
        let written = self.group.set(&write, || right(as_owner));
        written.map_err(|error| error.code())?;
        let until = self.clock.monotonic() + TTL;
        self.held[key] = Some(Held { value, tag, until });
        self.end(|other| other == key);
        Ok(())
    }

    fn bring(
        &mut self,
        given: Given,
        to: usize,
        tag: usize,
        as_owner: bool,
    ) -> Result<(), TestCaseError> {
        let is_the_one = |it: &Given| it.number == given.number;
        let counts = as_owner && self.live(to).iter().any(is_the_one);
        let written = self.write(to, tag, Some(given.number), as_owner);
        let expected = if counts { Ok(()) } else { Err(Code::LeaseLost) };
        prop_assert_eq!(written, expected);
        Ok(())
    }

    fn purge(&mut self, purge: Purge) {
        let _ = self.group.purge(&[match purge {
            Purge::All => Scope::Everything,
            Purge::Prefix(prefix) => Scope::Prefix(prefix.into()),
            Purge::Tag(tag) => Scope::Tag(TAGS[tag].into()),
        }]);
        for (key, held) in self.held.iter_mut().enumerate() {
            held.take_if(|held| match purge {
                Purge::All => true,
                Purge::Prefix(prefix) => KEYS[key].starts_with(prefix),
                Purge::Tag(tag) => held.tag == tag,
            });
        }
        match purge {
            Purge::Prefix(prefix) => self.end(|key| KEYS[key].starts_with(prefix)),
            // What is going to have which tags nobody knows.
            Purge::All | Purge::Tag(_) => self.end(|_| true),
        }
    }

    fn step(&mut self, step: Step) -> Result<(), TestCaseError> {
        self.now += 1;
        match step {
            Step::Read { key, as_owner } => self.read(key, as_owner)?,
            Step::Bring { .. } if self.given.is_empty() => {}
            Step::Bring { token, to, tag, as_owner } => {
                let given = self.given[token.index(self.given.len())];
                self.bring(given, to.unwrap_or(given.key), tag, as_owner)?;
            }
            Step::Set { key, tag } => self.write(key, tag, None, true).unwrap(),
            Step::Delete(key) => {
                let delete = Delete { key: KEYS[key], ..Delete::default() };
                let _ = self.group.delete(&delete, || right(true));
                self.held[key] = None;
                self.end(|other| other == key);
            }
            Step::Purge(purge) => self.purge(purge),
            Step::CarryOut => {
                self.group.carry_out_purges();
            }
            Step::Lose => {
                assert!(self.group.ring_changed(|_| false));
                self.group.give_up();
                self.held = Default::default();
                self.end(|_| true);
            }
            Step::DropAll => {
                self.group.drop_everything();
                self.held = Default::default();
                self.end(|_| true);
            }
            Step::Advance(by) => self.clock.advance(by),
            Step::Maintain => self.group.maintain(),
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]
    #[test]
    fn load_tokens_keep_their_promises(steps in vec(step(), 1..60)) {
        let mut bench = Bench::new();
        for step in steps {
            bench.step(step)?;
        }
        for key in 0..KEYS.len() {
            bench.read(key, true)?;
        }
    }
}
