//! Row 3: SIGSTOP a node for 30 s, then CONT. 0 failed; p99 ≤ 400 ms meanwhile; after CONT nothing
//! stale overwrites anything newer.
//!
//! It stands still for longer than its lease lives: it is passed over, leaves the ring, and comes
//! back as a process that believes it is still where it was.

use std::time::Duration;

use fleet::{eventually, process::Signal};
use tokio::time::sleep;

use super::{
    row::{Form, Row, perform, perform_all},
    run::Run,
    scene::{Scene, Timed},
};

const STOPPED: usize = 1;
const P99: Duration = Duration::from_millis(400);
/// How long it may take to be a member again. The row does not say; nobody waits forever.
const BACK_WITHIN: Duration = Duration::from_secs(5);

/// How long the node stands still.
struct StoppedNode(Form, Duration);

/// Longer than a lease lives in that form.
#[tokio::test]
async fn stopped_node_short() {
    perform(StoppedNode(Form::Short, Duration::from_secs(6))).await;
}

/// So short that it stays a member: its old entries and its successors' new ones meet again.
#[tokio::test]
async fn briefly_stopped_node_short() {
    perform(StoppedNode(Form::Short, Duration::from_secs(2))).await;
}

#[tokio::test]
#[ignore = "long: make faults"]
async fn stopped_node_long() {
    let lengths = [30, 6].map(Duration::from_secs);
    perform_all(lengths.map(|length| StoppedNode(Form::Long, length))).await;
}

impl Row for StoppedNode {
    type Seen = ();

    const ID: &'static str = "3";
    const NAME: &'static str = "SIGSTOP a node";

    fn form(&self) -> Form {
        self.0
    }

    async fn fault(&self, scene: &mut Scene) {
        let node = scene.cluster.node(STOPPED);
        scene.strike();
        node.signal(Signal::STOP).unwrap();
        sleep(self.1).await;
        node.signal(Signal::CONT).unwrap();
        scene.heal();
        eventually("it is a member again", BACK_WITHIN, async || scene.cluster.agreement().await)
            .await;
    }

    fn times(&self, run: &Run<()>) -> Vec<Timed> {
        let took = run.meanwhile().summary().latency.p99;
        vec![Timed { what: "p99 meanwhile".to_owned(), took, promised: P99 }]
    }

    fn judge(&self, _: &Run<()>) {}
}
