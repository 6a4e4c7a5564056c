//! Batches while a node is killed: every key has its outcome.

use fleet::cluster::{Cluster, Extras, Plan};
use serde_json::{Value, json};

use super::{BATCH, gets, outcomes, statuses};

const KEYS: usize = 300;
const KILLED: usize = 1;
/// Batches after the kill. Together they take longer than it takes to pass over the dead node.
const BATCHES: usize = 60;
const KILL_AT: usize = 20;

async fn batch(cluster: &Cluster, batch: &Value) -> Value {
    let gateway = cluster.gateway(0).address();
    let body = batch.to_string();
    let answer = fleet::http::request(gateway, "POST", BATCH, &[], body).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    outcomes(&answer)
}

#[tokio::test]
async fn a_node_that_is_killed_costs_misses_and_no_failure() {
    // A dead node is no matter of time: it resets its connections and refuses new ones. One that only gets
    // no processor for a while is not to be taken for it.
    let plan = Plan { gateway: Extras::patient(), ..Plan::default() };
    let cluster = Cluster::start(plan).await.unwrap();
    let set = |i: usize| json!({"key": format!("k{i}"), "value": i});
    let sets: Value = (0..KEYS).map(set).collect();
    let made = batch(&cluster, &json!({"group": "default", "set": sets})).await;
    assert_eq!(statuses(&made["set"]), [201; KEYS]);
    let (mut missed, mut fresh) = (0, 0);
    for round in 0..BATCHES {
        if round == KILL_AT {
            cluster.node(KILLED).kill();
        }
        let key = |i: usize| format!("{round}/{i}");
        let sets: Value = (0..10).map(|i| json!({"key": key(i), "value": i})).collect();
        let asked = json!({"group": "default", "get": gets("k", KEYS), "set": sets});
        let done = batch(&cluster, &asked).await;
        for (i, outcome) in done["get"].as_array().unwrap().iter().enumerate() {
            match outcome["status"].as_u64().unwrap() {
                200 => assert_eq!(outcome["value"], i),
                404 if round >= KILL_AT => missed += 1,
                other => panic!("round {round}, key {i}: {other} {outcome}"),
            }
        }
        for outcome in done["set"].as_array().unwrap() {
            assert_eq!(outcome["status"], 201, "round {round}: {outcome}");
            fresh += 1;
        }
    }
    assert!(missed > 0, "the dead node had keys");
    assert_eq!(fresh, BATCHES * 10);
}
