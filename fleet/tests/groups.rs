//! Groups made, changed and deleted at run time: every node and gateway of a fleet of real processes
//! follows, whoever was asked, and what a node's file says gives way to what the cluster says.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use etcd_client::{Channel, Client};
use fleet::{
    cluster::{Cluster, Extras, Member, Plan},
    etcd::{Data, Etcd},
    eventually::{PATIENCE, eventually},
    http::{self, Response},
    proxy::Rule,
};
use serde_json::{Value, json};
use tonic::transport::Endpoint;

/// How soon every node goes by what was written.
const FOLLOWED_WITHIN: Duration = Duration::from_secs(1);
const JSON: (&str, &str) = ("Content-Type", "application/json");

async fn admin(
    gateway: &Member,
    method: &str,
    name: &str,
    headers: &[(&str, &str)],
    body: Value,
) -> Response {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let path = format!("/admin/groups/{name}");
    http::request(gateway.address(), method, &path, headers, body).await.unwrap()
}

/// Makes or changes a group.
async fn put(gateway: &Member, name: &str, body: Value) -> Response {
    admin(gateway, "PUT", name, &[JSON], body).await
}

async fn delete(gateway: &Member, name: &str) -> Response {
    admin(gateway, "DELETE", name, &[], Value::Null).await
}

async fn status_of(gateway: &Member, group: &str, key: &str) -> (u16, String) {
    let answer = gateway.read(group, key).await.unwrap();
    (answer.status, answer.text())
}

/// What the nodes say of a group: (ttl in ms, capacity, entries) of each that has it.
async fn served(cluster: &Cluster, name: &str) -> Vec<(u64, u64, u64)> {
    let mut all = Vec::new();
    for node in cluster.nodes() {
        let groups = node.stats().await.unwrap().groups;
        let of = groups.into_iter().find(|group| group.name == name);
        all.extend(of.map(|group| (group.ttl_ms, group.capacity_bytes, group.entries)));
    }
    all
}

/// Waits until each node's group is of that ttl and capacity.
async fn all_serve(cluster: &Cluster, name: &str, ttl_ms: u64, capacity: u64) {
    let nodes = cluster.nodes().len();
    eventually(&format!("{nodes} nodes serve {name}"), FOLLOWED_WITHIN, async || {
        let served = served(cluster, name).await;
        let is_it = |it: &&(u64, u64, u64)| (it.0, it.1) == (ttl_ms, capacity);
        let followed = served.iter().filter(is_it).count() == nodes;
        if followed { Ok(()) } else { Err(format!("{served:?}")) }
    })
    .await;
}

async fn stored(etcd: &Etcd, name: &str) -> Option<Value> {
    let channel = Endpoint::from_shared(etcd.endpoint()).unwrap().connect().await.unwrap();
    let client = Client::from_channel(Channel::Tonic(channel), None).await.unwrap();
    let found = client.kv_client().get(format!("/ringway/groups/{name}"), None).await.unwrap();
    found.kvs().first().map(|kv| serde_json::from_slice(kv.value()).unwrap())
}

