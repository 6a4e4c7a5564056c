//! Row 8: etcd compacts while watches are cut. Listed again ≤ 1 s; every process reports the same
//! ring digest.
//!
//! One gateway and one node are cut off, and another gateway (which the load does not use) is
//! stopped, while a node joins and the history of that is compacted away.

use std::time::Duration;

use fleet::{
    cluster::{Cluster, Extras, Plan},
    eventually,
    process::Signal,
    proxy::Rule,
};
use tokio::time::sleep;

use super::{
    row::{Form, GATEWAYS, NODES, Row, add_node, id, perform, perform_all},
    run::Run,
    scene::Scene,
};

const LISTED_WITHIN: Duration = Duration::from_secs(1);
/// The gateway and the node that are cut off, and the gateway that is stopped.
const CUT: usize = 1;
const STOPPED: usize = GATEWAYS;
/// How long those who are not cut off may take to know the newcomer. The row does not say.
const JOINED_WITHIN: Duration = Duration::from_secs(2);

struct CompactedEtcd(Form);

#[tokio::test]
async fn compacted_etcd_short() {
    perform(CompactedEtcd(Form::Short)).await;
}

#[tokio::test]
#[ignore = "long: make faults"]
async fn compacted_etcd_long() {
    perform_all([CompactedEtcd(Form::Long)]).await;
}

impl Row for CompactedEtcd {
    type Seen = ();

    const ID: &'static str = "8";
    const NAME: &'static str = "compaction while watches are cut";

    fn form(&self) -> Form {
        self.0
    }

    /// The cut node stays a member all the while.
    fn ttl(&self) -> Duration {
        Duration::from_secs(90)
    }

    fn plan(&self, usual: Plan) -> Plan {
        usual.proxied()
    }

    async fn prepare(&self, cluster: &mut Cluster) {
        assert_eq!(cluster.add_gateway(&Extras::default()).await.unwrap(), STOPPED);
        cluster.wait_ready().await;
    }

    async fn fault(&self, scene: &mut Scene) {
        scene.strike();
        let cluster = &scene.cluster;
        for member in [cluster.gateway(CUT), cluster.node(CUT)] {
            member.etcd_proxy().set(Rule::Cut);
        }
        cluster.gateway(STOPPED).signal(Signal::STOP).unwrap();
        add_node(&mut scene.cluster).await;
        let cluster = &scene.cluster;
        let knows = async |gateway: usize| {
            let nodes = cluster.gateway(gateway).nodes().await?;
            if nodes.find(&id(NODES)).is_some() { Ok(()) } else { Err("not yet".to_owned()) }
        };
        eventually("whoever can knows the newcomer", JOINED_WITHIN, async || knows(0).await).await;
        cluster.etcd().compact().await.unwrap();
        // Meanwhile the gateway that is cut off routes by the ring that it knows.
        sleep(self.0.either(Duration::from_secs(1), Duration::from_secs(30))).await;
        assert!(knows(CUT).await.is_err(), "it is cut off");

        for member in [cluster.gateway(CUT), cluster.node(CUT)] {
            member.etcd_proxy().heal();
        }
        cluster.gateway(STOPPED).signal(Signal::CONT).unwrap();
        scene.heal();
        scene.timed("listed again", LISTED_WITHIN, async || cluster.agreement().await).await;
    }

    fn judge(&self, run: &Run<()>) {
        let (changes, members) = run.ring_changes(|name| name.starts_with("gateway"));
        assert_eq!((changes, members), (1, NODES), "a node joined: {:#?}", run.rings);
    }
}
