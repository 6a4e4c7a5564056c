//! The status that tells how a value came, and what a request says of how long others wait.

use std::sync::Arc;

use common::{
    clock::ManualClock,
    config::Settings,
    discovery::{DEFAULT_LEASE_TTL, GrpcProber, MemoryRegistry, NodeRecord, WantedRing},
    link::Identity,
    near::LEASE,
    route::{Lender, Persistence, Router, Shared},
    telemetry,
    topology::follow,
};
use prometheus_client::registry::Registry;
use proto::v1::{self, Source};
use tokio::runtime::Handle;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

use super::*;
use crate::{
    admission::Admission,
    budget::Budget,
    cache::Cache,
    gateway::Process,
    metrics::Metrics,
    near::{Look, Near, NearMetrics},
};

fn size_of_future<F>(_: fn(Api, Asked, Parts, Incoming) -> F) -> usize {
    size_of::<F>()
}

#[test]
fn a_requests_future_is_small() {
    // It is copied once for every request. What is rare in it has a box of its own.
    let size = size_of_future(respond);
    assert!(size <= 840, "{size} bytes");
}

#[test]
fn the_status_tells_how_a_value_came() {
    let reply = |source: Source| v1::Reply { source: source.into(), ..v1::Reply::default() };
    let joined = |source| v1::Reply { collapsed: true, ..reply(source) };
    let fenced = |source| v1::Reply { not_stored: true, ..reply(source) };
    let stale = |source| v1::Reply { stale_ms: 2001, ..reply(source) };
    for (reply, status) in [
        (reply(Source::Hit), "hit"),
        (joined(Source::Hit), "hit"),
        (stale(Source::Outdated), "hit; ttl=-3"),
        (reply(Source::Loaded), "fwd=miss; stored"),
        (joined(Source::Loaded), "fwd=miss; stored; collapsed"),
        (fenced(Source::Loaded), "fwd=miss"),
        (reply(Source::Reloaded), "fwd=stale; stored"),
        (fenced(Source::Reloaded), "fwd=stale"),
        (reply(Source::Renewed), "fwd=stale; fwd-status=304; stored"),
        (stale(Source::Stale), "fwd=stale; ttl=-3"),
        (v1::Reply { collapsed: true, ..stale(Source::Stale) }, "fwd=stale; collapsed; ttl=-3"),
    ] {
        assert_eq!(cache_status(&Entry::from(reply)), format!("ringway; {status}"));
    }
}

/// A worker that holds `g/k` in its near cache, and that cache; there is no node that would answer.
async fn holding() -> (Worker, Arc<Near>) {
    let (clock, tasks) = (Arc::new(ManualClock::new()), TaskTracker::new());
    let registry = MemoryRegistry::new(clock.clone(), DEFAULT_LEASE_TTL);
    let discovery = registry.join(&WantedRing::default(), Arc::new(GrpcProber));
    let node = NodeRecord::new("n".parse().unwrap(), Uuid::nil(), "127.0.0.1:1");
    registry.put_raw(&node.id, &node.to_json().unwrap());
    let topologies = follow(Arc::new(discovery), &tasks, CancellationToken::new());
    topologies.changes().wait_for(|_| !topologies.load().members().is_empty()).await.unwrap();

    let near = Arc::new(Near::new(1 << 20, clock.clone(), NearMetrics::default()));
    let looks = std::iter::repeat_with(|| near.look(&topologies, "g", "k")).take(100);
    let wishes = looks.filter_map(|look| match look {
        Look::Ask(wish) => wish,
        Look::Held(_) => None,
    });
    let (wish, loan_ms) = (wishes.last().expect("it is hot"), LEASE.as_millis() as u32);
    let reply = v1::Reply { value: "630".into(), loan_ms, ..v1::Reply::default() };
    near.install(&wish, "g", "k", &reply, Lender::new(topologies.load(), 0));

    let (service, id) = ("ringway".to_owned(), "g1".to_owned());
    let identity = Identity { service, id, role: v1::Role::Gateway, instance: Uuid::nil() };
    let persistence = Persistence { try_timeout: LEASE, max_retries: 0 };
    let shared = Arc::new(Shared::new(identity, topologies, persistence, clock.clone()));
    let router = Router::lending(Arc::clone(&shared), Handle::current(), near.clone());
    let cache = Cache::new(router, Some(near.clone()), LEASE);
    let metrics = Metrics::register(&mut Registry::default());
    let bodies = Budget::new(1 << 20, metrics.body_bytes.clone(), metrics.shed_bytes());
    let (settings, shown) = (Settings::default(), telemetry::Metrics::new());
    let stopping = CancellationToken::new();
    let process = Process::new(&settings, shared, vec![], shown, bodies, clock, stopping);
    let admission = Admission::new(100, 1, metrics.load(0));
    (Worker::new(cache, Arc::new(process), metrics.worker(0), admission), near)
}

#[tokio::test]
async fn what_is_held_here_tells_nothing_of_how_long_others_wait() {
    let (worker, _) = holding().await;
    let request = http::Request::get("/api/cache/g/k").body(()).unwrap();
    let (parts, ()) = request.into_parts();
    let (response, waited) = get(&worker, &parts, Instant::now()).await.unwrap();
    assert_eq!(response.headers()[STATUS], "ringway; hit; detail=near");
    assert_eq!(waited, None, "it would say that nodes answer at once");
    let at_its_node = Entry::from(v1::Reply::default());
    assert!(at_its_node.was_at_its_node());
    let loaded = v1::Reply { source: Source::Loaded.into(), ..v1::Reply::default() };
    assert!(!Entry::from(loaded).was_at_its_node());
}

#[tokio::test]
async fn a_key_that_nobody_lends_is_asked_for_once_in_a_while() {
    let (worker, near) = holding().await;
    let topologies = worker.process.route.topologies.clone();
    let asks = || matches!(near.look(&topologies, "g", "hot"), Look::Ask(Some(_)));
    assert!((0..100).any(|_| asks()) && asks(), "it is hot");
    let key = "hot".parse().unwrap();
    let answer = worker.cache.get("g".parse().unwrap(), key, Instant::now()).await;
    assert!(answer.is_err(), "nobody answers");
    assert!(!asks());
}
