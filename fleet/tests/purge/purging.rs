//! What is purged through one gateway is absent through all, at once and on every node, from near
//! caches too; who could not be asked is named.

use std::time::Duration;

use fleet::{cluster::Cluster, eventually, process::Signal};

use super::{cluster, send};

const CONFIG: &str = "[groups.shop]\nttl = \"10m\"\n";
/// Keys of each kind: enough for all nodes to own some.
const KEYS: usize = 30;
/// More reads than it takes for a key to be hot.
const READS: usize = 12;

fn path(key: &str) -> String {
    format!("/api/cache/shop/{key}")
}

/// Half of the keys are of products, which have a tag, and half of carts, which have not.
async fn fill(cluster: &Cluster) {
    for n in 0..KEYS {
        let tags = format!("product, colour:{}", n % 2);
        let product = path(&format!("product/{n}"));
        let put = send(cluster, 0, "PUT", &product, &[("ringway-tags", &tags)], "p").await;
        assert!(matches!(put.status, 201 | 204), "{}", put.text());
        let cart = send(cluster, 1, "PUT", &path(&format!("cart/{n}")), &[], "c").await;
        assert!(matches!(cart.status, 201 | 204), "{}", cart.text());
    }
}

/// How many of the keys of a kind are there, as a gateway says.
async fn found(cluster: &Cluster, gateway: usize, kind: &str) -> usize {
    let mut found = 0;
    for n in 0..KEYS {
        let read = send(cluster, gateway, "GET", &path(&format!("{kind}/{n}")), &[], "").await;
        assert!(matches!(read.status, 200 | 404), "{}", read.text());
        found += usize::from(read.status == 200);
    }
    found
}

async fn counts(cluster: &Cluster) -> [(usize, usize); 2] {
    let mut counts = [(0, 0); 2];
    for (gateway, count) in counts.iter_mut().enumerate() {
        *count = (found(cluster, gateway, "product").await, found(cluster, gateway, "cart").await);
    }
    counts
}

/// Reads a key through both gateways until it is answered from their memory.
async fn heat(cluster: &Cluster, key: &str) {
    eventually(&format!("{key} is held by both gateways"), Duration::from_secs(2), async || {
        let mut near = [false; 2];
        for (gateway, near) in near.iter_mut().enumerate() {
            for _ in 0..READS {
                let read = send(cluster, gateway, "GET", &path(key), &[], "").await;
                *near |= read.header("cache-status") == Some("ringway; hit; detail=near");
            }
        }
        near == [true; 2]
    })
    .await;
}

async fn purge(cluster: &Cluster, query: &str) -> serde_json::Value {
    let path = format!("/admin/groups/shop/purge{query}");
    let purged = send(cluster, 0, "POST", &path, &[], "").await;
    assert_eq!(purged.status, 200, "{}", purged.text());
    let purged = purged.json();
    assert_eq!(purged["nodes"].as_array().unwrap().len(), 3, "{purged}");
    purged
}

/// Entries of the group on all nodes, as they count them.
async fn entries(cluster: &Cluster) -> u64 {
    let mut entries = 0;
    for node in cluster.nodes() {
        let stats = node.stats().await.unwrap();
        entries += stats.groups.iter().find(|it| it.name == "shop").unwrap().entries;
    }
    entries
}

#[tokio::test]
async fn what_is_purged_through_one_gateway_is_absent_through_both() {
    let cluster = cluster(CONFIG).await;
    for (query, left) in [
        ("?prefix=product%2F", (0, KEYS)),
        ("?tag=colour%3A1", (KEYS / 2, KEYS)),
        ("?tag=colour%3A0&tag=colour%3A1", (0, KEYS)),
        ("?prefix=cart&tag=product", (0, 0)),
        ("?tag=cart", (KEYS, KEYS)),
        ("", (0, 0)),
    ] {
        fill(&cluster).await;
        assert_eq!(counts(&cluster).await, [(KEYS, KEYS); 2]);
        let purged = purge(&cluster, query).await;
        let everything = purged["nodes"][0]["everything"].as_bool().unwrap();
        assert_eq!(everything, query.is_empty(), "{purged}");
        assert_eq!(counts(&cluster).await, [left; 2], "{query}");
    }
    let what = "the memory is given back";
    eventually(what, Duration::from_secs(5), async || entries(&cluster).await == 0).await;
}

