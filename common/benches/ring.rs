//! What the ring costs: finding an owner, making a ring, following a join and a leave.
//!
//! `cargo bench -p ringway-common --bench ring`. After criterion's figures it measures the goals
//! of design §4 itself, what is compared taking turns, and prints one line each.
#![allow(clippy::unwrap_used)]

use std::{hint::black_box, time::Duration, time::Instant};

use common::{
    discovery::{NodeId, RingSettings},
    ring::{Ring, RingMember},
};
use criterion::{Criterion, criterion_group};
use md5::{Digest, Md5};

/// The fleet that the goals speak of: 1,000 nodes × 100 virtual nodes × 4 points.
const NODES: usize = 1_000;
/// Keys to go through, 20 bytes each: enough that their owners' points lie all over the circle.
const KEYS: usize = 1 << 16;
const GROUP: &str = "users";
/// Turns that each side of a goal gets; the median counts.
const TURNS: usize = 41;

fn members(count: usize) -> Vec<RingMember> {
    let id = |n: usize| format!("10.{}.{}.{}:7000", n % 7, n / 250, n % 250);
    let member =
        |n| RingMember { id: NodeId::new(id(n)).unwrap(), weight: 100, zone: String::new() };
    (0..count).map(member).collect()
}

fn keys() -> Vec<String> {
    (0..KEYS).map(|n| format!("user:{:015}", n as u64 * 7_919)).collect()
}

/// What is hashed for a key when the seed is empty, put together beforehand.
fn hashed(keys: &[String]) -> Vec<Vec<u8>> {
    let length = (GROUP.len() as u16).to_be_bytes();
    keys.iter().map(|key| [&length[..], GROUP.as_bytes(), key.as_bytes()].concat()).collect()
}

/// The fleet before and after its 1,001st member.
struct Fleet {
    settings: RingSettings,
    members: Vec<RingMember>,
    with_one_more: Vec<RingMember>,
    ring: Ring,
    ring_with_one_more: Ring,
}

impl Fleet {
    fn new() -> Self {
        let (settings, mut members) = (RingSettings::default(), members(NODES + 1));
        let with_one_more = members.clone();
        // Not the last by id, so that most members change their index.
        members.remove(NODES / 2);
        let ring = Ring::build(&settings, members.clone());
        let ring_with_one_more = Ring::build(&settings, with_one_more.clone());
        Self { settings, members, with_one_more, ring, ring_with_one_more }
    }

    fn owner(&self, key: &str) -> Option<usize> {
        self.ring.owner(self.ring.position(GROUP, key))
    }

    fn rebuild(&self) -> Ring {
        Ring::build(&self.settings, self.members.clone())
    }

    fn join(&self) -> Ring {
        self.ring.rebuilt(&self.settings, self.with_one_more.clone())
    }

    fn leave(&self) -> Ring {
        self.ring_with_one_more.rebuilt(&self.settings, self.members.clone())
    }
}

fn ring(criterion: &mut Criterion) {
    let (fleet, keys) = (Fleet::new(), keys());
    let hashed = hashed(&keys);
    let mut turn = 0;
    let mut next = || {
        turn = (turn + 1) % KEYS;
        turn
    };
    criterion.bench_function("md5 of a 20-byte key", |b| {
        b.iter(|| Md5::digest(keys[next()].as_bytes()));
    });
    criterion.bench_function("md5 of group and key", |b| b.iter(|| Md5::digest(&hashed[next()])));
    criterion.bench_function("position", |b| b.iter(|| fleet.ring.position(GROUP, &keys[next()])));
    criterion.bench_function("lookup, 1000 nodes", |b| b.iter(|| fleet.owner(&keys[next()])));
    criterion.bench_function("preference of 3, 1000 nodes", |b| {
        b.iter(|| {
            let position = fleet.ring.position(GROUP, &keys[next()]);
            fleet.ring.preference(position).take(3).sum::<usize>()
        });
    });
    criterion.bench_function("rebuild, 1000 nodes", |b| b.iter(|| fleet.rebuild()));
    criterion.bench_function("one joins 1000 nodes", |b| b.iter(|| fleet.join()));
    criterion.bench_function("one leaves 1001 nodes", |b| b.iter(|| fleet.leave()));
}

