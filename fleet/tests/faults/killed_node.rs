//! Row 1: kill -9 a node. 0 failed; requests move to the next node within 1 s; out of the ring
//! within TTL + 2 s; extra misses ≤ 1/N + 5 %; no value that is wrong, none older than an acknowledged
//! write.

use std::{collections::HashSet, sync::Arc, time::Duration};

use common::clock::{Clock, SystemClock};
use fleet::{
    cluster::{Cluster, Extras, PATIENT, Plan},
    eventually::how_long,
    load::{DEADLINE, Load},
    recorder::{Op, Operation, Outcome, Planned, Recording},
    timers,
};
use futures_util::{StreamExt, stream};
use tokio::time::sleep;

use super::{
    capacity,
    values::{self, Verdict},
};

const NODES: usize = 3;
/// Keys that are stored before and only read.
const KEYS: usize = 1_000;
/// Keys that are written, read and deleted, over and over.
const WRITTEN: usize = 50;
const MOVES_WITHIN: Duration = Duration::from_secs(1);
const OUT_AFTER_TTL: Duration = Duration::from_secs(2);
/// Misses that a dead node may cost: its share, and some.
const EXTRA_MISSES: f64 = 1.0 / NODES as f64 + 0.05;
/// Preloading writes under way at once.
const WRITES_AT_ONCE: usize = 16;

/// Reads per second when every key is read once more: the least that any machine must do.
const LAST_READS_RATE: f64 = 500.0;
/// A node that takes so long counts as hanging, and then a write may pass it by: the default of
/// `gateway.try_timeout`.
const HANGS: Duration = Duration::from_millis(250);

/// One fault and what is around it.
struct Setting {
    ttl: Duration,
    rate: f64,
    /// How long a request may take; the promise is [`DEADLINE`].
    deadline: Duration,
    /// How long the load runs before the fault, and after the node is out of the ring.
    before: Duration,
    after: Duration,
}

/// What one fault came to.
struct Run {
    recording: Recording,
    /// Every key read once more at the end.
    last: Recording,
    killed: Duration,
    /// The keys of the dead node.
    orphans: HashSet<String>,
    out_of_the_ring: Duration,
}

#[tokio::test]
async fn killed_node_short() {
    let setting = Setting {
        ttl: Duration::from_secs(3),
        rate: 200.0,
        deadline: PATIENT,
        before: Duration::from_secs(1),
        after: Duration::from_secs(1),
    };
    let cluster = fleet(&setting).await;
    let run = kill_a_node(&cluster, &setting).await;
    run.report(&setting);
    run.assert_right();
}

/// How often the long form repeats the fault, and how many void runs it takes for each.
const REPEATS: usize = 5;
const VOID_RUNS: usize = 2;

#[tokio::test]
#[ignore = "long: make faults"]
async fn killed_node_long() {
    for n in 1..=REPEATS {
        eprintln!("row 1, run {n} of {REPEATS}");
        let (setting, run) = loaded_run().await;
        run.report(&setting);
        run.assert_right();
        let moved = run.longest_wait();
        assert!(moved <= MOVES_WITHIN, "requests for the dead node's keys waited {moved:?}");
        let promised = setting.ttl + OUT_AFTER_TTL;
        let out = run.out_of_the_ring;
        assert!(out <= promised, "out of the ring after {out:?}, promised {promised:?}");
    }
}

/// A run at half of the capacity, on a machine that is quiet enough to judge times by.
async fn loaded_run() -> (Setting, Run) {
    for void in 0..=VOID_RUNS {
        timers::assert_punctual().await;
        let mut setting = Setting {
            ttl: Duration::from_secs(10),
            rate: 0.0,
            deadline: DEADLINE,
            before: Duration::from_secs(3),
            after: Duration::from_secs(3),
        };
        let cluster = fleet(&setting).await;
        let capacity = capacity::measured(&cluster.gateway_addresses(), || mixture("tried")).await;
        setting.rate = capacity / 2.0;
        let run = kill_a_node(&cluster, &setting).await;
        if capacity::was_loaded(&run.recording, run.killed, setting.rate) {
            return (setting, run);
        }
        eprintln!("void run {}: the load did not get through before the fault", void + 1);
    }
    panic!("{} runs in a row were void: this machine is too busy", VOID_RUNS + 1);
}

