//! What travels together, and how answers find their callers.

use std::collections::HashSet;

use common::link::frame::{MAX_BATCH_BYTES, MAX_BATCH_OPS};
use proto::v1::{self, op::Kind};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    task::yield_now,
};

use super::*;
use crate::fake_node::{not_started, request, value};

/// More than the stream's windows and the link's queue hold.
const TOO_MANY: usize = 8000;

#[tokio::test]
async fn answers_find_their_callers_though_they_come_out_of_order() {
    let mut node = FakeNode::start("n").await;
    let link = link_to(&node);
    let calls: Vec<_> = (0..10).map(|i| start(&link, get(&format!("k{i}")))).collect();
    let mut stream = node.stream().await;
    let ops = stream.ops(10).await;
    for op in ops.into_iter().rev() {
        let key = request(&op).key.clone();
        stream.answer(op.id, value(key)).await;
    }
    for (i, call) in calls.into_iter().enumerate() {
        assert_eq!(value_of(answer(call).await), format!("k{i}"));
    }
}

#[tokio::test]
async fn every_kind_of_answer_arrives_as_what_it_is() {
    let mut node = FakeNode::start("n").await;
    let link = link_to(&node);
    let calls: Vec<_> = ["moved", "refused", "failed"].map(|key| start(&link, get(key))).into();
    let ping = start(&link, Call::ping(Epoch::default(), Instant::now() + LONG));
    let mut stream = node.stream().await;
    for op in stream.ops(4).await {
        let kind = match &op.kind {
            Some(Kind::Ping(_)) => Kind::Pong(v1::Pong { draining: false }),
            _ => match request(&op).key.as_str() {
                "moved" => Kind::Moved(v1::Moved { owner: "other".to_owned(), epoch: None }),
                "refused" => not_started(v1::not_started::Reason::Overloaded),
                _ => Kind::Reply(v1::Reply { code: 11, ..Default::default() }),
            },
        };
        stream.answer(op.id, kind).await;
    }
    let mut answers = Vec::new();
    for call in calls {
        answers.push(answer(call).await);
    }
    assert!(matches!(&answers[0], Answer::Moved(moved) if moved.owner == "other"));
    assert!(matches!(&answers[1], Answer::NotStarted(v1::not_started::Reason::Overloaded)));
    assert!(matches!(&answers[2], Answer::Reply(reply) if reply.code == 11));
    assert!(matches!(answer(ping).await, Answer::Reply(_)));
}

#[tokio::test]
async fn what_has_queued_up_leaves_in_few_batches() {
    let mut node = FakeNode::start("n").await;
    let link = link_to(&node);
    // All are queued before the link's task gets to run, let alone to connect.
    let calls: Vec<_> = (0..200).map(|i| start(&link, get(&i.to_string()))).collect();
    let mut stream = node.stream().await;
    let (mut batches, mut keys) = (0, HashSet::new());
    while keys.len() < calls.len() {
        let batch = stream.batch().await;
        assert!(batch.ops.len() <= MAX_BATCH_OPS && batch.stamp_us > 0);
        keys.extend(batch.ops.iter().map(|op| request(op).key.clone()));
        batches += 1;
    }
    assert_eq!(batches, 200_usize.div_ceil(MAX_BATCH_OPS));
}

#[tokio::test]
async fn what_comes_a_turn_of_the_reactor_later_travels_along() {
    let mut node = FakeNode::start("n").await;
    let link = link_to(&node);
    let first = start(&link, get("opens the stream"));
    let mut stream = node.stream().await;
    let ops = stream.ops(1).await;
    stream.answer(ops[0].id, value("v".to_owned())).await;
    assert_eq!(value_of(answer(first).await), "v");
    // A socket that has something to read, which the reactor has not looked at yet.
    let (mut near_end, mut far_end) = UnixStream::pair().unwrap();
    near_end.write_all(b"!").await.unwrap();
    let one = start(&link, get("one"));
    let two = tokio::spawn(async move {
        far_end.read_u8().await.unwrap();
        link.call(get("two")).await
    });
    let batch = stream.batch().await;
    let keys: Vec<_> = batch.ops.iter().map(|op| request(op).key.as_str()).collect();
    assert_eq!(keys, ["one", "two"]);
    for op in &batch.ops {
        stream.answer(op.id, value("v".to_owned())).await;
    }
    assert_eq!([value_of(answer(one).await), value_of(answer(two).await)], ["v", "v"]);
}

