//! Owners that the next node can't reach either, and what they hear when they are back.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use common::{config::Partition, link::Answer};
use proto::v1::{self, op::Kind};

use crate::bench::*;

#[tokio::test]
async fn a_dead_owners_keys_are_written_here_for_a_while_and_it_hears_of_that() {
    let mut bench = Bench::start().await;
    let (key, deleted) = (bench.key(true, 0), bench.key(true, 1));
    bench.kill_other().await;
    let written = v1::Request { ttl_ms: 60_000, ..set(&key, "meanwhile") };
    for _ in 0..4 {
        assert_eq!(reply(bench.ask(written.clone()).await).code(), v1::Code::Ok);
    }
    let read = reply(bench.ask(get(&key)).await);
    assert_eq!(read.value, "meanwhile");
    assert!((1..=10_000).contains(&read.ttl_ms), "{}", read.ttl_ms);
    let gone = reply(bench.ask(request(v1::Verb::Delete, &deleted)).await);
    assert_eq!(gone.code(), v1::Code::NotFound);
    assert!(bench.metric("hints_kept_total").await >= 5);
    assert_eq!(bench.metric("hints_delivered_total").await, 0);

    // It is back, with whatever it had: it hears of both keys, also of the one of which nothing
    // was here to delete.
    bench.on(hanging);
    bench.revive_other().await;
    bench.sees("a hint of the write", |kind| hints(kind, &key)).await;
    bench.sees("a hint of the deletion", |kind| hints(kind, &deleted)).await;
    // From then on it may have newer values: what was written here is not read any more.
    assert_eq!(value(bench.ask(get(&key)).await), Err(v1::Code::NotFound));
    fleet::eventually("the hints are done with", Duration::from_secs(1), async || {
        bench.metric("hints_delivered_total").await >= 2
    })
    .await;
}

#[tokio::test]
async fn an_owner_that_refuses_hears_of_a_write_before_its_writer_does() {
    let bench = Bench::start().await;
    bench.on(refusing);
    let key = bench.key(true, 0);
    assert_eq!(reply(bench.ask(named(set(&key, "v"))).await).code(), v1::Code::Ok);
    let is_takeover = |kind: &Kind| matches!(kind, Kind::Takeover(_));
    let seen: Vec<_> = bench.seen().into_iter().filter(|it| !is_takeover(it)).collect();
    assert!(matches!(seen[0], Kind::Request(_)), "{seen:?}");
    assert!(seen.iter().any(|kind| hints(kind, &key)), "{seen:?}");
}

#[tokio::test]
async fn a_write_past_an_owner_that_lives_is_answered_when_that_has_heard_of_it() {
    let bench = Bench::start().await;
    let told = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&told);
    // The first hints go unanswered: longer than a lease.
    bench.on(move |kind| match kind {
        Kind::Hint(_) if count.fetch_add(1, Ordering::SeqCst) < 2 => None,
        other => refusing(other),
    });
    assert_eq!(reply(bench.ask(named(set(&bench.key(true, 0), "v"))).await).code(), v1::Code::Ok);
    assert!(told.load(Ordering::SeqCst) > 2, "not before it has taken the hint");
}

#[tokio::test]
async fn an_owner_that_was_late_and_lives_is_asked_again() {
    let bench = Bench::start().await;
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    bench.on(move |kind| match kind {
        Kind::Request(_) if count.fetch_add(1, Ordering::SeqCst) < 2 => None,
        other => well(other),
    });
    assert_eq!(reply(bench.ask(named(set(&bench.key(true, 0), "v"))).await).code(), v1::Code::Ok);
    assert!(asked.load(Ordering::SeqCst) >= 3, "under the same name each time");
    assert_eq!(bench.metric("stand_ins_total").await, 0);
    assert_eq!(bench.metric("hints_kept_total").await, 0);
}

