//! Row 1: kill -9 a node. 0 failed; requests move to the next node within 1 s; out of the ring
//! within TTL + 2 s; extra misses ≤ 1/N + 5 %.

use std::{collections::HashSet, time::Duration};

use fleet::recorder::{Op, Operation, Outcome};

use super::{
    row::{Form, NODES, Row, id, perform, perform_all},
    run::Run,
    scene::{Scene, Timed, counted},
    traffic,
};

const KILLED: usize = 1;
const MOVES_WITHIN: Duration = Duration::from_secs(1);
const OUT_AFTER_TTL: Duration = Duration::from_secs(2);
/// Misses that a dead node may cost: its share, and some.
const EXTRA_MISSES: f64 = 1.0 / NODES as f64 + 0.05;
/// How often the long form repeats the fault.
const REPEATS: usize = 5;

struct KilledNode(Form);

/// What only the living know.
struct Seen {
    /// The keys of the dead node.
    orphans: HashSet<String>,
    /// The entries that the others dropped meanwhile.
    dropped: u64,
}

#[tokio::test]
async fn killed_node_short() {
    perform(KilledNode(Form::Short)).await;
}

#[tokio::test]
#[ignore = "long: make faults"]
async fn killed_node_long() {
    perform_all((0..REPEATS).map(|_| KilledNode(Form::Long))).await;
}

impl Row for KilledNode {
    type Seen = Seen;

    const ID: &'static str = "1";
    const NAME: &'static str = "kill -9 a node";

    fn form(&self) -> Form {
        self.0
    }

    async fn fault(&self, scene: &mut Scene) -> Seen {
        let keys = traffic::all();
        let owners = scene.cluster.owners(0, "default", &keys).await.unwrap();
        let owned = keys.into_iter().zip(owners).filter(|(_, owner)| *owner == id(KILLED));
        let orphans = owned.map(|(key, _)| key).collect();
        let cluster = &scene.cluster;
        let nodes = || cluster.nodes().iter().enumerate();
        let others = || nodes().filter(|(number, _)| *number != KILLED).map(|(_, node)| node);
        let before = counted(others(), "entries_dropped").await;
        scene.strike();
        cluster.node(KILLED).kill();
        let promised = self.0.ttl() + OUT_AFTER_TTL;
        scene.timed("out of the ring", promised, async || cluster.agreement().await).await;
        Seen { orphans, dropped: counted(others(), "entries_dropped").await - before }
    }

    /// Who stands still while another one is dead can't know what that one wrote meanwhile.
    fn is_void(&self, run: &Run<Seen>) -> Option<String> {
        let (misses, dropped) = (run.misses(), run.seen.dropped);
        (misses > EXTRA_MISSES && dropped > 0)
            .then(|| format!("others stood still: {dropped} entries dropped, {misses:.3} missed"))
    }

    fn times(&self, run: &Run<Seen>) -> Vec<Timed> {
        let what = "requests moved".to_owned();
        vec![Timed { what, took: run.longest_wait(), promised: MOVES_WITHIN }]
    }

    fn note(&self, run: &Run<Seen>) -> String {
        let (misses, most) = (run.misses() * 100.0, EXTRA_MISSES * 100.0);
        format!("; misses {misses:.1} % (at most {most:.1} %)")
    }

    fn judge(&self, run: &Run<Seen>) {
        let before = run.recording.between(Duration::ZERO, run.struck);
        let mut reads = before.operations.iter().filter(|o| reads_stored(o));
        // The last ones were on their way when the node died.
        let answered = |o: &Operation| o.answered.is_some_and(|at| at < run.struck);
        assert!(
            reads.all(|o| !answered(o) || o.outcome != Outcome::Missing),
            "every key was there before"
        );
        let misses = run.misses();
        assert!(
            misses <= EXTRA_MISSES,
            "{misses:.3} of the reads missed, at most {EXTRA_MISSES:.3}"
        );
        assert!(misses > 0.0, "the dead node's keys can't have been found");
    }
}

/// Whether it reads one of the keys that nobody changes.
fn reads_stored(operation: &Operation) -> bool {
    operation.op == Op::Get && traffic::is_stored(&operation.key)
}

impl Run<Seen> {
    /// Of the operations on the dead node's keys that it left unanswered or that came after its
    /// end, the longest time from when one was wanted (or the node died, if that was later) to its
    /// answer. Every request has moved by then.
    fn longest_wait(&self) -> Duration {
        let moved = |o: &&Operation| {
            self.seen.orphans.contains(&o.key) && o.answered.is_none_or(|at| at >= self.struck)
        };
        let wait = |o: &Operation| {
            o.answered.map_or(Duration::MAX, |at| at.saturating_sub(o.due.max(self.struck)))
        };
        let waits = self.recording.operations.iter().filter(moved).map(wait);
        waits.max().expect("the dead node had requests")
    }

    /// Of the reads of stored keys after the kill, the part that found nothing.
    fn misses(&self) -> f64 {
        let after = self.meanwhile();
        let reads: Vec<_> = after.operations.iter().filter(|o| reads_stored(o)).collect();
        let missing = reads.iter().filter(|o| o.outcome == Outcome::Missing).count();
        missing as f64 / reads.len() as f64
    }
}
