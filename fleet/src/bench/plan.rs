//! What is asked, in which order: settled before a round, so that the load generator only sends.
//!
//! The order comes from a seed alone: every system and every round gets the same one.

use std::time::Duration;

use bytes::Bytes;
use fastrand::Rng;

use super::ask::{Ask, Dialect};

/// How many requests there are in the order; it begins again after them.
const TRACE: usize = 1 << 18;
/// Where the order comes from.
const SEED: u64 = 4;
/// How many different batches are made.
const BATCHES: usize = 500;

/// What is asked of a system, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct Workload {
    /// What is done with the keys.
    pub op: Op,
    /// Which keys are asked for how often.
    pub spread: Spread,
    /// Connections open at a time.
    pub connections: usize,
    /// How long one round takes.
    pub duration: Duration,
    /// How many keys there are.
    pub keys: usize,
    /// Bytes of each value.
    pub value_bytes: usize,
}

/// What a request does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// Reads a key.
    Get,
    /// Writes a key.
    Put,
    /// Reads, and writes so many of a hundred times.
    Mix {
        /// Of a hundred requests.
        puts: u8,
    },
    /// Reads several keys at once.
    Batch {
        /// How many.
        keys: usize,
    },
}

/// Which keys are asked for how often.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Spread {
    /// All equally.
    Uniform,
    /// The n-th as often as `1 / n^exponent`.
    Zipf {
        /// 0.99 is that of YCSB.
        exponent: f64,
    },
}

/// Requests, and the order in which they are sent.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The different requests.
    pub asks: Vec<Ask>,
    /// Places in `asks`.
    pub trace: Vec<usize>,
}

impl Default for Workload {
    /// The job of the goals: single reads of 10,000 keys of 1 KiB, over 100 connections.
    fn default() -> Self {
        Self {
            op: Op::Get,
            spread: Spread::Uniform,
            connections: 100,
            duration: Duration::from_secs(8),
            keys: 10_000,
            value_bytes: 1024,
        }
    }
}

impl Workload {
    /// How many keys a request is for.
    pub fn keys_per_request(&self) -> usize {
        match self.op {
            Op::Batch { keys } => keys,
            Op::Get | Op::Put | Op::Mix { .. } => 1,
        }
    }

    /// What stores every key, in a dialect that can.
    pub fn fill(&self, dialect: Dialect) -> Option<Vec<Ask>> {
        (0..self.keys).map(|key| dialect.put(&key_name(key), &self.value(key))).collect()
    }

    /// The value of a key: different for every key, so that a mix-up shows.
    pub fn value(&self, key: usize) -> Bytes {
        value_of(key, self.value_bytes)
    }
}

impl Plan {
    /// The plan of a workload. `None` when the dialect can't do it.
    pub fn of(work: &Workload, dialect: Dialect) -> Option<Self> {
        let mut rng = Rng::with_seed(SEED);
        let draw = Draw::new(work.spread, work.keys);
        let get = |key: usize| dialect.get(&key_name(key), &work.value(key));
        let gets = || (0..work.keys).map(get).collect::<Vec<_>>();
        let asks = match work.op {
            Op::Get => gets(),
            Op::Put => work.fill(dialect)?,
            Op::Mix { .. } => [gets(), work.fill(dialect)?].concat(),
            Op::Batch { keys } => (0..BATCHES)
                .map(|_| batch(work, dialect, (0..keys).map(|_| draw.key(&mut rng))))
                .collect::<Option<_>>()?,
        };
        let next = |_| match work.op {
            Op::Get | Op::Put => draw.key(&mut rng),
            Op::Mix { puts } if rng.u8(0..100) < puts => work.keys + draw.key(&mut rng),
            Op::Mix { .. } => draw.key(&mut rng),
            Op::Batch { .. } => rng.usize(..asks.len()),
        };
        let trace = (0..TRACE).map(next).collect();
        Some(Self { asks, trace })
    }
}

fn batch(work: &Workload, dialect: Dialect, keys: impl Iterator<Item = usize>) -> Option<Ask> {
    let names: Vec<String> = keys.map(key_name).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    dialect.batch(&names, names.len() * work.value_bytes)
}

/// Key number `index`, 20 bytes long.
pub fn key_name(index: usize) -> String {
    format!("bench-key-{index:010}")
}

/// The value of key number `index`: its name over and over.
pub fn value_of(index: usize, bytes: usize) -> Bytes {
    let name = key_name(index);
    let times = bytes.div_ceil(name.len());
    let mut value = name.repeat(times).into_bytes();
    value.truncate(bytes);
    value.into()
}

