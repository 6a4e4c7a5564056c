//! A node joins, or comes back.

use std::time::Duration;

use common::clock::{Clock, SystemClock};
use fleet::{
    cluster::{Cluster, Extras, Plan},
    eventually,
};

use crate::support::{calm, keys, load, under_load};

#[tokio::test]
async fn a_fourth_node_is_there_at_once_and_takes_only_its_share() {
    under_load(async || {
        let mut cluster = Cluster::start(Plan::default()).await.unwrap();
        let keys = keys(500);
        let before = cluster.owners(0, "default", &keys).await.unwrap();

        let running = load(&cluster, &keys).await;
        let new = cluster.add_node(&Extras::default()).await.unwrap();
        let (gateway, id) = (cluster.gateway(0), cluster.node(new).address().to_string());
        eventually("the new node is ready", Duration::from_secs(1), async || {
            cluster.node(new).ready().await
        })
        .await;
        eventually("the fourth node in /api/nodes", Duration::from_secs(1), async || {
            gateway.nodes().await.is_ok_and(|nodes| nodes.count == 4 && nodes.find(&id).is_some())
        })
        .await;
        cluster.wait_ready().await;
        calm().await;
        running.stop().await.assert_none_failed("a node joined");

        let after = cluster.owners(0, "default", &keys).await.unwrap();
        let moved: Vec<_> = before.iter().zip(&after).filter(|(old, new)| old != new).collect();
        assert!(moved.iter().all(|(_, new)| **new == id), "only to the new node: {moved:?}");
        // Its share is a quarter, give or take the luck of its virtual nodes and of the keys.
        let most = keys.len() * 35 / 100;
        assert!((1..=most).contains(&moved.len()), "{} of {} moved", moved.len(), keys.len());
    })
    .await;
}

#[tokio::test]
async fn a_killed_node_that_restarts_is_back_without_waiting_for_its_lease() {
    under_load(async || {
        let plan = Plan::default().lease_ttl(Duration::from_secs(30));
        let mut cluster = Cluster::start(plan).await.unwrap();
        let id = cluster.node(1).address().to_string();
        let instance = async |cluster: &Cluster| {
            let nodes = cluster.gateway(0).nodes().await.ok()?;
            Some(nodes.find(&id)?.instance.clone())
        };
        let first_life = instance(&cluster).await.unwrap();

        let running = load(&cluster, &keys(200)).await;
        let killed = SystemClock.monotonic();
        cluster.node(1).kill();
        cluster.restart_node(1).await.unwrap();
        // Ten times that, which is waited for at most, is a third of the old lease's time.
        eventually("the restarted node in the ring", Duration::from_secs(1), async || {
            instance(&cluster).await.is_some_and(|instance| instance != first_life)
        })
        .await;
        cluster.wait_ready().await;
        let back = SystemClock.monotonic();
        calm().await;
        let recording = running.stop().await;
        recording.between(Duration::ZERO, killed).assert_none_failed("before the kill");
        recording.between(killed, back).assert_none_failed("from the kill to the return");
        recording.between(back, Duration::MAX).assert_none_failed("after the return");
    })
    .await;
}

#[tokio::test]
async fn a_live_twin_is_refused_and_takes_over_when_the_first_dies() {
    let plan = Plan { nodes: 1, ..Plan::default() }.lease_ttl(Duration::from_secs(6));
    let mut cluster = Cluster::start(plan).await.unwrap();
    let named = Extras::default().arg("--node-id=twin");
    let first = cluster.add_node(&named).await.unwrap();
    cluster.wait_ready().await;
    let second = cluster.add_node(&named).await.unwrap();

    let holder = cluster.node(first).address().to_string();
    eventually("the twin says who holds its id", Duration::from_secs(1), async || {
        match cluster.node(second).ready().await {
            Err(why) if why.contains("another node") && why.contains(&holder) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    let twin = async || {
        let nodes = cluster.gateway(0).nodes().await.ok()?;
        Some((nodes.count, nodes.find("twin")?.address.clone()))
    };
    assert_eq!(twin().await, Some((2, holder)), "the first one stays");

    cluster.node(first).kill();
    let heir = cluster.node(second).address().to_string();
    // It asks again within a third of the lease's time.
    eventually("the twin takes over", Duration::from_secs(2), async || {
        twin().await == Some((2, heir.clone()))
    })
    .await;
    cluster.wait_ready().await;
}
