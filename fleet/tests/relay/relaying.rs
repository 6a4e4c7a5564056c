//! What is sent past an owner that can be reached from the next node is the owner's to do.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use common::{config::Partition, link::Answer, topology::Epoch};
use proto::v1::{self, op::Kind};

use crate::{bench::*, fake_node};

#[tokio::test]
async fn the_owner_answers_and_nothing_is_done_here() {
    let bench = Bench::start().await;
    bench.on(|kind| match kind {
        Kind::Request(_) => Some(fake_node::value("the owner's")),
        other => well(other),
    });
    let key = bench.key(true, 0);
    let write = v1::Request {
        op_link: Bytes::from(vec![7; 16]),
        op_seq: 9,
        ttl_ms: 5000,
        ..set(&key, "new")
    };
    let conditional = v1::Request {
        condition: Some(Box::new(v1::Condition { if_present: true, ..Default::default() })),
        ..request(v1::Verb::Delete, &key)
    };
    // Who is late is asked again: a read is answered from here, and what depends on a condition is
    // nobody's guess.
    let mut times = 0;
    for asked in [get(&key), write, conditional] {
        fleet::eventually("the owner answers", Duration::from_secs(1), async || {
            times += 1;
            value(bench.ask(asked.clone()).await) == Ok("the owner's".to_owned())
        })
        .await;
        let Some(Kind::Request(relayed)) = bench.seen().pop() else { panic!("a request") };
        let as_it_was = v1::Request { try_ms: 0, budget_ms: 0, ..relayed.clone() };
        assert_eq!(as_it_was, asked, "as its sender meant it, and for the owner");
        assert!(relayed.try_ms < 250 && relayed.budget_ms > 250);
    }
    assert!(bench.other.hellos().iter().any(|hello| hello.role() == v1::Role::Node));
    assert!(bench.metric("relays_total").await >= 3);
    assert_eq!(bench.metric("relays_done_total").await, 3);
    assert!(bench.metric("stand_ins_total").await <= times - 3, "only for who is late");
    assert_eq!(bench.metric("hints_kept_total").await, 0);
}

#[tokio::test]
async fn whoever_asked_hears_at_once_that_it_takes_longer() {
    let bench = Bench::start().await;
    bench.on(hanging);
    for asked in [get(&bench.key(true, 0)), set(&bench.key(true, 1), "v")] {
        fleet::eventually("an answer that takes longer", Duration::from_secs(1), async || {
            let started = Instant::now();
            // The owner gets no less time than this.
            let answer = bench.ask_within(asked.clone(), Duration::from_millis(100)).await;
            assert!(started.elapsed() >= Duration::from_millis(100), "it was asked first");
            // A machine that stands still may be too late with telling.
            if matches!(answer, Answer::Reply(_)) { Ok(()) } else { Err(format!("{answer:?}")) }
        })
        .await;
    }
}

#[tokio::test]
async fn an_owner_that_knows_better_says_so() {
    let bench = Bench::start().await;
    let moved = v1::Moved { owner: "n9".to_owned(), epoch: None };
    let says = moved.clone();
    bench.on(move |kind| match kind {
        Kind::Request(_) => Some(Kind::Moved(says.clone())),
        other => well(other),
    });
    let write = named(set(&bench.key(true, 0), "v"));
    fleet::eventually("it says so in time", Duration::from_secs(1), async || {
        match bench.ask(write.clone()).await {
            Answer::Moved(told) if told == moved => Ok(()),
            // Late, and then what a late one may have done is not denied.
            other => Err(format!("{:?}", reply(other).code())),
        }
    })
    .await;
    assert_eq!(bench.metric("stand_ins_total").await, 0);
}

#[tokio::test]
async fn a_conditional_write_whose_relay_is_not_answered_is_nobodys_guess() {
    let bench = Bench::start().await;
    bench.on(hanging);
    let key = bench.key(true, 0);
    let condition = Some(Box::new(v1::Condition { if_absent: true, ..Default::default() }));
    let add = v1::Request { condition, ..set(&key, "v") };
    let reply = reply(bench.ask(add).await);
    assert_eq!(reply.code(), v1::Code::Timeout);
    assert!(reply.message.contains("unknown"), "{}", reply.message);
    assert_eq!(value(bench.ask(get(&key)).await), Err(v1::Code::NotFound), "nothing was done here");
}

#[tokio::test]
async fn no_later_answer_denies_what_a_first_relay_may_have_done() {
    for later in [
        fake_node::not_started(v1::not_started::Reason::CatchingUp),
        Kind::Moved(v1::Moved { owner: "n9".to_owned(), epoch: None }),
    ] {
        let bench = Bench::with(Partition::Strict).await;
        let asked = Arc::new(AtomicUsize::new(0));
        bench.on(move |kind| match kind {
            Kind::Request(_) if asked.fetch_add(1, Ordering::SeqCst) < 1 => None,
            Kind::Request(_) => Some(later.clone()),
            other => well(other),
        });
        let write = v1::Request {
            op_link: Bytes::from(vec![7; 16]),
            op_seq: 9,
            ..set(&bench.key(true, 0), "v")
        };
        let answer = reply(bench.ask(write).await);
        assert_eq!(answer.code(), v1::Code::Timeout, "{}", answer.message);
    }
}

#[tokio::test]
async fn a_relayed_write_that_the_owner_had_applied_is_answered_and_not_applied_twice() {
    let bench = Bench::start().await;
    // The real node is the owner here: the same write comes from its writer and by a relay.
    let key = bench.key(false, 0);
    let write = v1::Request { op_link: Bytes::from(vec![7; 16]), op_seq: 1, ..set(&key, "v") };
    let first = reply(bench.ask(write.clone()).await);
    let newer = reply(bench.ask(set(&key, "newer")).await);
    let again = reply(bench.ask(write).await);
    assert_eq!((again.version_lo, again.created), (first.version_lo, true));
    assert!(newer.version_lo > first.version_lo);
    assert_eq!(value(bench.ask(get(&key)).await).unwrap(), "newer");
}

#[tokio::test]
async fn who_goes_by_another_generation_is_judged_by_what_is_read_then() {
    let bench = Bench::start().await;
    bench.on(|kind| match kind {
        Kind::Request(_) => Some(fake_node::value("the owner's")),
        other => well(other),
    });
    let (own, others) = (bench.key(false, 0), bench.key(true, 0));
    let foreign = Epoch { generation: uuid::Uuid::from_u128(5), as_of: 1 << 40, digest: 1 };
    for _ in 0..3 {
        let answer = bench.ask_by(set(&own, "v"), foreign).await;
        assert_eq!(reply(answer).code(), v1::Code::Ok, "its own key, whatever others think");
        fleet::eventually("the owner answers", Duration::from_secs(1), async || {
            value(bench.ask_by(get(&others), foreign).await) == Ok("the owner's".to_owned())
        })
        .await;
    }
}
