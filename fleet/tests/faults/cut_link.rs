//! Row 5: one gateway is cut from one node, without a reset. Only that gateway stops calling it, the
//! next node relays, the ring is unchanged; back ≤ 10 s; 0 failed, 0 stale.
//!
//! The short form has a proxy between them that swallows what it is sent. In the long one packets
//! vanish between network namespaces.

use std::time::Duration;

use fleet::{
    cluster::{Cluster, Plan},
    eventually,
    proxy::Rule,
    recorder::{Operation, Outcome},
};
use tokio::time::{Instant, sleep_until};

use super::{
    row::{Form, NODES, Row, id, perform, perform_all},
    run::Run,
    scene::{Scene, counted},
    traffic,
};

const NODE: usize = 1;
/// The gateway that is cut off, and the other one.
const CUT: usize = 0;
const OTHER: usize = 1;
const BACK_WITHIN: Duration = Duration::from_secs(10);
/// How long it may take to find out. The row does not say.
const NOTICED_WITHIN: Duration = Duration::from_secs(2);

struct CutLink(Form);

#[tokio::test]
async fn cut_link_short() {
    perform(CutLink(Form::Short)).await;
}

#[tokio::test]
#[ignore = "long: make faults"]
async fn cut_link_long() {
    perform_all([CutLink(Form::Long)]).await;
}

impl Row for CutLink {
    /// How often nodes found meanwhile that they had stood still, or that an owner did not answer them.
    type Seen = u64;

    const ID: &'static str = "5";
    const NAME: &'static str = "a gateway cut from a node";

    fn form(&self) -> Form {
        self.0
    }

    fn plan(&self, usual: Plan) -> Plan {
        match self.0 {
            Form::Short => usual.proxied(),
            Form::Long => usual.in_namespaces(),
        }
    }

    /// The proxy finds out whose connections are whose before the rule comes that counts.
    async fn prepare(&self, cluster: &mut Cluster) {
        if self.0 == Form::Short {
            let gateway = cluster.gateway(CUT).process().id();
            cluster.node(NODE).proxy().set_for(gateway, Rule::Pass);
        }
    }

    async fn fault(&self, scene: &mut Scene) -> u64 {
        let cluster = &scene.cluster;
        let before = slow_moments(cluster).await;
        scene.strike();
        let healed =
            Instant::now() + self.0.either(Duration::from_secs(5), Duration::from_secs(60));
        self.cut(cluster);
        eventually("the gateway passes the node over", NOTICED_WITHIN, async || {
            health(cluster, CUT, "ejected").await
        })
        .await;
        sleep_until(healed).await;
        health(cluster, CUT, "ejected").await.expect("it is cut off all the while");
        health(cluster, OTHER, "healthy").await.expect("only that gateway is");
        self.mend(cluster);
        scene.heal();
        scene
            .timed("called again", BACK_WITHIN, async || health(cluster, CUT, "healthy").await)
            .await;
        slow_moments(cluster).await - before
    }

    /// A read that only the owner could answer is a miss while that is late for its neighbours too.
    fn is_void(&self, run: &Run<u64>) -> Option<String> {
        let lost = lost(run).len();
        (lost > 0 && run.seen > 0).then(|| {
            format!("nodes were late {} times, and {lost} reads of stored keys missed", run.seen)
        })
    }

    fn judge(&self, run: &Run<u64>) {
        let (changes, members) = run.ring_changes(|_| true);
        assert_eq!((changes, members), (0, NODES), "rings: {:#?}", run.rings);
        let lost = lost(run);
        assert!(lost.is_empty(), "{} reads of stored keys missed: {lost:?}", lost.len());
    }
}

impl CutLink {
    fn cut(&self, cluster: &Cluster) {
        let (gateway, node) = (cluster.gateway(CUT), cluster.node(NODE));
        match self.0 {
            Form::Short => node.proxy().set_for(gateway.process().id(), Rule::Blackhole),
            Form::Long => {
                cluster.network().drop_between(gateway.namespace(), node.namespace()).unwrap();
            }
        }
    }

    fn mend(&self, cluster: &Cluster) {
        match self.0 {
            Form::Short => cluster.node(NODE).proxy().heal(),
            Form::Long => cluster.network().heal().unwrap(),
        }
    }
}

/// The stored keys that a read missed since the link was cut. Nobody else has the entries of the node:
/// whoever finds them was relayed to it.
fn lost(run: &Run<u64>) -> Vec<String> {
    let is_lost = |o: &&Operation| o.outcome == Outcome::Missing && traffic::is_stored(&o.key);
    let cut = run.recording.between(run.struck, Duration::MAX);
    cut.operations.iter().filter(is_lost).map(|o| o.key.to_string()).collect()
}

/// How often nodes have found that they had stood still, or that an owner did not answer them.
async fn slow_moments(cluster: &Cluster) -> u64 {
    counted(cluster.nodes(), "unsteady").await + counted(cluster.nodes(), "relays_failed").await
}

/// Whether a gateway says that of the node.
async fn health(cluster: &Cluster, gateway: usize, wanted: &str) -> Result<(), String> {
    let nodes = cluster.gateway(gateway).nodes().await?;
    let health = &nodes.find(&id(NODE)).ok_or("it is no member")?.health;
    if health == wanted { Ok(()) } else { Err(health.clone()) }
}
