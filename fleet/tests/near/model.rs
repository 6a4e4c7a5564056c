//! One owner, two holders, and everything between them that can go wrong, in all orders that a
//! random generator finds: messages wait, links break, holders stop, and every clock has a rate of
//! its own. The owner's groups and the holders' near caches are the real ones.

use std::{collections::VecDeque, convert::Infallible, sync::Arc, time::Duration};

use apiserver::near::{Look, Near, NearMetrics, Wish};
use cachenode::{
    group::{Authority, Definition, Delete, Group, Lending, Write},
    loans::{Holder, Invalidation, Recall, Recalled},
};
use common::{
    clock::{Clock, ManualClock},
    discovery::{GrpcProber, StaticDiscovery, WantedRing},
    entry::HybridClock,
    error::Error,
    key::GroupName,
    near::{Holder as _, LEASE, RATES_WITHIN},
    route::Lender,
    topology::{Topologies, follow},
};
use proto::v1;
use tokio::sync::mpsc;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

const KEYS: usize = 3;
const STEPS: usize = 2500;
const RUNS: u64 = 150;

/// A ring of one node.
async fn topologies() -> Topologies {
    let (owner, wanted) = (["127.0.0.1:1".to_owned()], WantedRing::default());
    let (clock, prober) = (Arc::new(ManualClock::new()), Arc::new(GrpcProber));
    let discovery = Arc::new(StaticDiscovery::new("near", &owner, &wanted, clock, prober));
    let topologies = follow(discovery, &TaskTracker::new(), CancellationToken::new());
    topologies.changes().wait_for(|epoch| !epoch.generation.is_nil()).await.unwrap();
    topologies
}

/// What is wrong with a world that is made to fail.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Flaw {
    None,
    /// Holders confirm, and go on holding.
    ConfirmsOnly,
    /// The owner acknowledges at once.
    WaitsForNobody,
    /// Holders' clocks are far slower than is assumed.
    SlowClocks,
}

enum ToOwner {
    Read(usize, Wish),
    Confirmed(Arc<Recalled>),
}

enum ToHolder {
    Reply(usize, Wish, v1::Reply),
    Invalidate(Invalidation),
}

/// A gateway's worker and its stream.
struct Side {
    near: Near,
    clock: ManualClock,
    rate: f64,
    lent: (Arc<Holder>, mpsc::Receiver<Invalidation>),
    to_owner: VecDeque<ToOwner>,
    to_holder: VecDeque<ToHolder>,
    /// Replies that were read off the stream and have not reached their requests.
    in_hand: Vec<(usize, Wish, v1::Reply)>,
    stopped_for: Duration,
}

struct World {
    group: Group,
    clock: ManualClock,
    rate: f64,
    sides: Vec<Side>,
    topologies: Topologies,
    unacknowledged: Vec<(usize, u64, Recall)>,
    acknowledged: [u64; KEYS],
    last: u64,
    random: fastrand::Rng,
    flaw: Flaw,
    seen: Seen,
}

/// What happened, so that it can be told whether anything was tried.
#[derive(Debug, Default)]
struct Seen {
    near_hits: u64,
    delayed: u64,
    confirmed: u64,
    older: u64,
}

