//! Every error that this version can produce, with its status, its code and its shape.

use std::collections::HashSet;

use crate::api::{Api, assert_error, encoded, path, plan, query};

/// The longest request target, in bytes.
const MAX_URI: usize = 8 << 10;

#[tokio::test]
async fn a_request_that_names_no_key_is_refused_with_the_reason() {
    let api = Api::start().await;
    let long = "k".repeat(1025);
    let long_group = "g".repeat(65);
    for target in [
        "/api/cache",
        "/api/cache?",
        "/api/cache?group=scores",
        "/api/cache?key=Tom",
        "/api/cache?group=&key=Tom",
        "/api/cache?group=scores&key=",
        "/api/cache?group&key",
        "/api/cache?group=scores&group=scores&key=Tom",
        "/api/cache?group=scores&key=Tom&key=Tom",
        "/api/cache?group=scores&key=%FF",
        "/api/cache?group=%C3%28&key=Tom",
        "/api/cache?group=scores&key=a%00b",
        "/api/cache?group=scores&key=a%0Ab",
        "/api/cache?group=scores&key=%7F",
        "/api/cache?group=scores&key=%C2%85",
        "/api/cache?group=sco%20res&key=Tom",
        "/api/cache?group=sco%2Fres&key=Tom",
        "/api/cache/",
        "/api/cache//Tom",
        "/api/cache/scores",
        "/api/cache/scores/",
        "/api/cache/scores/%FF",
        "/api/cache/scores/%00",
        "/api/cache/sc%C3%B6res/Tom",
        &query("scores", &long),
        &path("scores", &long),
        &query(&long_group, "Tom"),
        &path(&long_group, "Tom"),
    ] {
        for method in ["GET", "PUT", "DELETE"] {
            let answer = api.send(method, target, &[], "").await;
            assert_error(&format!("{method} {target}"), &answer, 400, "invalid_request");
        }
    }
    for target in ["/api/ring", "/api/ring?group=scores", "/api/ring?group=scores&key=%FF"] {
        assert_error(target, &api.get(target).await, 400, "invalid_request");
    }
}

#[tokio::test]
async fn a_ttl_that_is_no_time_is_refused() {
    let api = Api::start().await;
    for form in [format!("{}&", query("default", "k")), format!("{}?", path("default", "k"))] {
        for ttl in ["soon", "0s", "-1s", "", "10", "1e3s", "%FF", "99999999999999999999s"] {
            let answer = api.put(&format!("{form}ttl={ttl}"), "x").await;
            assert_error(&format!("ttl={ttl}"), &answer, 400, "invalid_request");
        }
        let twice = api.put(&format!("{form}ttl=1s&ttl=2s"), "x").await;
        assert_error("two of them", &twice, 400, "invalid_request");
    }
    assert_eq!(api.get(&query("default", "k")).await.status, 404, "nothing was stored");
}

#[tokio::test]
async fn a_part_of_a_value_or_an_encoded_one_is_not_stored_as_the_value() {
    let api = Api::start().await;
    let target = query("default", "k");
    for method in ["PUT", "POST"] {
        for range in ["bytes 0-0/2", "bytes 1-1/*", "x"] {
            let answer = api.send(method, &target, &[("content-range", range)], "x").await;
            assert_error(range, &answer, 400, "invalid_request");
        }
        for coding in ["gzip", "BR", "identity, gzip", "\u{e9}"] {
            let headers = [("content-encoding", "identity"), ("content-encoding", coding)];
            let answer = api.send(method, &target, &headers, "x").await;
            assert_error(coding, &answer, 415, "unsupported_media");
            assert!(answer.text().contains("unencoded"), "{}", answer.text());
            assert_eq!(answer.header("accept-encoding"), Some("identity"));
        }
    }
    assert_eq!(api.get(&target).await.status, 404, "nothing was stored");
    for coding in ["identity", "Identity , identity", ""] {
        let answer = api.send("PUT", &target, &[("content-encoding", coding)], "x").await;
        assert!(matches!(answer.status, 201 | 204), "{coding}: {}", answer.text());
    }
}

