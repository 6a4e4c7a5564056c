//! Owners that are gone, while the gateways don't reach the same neighbours of theirs: one of them asks
//! the next node in the owner's stead, the other one the node after that. Two nodes may stand in for one
//! owner then, and no read may be older than a write that either of them acknowledged.

use std::time::Duration;

use fleet::{
    cluster::Cluster,
    history::{FaultKind, History},
    process::Signal,
    proxy::Rule,
    trial::trial,
};
use tokio::time::sleep;

use super::{
    near_cache::{CALM, GATEWAYS, Seen, observe},
    row::{Form, NODES},
};

/// How long an owner is gone: longer than it has to be silent to be taken for gone, and shorter than its
/// lease.
const GONE: Duration = Duration::from_secs(2);

#[tokio::test]
async fn two_stand_ins_short() {
    trial(async || {
        let seen = observe(Form::Short, async |cluster, history| {
            for round in 0..NODES {
                part(cluster, history, round).await;
            }
        })
        .await;
        let Seen { stand_ins, absences, .. } = seen;
        seen.judge(Form::Short);
        assert!(stand_ins > 100, "only {stand_ins} operations were done in an owner's stead");
        // Of lives that ended, what was counted is gone.
        assert!(
            absences >= 2,
            "only {absences} absences were found in the present lives of the nodes"
        );
        Ok(())
    })
    .await;
}

/// An owner is stopped, then killed, while a gateway is cut from the next node: of the keys that go
/// there it is passed by, and by the other gateway it is not. Each is mended in another order.
async fn part(cluster: &mut Cluster, history: &History, round: usize) {
    let (owner, next) = (round % NODES, (round + 1) % NODES);
    let cut_off = cluster.gateway(round % GATEWAYS).process().id();
    let link = |cluster: &Cluster, rule| cluster.node(next).proxy().set_for(cut_off, rule);
    // So that the proxy knows whose connections are whose when the rule comes that counts.
    link(cluster, Rule::Pass);
    sleep(CALM).await;
    let gone = |what| history.fault(FaultKind::Disturbance, &["5", "none", "reset"], what);

    let fault = gone("an owner stopped, a gateway cut from the next node");
    link(cluster, Rule::Blackhole);
    sleep(CALM / 2).await;
    cluster.node(owner).signal(Signal::STOP).unwrap();
    sleep(GONE).await;
    cluster.node(owner).signal(Signal::CONT).unwrap();
    sleep(CALM / 2).await;
    link(cluster, Rule::Pass);
    history.healed(fault);
    sleep(CALM).await;

    let fault = gone("an owner killed, a gateway cut from the next node");
    cluster.node(owner).kill();
    sleep(CALM / 2).await;
    link(cluster, Rule::Blackhole);
    sleep(GONE).await;
    link(cluster, Rule::Pass);
    sleep(CALM / 2).await;
    cluster.restart_node(owner).await.unwrap();
    cluster.wait_ready().await;
    history.healed(fault);
    sleep(CALM).await;
}