fn key(number: usize) -> String {
    format!("k{number}")
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

impl World {
    fn new(seed: u64, topologies: Topologies, flaw: Flaw) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut rate = || 1.0 + RATES_WITHIN * (2.0 * random.f64() - 1.0);
        let clock = ManualClock::new();
        let shared: Arc<dyn Clock> = Arc::new(clock.clone());
        let definition = Definition::new(GroupName::new("g").unwrap());
        let side = |rate: f64| {
            let clock = ManualClock::new();
            let near = Near::new(1 << 20, Arc::new(clock.clone()), NearMetrics::default());
            Side {
                near,
                clock,
                rate: if flaw == Flaw::SlowClocks { 0.7 } else { rate },
                lent: Holder::new(),
                to_owner: VecDeque::new(),
                to_holder: VecDeque::new(),
                in_hand: Vec::new(),
                stopped_for: Duration::ZERO,
            }
        };
        let sides = (0..2).map(|_| side(rate())).collect();
        let rate = rate();
        Self {
            group: Group::new(definition, Arc::clone(&shared), HybridClock::new(shared)),
            clock,
            rate,
            sides,
            topologies,
            unacknowledged: Vec::new(),
            acknowledged: [0; KEYS],
            last: 0,
            random,
            flaw,
            seen: Seen::default(),
        }
    }

    fn run(&mut self) {
        for _ in 0..STEPS {
            let side = self.random.usize(0..2);
            let time = millis(self.random.u64(0..8));
            let some = self.random.u32(1..5);
            match self.random.u32(0..200) {
                0..40 => self.pass(time),
                40..46 => self.write(),
                46..90 => self.read(side),
                90..124 => (0..some).for_each(|_| self.owner_receives(side)),
                124..140 => self.owner_invalidates(side),
                140..170 => (0..some).for_each(|_| self.holder_receives(side)),
                170..196 => (0..some).for_each(|_| self.holder_installs(side)),
                196 => self.cut(side),
                197 => self.sides[side].stopped_for = millis(self.random.u64(50..600)),
                198 => self.pass(LEASE / 3),
                _ => self.group.maintain(),
            }
            self.acknowledge();
        }
    }

    fn pass(&mut self, time: Duration) {
        self.clock.advance(time.mul_f64(self.rate));
        for side in &mut self.sides {
            side.clock.advance(time.mul_f64(side.rate));
            side.stopped_for = side.stopped_for.saturating_sub(time);
        }
    }

    fn write(&mut self) {
        let number = self.random.usize(0..KEYS);
        self.last += 1;
        let (name, value) = (key(number), self.last.to_string());
        let owned = || Ok::<_, Error>(Authority::owner(1));
        if self.random.u32(0..5) == 0 {
            // Whether there was one or not.
            let _ = self.group.delete(&Delete { key: &name, ..Delete::default() }, owned);
        } else {
            let write = Write { key: &name, value: value.as_bytes(), ..Write::default() };
            self.group.set(&write, owned).unwrap();
        }
        let recall = self.group.recall(&name);
        self.seen.delayed += u64::from(!recall.is_over(self.clock.monotonic()));
        self.unacknowledged.push((number, self.last, recall));
    }

    fn acknowledge(&mut self) {
        let now = self.clock.monotonic();
        let at_once = self.flaw == Flaw::WaitsForNobody;
        self.unacknowledged.retain(|(key, number, recall)| {
            let is_over = at_once || recall.is_over(now);
            if is_over {
                self.acknowledged[*key] = self.acknowledged[*key].max(*number);
            }
            !is_over
        });
    }

    /// Some requests for a key reach a gateway at once.
    fn read(&mut self, side: usize) {
        let number = self.random.usize(0..KEYS);
        let requests = self.random.u32(1..7);
        let side = &mut self.sides[side];
        if !side.stopped_for.is_zero() {
            return;
        }
        for _ in 0..requests {
            match side.near.look(&self.topologies, "g", &key(number)) {
                Look::Held(held) => {
                    let value: u64 = std::str::from_utf8(&held.value).unwrap().parse().unwrap();
                    self.seen.near_hits += 1;
                    self.seen.older += u64::from(value < self.acknowledged[number]);
                }
                Look::Ask(Some(wish)) => side.to_owner.push_back(ToOwner::Read(number, wish)),
                Look::Ask(None) => {}
            }
        }
    }

    fn owner_receives(&mut self, side: usize) {
        let side = &mut self.sides[side];
        match side.to_owner.pop_front() {
            Some(ToOwner::Read(number, wish)) => {
                let owned = || Ok::<_, Infallible>(Authority::owner(1));
                let lent = self.group.lend(1000, &key(number), &side.lent.0, LEASE, owned);
                let Lending::Lent(item, loan) = lent.unwrap() else { return };
                let version = item.entry.version();
                let reply = v1::Reply {
                    value: item.entry.value(),
                    version_hi: version.as_of,
                    version_lo: version.clock,
                    loan_ms: loan.as_millis() as u32,
                    ..Default::default()
                };
                side.to_holder.push_back(ToHolder::Reply(number, wish, reply));
            }
            Some(ToOwner::Confirmed(recalled)) => {
                self.seen.confirmed += u64::from(!recalled.is_over(self.clock.monotonic()));
                recalled.confirm();
            }
            None => {}
        }
    }

    /// The stream's task of the owner turns to its invalidations.
    fn owner_invalidates(&mut self, side: usize) {
        let side = &mut self.sides[side];
        while let Ok(invalidation) = side.lent.1.try_recv() {
            side.to_holder.push_back(ToHolder::Invalidate(invalidation));
        }
    }

    fn holder_receives(&mut self, side: usize) {
        let side = &mut self.sides[side];
        if !side.stopped_for.is_zero() {
            return;
        }
        match side.to_holder.pop_front() {
            Some(ToHolder::Reply(number, wish, reply)) => side.in_hand.push((number, wish, reply)),
            Some(ToHolder::Invalidate(Invalidation { group, key, version, recalled })) => {
                let invalidate = v1::Invalidate {
                    group: group.into_string(),
                    key: key.into(),
                    version_hi: version.as_of,
                    version_lo: version.clock,
                };
                if self.flaw != Flaw::ConfirmsOnly {
                    side.near.invalidate(&invalidate);
                }
                side.to_owner.push_back(ToOwner::Confirmed(recalled));
            }
            None => {}
        }
    }

    /// A reply reaches the request that waits for it; any of them.
    fn holder_installs(&mut self, side: usize) {
        let side = &mut self.sides[side];
        if side.in_hand.is_empty() || !side.stopped_for.is_zero() {
            return;
        }
        let any = self.random.usize(0..side.in_hand.len());
        let (number, wish, reply) = side.in_hand.swap_remove(any);
        let lender = Lender::new(self.topologies.load(), 0);
        side.near.install(&wish, "g", &key(number), &reply, lender);
    }

    /// The link breaks, and another one is made.
    fn cut(&mut self, side: usize) {
        let side = &mut self.sides[side];
        side.lent = Holder::new();
        side.to_owner.clear();
        side.to_holder.clear();
    }
}

async fn seen(flaw: Flaw) -> Seen {
    let topologies = topologies().await;
    let mut all = Seen::default();
    for seed in 0..RUNS {
        let mut world = World::new(seed, topologies.clone(), flaw);
        world.run();
        let Seen { near_hits, delayed, confirmed, older } = world.seen;
        assert!(flaw != Flaw::None || older == 0, "{older} reads were too old, with seed {seed}");
        all.near_hits += near_hits;
        all.delayed += delayed;
        all.confirmed += confirmed;
        all.older += older;
    }
    all
}

#[tokio::test]
async fn no_read_is_older_than_what_was_acknowledged_before_it() {
    let seen = seen(Flaw::None).await;
    assert!(seen.near_hits > 20_000 && seen.delayed > 1000 && seen.confirmed > 200, "{seen:?}");
}

#[tokio::test]
async fn each_part_of_the_rules_is_needed() {
    for flaw in [Flaw::ConfirmsOnly, Flaw::WaitsForNobody, Flaw::SlowClocks] {
        let seen = seen(flaw).await;
        assert!(seen.older > 0, "{flaw:?} was not found out: {seen:?}");
    }
}