/// A fleet whose nodes have the same ids every time, hence the same shares, with all keys stored.
async fn fleet(setting: &Setting) -> Cluster {
    let mut plan = Plan { nodes: 0, gateways: 2, ..Plan::default() }.lease_ttl(setting.ttl);
    if setting.deadline > DEADLINE {
        plan = plan.patient();
    }
    let mut cluster = Cluster::start(plan).await.unwrap();
    for n in 0..NODES {
        cluster.add_node(&Extras::default().arg(format!("--node-id=node-{n}"))).await.unwrap();
    }
    cluster.wait_ready().await;
    let gateway = cluster.gateway(0);
    let writes = (0..KEYS).map(|n| async move {
        let stored = gateway.write("default", &key(n), &values::value(&key(n), 0)).await.unwrap();
        assert_eq!(stored.status, 201, "{}", stored.text());
    });
    stream::iter(writes).buffer_unordered(WRITES_AT_ONCE).collect::<()>().await;
    cluster
}

fn key(n: usize) -> String {
    format!("key-{n}")
}

/// The keys `PREFIX-0` … that are written.
fn written(prefix: &str) -> Vec<String> {
    (0..WRITTEN).map(|n| format!("{prefix}-{n}")).collect()
}

/// Reads the stored keys one after the other. In between it writes keys with the prefix, reads each
/// when it has been written, deletes every third, and reads it again.
fn mixture(prefix: &str) -> impl FnMut(u64) -> Option<Planned> + Send + 'static {
    const ROUND: u64 = 11;
    let stored: Arc<[String]> = (0..KEYS).map(key).collect();
    let written: Arc<[String]> = written(prefix).into();
    move |n| {
        let round = n / ROUND;
        let changing = written[round as usize % WRITTEN].as_str();
        Some(match n % ROUND {
            0 => Planned::set("default", changing, values::value(changing, n + 1)),
            4 | 10 => Planned::get("default", changing),
            7 if round.is_multiple_of(3) => Planned::delete("default", changing),
            _ => Planned::get("default", stored[n as usize % KEYS].as_str()),
        })
    }
}

async fn kill_a_node(cluster: &Cluster, setting: &Setting) -> Run {
    let orphans = keys_of(cluster, "node-1").await;
    let load =
        Load { deadline: setting.deadline, ..Load::new(cluster.gateway_addresses(), setting.rate) };
    let running = load.start(mixture("written"));
    sleep(setting.before).await;
    let killed = SystemClock.monotonic();
    cluster.node(1).kill();
    let ((), out_of_the_ring) =
        how_long("the node is out of the ring", setting.ttl + OUT_AFTER_TTL, async || {
            for gateway in [cluster.gateway(0), cluster.gateway(1)] {
                let nodes = gateway.nodes().await?;
                if nodes.find("node-1").is_some() {
                    return Err(format!("{} still has it", gateway.name()));
                }
            }
            Ok(())
        })
        .await;
    sleep(setting.after).await;
    let recording = running.stop().await;
    let all = all_keys();
    let again = move |n| Some(Planned::get("default", all.get(n as usize)?));
    let last = Load::new(cluster.gateway_addresses(), LAST_READS_RATE).start(again).finish().await;
    Run { recording, last, killed, orphans, out_of_the_ring }
}

fn all_keys() -> Vec<String> {
    (0..KEYS).map(key).chain(written("written")).collect()
}

async fn keys_of(cluster: &Cluster, id: &str) -> HashSet<String> {
    let keys = all_keys();
    let owners = cluster.owners(0, "default", &keys).await.unwrap();
    keys.into_iter().zip(owners).filter(|(_, owner)| owner == id).map(|(key, _)| key).collect()
}

