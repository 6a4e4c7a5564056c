//! Values go in and come out as they are, with what is known about them.

use std::time::{Duration, Instant};

use bytes::Bytes;
use fleet::{eventually, http::Response};

use crate::api::{Api, query};

const KIB: usize = 1 << 10;

/// The seconds of `Cache-Control: max-age`.
fn max_age(answer: &Response) -> Option<u64> {
    answer.header("cache-control")?.strip_prefix("max-age=")?.parse().ok()
}

fn age(answer: &Response) -> u64 {
    answer.header("age").unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_value_is_made_replaced_read_and_deleted() {
    let api = Api::start().await;
    let target = query("default", "hello");
    for (method, value) in [("PUT", "world"), ("POST", "moon")] {
        let answer = api.send(method, &target, &[], value).await;
        let made = method == "PUT";
        assert_eq!(answer.status, if made { 201 } else { 204 });
        assert!(answer.body.is_empty());
        let etag = answer.header("etag").unwrap();
        assert!(etag.len() == 34 && etag.starts_with('"') && etag.ends_with('"'), "{etag}");

        let read = api.get(&target).await;
        assert_eq!((read.status, read.text().as_str()), (200, value));
        assert_eq!(read.header("etag"), Some(etag));
        assert_eq!(read.header("content-type"), Some("application/octet-stream"));
        assert_eq!(read.header("content-length"), Some(value.len().to_string().as_str()));
        assert_eq!(read.header("cache-status"), Some("ringway; hit"));
        assert!(age(&read) < 15);
        assert_eq!(max_age(&read), None, "it never expires");
    }
    let gone = api.delete(&target).await;
    assert_eq!((gone.status, gone.body.len()), (204, 0));
    assert_eq!(gone.header("content-length"), None, "RFC 9110, 8.6: not with 204");
    assert_eq!(api.get(&target).await.status, 404);
    assert_eq!(api.delete(&target).await.status, 404);
    assert_eq!(api.put(&target, "again").await.status, 201);
    api.fleet.stop().await;
}

#[tokio::test]
async fn head_tells_all_but_the_value() {
    let api = Api::start().await;
    let target = query("default", "large");
    api.stored(&target, vec![b'x'; 200 * KIB]).await;
    let (head, get) = (api.send("HEAD", &target, &[], "").await, api.get(&target).await);
    assert_eq!((head.status, head.body.len(), get.body.len()), (200, 0, 200 * KIB));
    assert_eq!(head.header("content-length"), Some("204800"));
    for name in ["etag", "content-type", "cache-status"] {
        assert_eq!(head.header(name), get.header(name), "{name}");
        assert!(head.header(name).is_some(), "{name}");
    }
    let missing = api.send("HEAD", &query("default", "none"), &[], "").await;
    assert_eq!((missing.status, missing.body.len()), (404, 0));
}

#[tokio::test]
async fn the_content_type_is_kept_with_the_value() {
    let api = Api::start().await;
    let target = query("default", "typed");
    for content_type in ["application/json", "text/plain; charset=utf-8", "image/png"] {
        let put = api.send("PUT", &target, &[("content-type", content_type)], "1").await;
        assert!(matches!(put.status, 201 | 204));
        assert_eq!(api.get(&target).await.header("content-type"), Some(content_type));
    }
    api.stored(&target, "untyped").await;
    let read = api.get(&target).await;
    assert_eq!(read.header("content-type"), Some("application/octet-stream"), "it went with it");
    let longest = "x".repeat(256);
    let put = api.send("PUT", &target, &[("content-type", &longest)], "1").await;
    assert_eq!(put.status, 204, "{}", put.text());
    assert_eq!(api.get(&target).await.header("content-type"), Some(longest.as_str()));
    let endless = "x".repeat(257);
    let refused = api.send("PUT", &target, &[("content-type", &endless)], "1").await;
    assert_eq!((refused.status, refused.json()["error"].as_str()), (400, Some("invalid_request")));
}

#[tokio::test]
async fn a_missing_value_comes_from_the_origin_once() {
    let api = Api::start().await;
    let target = query("scores", "Tom");
    for status in ["ringway; fwd=miss; stored", "ringway; hit"] {
        let read = api.get(&target).await;
        assert_eq!((read.status, read.text().as_str()), (200, "630"));
        assert_eq!(read.header("cache-status"), Some(status));
        assert_eq!(read.header("content-type"), Some("text/plain"));
    }
    assert_eq!(api.put(&target, "631").await.status, 204);
    assert_eq!(api.get(&target).await.text(), "631");
    assert_eq!(api.delete(&target).await.status, 204);
    assert_eq!(api.get(&target).await.text(), "630", "deleted from the cache, not at the origin");
}

#[tokio::test]
async fn a_value_lives_as_long_as_its_ttl_says() {
    let api = Api::start().await;
    let target = query("default", "brief");
    let started = Instant::now();
    assert_eq!(api.put(&format!("{target}&ttl=2s"), "x").await.status, 201);
    let read = api.get(&target).await;
    assert!(started.elapsed() >= Duration::from_secs(2) || read.status == 200);
    let promised = Duration::from_secs(2);
    eventually("the value expires", promised, async || {
        let read = api.get(&target).await;
        (read.status == 404).then_some(()).ok_or(format!("{} {:?}", read.status, max_age(&read)))
    })
    .await;
    assert!(started.elapsed() >= promised, "not before its time");
    assert_eq!(api.put(&target, "y").await.status, 201, "expired is absent");

    for (ttl, seconds) in [("1m30s", 90), ("1m%2030s", 90), ("1m+30s", 90), ("2h", 7200)] {
        assert_eq!(api.put(&format!("{target}&ttl={ttl}"), "y").await.status, 204);
        let left = max_age(&api.get(&target).await).unwrap();
        assert!((seconds - 16..=seconds).contains(&left), "{ttl}: {left}");
    }
    api.stored(&target, "for ever").await;
    assert_eq!(max_age(&api.get(&target).await), None, "a write without a ttl has no ttl");
}

#[tokio::test]
async fn age_and_max_age_together_tell_what_is_left() {
    let api = Api::start().await;
    let target = query("default", "ageing");
    api.stored(&format!("{target}&ttl=1m"), "x").await;
    let read = eventually("it is a second old", Duration::from_secs(1), async || {
        let read = api.get(&target).await;
        (age(&read) > 0).then_some(read)
    })
    .await;
    // RFC 9111, 4.2: fresh for max-age less Age; a cache further down must not count twice.
    let total = max_age(&read).unwrap();
    assert!((59..=60).contains(&total), "Age {}, max-age {total}", age(&read));
}

#[tokio::test]
async fn a_ttl_of_ages_is_not_a_short_one() {
    let api = Api::start().await;
    let target = query("default", "patient");
    // 2^64 milliseconds and 384 more.
    for ttl in ["18446744073709552s", "18446744073709551615s", "500000000years"] {
        let put = api.put(&format!("{target}&ttl={ttl}"), "x").await;
        assert!(matches!(put.status, 201 | 204), "{ttl}: {}", put.text());
        let read = api.get(&target).await;
        assert!(max_age(&read).is_none_or(|left| left > 1 << 32), "{ttl}: {:?}", max_age(&read));
    }
}

#[tokio::test]
async fn an_empty_value_is_a_value() {
    let api = Api::start().await;
    let target = query("default", "empty");
    assert_eq!(api.put(&target, "").await.status, 201);
    let read = api.get(&target).await;
    assert_eq!((read.status, read.body.len()), (200, 0));
    assert_eq!(read.header("content-length"), Some("0"));
    assert_eq!(api.put(&target, "").await.status, 204);
    assert_eq!(api.delete(&target).await.status, 204);
}

#[tokio::test]
async fn values_of_every_byte_and_size_come_back_as_they_went() {
    let api = Api::start().await;
    let every_byte: Vec<u8> = (0..=255).collect();
    let sizes = [1, 256, 64 * KIB - 1, 64 * KIB, 64 * KIB + 1, 200 * KIB, 1024 * KIB];
    for size in sizes {
        let value: Bytes = every_byte.iter().copied().cycle().take(size).collect();
        let target = query("default", &format!("of {size}"));
        for status in [201, 204] {
            assert_eq!(api.put(&target, value.clone()).await.status, status, "{size}");
        }
        let read = api.get(&target).await;
        assert_eq!(read.status, 200, "{size}: {}", read.text());
        assert!(read.body == value, "{size}: {} bytes came back", read.body.len());
    }
    let target = query("default", "of too much");
    let refused = api.put(&target, vec![0; 1024 * KIB + 1]).await;
    assert_eq!((refused.status, refused.json()["error"].as_str()), (413, Some("too_large")));
    assert_eq!(api.get(&target).await.status, 404, "nothing was stored");
}
