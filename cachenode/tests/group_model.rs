//! A group does what a simple model of it does, for random sequences of calls.
//!
//! The model is a map of entries, a map of deletions and a map of answers, with a hybrid clock of
//! its own under the same manual clock, so that it knows every version beforehand. Nothing is
//! evicted: the group has room for everything.
#![allow(clippy::unwrap_used)]

use std::{collections::HashMap, convert::Infallible, sync::Arc, time::Duration};

use cachenode::group::{
    Applied, Authority, Condition, Copied, Definition, Delete, Found, Group, OpId, REMEMBER_FOR,
    TOMBSTONE_LIFE, Write,
};
use common::{
    clock::{Clock, ManualClock},
    entry::{HybridClock, Version},
    error::{Code, Error},
    key::GroupName,
};
use proptest::prelude::*;
use uuid::Uuid;

const KEYS: [&str; 4] = ["Tom", "Jack", "Sam", "a/b c"];
const TTL: Duration = Duration::from_secs(20);

#[derive(Debug, Clone, Copy)]
enum When {
    Always,
    Absent,
    Present,
    /// The version of what the model has, give or take.
    Version {
        right: bool,
    },
}

#[derive(Debug, Clone)]
enum Step {
    Get(usize),
    Set {
        key: usize,
        value: u8,
        ttl_s: u64,
        when: When,
        op: Option<u64>,
    },
    Delete {
        key: usize,
        when: When,
        op: Option<u64>,
    },
    /// A copy with what the model knows of the key as its version, moved by so much.
    Apply {
        key: usize,
        value: u8,
        as_of: i64,
        clock: i64,
        ttl_s: u64,
    },
    Advance {
        ms: u64,
    },
    Epoch,
    Maintain,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let key = || 0..KEYS.len();
    let op = || prop_oneof![3 => Just(None), 1 => (0..6_u64).prop_map(Some)];
    let when = || {
        prop_oneof![
            4 => Just(When::Always),
            1 => Just(When::Absent),
            1 => Just(When::Present),
            1 => any::<bool>().prop_map(|right| When::Version { right }),
        ]
    };
    let set = (key(), any::<u8>(), 0..40_u64, when(), op());
    let apply = (key(), any::<u8>(), -1..2_i64, -2..3_i64, 0..40_u64);
    let step = prop_oneof![
        4 => key().prop_map(Step::Get),
        4 => set.prop_map(|(key, value, ttl_s, when, op)| Step::Set { key, value, ttl_s, when, op }),
        2 => (key(), when(), op()).prop_map(|(key, when, op)| Step::Delete { key, when, op }),
        3 => apply.prop_map(|(key, value, as_of, clock, ttl_s)| {
            Step::Apply { key, value, as_of, clock, ttl_s }
        }),
        2 => (0..25_000_u64).prop_map(|ms| Step::Advance { ms }),
        1 => Just(Step::Epoch),
        1 => Just(Step::Maintain),
    ];
    prop::collection::vec(step, 1..120)
}

#[derive(Debug, Clone)]
struct Entry {
    value: u8,
    version: Version,
    stored: Duration,
    expires: Duration,
}

type Outcome = Result<Applied, Code>;

struct Model {
    entries: HashMap<usize, Entry>,
    deleted: HashMap<usize, (Version, Duration)>,
    answers: HashMap<(usize, u64), (Outcome, Duration)>,
    hybrid: HybridClock,
}

impl Model {
    fn live(&self, key: usize, now: Duration) -> Option<&Entry> {
        self.entries.get(&key).filter(|entry| now < entry.expires)
    }

    /// The version that a write of that tick makes now.
    fn version_at(&self, tick: u64, key: usize, as_of: u64, now: Duration) -> Version {
        let known = self.known(key, now).unwrap_or_default();
        Version { as_of: known.as_of.max(as_of), clock: tick }
    }

    /// What a version made now has to be newer than.
    fn known(&self, key: usize, now: Duration) -> Option<Version> {
        let deleted = self.deleted.get(&key).filter(|(_, until)| now < *until);
        self.entries.get(&key).map(|entry| entry.version).max(deleted.map(|it| it.0))
    }