/// Median times of several things, which take turns so that a noisy moment hits them all.
fn medians<const N: usize>(turns: usize, mut work: [&mut dyn FnMut(); N]) -> [Duration; N] {
    let mut times = [const { Vec::new() }; N];
    for _ in 0..turns {
        for (work, times) in work.iter_mut().zip(&mut times) {
            let start = Instant::now();
            work();
            times.push(start.elapsed());
        }
    }
    times.map(|mut times| {
        times.sort_unstable();
        times[times.len() / 2]
    })
}

fn goal(name: &str, found: f64, most: f64, unit: &str) {
    let verdict = if found <= most { "ok" } else { "MISSED" };
    println!("goal {name} {found:.2}{unit} <= {most:.2}{unit} {verdict}");
}

fn print_goals() {
    let (fleet, keys) = (Fleet::new(), keys());
    let hashed = hashed(&keys);
    let mut md5 = || hashed.iter().for_each(|bytes| _ = black_box(Md5::digest(bytes)));
    let mut position =
        || keys.iter().for_each(|key| _ = black_box(fleet.ring.position(GROUP, key)));
    let mut lookup = || keys.iter().for_each(|key| _ = black_box(fleet.owner(key)));
    let [md5, position, lookup] = medians(TURNS, [&mut md5, &mut position, &mut lookup]);
    let each = |time: Duration| time.as_nanos() as f64 / KEYS as f64;
    println!(
        "md5 {:.0} ns, position {:.0} ns, lookup {:.0} ns",
        each(md5),
        each(position),
        each(lookup)
    );
    goal("lookup/md5", each(lookup) / each(md5), 2.0, "");

    let [rebuild, join, leave] = medians(
        TURNS,
        [
            &mut || drop(black_box(fleet.rebuild())),
            &mut || drop(black_box(fleet.join())),
            &mut || drop(black_box(fleet.leave())),
        ],
    );
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    goal("rebuild of 1,000 nodes", ms(rebuild), 100.0, " ms");
    goal("one joins 1,000 nodes", ms(join), 5.0, " ms");
    goal("one leaves 1,001 nodes", ms(leave), 5.0, " ms");
}

/// Sets of random node ids over which the spread is judged, from fixed seeds.
const SETS: u64 = 50;

fn random_set(count: usize, set: u64) -> Vec<RingMember> {
    let mut random = fastrand::Rng::with_seed(set);
    let mut member = |_| {
        let [a, b, c, ..] = random.u64(..).to_be_bytes();
        let id = NodeId::new(format!("10.{a}.{b}.{c}:{}", random.u16(1024..))).unwrap();
        RingMember { id, weight: 100, zone: String::new() }
    };
    (0..count).map(&mut member).collect()
}

/// The median over all sets of what `read` finds in a ring of `count` nodes, in mean shares.
fn in_mean_shares(count: usize, read: impl Fn(&Ring, &NodeId) -> f64) -> f64 {
    let each = |set| {
        let members = random_set(count, set);
        let newcomer = members[count - 1].id.clone();
        read(&Ring::build(&RingSettings::default(), members), &newcomer) * count as f64
    };
    let mut found: Vec<f64> = (0..SETS).map(each).collect();
    found.sort_by(f64::total_cmp);
    found[found.len() / 2]
}

/// Exact, as shares of the circle. What moves when a node joins is what it owns then.
fn print_spread() {
    let busiest = |ring: &Ring, _: &NodeId| {
        (0..ring.members().len()).map(|index| ring.share(index)).fold(0.0, f64::max)
    };
    let newcomer = |ring: &Ring, id: &NodeId| ring.share(ring.index_of(id).unwrap());
    goal("busiest of 10 nodes", in_mean_shares(10, busiest), 1.10, " means");
    goal("busiest of 100 nodes", in_mean_shares(100, busiest), 1.16, " means");
    for count in [3, 10] {
        let moved = in_mean_shares(count + 1, newcomer);
        goal(&format!("moved when 1 joins {count}"), moved, 1.15, " fair shares");
    }
}

criterion_group!(benches, ring);

fn main() {
    benches();
    Criterion::default().configure_from_args().final_summary();
    // `cargo test --benches` runs this unoptimised, only to see that it runs.
    if std::env::args().any(|argument| argument == "--bench") {
        print_goals();
        print_spread();
    }
}