/// Whether it reads one of the keys that nobody changes.
fn reads_stored(operation: &Operation) -> bool {
    operation.op == Op::Get && operation.key.starts_with("key-")
}

impl Run {
    /// What must never happen, however slow the machine.
    fn assert_right(&self) {
        self.recording.assert_none_failed("a node was killed");
        self.last.assert_none_failed("every key once more");
        let verdict = self.verdict();
        verdict.assert_none_wrong();
        // A kill costs misses and brings nothing old back; a node that hangs as well may.
        if !self.hung() {
            verdict.assert_none_older();
        }
        self.assert_few_misses();
    }

    fn verdict(&self) -> Verdict {
        let preloaded: Vec<String> = (0..KEYS).map(key).collect();
        values::judge(self.recording.operations.iter().chain(&self.last.operations), &preloaded)
    }

    /// Whether a node that was alive may have seemed to hang.
    fn hung(&self) -> bool {
        let alive = |o: &&Operation| {
            !self.orphans.contains(&o.key) || o.answered.is_some_and(|at| at < self.killed)
        };
        let slow = |o: &Operation| o.latency().is_none_or(|latency| latency >= HANGS);
        self.recording.operations.iter().filter(alive).any(slow)
    }

    /// The operations on the dead node's keys that it left unanswered or that came after its end.
    fn moved(&self) -> impl Iterator<Item = &Operation> {
        let affected = |o: &&Operation| {
            self.orphans.contains(&o.key) && o.answered.is_none_or(|at| at >= self.killed)
        };
        self.recording.operations.iter().filter(affected)
    }

    /// From the moment when one of them was wanted (or the node died, if that was later) to its
    /// answer: the longest of these times. Every request has moved by then.
    fn longest_wait(&self) -> Duration {
        let wait = |o: &Operation| {
            o.answered.map_or(Duration::MAX, |at| at.saturating_sub(o.due.max(self.killed)))
        };
        self.moved().map(wait).max().expect("the dead node had requests")
    }

    /// Of the reads of stored keys after the kill, the part that found nothing.
    fn misses(&self) -> f64 {
        let after = self.recording.between(self.killed, Duration::MAX);
        let reads: Vec<_> = after.operations.iter().filter(|o| reads_stored(o)).collect();
        let missing = reads.iter().filter(|o| o.outcome == Outcome::Missing).count();
        missing as f64 / reads.len() as f64
    }

    fn assert_few_misses(&self) {
        let before = self.recording.between(Duration::ZERO, self.killed);
        let mut reads = before.operations.iter().filter(|o| reads_stored(o));
        // The last ones were on their way when the node died.
        let answered = |o: &Operation| o.answered.is_some_and(|at| at < self.killed);
        assert!(
            reads.all(|o| !answered(o) || o.outcome != Outcome::Missing),
            "every key was there before"
        );
        let misses = self.misses();
        assert!(
            misses <= EXTRA_MISSES,
            "{misses:.3} of the reads missed, at most {EXTRA_MISSES:.3}"
        );
        assert!(misses > 0.0, "the dead node's keys can't have been found");
    }

    fn report(&self, setting: &Setting) {
        let (summary, verdict) = (self.recording.summary(), self.verdict());
        eprintln!(
            "row 1: {:.0} op/s, {} operations, {} failed; moved within {:.0?}; out of the ring \
             after {:.1?} (TTL {:?}); misses {:.1} % (at most {:.1} %); p99 {:.1?}, max {:.1?}; \
             of {} values {} wrong, {} older{}",
            setting.rate,
            summary.total,
            summary.failed,
            self.longest_wait(),
            self.out_of_the_ring,
            setting.ttl,
            self.misses() * 100.0,
            EXTRA_MISSES * 100.0,
            summary.latency.p99,
            summary.latency.max,
            verdict.values,
            verdict.wrong.len(),
            verdict.older.len(),
            if self.hung() { " (a node seemed to hang)" } else { "" },
        );
    }
}