#[tokio::test]
async fn a_group_is_made_changed_and_deleted_for_everybody() {
    let plan = Plan { gateways: 2, gateway: Extras::patient(), ..Plan::default() };
    let cluster = Cluster::start(plan).await.unwrap();
    let (here, there) = (cluster.gateway(0), cluster.gateway(1));
    assert_eq!(status_of(there, "users", "k0").await.0, 404);

    let made = put(here, "users", json!({"capacity": "8MiB", "ttl": "1m"})).await;
    assert_eq!(made.status, 201, "{}", made.text());
    // At once, through the other gateway, at whatever node.
    for key in 0..60 {
        let answer = there.write("users", &format!("k{key}"), "v").await.unwrap();
        assert_eq!(answer.status, 201, "{key}: {}", answer.text());
    }
    all_serve(&cluster, "users", 60_000, 8 << 20).await;
    let shown = here.get("/admin/groups/users").await.unwrap();
    let (etag, shown) = (shown.header("etag").unwrap().to_owned(), shown.json());
    assert_eq!(etag, format!("\"{}\"", shown["revision"]));
    assert_eq!(
        (&shown["definition"]["ttl"], &shown["definition"]["near"]),
        (&json!("1m"), &json!(true))
    );
    let listed = there.get("/api/groups").await.unwrap().json();
    assert!(
        listed["groups"].as_array().unwrap().iter().any(|it| it["name"] == "users"),
        "{listed}"
    );

    // What is changed keeps the entries, also in another store.
    let changed = json!({"capacity": "16MiB", "ttl": "2m", "eviction": "tinylfu"});
    let conditional = [JSON, ("If-Match", etag.as_str())];
    let answer = admin(there, "PUT", "users", &conditional, changed.clone()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let stale = admin(here, "PUT", "users", &conditional, changed).await;
    assert_eq!(stale.status, 412, "{}", stale.text());
    assert_eq!(answer.json()["id"], shown["id"], "it is the same group");
    all_serve(&cluster, "users", 120_000, 16 << 20).await;
    for key in 0..60 {
        assert_eq!(status_of(here, "users", &format!("k{key}")).await, (200, "v".into()), "{key}");
    }

    assert_eq!(delete(here, "users").await.status, 204);
    eventually("nobody has it any more", FOLLOWED_WITHIN, async || {
        let served = served(&cluster, "users").await;
        if served.is_empty() { Ok(()) } else { Err(format!("{served:?}")) }
    })
    .await;
    for gateway in [here, there] {
        let answer = gateway.read("users", "k1").await.unwrap();
        assert_eq!((answer.status, &answer.json()["error"]), (404, &json!("group_not_found")));
    }
    assert_eq!(delete(there, "users").await.status, 404);

    // Another group of the same name, made where the old one is still known.
    let again = put(there, "users", json!({})).await;
    assert_eq!(again.status, 201);
    assert_ne!(again.json()["id"], shown["id"]);
    for key in 0..30 {
        assert_eq!(status_of(here, "users", &format!("k{key}")).await.0, 404, "{key}");
        let answer = here.write("users", &format!("k{key}"), "new").await.unwrap();
        assert_eq!(answer.status, 201, "{}", answer.text());
    }
}

#[tokio::test]
async fn a_group_that_nodes_have_not_heard_of_yet_is_purged_on_all_of_them() {
    let cluster = Cluster::start(Plan::default().proxied()).await.unwrap();
    // Longer than it takes until the purge comes, and little of the time in which they look for it.
    let late = Rule::Delay { to_target: Duration::ZERO, to_client: Duration::from_millis(30) };
    cluster.nodes().iter().for_each(|node| node.etcd_proxy().set(late));
    let gateway = cluster.gateway(0);
    assert_eq!(put(gateway, "new", json!({})).await.status, 201);
    let path = "/admin/groups/new/purge";
    let purged = http::request(gateway.address(), "POST", path, &[], String::new()).await.unwrap();
    assert_eq!(purged.status, 200, "{}", purged.text());
    let nodes = purged.json()["nodes"].as_array().map(Vec::len);
    assert_eq!(nodes, Some(cluster.nodes().len()), "{}", purged.text());
}

#[tokio::test]
async fn the_cluster_wins_over_a_nodes_file_unless_it_is_told_otherwise() {
    const FILE: &str = "[groups.users]\nttl = \"1m\"\n[groups.gone]\nttl = \"1m\"\n";
    let plan = Plan { nodes: 1, node: Extras::default().config(FILE), ..Plan::default() };
    let mut cluster = Cluster::start(plan).await.unwrap();
    eventually("the file's groups are cluster state", FOLLOWED_WITHIN, async || {
        let answer = cluster.gateway(0).get("/admin/groups").await.unwrap().json();
        if answer["count"] == 2 { Ok(()) } else { Err(answer.to_string()) }
    })
    .await;
    let capacity = 64 << 20;
    all_serve(&cluster, "users", 60_000, capacity).await;
    assert_eq!(delete(cluster.gateway(0), "gone").await.status, 204);

    let other = Extras::default().config("[groups.users]\nttl = \"5m\"\n[groups.gone]\n");
    let second = cluster.add_node(&other).await.unwrap();
    let said = |parts: &'static [&'static str]| {
        move |line: &str| parts.iter().all(|part| line.contains(part))
    };
    let process = cluster.node(second).process();
    let wins = said(&["users", "ttl = \"1m\" (not \"5m\")", "wins"]);
    process.wait_for_line("etcd wins", FOLLOWED_WITHIN * PATIENCE, wins).await.unwrap();
    let deleted = said(&["gone", "was deleted in the cluster"]);
    process.wait_for_line("it stays deleted", FOLLOWED_WITHIN * PATIENCE, deleted).await.unwrap();
    all_serve(&cluster, "users", 60_000, capacity).await;
    assert!(served(&cluster, "gone").await.is_empty());

    let third = cluster.add_node(&other.arg("--apply-groups")).await.unwrap();
    assert_eq!(third, 2);
    all_serve(&cluster, "users", 300_000, capacity).await;
    eventually("the deleted group is there again", FOLLOWED_WITHIN, async || {
        let served = served(&cluster, "gone").await;
        if served.len() == 3 { Ok(()) } else { Err(format!("{served:?}")) }
    })
    .await;
}

