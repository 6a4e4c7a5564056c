//! One of those who miss a key is to bring it, whatever gateway they ask, and stores it only if
//! nothing has happened to the key meanwhile.

use fleet::{cluster::Cluster, http::Response};
use futures_util::future::join_all;

use super::{cluster, send};

const CONFIG: &str = "[groups.aside]\nttl = \"10m\"\n\
    [groups.origin]\norigin = { kind = \"static\", values = { Tom = \"630\" } }\n";
const TARGET: &str = "/api/cache?group=aside&key=k";

async fn miss(cluster: &Cluster, gateway: usize) -> Response {
    let read = send(cluster, gateway, "GET", &format!("{TARGET}&lease=1"), &[], "").await;
    assert_eq!(read.status, 404, "{}", read.text());
    assert_eq!(read.json()["error"], "not_found");
    read
}

fn token(read: &Response) -> Option<String> {
    read.header("ringway-lease").map(str::to_owned)
}

async fn given(cluster: &Cluster, gateway: usize) -> String {
    token(&miss(cluster, gateway).await).expect("a token")
}

async fn bring(cluster: &Cluster, gateway: usize, token: &str) -> (u16, String) {
    let put = send(cluster, gateway, "PUT", TARGET, &[("ringway-lease", token)], "brought").await;
    let error = if put.status >= 400 {
        put.json()["error"].as_str().unwrap().to_owned()
    } else {
        String::new()
    };
    (put.status, error)
}

#[tokio::test]
async fn one_of_many_who_miss_a_key_at_once_is_to_bring_it() {
    let cluster = cluster(CONFIG).await;
    let reads = join_all((0..40).map(|n| miss(&cluster, n % 2))).await;
    let tokens: Vec<String> = reads.iter().filter_map(token).collect();
    assert_eq!(tokens.len(), 1, "{tokens:?}");
    for read in reads.iter().filter(|read| token(read).is_none()) {
        assert_eq!(read.header("retry-after"), Some("1"));
    }
    assert_eq!(bring(&cluster, 1, &tokens[0]).await, (201, String::new()));
    let read = send(&cluster, 0, "GET", &format!("{TARGET}&lease=1"), &[], "").await;
    assert_eq!((read.status, read.text()), (200, "brought".to_owned()));
    assert_eq!(bring(&cluster, 0, &tokens[0]).await, (409, "lease_lost".to_owned()));
}

#[tokio::test]
async fn whatever_happens_to_a_key_ends_its_token() {
    let cluster = cluster(CONFIG).await;
    for (method, path, body) in [
        ("PUT", TARGET, "newer"),
        ("DELETE", TARGET, ""),
        ("POST", "/admin/groups/aside/purge", ""),
        ("POST", "/admin/groups/aside/purge?prefix=k", ""),
        ("POST", "/admin/groups/aside/purge?tag=any", ""),
    ] {
        let token = given(&cluster, 0).await;
        send(&cluster, 1, method, path, &[], body).await;
        let lost = (409, "lease_lost".to_owned());
        assert_eq!(bring(&cluster, 0, &token).await, lost, "{method} {path}");
        let read = send(&cluster, 0, "GET", TARGET, &[], "").await;
        let expected = if body.is_empty() { 404 } else { 200 };
        assert_eq!(read.status, expected, "{method} {path}");
        send(&cluster, 0, "DELETE", TARGET, &[], "").await;
    }
    let token = given(&cluster, 0).await;
    send(&cluster, 1, "POST", "/admin/groups/aside/purge?prefix=other", &[], "").await;
    assert_eq!(bring(&cluster, 0, &token).await.0, 201, "that was about other keys");
}

/// A node that dies takes its tokens along: the next owner knows none of them.
#[tokio::test]
async fn a_token_of_a_node_that_is_gone_stores_nothing() {
    let mut cluster = cluster(CONFIG).await;
    let owner = cluster.gateway(0).owner("aside", "k").await.unwrap();
    let index = (0..3).find(|n| cluster.node(*n).address().to_string() == owner).unwrap();
    let token = given(&cluster, 0).await;
    cluster.node(index).kill();
    cluster.restart_node(index).await.unwrap();
    cluster.wait_ready().await;
    assert_eq!(bring(&cluster, 0, &token).await, (409, "lease_lost".to_owned()));
}

#[tokio::test]
async fn what_is_no_token_is_told_so_and_a_group_with_an_origin_needs_none() {
    let cluster = cluster(CONFIG).await;
    assert_eq!(bring(&cluster, 0, "nonsense").await, (400, "invalid_request".to_owned()));
    let wrong = send(&cluster, 0, "GET", &format!("{TARGET}&lease=yes"), &[], "").await;
    assert_eq!(wrong.status, 400);
    let of_origin = |key: &str| format!("/api/cache/origin/{key}?lease=1");
    let read = send(&cluster, 0, "GET", &of_origin("Tom"), &[], "").await;
    assert_eq!((read.status, read.text()), (200, "630".to_owned()));
    let missing = send(&cluster, 0, "GET", &of_origin("Jack"), &[], "").await;
    assert_eq!((missing.status, token(&missing)), (404, None));
}
