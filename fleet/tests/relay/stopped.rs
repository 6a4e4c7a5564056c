//! Real processes: a node that is stopped, passed over, and goes on where it was.

use std::time::Duration;

use fleet::{
    cluster::{Cluster, Plan, key_path},
    http,
    process::Signal,
    trial::trial,
};

const KEYS: usize = 60;

/// Through that gateway.
async fn get(cluster: &Cluster, gateway: usize, key: &str) -> Option<String> {
    let address = cluster.gateway(gateway).address();
    let answer = http::get(address, &key_path("default", key)).await.unwrap();
    match answer.status {
        200 => Some(answer.text()),
        404 => None,
        other => panic!("{other} {} for {key}", answer.text()),
    }
}

async fn put(cluster: &Cluster, gateway: usize, key: &str, value: &str) {
    let address = cluster.gateway(gateway).address();
    let answer = http::put(address, &key_path("default", key), value.to_owned()).await.unwrap();
    assert!(matches!(answer.status, 201 | 204), "{} {}", answer.status, answer.text());
}

#[tokio::test]
async fn a_node_that_was_stopped_shows_nobody_what_it_had_before_others_wrote() {
    trial(async || {
        stop_pass_over_and_go_on().await;
        Ok(())
    })
    .await;
}

async fn stop_pass_over_and_go_on() {
    let plan = Plan { gateways: 2, ..Plan::default() }.lease_ttl(Duration::from_secs(60));
    let cluster = Cluster::start(plan).await.unwrap();
    let keys: Vec<_> = (0..KEYS).map(|n| format!("stopped-{n}")).collect();
    let owners = cluster.owners(0, "default", &keys).await.unwrap();
    let id = cluster.node(0).address().to_string();
    let of_node: Vec<_> =
        keys.iter().zip(&owners).filter(|(_, owner)| **owner == id).map(|(key, _)| key).collect();
    assert!(of_node.len() > 5, "{owners:?}");
    for key in &of_node {
        put(&cluster, 0, key, "old").await;
    }
    cluster.node(0).signal(Signal::STOP).unwrap();
    let (rewritten, kept) = of_node.split_at(of_node.len() - 2);
    for key in rewritten {
        put(&cluster, 0, key, "new").await;
        let read = get(&cluster, 0, key).await;
        assert_eq!(read.as_deref(), Some("new"), "whoever stands in shows what was written there");
    }
    // The other gateway has not asked it meanwhile, and takes it for well: it asks it first.
    cluster.node(0).signal(Signal::CONT).unwrap();
    for key in rewritten {
        assert_ne!(get(&cluster, 1, key).await.as_deref(), Some("old"), "{key}");
    }
    for key in kept {
        assert_eq!(get(&cluster, 1, key).await.as_deref(), Some("old"), "everybody answered");
    }
    for key in &of_node {
        put(&cluster, 0, key, "newer").await;
        assert_eq!(get(&cluster, 1, key).await.as_deref(), Some("newer"), "{key}");
    }
}