    fn condition(&self, when: When, key: usize, now: Duration) -> (Condition, bool) {
        let there = self.live(key, now).map(|entry| entry.version);
        let none = Condition::default();
        match when {
            When::Always => (none, true),
            When::Absent => (Condition { if_absent: true, ..none }, there.is_none()),
            When::Present => (Condition { if_present: true, ..none }, there.is_some()),
            When::Version { right } => {
                let wrong = Version { as_of: 99, clock: 99 };
                let version = there.filter(|_| right).unwrap_or(wrong);
                let if_version = vec![wrong, version];
                (Condition { if_version, ..none }, right && there.is_some())
            }
        }
    }
}

struct Run {
    group: Group,
    clock: ManualClock,
    model: Model,
    as_of: u64,
}

impl Run {
    fn new() -> Self {
        let name = GroupName::new("model").unwrap();
        let definition = Definition { ttl: TTL, ..Definition::new(name) };
        let clock = ManualClock::new();
        let shared: Arc<dyn Clock> = Arc::new(clock.clone());
        let hybrid = HybridClock::new(shared.clone());
        let model = Model {
            entries: HashMap::new(),
            deleted: HashMap::new(),
            answers: HashMap::new(),
            hybrid: HybridClock::new(shared.clone()),
        };
        Self { group: Group::new(definition, shared, hybrid), clock, model, as_of: 1 }
    }

    fn now(&self) -> Duration {
        self.clock.monotonic()
    }

    fn step(&mut self, step: &Step) -> Result<(), TestCaseError> {
        match *step {
            Step::Get(key) => self.get(key)?,
            Step::Set { key, value, ttl_s, when, op } => self.set(key, value, ttl_s, when, op)?,
            Step::Delete { key, when, op } => self.delete(key, when, op)?,
            Step::Apply { key, value, as_of, clock, ttl_s } => {
                self.apply(key, value, as_of, clock, ttl_s)?;
            }
            Step::Advance { ms } => self.clock.advance(Duration::from_millis(ms)),
            Step::Epoch => self.as_of += 1,
            Step::Maintain => self.maintain()?,
        }
        Ok(())
    }

    fn get(&mut self, key: usize) -> Result<(), TestCaseError> {
        let now = self.now();
        let nobody = || -> Result<Authority, Infallible> { unreachable!("there is no origin") };
        let found = self.group.get(KEYS[key], now, nobody).unwrap();
        let Some(expected) = self.model.live(key, now) else {
            prop_assert!(matches!(found, Found::Absent), "{found:?}");
            self.model.entries.remove(&key); // an expired one is gone now
            return Ok(());
        };
        let Found::Hit(item) = found else { return Err(TestCaseError::fail("a hit")) };
        prop_assert_eq!(&item.entry.value()[..], &[expected.value]);
        prop_assert_eq!(item.entry.version(), expected.version);
        prop_assert_eq!(item.times.ttl_left(), Some(expected.expires - now));
        prop_assert_eq!(item.times.age(), now - expected.stored);
        Ok(())
    }

    /// What a write has to answer if it does not apply; else the tick that it gets, as any does that was
    /// not answered before.
    fn judged(&self, key: usize, op: Option<u64>, holds: bool) -> Result<u64, Outcome> {
        let now = self.now();
        let answered = op.and_then(|op| self.model.answers.get(&(key, op)));
        match answered.filter(|(_, until)| now < *until) {
            Some((outcome, _)) => Err(*outcome),
            None => {
                let tick = self.model.hybrid.tick();
                if holds { Ok(tick) } else { Err(Err(Code::PreconditionFailed)) }
            }
        }
    }

    fn answered(&mut self, key: usize, op: Option<u64>, outcome: Outcome) {
        let now = self.now();
        if let Some(op) = op {
            let known = self.model.answers.get(&(key, op));
            if known.is_none_or(|(_, until)| now >= *until) {
                self.model.answers.insert((key, op), (outcome, now + REMEMBER_FOR));
            }
        }
    }

