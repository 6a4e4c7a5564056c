//! What the gateway says about the cluster, and that it is true.

use std::collections::{BTreeMap, BTreeSet};

use proto::v1::{GetRequest, StatsRequest, cache_client::CacheClient};
use serde_json::Value;

use crate::api::{Api, query};

const KEYS: usize = 60;

fn key(n: usize) -> String {
    format!("key {n}")
}

fn is_digest(value: &Value) -> bool {
    value
        .as_str()
        .is_some_and(|text| text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

fn texts(value: &Value) -> Vec<String> {
    let items = value.as_array().unwrap();
    items.iter().map(|item| item.as_str().unwrap().to_owned()).collect()
}

/// The owner of a key, as `/api/ring` says.
async fn owner(api: &Api, key: &str) -> String {
    let place = api.get(&query("default", key).replace("/api/cache", "/api/ring")).await;
    assert_eq!(place.status, 200);
    place.json()["owner"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn nodes_are_listed_as_they_are() {
    let api = Api::start().await;
    let answer = api.get("/api/nodes").await.json();
    assert_eq!(answer["count"], 3);
    assert!(is_digest(&answer["digest"]), "{answer}");
    answer["epoch"]["generation"].as_str().unwrap().parse::<uuid::Uuid>().unwrap();
    assert!(answer["epoch"]["as_of"].is_u64(), "{answer}");
    let listed = answer["nodes"].as_array().unwrap();
    let mut share = 0.0;
    for (node, real) in listed.iter().zip(sorted_by_id(&api)) {
        assert_eq!(node["id"], real.0);
        assert_eq!((&node["address"], &node["http"]), (&real.1.into(), &real.2.into()));
        assert_eq!((&node["weight"], &node["zone"]), (&100.into(), &"".into()));
        assert_eq!(node["state"], "active");
        assert!(matches!(node["health"].as_str(), Some("healthy" | "unknown")), "{node}");
        node["started_at"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
        if let Some(seen) = node["last_seen"].as_str() {
            seen.parse::<jiff::Timestamp>().unwrap();
        }
        share += node["ring_share"].as_f64().unwrap();
    }
    assert_eq!(listed.len(), 3);
    assert!((share - 1.0).abs() < 0.001, "the shares make a whole: {share}");
}

/// Id, gRPC address and HTTP address of the nodes.
fn sorted_by_id(api: &Api) -> BTreeSet<(String, String, String)> {
    let nodes = api.fleet.nodes();
    nodes
        .map(|node| {
            let (grpc, http) = (node.grpc_address(), node.http_address());
            (node.id().to_string(), grpc.to_string(), http.to_string())
        })
        .collect()
}

#[tokio::test]
async fn the_ring_names_the_node_that_serves() {
    let api = Api::start().await;
    let ids: BTreeSet<String> = api.fleet.nodes().map(|node| node.id().to_string()).collect();
    let digest = api.get("/api/nodes").await.json()["digest"].clone();
    let mut owned: BTreeMap<String, u64> = ids.iter().map(|id| (id.clone(), 0)).collect();
    for n in 0..KEYS {
        let key = key(n);
        let place = api.get(&query("default", &key).replace("/api/cache", "/api/ring")).await;
        let place = place.json();
        assert_eq!((&place["group"], &place["key"]), (&"default".into(), &key.as_str().into()));
        assert!(is_digest(&place["position"]), "{place}");
        assert_eq!(place["digest"], digest);
        assert!(place["epoch"]["as_of"].is_u64());
        let mut preferred = texts(&place["replicas"]);
        preferred.push(place["owner"].as_str().unwrap().to_owned());
        assert_eq!(preferred.iter().cloned().collect::<BTreeSet<_>>(), ids, "each node once");
        *owned.get_mut(&preferred[2]).unwrap() += 1;
        api.stored(&query("default", &key), "x").await;
    }
    for node in api.fleet.nodes() {
        let address = format!("http://{}", node.grpc_address());
        let mut client = CacheClient::connect(address).await.unwrap();
        let stats = client.stats(StatsRequest {}).await.unwrap().into_inner();
        let group = stats.groups.iter().find(|group| group.name == "default").unwrap();
        assert_eq!(group.sets, owned[node.id().as_str()], "what {} stored", node.id());
    }
}

#[tokio::test]
async fn every_node_names_the_same_owner() {
    let api = Api::start().await;
    for n in 0..5 {
        let key = key(n);
        api.stored(&query("default", &key), "x").await;
        let owner = owner(&api, &key).await;
        for node in api.fleet.nodes() {
            let address = format!("http://{}", node.grpc_address());
            let mut client = CacheClient::connect(address).await.unwrap();
            let request = GetRequest { group: "default".to_owned(), key: key.clone() };
            let answer = client.get(request).await.unwrap().into_inner();
            assert_eq!(answer.node_id, owner);
        }
    }
}

#[tokio::test]
async fn groups_are_summed_over_the_nodes() {
    let api = Api::start().await;
    for n in 0..KEYS {
        let target = query("default", &key(n));
        api.stored(&target, "x").await;
        assert_eq!(api.get(&target).await.status, 200);
    }
    for target in [query("default", "none"), query("scores", "Tom"), query("scores", "Nobody")] {
        api.get(&target).await;
    }
    api.delete(&query("default", &key(0))).await;
    let answer = api.get("/api/groups").await.json();
    assert_eq!((&answer["count"], &answer["missing"]), (&2.into(), &Value::Array(Vec::new())));
    let groups = answer["groups"].as_array().unwrap();
    let [default, scores] = &groups[..] else { panic!("{answer}") };
    assert_eq!((&default["name"], &scores["name"]), (&"default".into(), &"scores".into()));
    assert_eq!((&default["origin"], &scores["origin"]), (&"".into(), &"static".into()));
    let done = |group: &Value| {
        ["nodes", "sets", "hits", "misses", "loads", "deletes", "evictions"]
            .map(|name| group[name].as_u64().unwrap())
    };
    assert_eq!(done(default), [3, KEYS as u64, KEYS as u64, 1, 0, 1, 0]);
    assert_eq!(done(scores), [3, 0, 0, 2, 1, 0, 0]);
    assert_eq!(
        (&default["capacity"], &default["max_value"]),
        (&(64 << 20).into(), &(1 << 20).into())
    );
    assert_eq!((&default["ttl"], &default["idle"]), (&0.0.into(), &0.0.into()));
    assert_eq!(default["eviction"], "lru");
}

#[tokio::test]
async fn probes_answer() {
    let api = Api::start().await;
    for probe in ["/livez", "/readyz"] {
        let answer = api.get(probe).await;
        assert_eq!((answer.status, answer.text().trim()), (200, "ok"));
    }
    let health = api.get("/health").await;
    assert_eq!(health.status, 200);
    let json = health.json();
    assert_eq!((&json["status"], &json["nodes"]), (&"healthy".into(), &3.into()));
    assert_eq!(json["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(json["digest"], api.get("/api/nodes").await.json()["digest"]);
    for node in api.fleet.nodes() {
        for probe in ["/livez", "/readyz"] {
            let answer = fleet::http::get(node.http_address(), probe).await.unwrap();
            assert_eq!((answer.status, answer.text().trim()), (200, "ok"), "{}", node.id());
        }
    }
}
