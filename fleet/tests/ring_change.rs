//! What a change of the ring may do to values: make them misses, never bring back old ones.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use fleet::{
    eventually, http,
    local::{LocalFleet, Plan},
};

const KEYS: usize = 200;

fn path(key: usize) -> String {
    format!("/api/cache/default/moving-{key}")
}

async fn write_all(fleet: &LocalFleet, value: &str) {
    for key in 0..KEYS {
        let stored = http::put(fleet.gateway(), &path(key), value.to_owned()).await.unwrap();
        assert!(matches!(stored.status, 201 | 204), "{}", stored.status);
    }
}

/// The values that are there, and how many keys are missing.
async fn read_all(fleet: &LocalFleet) -> (Vec<String>, usize) {
    let (mut values, mut missing) = (Vec::new(), 0);
    for key in 0..KEYS {
        let answer = http::get(fleet.gateway(), &path(key)).await.unwrap();
        match answer.status {
            200 => values.push(answer.text()),
            404 => missing += 1,
            other => panic!("{other} for {}", path(key)),
        }
    }
    (values, missing)
}

async fn complete(fleet: &LocalFleet) {
    eventually("everybody to follow the ring", Duration::from_secs(1), async || {
        fleet.is_complete()
    })
    .await;
}

#[tokio::test]
async fn a_node_that_came_and_went_brings_back_no_old_value() {
    // What is missing has moved, however long a node may get no processor.
    let mut plan = Plan::default();
    plan.settings.gateway.try_timeout = Duration::from_secs(5);
    plan.settings.gateway.request_timeout = Duration::from_secs(15);
    let mut fleet = LocalFleet::start(plan).await.unwrap();
    write_all(&fleet, "old").await;
    fleet.add_node().await.unwrap();
    complete(&fleet).await;
    let (values, moved) = read_all(&fleet).await;
    assert!(values.iter().all(|value| value == "old"));
    assert!(moved > 0 && moved < KEYS / 2, "the new node owns a share of the keys: {moved}");
    // Nodes give up what they no longer own; until then they hold it, unread.
    let kept = KEYS - moved;
    eventually("the old owners to give up what moved", Duration::from_secs(1), async || {
        let groups = http::get(fleet.gateway(), "/api/groups").await.ok()?.json();
        let groups = groups["groups"].as_array()?;
        let group = groups.iter().find(|group| group["name"] == "default")?;
        (group["entries"].as_u64()? == kept as u64).then_some(())
    })
    .await;
    write_all(&fleet, "new").await;
    fleet.stop_node(3).await;
    complete(&fleet).await;
    let (values, missing) = read_all(&fleet).await;
    assert!(values.iter().all(|value| value == "new"), "an old value came back");
    assert_eq!(missing, moved, "what the node took with it is missing, and nothing else");
    fleet.stop().await;
}