    fn set(
        &mut self,
        key: usize,
        value: u8,
        ttl_s: u64,
        when: When,
        op: Option<u64>,
    ) -> Result<(), TestCaseError> {
        let now = self.now();
        let (condition, holds) = self.model.condition(when, key, now);
        let judged = self.judged(key, op, holds);
        let ttl = Some(Duration::from_secs(ttl_s));
        let write = Write {
            key: KEYS[key],
            value: &[value],
            content_type: "",
            ttl,
            condition,
            op: op_id(key, op),
            ..Write::default()
        };
        let outcome = outcome(self.group.set(&write, self.right()));
        self.answered(key, op, outcome);
        let tick = match judged {
            Ok(tick) => tick,
            Err(expected) => {
                prop_assert_eq!(outcome, expected);
                return Ok(());
            }
        };
        let created = self.model.live(key, now).is_none();
        let known = self.model.known(key, now);
        let version = self.model.version_at(tick, key, self.as_of, now);
        prop_assert!(Some(version) > known);
        prop_assert_eq!(outcome, Ok(Applied { version, created }));
        let ttl = ttl.filter(|ttl| !ttl.is_zero()).unwrap_or(TTL);
        let entry = Entry { value, version, stored: now, expires: now + ttl };
        self.model.entries.insert(key, entry);
        Ok(())
    }

    fn delete(&mut self, key: usize, when: When, op: Option<u64>) -> Result<(), TestCaseError> {
        let now = self.now();
        let (condition, holds) = self.model.condition(when, key, now);
        let judged = self.judged(key, op, holds);
        let delete = Delete { key: KEYS[key], condition, op: op_id(key, op) };
        let outcome = outcome(self.group.delete(&delete, self.right()));
        self.answered(key, op, outcome);
        let tick = match judged {
            Ok(tick) => tick,
            Err(expected) => {
                prop_assert_eq!(outcome, expected);
                return Ok(());
            }
        };
        let version = self.model.version_at(tick, key, self.as_of, now);
        let there = self.model.live(key, now).is_some();
        let applied = Applied { version, created: false };
        prop_assert_eq!(outcome, if there { Ok(applied) } else { Err(Code::NotFound) });
        self.model.entries.remove(&key);
        self.model.deleted.insert(key, (version, now + TOMBSTONE_LIFE));
        Ok(())
    }

    fn apply(
        &mut self,
        key: usize,
        value: u8,
        as_of: i64,
        clock: i64,
        ttl_s: u64,
    ) -> Result<(), TestCaseError> {
        let now = self.now();
        let known = self.model.known(key, now);
        let unknown = Version { as_of: self.as_of, clock: 5 };
        let near = known.unwrap_or(unknown);
        let version = Version {
            as_of: near.as_of.saturating_add_signed(as_of),
            clock: near.clock.saturating_add_signed(clock),
        };
        self.model.hybrid.observe(version.clock);
        let ttl_left = Duration::from_secs(ttl_s);
        let copy = Copied {
            key: KEYS[key],
            value: &[value],
            version,
            ttl_left: Some(ttl_left),
            ..Copied::default()
        };
        let applied = self.group.apply(&copy);
        let newer = known.is_none_or(|known| version > known);
        prop_assert_eq!(applied, newer, "{:?} over {:?}", version, known);
        if newer {
            let entry = Entry { value, version, stored: now, expires: now + ttl_left };
            self.model.entries.insert(key, entry);
        }
        Ok(())
    }

    fn maintain(&mut self) -> Result<(), TestCaseError> {
        let now = self.now();
        self.group.maintain();
        let stats = self.group.stats();
        let live = self.model.entries.values().filter(|entry| now < entry.expires).count() as u64;
        let swept = stats.entries == live;
        prop_assert!(swept || stats.entries == self.model.entries.len() as u64, "{stats:?}");
        prop_assert_eq!(stats.evictions, 0);
        if swept {
            self.model.entries.retain(|_, entry| now < entry.expires);
        }
        Ok(())
    }

    fn right(&self) -> impl FnOnce() -> Result<Authority, Error> + use<> {
        let as_of = self.as_of;
        move || Ok(Authority::owner(as_of))
    }
}

fn op_id(key: usize, op: Option<u64>) -> Option<OpId> {
    Some(OpId { link: Uuid::from_u128(key as u128), seq: op? })
}

fn outcome(result: Result<Applied, Error>) -> Outcome {
    result.map_err(|error| error.code())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn a_group_does_what_its_model_does(steps in steps()) {
        let mut run = Run::new();
        for step in &steps {
            run.step(step)?;
        }
    }
}