#[tokio::test]
async fn the_demo_group_is_nobodys_but_the_nodes_own_and_later_nodes_serve_what_there_is() {
    let mut cluster = Cluster::start(Plan { nodes: 1, ..Plan::default() }).await.unwrap();
    assert_eq!(status_of(cluster.gateway(0), "scores", "Tom").await, (200, "630".into()));
    assert_eq!(put(cluster.gateway(0), "users", json!({"ttl": "7s"})).await.status, 201);
    cluster.add_node(&Extras::default()).await.unwrap();
    all_serve(&cluster, "users", 7_000, 64 << 20).await;
    assert_eq!(stored(cluster.etcd(), "scores").await, None);

    // Without etcd everybody goes on with what there is.
    cluster.etcd_mut().stop().await;
    assert_eq!(cluster.gateway(0).write("users", "k", "v").await.unwrap().status, 201);
    let refused = put(cluster.gateway(0), "users", json!({})).await;
    assert_eq!(refused.status, 503, "{}", refused.text());
    let unknown = cluster.gateway(0).read("nobody", "k").await.unwrap();
    assert_eq!(unknown.json()["error"], "group_not_found");
    cluster.etcd_mut().restart(Data::Kept).await.unwrap();
    eventually("it can be changed again", FOLLOWED_WITHIN * 10, async || {
        let answer = put(cluster.gateway(0), "users", json!({"ttl": "8s"})).await;
        if answer.status == 200 { Ok(()) } else { Err(answer.text()) }
    })
    .await;
    all_serve(&cluster, "users", 8_000, 64 << 20).await;
}

#[tokio::test]
async fn what_can_not_be_a_group_is_refused_and_says_why() {
    let cluster = Cluster::start(Plan { nodes: 1, ..Plan::default() }).await.unwrap();
    let gateway = cluster.gateway(0);
    let url = "http://127.0.0.1:9/{key}";
    let secret = json!({"kind": "http", "url": url, "headers": {"Authorization": "sesame"}});
    for (body, parts) in [
        (json!({"ttl": 5}), &["groups.g.ttl = 5", "not a duration"][..]),
        (json!({"capcity": "1MiB"}), &["groups.g.capcity", "did you mean capacity?"]),
        (json!({"capacity": "1KiB", "max_value": "1MiB"}), &["groups.g.max_value", "lower it"]),
        (json!({"origin": {"kind": "http", "url": "http://{key}/"}}), &["groups.g.origin.url"]),
        (json!({"origin": secret}), &["groups.g.origin.headers.Authorization", "${TOKEN}"]),
        (json!([1]), &["JSON"]),
    ] {
        let answer = put(gateway, "g", body).await;
        let message = answer.json()["message"].as_str().unwrap().to_owned();
        assert_eq!((answer.status, &answer.json()["error"]), (400, &json!("invalid_request")));
        assert!(parts.iter().all(|part| message.contains(part)), "{parts:?}: {message}");
        assert!(!message.contains("sesame"), "{message}");
    }
    for (headers, body, status) in [
        (&[][..], "{}", 415),
        (&[("Content-Type", "text/plain")], "{}", 415),
        (&[JSON], "{", 400),
        (&[JSON], "", 400),
        (&[JSON, ("If-None-Match", "\"x\"")], "{}", 400),
        (&[JSON, ("If-Match", "*")], "{}", 412),
    ] {
        let path = "/admin/groups/g";
        let answer = http::request(gateway.address(), "PUT", path, headers, body).await.unwrap();
        assert_eq!(answer.status, status, "{headers:?} {body}: {}", answer.text());
    }
    let large = json!({"origin": {"kind": "static", "values": {"k": "v".repeat(300 << 10)}}});
    assert_eq!(put(gateway, "g", large).await.status, 413);
    assert_eq!(put(gateway, "a%20b", json!({})).await.status, 400);
    assert_eq!(delete(gateway, "default").await.status, 400);
    assert_eq!(stored(cluster.etcd(), "g").await, None);

    // The name of a variable is what is kept, and what is shown.
    let named =
        json!({"kind": "http", "url": url, "headers": {"Authorization": "Bearer ${NOT_SET}"}});
    assert_eq!(put(gateway, "g", json!({"origin": named})).await.status, 201);
    let kept = stored(cluster.etcd(), "g").await.unwrap();
    assert_eq!(kept["definition"]["origin"], named);
    let failed = gateway.read("g", "k").await.unwrap();
    assert_eq!(failed.status, 502, "{}", failed.text());
    assert!(failed.text().contains("NOT_SET"), "{}", failed.text());
}
