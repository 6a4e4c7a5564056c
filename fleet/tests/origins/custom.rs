//! An origin that a program brings along, in a fleet in one process: what becomes of what it says.

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use cachenode::{
    group::Definition,
    origin::{Asked, LoadError, Loaded, OriginDefinition},
};
use fleet::{descriptors::make_room, eventually, http, local::Plan};
use tokio::{sync::Semaphore, task::JoinSet};

use crate::{
    api::{Api, assert_error, plan, query},
    asking::all_wait,
};

/// An origin that says with its keys what is to happen, and counts how often it is asked.
#[derive(Clone)]
struct Origin {
    calls: Arc<AtomicUsize>,
    /// Loads of keys that begin with `slow` wait for a permit.
    go: Arc<Semaphore>,
    /// What the group says of its values; zero: for ever.
    ttl: Duration,
}

impl Origin {
    fn new() -> Self {
        Self { calls: Arc::default(), go: Arc::new(Semaphore::new(0)), ttl: Duration::ZERO }
    }

    async fn load(self, key: String) -> Result<Option<Loaded>, LoadError> {
        let call = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
        if key.starts_with("slow") {
            self.go.acquire().await.unwrap().forget();
        }
        match key.as_str() {
            "nobody" => Ok(None),
            "empty" => Ok(Some(Loaded::default())),
            "broken" => Err(LoadError::failed("it is broken")),
            "panics" => panic!("on purpose"),
            "hangs" => pending().await,
            "once" if call > 1 => Err(LoadError::failed("it was asked before")),
            "large" => Ok(Some(Loaded::from(vec![b'x'; 100_000]))),
            _ => Ok(Some(Loaded {
                content_type: "text/plain".into(),
                ..Loaded::from(format!("{key} {call}"))
            })),
        }
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    /// A fleet of three nodes whose group `loaded` has it, and is that patient with it; so is its gateway.
    async fn fleet(&self, patience: Duration) -> Api {
        let origin = self.clone();
        let mut asked = Asked::new(move |key| origin.clone().load(key));
        asked.timeout = patience;
        let group = Definition {
            origin: OriginDefinition::Asked(asked),
            negative_ttl: Duration::from_secs(60),
            ttl: self.ttl,
            stale_if_error: Duration::from_secs(60),
            ..Definition::new("loaded".parse().unwrap())
        };
        let mut plan = Plan { groups: vec![group], ..plan() };
        let gateway = &mut plan.settings.gateway;
        gateway.request_timeout = gateway.request_timeout.max(patience);
        Api::of(plan).await
    }
}

#[tokio::test]
async fn what_an_origin_says_is_told_apart() {
    let origin = Origin::new();
    let api = origin.fleet(Duration::from_millis(500)).await;
    let first = api.get(&query("loaded", "Tom")).await;
    assert_eq!((first.status, first.text().as_str()), (200, "Tom 1"));
    assert_eq!(first.header("cache-status"), Some("ringway; fwd=miss; stored"));
    assert_eq!(first.header("content-type"), Some("text/plain"));
    let again = api.get(&query("loaded", "Tom")).await;
    assert_eq!((again.text().as_str(), again.header("etag")), ("Tom 1", first.header("etag")));
    assert_eq!(again.header("cache-status"), Some("ringway; hit"));

    let empty = api.get(&query("loaded", "empty")).await;
    assert_eq!((empty.status, empty.body.len()), (200, 0));
    let large = api.get(&query("loaded", "large")).await;
    assert_eq!((large.status, large.body.len()), (200, 100_000), "it goes over the other lane");
    for (key, status, code) in [
        ("nobody", 404, "not_found"),
        ("broken", 502, "origin_error"),
        ("panics", 502, "origin_error"),
        ("hangs", 504, "timeout"),
    ] {
        assert_error(key, &api.get(&query("loaded", key)).await, status, code);
    }
    let before = origin.calls();
    assert_error("remembered", &api.get(&query("loaded", "nobody")).await, 404, "not_found");
    assert_eq!(origin.calls(), before);
}

#[tokio::test]
async fn however_many_ask_the_origin_is_asked_once() {
    const CALLERS: usize = 1000;
    // Both ends of each connection are in this process.
    make_room(2 * CALLERS);
    let origin = Origin::new();
    let api = origin.fleet(Duration::from_secs(60)).await;
    let (gateway, mut callers) = (api.fleet.gateway(), JoinSet::new());
    for _ in 0..CALLERS {
        callers.spawn(async move { http::get(gateway, &query("loaded", "slow")).await.unwrap() });
    }
    // A node that gets no processor just when the value comes does not keep it: who came later would make
    // it ask again.
    all_wait(&[gateway], CALLERS).await;
    origin.go.add_permits(CALLERS);
    let answers = callers.join_all().await;
    for answer in answers {
        assert_eq!((answer.status, answer.text().as_str()), (200, "slow 1"));
    }
    assert_eq!(origin.calls(), 1);
}

#[tokio::test]
async fn who_waited_for_whom_and_what_was_kept_is_told() {
    const CALLERS: usize = 20;
    let origin = Origin::new();
    let api = origin.fleet(Duration::from_secs(10)).await;
    let (gateway, mut callers) = (api.fleet.gateway(), JoinSet::new());
    for _ in 0..CALLERS {
        callers.spawn(async move { http::get(gateway, &query("loaded", "slow")).await.unwrap() });
    }
    eventually("the origin is asked", Duration::from_secs(5), async || {
        if origin.calls() == 1 { Ok(()) } else { Err("not yet") }
    })
    .await;
    origin.go.add_permits(CALLERS);
    let mut told: Vec<_> = (callers.join_all().await.iter())
        .map(|answer| answer.header("cache-status").unwrap().to_owned())
        .filter(|status| status != "ringway; hit")
        .collect();
    told.sort();
    assert_eq!(told.remove(0), "ringway; fwd=miss; stored");
    assert!(told.iter().all(|it| it == "ringway; fwd=miss; stored; collapsed"), "{told:?}");
}

#[tokio::test]
async fn a_write_during_a_load_is_not_undone_by_it() {
    let origin = Origin::new();
    let api = origin.fleet(Duration::from_secs(10)).await;
    let (gateway, target) = (api.fleet.gateway(), query("loaded", "slow"));
    let reading = target.clone();
    let read = tokio::spawn(async move { http::get(gateway, &reading).await.unwrap() });
    eventually("the origin is asked", Duration::from_secs(5), async || {
        if origin.calls() == 1 { Ok(()) } else { Err("not yet") }
    })
    .await;
    api.stored(&target, "written").await;
    origin.go.add_permits(1);
    let read = read.await.unwrap();
    assert_eq!(read.text(), "slow 1", "it began before the write");
    assert_eq!(read.header("cache-status"), Some("ringway; fwd=miss"), "and is not kept");
    assert_eq!(api.get(&target).await.text(), "written");
    assert_eq!(origin.calls(), 1);
}

#[tokio::test]
async fn a_stale_value_is_better_than_a_failure() {
    let origin = Origin { ttl: Duration::from_millis(50), ..Origin::new() };
    let api = origin.fleet(Duration::from_secs(10)).await;
    let target = query("loaded", "once");
    assert_eq!(api.get(&target).await.text(), "once 1");
    eventually("a stale answer", Duration::from_secs(5), async || {
        let answer = api.get(&target).await;
        assert_eq!((answer.status, answer.text().as_str()), (200, "once 1"));
        match answer.header("cache-status") {
            Some(stale) if stale.starts_with("ringway; fwd=stale; ttl=-") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    // While it waits for the origin, and while the failure is remembered.
    assert!(origin.calls() > 1);
}