/// Hot keys are held by both gateways when their tag is purged: none is answered from there once
/// that is acknowledged. Values are written again in between, so that it is not all over at once.
#[tokio::test]
async fn no_gateway_answers_from_memory_what_was_purged() {
    let cluster = cluster(CONFIG).await;
    for round in 0..5 {
        fill(&cluster).await;
        let keys = ["product/0", "product/1", "product/2"];
        for key in keys {
            heat(&cluster, key).await;
        }
        purge(&cluster, ["?tag=product", "?prefix=product", ""][round % 3]).await;
        for gateway in [0, 1] {
            for key in keys {
                let read = send(&cluster, gateway, "GET", &path(key), &[], "").await;
                assert_eq!(read.status, 404, "round {round}, gateway {gateway}, {key}");
            }
        }
    }
}

#[tokio::test]
async fn a_node_that_can_not_be_asked_is_named_and_the_others_have_purged() {
    let cluster = cluster(CONFIG).await;
    fill(&cluster).await;
    let stopped = cluster.node(0);
    stopped.signal(Signal::STOP).unwrap();
    let refused = send(&cluster, 1, "POST", "/admin/groups/shop/purge", &[], "").await;
    stopped.signal(Signal::CONT).unwrap();
    assert!(matches!(refused.status, 503 | 504), "{}", refused.text());
    let message = refused.json()["message"].as_str().unwrap().to_owned();
    let id = stopped.address().to_string();
    assert!(message.starts_with(&format!("not acknowledged by {id} (")), "{message}");
    assert!(message.contains(&cluster.node(1).address().to_string()), "{message}");
    eventually("it answers again, and all is purged", Duration::from_secs(5), async || {
        let purged = send(&cluster, 0, "POST", "/admin/groups/shop/purge", &[], "").await;
        purged.status == 200
    })
    .await;
    assert_eq!(counts(&cluster).await, [(0, 0); 2]);
}

#[tokio::test]
async fn a_purge_that_is_not_understood_is_refused_and_purges_nothing() {
    let cluster = cluster(CONFIG).await;
    fill(&cluster).await;
    for (query, status, error) in [
        ("shop/purge?prefx=product", 400, "invalid_request"),
        ("shop/purge?prefix=", 400, "invalid_request"),
        ("shop/purge?tag=a%2Cb", 400, "invalid_request"),
        ("no%20group/purge", 400, "invalid_request"),
        ("%FF/purge", 400, "invalid_request"),
        ("nobody/purge", 404, "group_not_found"),
    ] {
        let path = format!("/admin/groups/{query}");
        let refused = send(&cluster, 0, "POST", &path, &[], "").await;
        assert_eq!((refused.status, &refused.json()["error"]), (status, &error.into()), "{query}");
    }
    let tags = "x".repeat(65);
    let refused = send(&cluster, 0, "PUT", &path("k"), &[("ringway-tags", &tags)], "v").await;
    assert_eq!(refused.status, 400, "{}", refused.text());
    assert_eq!(counts(&cluster).await, [(KEYS, KEYS); 2]);
}

#[tokio::test]
async fn tags_may_be_set_in_a_batch() {
    let cluster = cluster(CONFIG).await;
    let batch = r#"{"group":"shop","set":[
        {"key":"a","value":"1","tags":["x","y"]},{"key":"b","value":"2"}]}"#;
    let set = send(&cluster, 0, "POST", "/api/cache/batch", &[], batch).await;
    assert_eq!(set.status, 200, "{}", set.text());
    purge(&cluster, "?tag=y").await;
    let status = |key: &'static str| {
        let cluster = &cluster;
        async move { send(cluster, 1, "GET", &path(key), &[], "").await.status }
    };
    assert_eq!((status("a").await, status("b").await), (404, 200));
    let many: Vec<String> = (0..17).map(|n| format!("\"{n}\"")).collect();
    let batch = format!(
        r#"{{"group":"shop","set":[{{"key":"a","value":"1","tags":[{}]}}]}}"#,
        many.join(",")
    );
    let refused = send(&cluster, 0, "POST", "/api/cache/batch", &[], &batch).await;
    assert_eq!(refused.status, 400);
    assert!(refused.text().contains("more than 16 tags"), "{}", refused.text());
}
