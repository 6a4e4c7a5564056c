//! A cluster behind proxies, or in network namespaces, works as one without; and what its wiring
//! promises can be done to it.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use fleet::{
    cluster::{Cluster, Extras, Plan},
    eventually,
    proxy::Rule,
};

const SOON: Duration = Duration::from_secs(2);

/// Enough keys that every node owns some.
fn keys() -> Vec<String> {
    (0..50).map(|n| format!("key-{n}")).collect()
}

async fn write_and_read_all(cluster: &Cluster) {
    for key in keys() {
        let stored = cluster.gateway(0).write("default", &key, &key).await.unwrap();
        assert!(stored.status < 300, "{}", stored.text());
        assert_eq!(cluster.gateway(0).read("default", &key).await.unwrap().text(), key);
    }
}

#[tokio::test]
async fn everything_but_the_harness_goes_through_the_proxies() {
    let plan = Plan { nodes: 2, gateway: Extras::patient(), ..Plan::default() }.proxied();
    let mut cluster = Cluster::start(plan).await.unwrap();
    let known = cluster.gateway(0).nodes().await.unwrap();
    for (n, address) in ["127.0.0.2", "127.0.0.3"].iter().enumerate() {
        let node = cluster.node(n);
        let id = format!("node-{n}");
        let advertised = format!("{address}:{}", node.address().port());
        assert_eq!(known.find(&id).unwrap().address, advertised);
        assert_eq!(node.proxy().target(), node.address());
    }
    let before: Vec<_> = (0..2).map(|n| cluster.node(n).proxy().traffic()).collect();
    write_and_read_all(&cluster).await;
    for (n, before) in before.iter().enumerate() {
        let now = cluster.node(n).proxy().traffic();
        assert!(now.to_target > before.to_target && now.to_client > before.to_client, "{now:?}");
    }

    // One process can be cut from etcd, and one from a node.
    let gateway = cluster.gateway(0);
    gateway.etcd_proxy().set(Rule::Blackhole);
    cluster.node(1).proxy().set_for(gateway.process().id(), Rule::Blackhole);
    eventually("only they are held", SOON, async || {
        let held = [gateway.etcd_proxy(), cluster.node(1).proxy(), cluster.node(0).proxy()]
            .map(|proxy| proxy.traffic().held > 0);
        if held == [true, true, false] { Ok(()) } else { Err(format!("{held:?}")) }
    })
    .await;
    for n in 0..2 {
        assert_eq!(cluster.node(n).etcd_proxy().traffic().held, 0);
    }
    gateway.etcd_proxy().heal();
    cluster.node(1).proxy().heal();

    cluster.node(1).kill();
    cluster.restart_node(1).await.unwrap();
    cluster.wait_ready().await;
    write_and_read_all(&cluster).await;
}

#[tokio::test]
#[ignore = "needs root: make faults"]
async fn packets_vanish_between_two_members_of_a_cluster() {
    let plan = Plan { nodes: 2, ..Plan::default() }.in_namespaces();
    let cluster = Cluster::start(plan).await.unwrap();
    write_and_read_all(&cluster).await;
    // The harness reaches what it asks, whatever happens between them.
    let (gateway, node) = (cluster.gateway(0), cluster.node(1));
    cluster.network().drop_between(gateway.namespace(), node.namespace()).unwrap();
    let etcd = cluster.etcd().namespace().unwrap();
    cluster.network().drop_between(gateway.namespace(), etcd).unwrap();
    node.ready().await.unwrap();
    eventually("the gateway no longer hears the node", SOON, async || {
        for key in keys() {
            gateway.read("default", &key).await.map_err(|error| error.to_string())?;
        }
        let nodes = gateway.nodes().await?;
        let health = nodes.find("node-1").map(|node| node.health.clone());
        if health.as_deref() == Some("ejected") { Ok(()) } else { Err(format!("{health:?}")) }
    })
    .await;
    cluster.network().heal().unwrap();
    eventually("it hears it again", Duration::from_secs(10), async || {
        for key in keys() {
            gateway.read("default", &key).await.map_err(|error| error.to_string())?;
        }
        let nodes = gateway.nodes().await?;
        let health = nodes.find("node-1").map(|node| node.health.clone());
        if health.as_deref() == Some("healthy") { Ok(()) } else { Err(format!("{health:?}")) }
    })
    .await;
}