#[tokio::test]
async fn what_is_not_there_is_told_apart() {
    let api = Api::start().await;
    for method in ["GET", "DELETE"] {
        let missing = api.send(method, &query("scores", "Nobody"), &[], "").await;
        assert_error(method, &missing, 404, "not_found");
    }
    for method in ["GET", "PUT", "POST", "DELETE"] {
        let nowhere = api.send(method, &query("no-such-group", "Tom"), &[], "").await;
        assert_error(method, &nowhere, 404, "group_not_found");
    }
    for target in ["/", "/api", "/api/", "/api/cachex", "/api/nodes/", "/favicon.ico"] {
        let answer = api.get(target).await;
        assert_error(target, &answer, 404, "not_found");
        assert!(answer.text().contains("/api/cache"), "it says where the API is");
    }
    let ids = async |n: usize| {
        let answer = api.get(&format!("/{n}")).await;
        answer.json()["request_id"].as_str().unwrap().to_owned()
    };
    let mut seen = HashSet::new();
    for n in 0..20 {
        assert!(seen.insert(ids(n).await), "request ids are unique");
    }
}

#[tokio::test]
async fn a_method_that_is_not_offered_names_those_that_are() {
    let api = Api::start().await;
    for (method, target, offered) in [
        ("PATCH", "/api/cache?group=scores&key=Tom", "GET,HEAD,PUT,POST,DELETE"),
        ("PATCH", "/api/cache/scores/Tom", "GET,HEAD,PUT,POST,DELETE"),
        ("POST", "/api/nodes", "GET,HEAD"),
        ("DELETE", "/api/ring?group=scores&key=Tom", "GET,HEAD"),
        ("PUT", "/api/groups", "GET,HEAD"),
        ("POST", "/metrics", "GET,HEAD"),
    ] {
        let answer = api.send(method, target, &[], "").await;
        assert_error(&format!("{method} {target}"), &answer, 405, "invalid_request");
        let mut allow: Vec<_> = answer.header("allow").unwrap_or_default().split(',').collect();
        let mut offered: Vec<_> = offered.split(',').collect();
        allow.sort_unstable();
        offered.sort_unstable();
        assert_eq!(allow, offered, "{method} {target}");
    }
}

#[tokio::test]
async fn what_is_too_large_is_refused_where_it_is_too_large() {
    let api = Api::start().await;
    let target = query("scores", "Tom");
    let filled = |length: usize| format!("{target}&x={}", "y".repeat(length - target.len() - 3));
    assert_eq!(api.get(&filled(MAX_URI)).await.status, 200);
    for method in ["GET", "PUT", "DELETE"] {
        let answer = api.send(method, &filled(MAX_URI + 1), &[], "").await;
        assert_error(method, &answer, 414, "uri_too_long");
    }
    let anywhere = format!("/{}", "x".repeat(MAX_URI));
    assert_error("unknown path", &api.get(&anywhere).await, 414, "uri_too_long");

    let large = "x".repeat(17 << 10);
    assert_eq!(api.send("GET", &target, &[("x-large", &large)], "").await.status, 431);
    let names: Vec<String> = (0..150).map(|n| format!("x-{n}")).collect();
    let many: Vec<_> = names.iter().map(|name| (name.as_str(), "1")).collect();
    assert_eq!(api.send("GET", &target, &many, "").await.status, 431);

    for target in [query("scores", "Tom"), query("no-such-group", "Tom")] {
        let answer = api.put(&target, vec![0; (1 << 20) + 1]).await;
        assert_error("a value of more than 1 MiB", &answer, 413, "too_large");
    }
    assert_eq!(api.get(&target).await.text(), "630");
}

#[tokio::test]
async fn a_gateway_without_nodes_says_so_everywhere() {
    let api = Api::of(fleet::local::Plan { nodes: 0, ..plan() }).await;
    let target = query("scores", "Tom");
    for method in ["GET", "HEAD", "PUT", "DELETE"] {
        let answer = api.send(method, &target, &[], "").await;
        assert!(answer.header("retry-after").unwrap().parse::<u32>().unwrap() >= 1);
        if method == "HEAD" {
            assert_eq!(answer.status, 503);
        } else {
            assert_error(method, &answer, 503, "no_nodes");
        }
    }
    let ring = api.get(&format!("/api/ring?group=scores&key={}", encoded("Tom"))).await;
    assert_error("ring", &ring, 503, "no_nodes");
    assert!(ring.header("retry-after").is_some());
    let ready = api.get("/readyz").await;
    assert_eq!((ready.status, ready.text().contains("no node")), (503, true), "{}", ready.text());
    let health = api.get("/health").await;
    assert_eq!((health.status, health.json()["status"].as_str()), (503, Some("unavailable")));
    assert_eq!(api.get("/livez").await.status, 200);
    assert_eq!(api.get("/metrics").await.status, 200);
    let nodes = api.get("/api/nodes").await;
    assert_eq!((nodes.status, nodes.json()["count"].as_u64()), (200, Some(0)));
    assert_eq!(api.get("/api/groups").await.json()["count"], 0);
}