#[tokio::test]
async fn identical_reads_become_one_until_it_has_left() {
    let mut node = FakeNode::start("n").await;
    let link = link_to(&node);
    let end = Instant::now() + LONG;
    let together = [(); 3].map(|()| start(&link, until(get("k"), end)));
    let other = start(&link, get("other"));
    let mut stream = node.stream().await;
    let mut ops = stream.ops(2).await;
    assert_eq!(ops.iter().map(|op| request(op).key.as_str()).collect::<Vec<_>>(), ["k", "other"]);
    // Nobody has answered yet, but the one that asks now may have written in between.
    let later = start(&link, get("k"));
    ops.push(stream.op().await);
    assert_eq!(request(&ops[2]).key, "k");
    for (op, text) in ops.iter().zip(["first", "other", "second"]) {
        stream.answer(op.id, value(text)).await;
    }
    for call in together {
        assert_eq!(value_of(answer(call).await), "first");
    }
    assert_eq!(value_of(answer(other).await), "other");
    assert_eq!(value_of(answer(later).await), "second");
}

#[tokio::test]
async fn a_batch_is_of_one_epoch() {
    let mut node = FakeNode::start("n").await;
    let link = link_to(&node);
    for (key, as_of) in [("a", 5), ("b", 5), ("c", 6), ("a", 6)] {
        let mut call = get(key);
        call.epoch.as_of = as_of;
        start(&link, call);
    }
    let mut stream = node.stream().await;
    for (as_of, expected) in [(5, ["a", "b"]), (6, ["c", "a"])] {
        let batch = stream.batch().await;
        assert_eq!(batch.epoch.as_ref().unwrap().as_of, as_of);
        let keys: Vec<_> = batch.ops.iter().map(|op| request(op).key.as_str()).collect();
        assert_eq!(keys, expected);
    }
}

#[tokio::test]
async fn a_batch_keeps_to_its_bytes_with_everything_in_it() {
    use prost::Message;

    for (key_bytes, value) in [(1, &[0; 60 << 10][..]), (1024, &[0; 3 << 10][..])] {
        let mut node = FakeNode::start("n").await;
        let link = link_to(&node);
        let count = 100;
        for i in 0..count {
            start(&link, set(&format!("{i:0key_bytes$}"), value));
        }
        let mut stream = node.stream().await;
        let (mut received, mut largest) = (0, 0);
        while received < count {
            let batch = stream.batch().await;
            received += batch.ops.len();
            largest = largest.max(batch.encoded_len());
        }
        assert!(largest <= MAX_BATCH_BYTES, "{largest}");
        assert!(largest > MAX_BATCH_BYTES / 2, "batches are filled: {largest}");
    }
}

#[tokio::test]
async fn a_value_larger_than_a_batch_travels_alone() {
    let mut node = FakeNode::start("n").await;
    let link = link_to(&node);
    for key in ["a", "b"] {
        start(&link, set(key, &[0; MAX_BATCH_BYTES * 2]));
    }
    let mut stream = node.stream().await;
    for key in ["a", "b"] {
        let batch = stream.batch().await;
        assert_eq!(batch.ops.len(), 1);
        assert_eq!(request(&batch.ops[0]).key, key);
    }
}

#[tokio::test]
async fn a_peer_that_does_not_read_costs_a_bounded_queue() {
    let mut node = FakeNode::start("n").await;
    let (link, mut stream) = opened(&mut node).await;
    let mut calls = Vec::new();
    // None of them may expire before the last has begun, however long that takes.
    tokio::time::pause();
    for i in 0..TOO_MANY {
        let call = within(set(&i.to_string(), &[0; 1024]), Duration::from_secs(1), LONG);
        calls.push(start(&link, call));
        if i % 64 == 0 {
            // Lets the link take them in, so that it is its queue that fills.
            yield_now().await;
        }
    }
    tokio::time::resume();
    let (mut full, mut expired, mut left) = (0, 0, HashSet::new());
    for (i, call) in calls.into_iter().enumerate() {
        match answer(call).await {
            Answer::Unsent(Unsent::Full) => full += 1,
            Answer::Unsent(Unsent::Expired) => expired += 1,
            Answer::TimedOut { .. } => assert!(left.insert(i.to_string())),
            other => panic!("{other:?}"),
        }
    }
    assert!(full > 0, "the queue has a bound");
    assert!(expired >= 1024, "what was queued has not left: {expired}");
    assert!(!left.is_empty(), "the windows take something");
    // What was called unsent does not arrive either, now that the node reads.
    while !left.is_empty() {
        for op in stream.batch().await.ops {
            if matches!(op.kind, Some(Kind::Request(_))) {
                assert!(left.remove(&request(&op).key), "it was called unsent");
            }
        }
    }
    let again = start(&link, get("k"));
    let op = loop {
        let batch = stream.batch().await;
        let asked = batch.ops.into_iter().find(|op| matches!(op.kind, Some(Kind::Request(_))));
        if let Some(op) = asked {
            break op;
        }
    };
    stream.answer(op.id, value("fine")).await;
    assert_eq!(value_of(answer(again).await), "fine");
}
