//! Row 10: a flapping node (2 s period, 60 s). ≤ 3 ring changes.
//!
//! Whether it leaves politely or dies: half of each period it is there, half it is not.

use std::time::Duration;

use fleet::{eventually, process::Signal};
use tokio::time::{Instant, sleep_until};

use super::{
    row::{Form, Row, perform, perform_all},
    run::Run,
    scene::Scene,
};

const FLAPPING: usize = 1;
const HALF_PERIOD: Duration = Duration::from_secs(1);
const MOST_CHANGES: usize = 3;
/// How long a polite end may take.
const ENDS_WITHIN: Duration = Duration::from_secs(20);
/// How long a node that has flapped may wait until it joins for good: as long as its joins and
/// leaves count, and some.
const JOINS_WITHIN: Duration = Duration::from_secs(35);

/// The signal that ends it.
struct FlappingNode(Form, Signal);

#[tokio::test]
async fn leaving_and_returning_short() {
    perform(FlappingNode(Form::Short, Signal::TERM)).await;
}

#[tokio::test]
async fn dying_and_returning_short() {
    perform(FlappingNode(Form::Short, Signal::KILL)).await;
}

#[tokio::test]
#[ignore = "long: make faults"]
async fn flapping_node_long() {
    perform_all([Signal::TERM, Signal::KILL].map(|end| FlappingNode(Form::Long, end))).await;
}

impl Row for FlappingNode {
    type Seen = usize;

    const ID: &'static str = "10";
    const NAME: &'static str = "a flapping node";

    fn form(&self) -> Form {
        self.0
    }

    /// Returns how many times the most restless of the gateways changed its ring meanwhile.
    async fn fault(&self, scene: &mut Scene) -> usize {
        let periods = self.0.either(5, 30);
        scene.strike();
        let mut next = Instant::now();
        for _ in 0..periods {
            let node = scene.cluster.node(FLAPPING);
            node.signal(self.1).unwrap();
            node.process().wait(ENDS_WITHIN).await.unwrap();
            next += HALF_PERIOD;
            sleep_until(next).await;
            scene.cluster.restart_node(FLAPPING).await.unwrap();
            next += HALF_PERIOD;
            sleep_until(next).await;
        }
        let seen = scene.rings();
        scene.heal();
        let stays = self.0 == Form::Long;
        if stays {
            eventually("it joins for good", JOINS_WITHIN, async || scene.cluster.agreement().await)
                .await;
        } else {
            // The wait for it is half a minute, and that of the long form.
            scene.cluster.node(FLAPPING).kill();
            let gone = self.0.ttl() * 2;
            eventually("it is gone for good", gone, async || scene.cluster.agreement().await).await;
        }
        let changes = seen.iter().filter(|(name, _)| name.starts_with("gateway"));
        changes.map(|(_, rings)| rings.len().saturating_sub(1)).max().expect("a gateway")
    }

    fn note(&self, run: &Run<usize>) -> String {
        format!("; {} ring changes while it flapped by {:?}", run.seen, self.1)
    }

    fn judge(&self, run: &Run<usize>) {
        assert!(run.seen <= MOST_CHANGES, "{} ring changes: {:#?}", run.seen, run.rings);
    }
}
