//! Row 4: a node is cut from etcd for 60 s. It serves whoever still sees it as the owner; its keys
//! move when its lease is over; a frame with a newer epoch makes it refuse as the owner until it has
//! caught up; registered again ≤ 3 s after healing; 0 failed.

use std::time::Duration;

use common::{
    link::{Answer, Call, Identity, Link, Peer},
    topology::Epoch,
};
use fleet::{
    cluster::{Cluster, Member, Plan},
    eventually,
    proxy::Rule,
};
use proto::v1::{self, not_started::Reason};
use tokio::{
    runtime::Handle,
    time::{Instant, sleep_until},
};
use uuid::Uuid;

use super::{
    row::{Form, Row, id, perform, perform_all},
    run::Run,
    scene::Scene,
    traffic,
};

const CUT: usize = 1;
/// How long the others may take to tell it of the ring without it. The row does not say.
const TOLD_WITHIN: Duration = Duration::from_secs(1);
const REGISTERED_WITHIN: Duration = Duration::from_secs(3);
/// How long after the end of its lease the node may be in the ring.
const OUT_AFTER_TTL: Duration = Duration::from_secs(2);
/// How long the node may take to answer, or to say that it can't catch up.
const ANSWERS_WITHIN: Duration = Duration::from_secs(2);

struct LonelyNode(Form);

#[tokio::test]
async fn lonely_node_short() {
    perform(LonelyNode(Form::Short)).await;
}

#[tokio::test]
#[ignore = "long: make faults"]
async fn lonely_node_long() {
    perform_all([LonelyNode(Form::Long)]).await;
}

impl Row for LonelyNode {
    type Seen = ();

    const ID: &'static str = "4";
    const NAME: &'static str = "a node cut from etcd";

    fn form(&self) -> Form {
        self.0
    }

    fn plan(&self, usual: Plan) -> Plan {
        usual.proxied()
    }

    async fn fault(&self, scene: &mut Scene) {
        let (ttl, cluster) = (self.0.ttl(), &scene.cluster);
        let node = cluster.node(CUT);
        let key = owned(cluster).await;
        let link = Link::spawn(&Handle::current(), client(), peer(node), v1::Lane::Small);
        scene.strike();
        node.etcd_proxy().set(Rule::Blackhole);
        let healed = Instant::now() + self.0.either(ttl * 3, Duration::from_secs(60));

        // Until then it is asked, and answers: the client's requests show it.
        scene
            .timed("its keys moved", ttl + OUT_AFTER_TTL, async || without_it(cluster).await)
            .await;
        let epoch = Epoch::from_wire(&node.stats().await.unwrap().epoch.unwrap()).unwrap();
        // Who gained its keys asks it to do nothing by the older ring any more. Whoever knows a later
        // revision and another ring may know a newer owner: from then on it can't vouch for anything,
        // whoever asks.
        eventually("it has heard of the newer ring", TOLD_WITHIN, async || {
            let answer = ask(&link, &key, epoch).await;
            if refuses(&answer) { Ok(()) } else { Err(format!("{answer:?}")) }
        })
        .await;
        let newer = Epoch { as_of: epoch.as_of + 1, digest: !epoch.digest, ..epoch };
        for (whose, epoch) in [("a newer", newer), ("its own", epoch)] {
            let answer = ask(&link, &key, epoch).await;
            assert!(refuses(&answer), "by {whose} epoch it answers {answer:?}");
        }
        sleep_until(healed).await;

        node.etcd_proxy().heal();
        scene.heal();
        scene
            .timed("registered again", REGISTERED_WITHIN, async || {
                scene.cluster.etcd().registered().await.is_ok_and(|it| it.contains_key(&id(CUT)))
            })
            .await;
        eventually("everyone knows the ring", REGISTERED_WITHIN, async || {
            cluster.agreement().await
        })
        .await;
    }

    fn judge(&self, run: &Run<()>) {
        let (changes, _) = run.ring_changes(|name| name.starts_with("gateway"));
        assert_eq!(changes, 2, "out and back: {:#?}", run.rings);
    }
}

/// Whether the node does not do an operation, because it can't know whether it may.
fn refuses(answer: &Answer) -> bool {
    matches!(answer, Answer::NotStarted(Reason::CatchingUp) | Answer::TimedOut { .. })
}

/// A key that the node owns.
async fn owned(cluster: &Cluster) -> String {
    let keys = traffic::stored();
    let owners = cluster.owners(0, "default", &keys).await.unwrap();
    let owned = keys.into_iter().zip(owners).find(|(_, owner)| *owner == id(CUT));
    owned.expect("it owns some").0
}

/// Whether the gateways know a ring without it.
async fn without_it(cluster: &Cluster) -> Result<(), String> {
    for gateway in cluster.gateways() {
        if gateway.nodes().await?.find(&id(CUT)).is_some() {
            return Err(format!("{} still has it", gateway.name()));
        }
    }
    Ok(())
}

/// Reads a key from the node as a gateway that goes by that epoch.
async fn ask(link: &Link, key: &str, epoch: Epoch) -> Answer {
    let request = v1::Request {
        verb: v1::Verb::Get.into(),
        group: "default".to_owned(),
        key: key.to_owned(),
        ..Default::default()
    };
    let deadline = Instant::now() + ANSWERS_WITHIN;
    link.call(Call {
        request: request.into(),
        stand_in: false,
        other: None,
        epoch,
        position: 0,
        try_deadline: deadline,
        deadline,
    })
    .await
}

fn client() -> Identity {
    Identity {
        service: "ringway".to_owned(),
        role: v1::Role::Gateway,
        id: "row-4".to_owned(),
        instance: Uuid::new_v4(),
    }
}

fn peer(node: &Member) -> Peer {
    Peer { id: id(CUT), instance: Uuid::nil(), address: node.address().to_string() }
}