/// Draws keys by a [`Spread`].
#[derive(Debug)]
struct Draw {
    keys: usize,
    /// For Zipf's law: the weight of every key and those before it.
    upto: Vec<f64>,
}

impl Draw {
    fn new(spread: Spread, keys: usize) -> Self {
        let mut sum = 0.0;
        let upto = match spread {
            Spread::Uniform => Vec::new(),
            Spread::Zipf { exponent } => (1..=keys)
                .map(|rank| {
                    sum += (rank as f64).powf(-exponent);
                    sum
                })
                .collect(),
        };
        Self { keys, upto }
    }

    fn key(&self, rng: &mut Rng) -> usize {
        match self.upto.last() {
            None => rng.usize(..self.keys),
            Some(sum) => {
                let at = rng.f64() * sum;
                self.upto.partition_point(|&upto| upto <= at).min(self.keys - 1)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RINGWAY: Dialect = Dialect::Ringway { group: "default" };

    fn plan(op: Op, spread: Spread) -> Plan {
        let work = Workload { op, spread, keys: 1_000, value_bytes: 64, ..Workload::default() };
        Plan::of(&work, RINGWAY).unwrap()
    }

    /// How often each request is in the order.
    fn counts(plan: &Plan) -> Vec<usize> {
        let mut counts = vec![0; plan.asks.len()];
        plan.trace.iter().for_each(|&at| counts[at] += 1);
        counts
    }

    #[test]
    fn keys_are_twenty_bytes_and_values_tell_them_apart() {
        assert_eq!(key_name(0).len(), 20);
        assert_eq!(key_name(9_999).len(), 20);
        assert_eq!(value_of(7, 1024).len(), 1024);
        assert!(value_of(7, 64).starts_with(key_name(7).as_bytes()));
        assert_eq!(value_of(7, 3), "ben");
        assert!(value_of(7, 0).is_empty());
    }

    #[test]
    fn uniform_means_every_key_about_equally_often() {
        let counts = counts(&plan(Op::Get, Spread::Uniform));
        let fair = TRACE / 1_000;
        assert!(counts.iter().all(|&count| count > fair / 2 && count < fair * 2));
    }

    #[test]
    fn zipf_gives_the_first_keys_most() {
        let counts = counts(&plan(Op::Get, Spread::Zipf { exponent: 0.99 }));
        let (first, tenth) = (counts[0] as f64, counts[9] as f64);
        let ratio = first / tenth;
        assert!((8.0..12.0).contains(&ratio), "the first 10^0.99 as often as the tenth: {ratio}");
        // The sum of n^-0.99 over 1,000 is 7.7.
        let share = first / TRACE as f64;
        assert!((0.12..0.14).contains(&share), "{share}");
    }

    #[test]
    fn a_mix_writes_as_often_as_told() {
        let plan = plan(Op::Mix { puts: 10 }, Spread::Uniform);
        assert_eq!(plan.asks.len(), 2_000);
        assert!(plan.asks[..1_000].iter().all(|ask| ask.method == "GET"));
        assert!(plan.asks[1_000..].iter().all(|ask| ask.method == "PUT"));
        let puts = plan.trace.iter().filter(|&&at| at >= 1_000).count() as f64 / TRACE as f64;
        assert!((0.095..0.105).contains(&puts), "{puts}");
    }

    #[test]
    fn a_batch_asks_for_many() {
        let plan = plan(Op::Batch { keys: 100 }, Spread::Uniform);
        assert_eq!((plan.asks.len(), plan.asks[0].method), (BATCHES, "POST"));
        let body: serde_json::Value = serde_json::from_slice(&plan.asks[0].body).unwrap();
        assert_eq!(body["get"].as_array().unwrap().len(), 100);
        assert!(counts(&plan).iter().all(|&count| count > 0));
    }

    #[test]
    fn every_round_is_the_same_and_who_cannot_write_has_no_plan_to() {
        let [once, again] = [(); 2].map(|()| plan(Op::Mix { puts: 10 }, Spread::Uniform));
        assert_eq!(once.trace, again.trace);
        let put = Workload { op: Op::Put, keys: 10, ..Workload::default() };
        assert!(Plan::of(&put, Dialect::ReadOnly).is_none());
        assert!(put.fill(Dialect::ReadOnly).is_none());
        assert_eq!(put.fill(RINGWAY).unwrap().len(), 10);
    }
}