#[tokio::test]
async fn an_owner_that_answers_nothing_is_absent_after_a_while_and_not_before() {
    let bench = Bench::start().await;
    bench.on(|_| None);
    let (key, other) = (bench.key(true, 0), bench.key(true, 1));
    let started = Instant::now();
    let writing = bench.begin(named(set(&key, "v")));
    assert_eq!(value(bench.ask(get(&other)).await), Err(v1::Code::NotFound));
    assert!(!writing.is_finished(), "a read that finds nothing need not wait for that");
    assert_eq!(reply(writing.await.unwrap()).code(), v1::Code::Ok);
    assert!(started.elapsed() >= Duration::from_millis(750));
    assert_eq!(bench.metric("absences_total").await, 1);
    assert_eq!(value(bench.ask(get(&key)).await).unwrap(), "v");
    let relays = bench.metric("relays_total").await;
    assert_eq!(reply(bench.ask(set(&other, "w")).await).code(), v1::Code::Ok);
    assert_eq!(bench.metric("relays_total").await, relays, "it is known by now, and not asked");
    assert_eq!(bench.metric("absences_total").await, 1);
    // This node stands still for a moment, so it asks again; and the owner refuses, so it lives. Nothing of
    // that is believed any more, not even by the first who hears it.
    bench.on(|kind| if matches!(kind, Kind::Ping(_)) { None } else { refusing(kind) });
    bench.clock.skip(Duration::from_millis(150));
    assert_eq!(value(bench.ask(get(&key)).await), Err(v1::Code::NotFound));
    bench.on(hanging);
    bench.sees("a hint of the write", |kind| hints(kind, &key)).await;
    assert_eq!(value(bench.ask(get(&key)).await), Err(v1::Code::NotFound));
}

#[tokio::test]
async fn a_strict_group_refuses_instead() {
    let mut bench = Bench::with(Partition::Strict).await;
    bench.kill_other().await;
    let key = bench.key(true, 0);
    for asked in [get(&key), set(&key, "v"), request(v1::Verb::Delete, &key)] {
        let reply = reply(bench.ask(asked).await);
        assert_eq!(reply.code(), v1::Code::NodeUnavailable);
        assert!(reply.message.contains("strict"), "{}", reply.message);
    }
    let own = bench.key(false, 0);
    assert_eq!(reply(bench.ask(set(&own, "v")).await).code(), v1::Code::Ok);
    assert_eq!(bench.metric("hints_kept_total").await, 0);
}

#[tokio::test]
async fn hints_are_taken_from_nodes_and_from_nobody_else() {
    let bench = Bench::start().await;
    let key = bench.key(false, 0);
    assert_eq!(reply(bench.ask(set(&key, "old")).await).code(), v1::Code::Ok);
    let hinted = v1::HintedKey { group: "default".to_owned(), key: key.clone() };
    let hint = || Kind::Hint(v1::Hint { keys: vec![hinted.clone()], ..Default::default() });
    for role in [v1::Role::Gateway, v1::Role::Client, v1::Role::Unspecified] {
        for kind in [hint(), Kind::HintsWanted(v1::HintsWanted::default())] {
            let Answer::Reply(reply) = bench.tell_as(role, kind).await else { panic!("a reply") };
            assert_eq!(reply.code(), v1::Code::Unsupported);
        }
    }
    assert_eq!(value(bench.ask(get(&key)).await).unwrap(), "old");
    let Answer::Reply(taken) = bench.tell_as(v1::Role::Node, hint()).await else { panic!() };
    assert_eq!(taken.code(), v1::Code::Ok);
    assert_eq!(value(bench.ask(get(&key)).await), Err(v1::Code::NotFound));
    let all = Kind::Hint(v1::Hint { everything: true, ..Default::default() });
    assert_eq!(reply(bench.ask(set(&key, "new")).await).code(), v1::Code::Ok);
    assert!(matches!(bench.tell_as(v1::Role::Node, all).await, Answer::Reply(_)));
    assert_eq!(value(bench.ask(get(&key)).await), Err(v1::Code::NotFound));
    assert!(reply(bench.ask(set(&key, "newer")).await).created);
    assert_eq!(value(bench.ask(get(&key)).await).unwrap(), "newer");
}
