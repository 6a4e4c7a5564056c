//! An origin of kind `opendal` that is a redis.

use std::time::Duration;

use fleet::{
    cluster::{Cluster, Extras, Plan},
    eventually, http,
    process::Signal,
    redis::Redis,
};

use crate::{
    api::{assert_error, query},
    asking::{HOSTILE, once_for_all},
};

const PASSWORD: &str = "sesame";

async fn cluster(redis: &Redis) -> Cluster {
    let config = format!(
        "[groups.users]\nmax_value = \"1KiB\"\nnegative_ttl = \"0s\"\n\
         origin = {{ kind = \"opendal\", scheme = \"redis\", path = \"user:{{key}}\", timeout = \"1s\", \
         options = {{ endpoint = \"redis://{}\", password = \"${{REDIS_PASSWORD}}\" }} }}\n",
        redis.address()
    );
    let node = Extras::default().config(config).env("REDIS_PASSWORD", PASSWORD);
    Cluster::start(Plan { node, gateway: Extras::patient(), ..Plan::default() }).await.unwrap()
}

/// How often redis was asked for a value.
async fn gets(redis: &Redis) -> usize {
    let stats = redis.say(PASSWORD, &["INFO", "commandstats"]).await.unwrap();
    let line = stats.lines().find_map(|line| line.strip_prefix("cmdstat_get:calls="));
    line.and_then(|line| line.split(',').next()?.parse().ok()).unwrap_or(0)
}

#[tokio::test]
async fn a_redis_is_read() {
    let redis = Redis::start(PASSWORD).await.unwrap();
    let large = "x".repeat(1025);
    for (key, value) in
        [("Tom", "630"), ("empty", ""), ("a/b", "1"), ("new", "2"), ("large", &large)]
    {
        let said = redis.say(PASSWORD, &["SET", &format!("user:{key}"), value]).await.unwrap();
        assert_eq!(said, "+OK");
    }
    redis.say(PASSWORD, &["LPUSH", "user:list", "1"]).await.unwrap();
    let cluster = cluster(&redis).await;
    let gateway = cluster.gateway(0).address();
    let get = async |key: &str| http::get(gateway, &query("users", key)).await.unwrap();

    for (key, value) in [("Tom", "630"), ("empty", ""), ("a/b", "1")] {
        let answer = get(key).await;
        assert_eq!((answer.status, answer.text().as_str()), (200, value), "{key}");
    }
    assert_error("nobody", &get("nobody").await, 404, "not_found");
    assert_error("too large", &get("large").await, 502, "origin_error");
    assert_error("no text", &get("list").await, 502, "origin_error");
    let before = gets(&redis).await;
    for key in HOSTILE {
        let answer = get(key).await;
        assert!(matches!(answer.status, 400 | 404), "{key:?}: {}", answer.status);
    }
    assert_eq!(gets(&redis).await, before);
    once_for_all(&cluster, "users", "new", "2").await;
    assert_eq!(gets(&redis).await - before, 1);

    redis.process().signal(Signal::STOP).unwrap();
    assert_error("it hangs", &get("late").await, 504, "timeout");
    redis.process().signal(Signal::CONT).unwrap();
    eventually("it is asked again", Duration::from_secs(2), async || {
        let answer = get("again").await;
        if answer.status == 404 { Ok(()) } else { Err(answer.text()) }
    })
    .await;
    redis.process().kill();
    let answer = get("dead").await;
    assert!(matches!(answer.status, 502 | 504), "{}", answer.text());
    assert_eq!(get("Tom").await.text(), "630", "what is held needs no redis");
    for node in cluster.nodes() {
        assert!(!node.process().lines().join("\n").contains(PASSWORD));
    }
}
