//! When a caller stops waiting, and what happens to what it asked. Only lower bounds of times
//! decide here; upper ones are far away.

use proto::v1::{self, op::Kind};

use super::*;
use crate::fake_node::request;

const TRY: Duration = Duration::from_millis(300);

#[tokio::test]
async fn a_try_that_is_not_answered_times_out_and_is_cancelled() {
    let mut node = FakeNode::start("n").await;
    let (link, mut stream) = opened(&mut node).await;
    let started = Instant::now();
    let call = start(&link, within(get("k"), TRY, LONG));
    let op = stream.op().await;
    let (try_ms, budget_ms) = (request(&op).try_ms, request(&op).budget_ms);
    assert!((1..=300).contains(&try_ms) && (50_000..=60_000).contains(&budget_ms));
    assert!(matches!(answer(call).await, Answer::TimedOut { .. }));
    assert!(started.elapsed() >= TRY && started.elapsed() < TRY * 20);
    let cancel = stream.op().await;
    assert_eq!((cancel.id, cancel.kind), (op.id, Some(Kind::Cancel(v1::Cancel {}))));
}

#[tokio::test]
async fn once_the_node_is_loading_only_the_requests_deadline_counts() {
    let mut node = FakeNode::start("n").await;
    let (link, mut stream) = opened(&mut node).await;
    let started = Instant::now();
    let answered = start(&link, within(get("answered"), TRY, LONG));
    let forgotten = start(&link, within(get("forgotten"), TRY, TRY * 5));
    let plain = start(&link, within(get("plain"), TRY, TRY * 5));
    let ops = stream.ops(3).await;
    for op in &ops[..2] {
        stream.answer(op.id, Kind::Pending(v1::Pending {})).await;
    }
    // Outlasts the try: only the two that are loading still wait.
    assert!(matches!(answer(plain).await, Answer::TimedOut { .. }));
    assert!(!answered.is_finished() && !forgotten.is_finished());
    assert!(matches!(answer(forgotten).await, Answer::TimedOut { .. }));
    assert!(started.elapsed() >= TRY * 5);
    stream.answer(ops[0].id, value("loaded")).await;
    assert_eq!(value_of(answer(answered).await), "loaded");
}

#[tokio::test]
async fn a_late_reply_reaches_nobody() {
    let mut node = FakeNode::start("n").await;
    let (link, mut stream) = opened(&mut node).await;
    let late = start(&link, within(get("late"), TRY, LONG));
    let late_op = stream.op().await;
    assert!(matches!(answer(late).await, Answer::TimedOut { .. }));
    assert!(matches!(stream.op().await.kind, Some(Kind::Cancel(_))));
    let next = start(&link, get("next"));
    let op = stream.op().await;
    assert_eq!(op.id as u32, late_op.id as u32, "the slot is used again");
    stream.answer(late_op.id, value("late")).await;
    stream.answer(late_op.id, Kind::Pending(v1::Pending {})).await;
    stream.answer(op.id, value("next")).await;
    assert_eq!(value_of(answer(next).await), "next");
}

#[tokio::test]
async fn a_caller_that_leaves_cancels() {
    let mut node = FakeNode::start("n").await;
    let link = link_to(&node);
    let leaving = start(&link, get("leaving"));
    let staying = start(&link, get("staying"));
    let mut stream = node.stream().await;
    let ops = stream.ops(2).await;
    leaving.abort();
    let cancel = stream.op().await;
    assert_eq!((cancel.id, cancel.kind), (ops[0].id, Some(Kind::Cancel(v1::Cancel {}))));
    stream.answer(ops[1].id, value("here")).await;
    assert_eq!(value_of(answer(staying).await), "here");
}

#[tokio::test]
async fn a_read_that_many_wait_for_is_not_cancelled_by_one_that_leaves() {
    let mut node = FakeNode::start("n").await;
    let link = link_to(&node);
    let end = Instant::now() + LONG;
    let read = || start(&link, until(get("k"), end));
    let (leaving, staying) = (read(), read());
    let mut stream = node.stream().await;
    let op = stream.op().await;
    leaving.abort();
    assert!(stream.is_quiet(TRY).await);
    stream.answer(op.id, value("here")).await;
    assert_eq!(value_of(answer(staying).await), "here");
}

#[tokio::test]
async fn nobody_waits_longer_because_it_joined_somebody() {
    let mut node = FakeNode::start("n").await;
    let (link, mut stream) = opened(&mut node).await;
    let patient = start(&link, within(get("k"), TRY, LONG));
    let hasty = start(&link, within(get("k"), TRY, TRY));
    for op in stream.ops(2).await {
        stream.answer(op.id, Kind::Pending(v1::Pending {})).await;
    }
    assert!(matches!(answer(hasty).await, Answer::TimedOut { .. }));
    assert!(!patient.is_finished());
}

#[tokio::test]
async fn what_expires_while_connecting_has_not_left() {
    let node = FakeNode::start("n").await;
    node.greet(crate::fake_node::Greeting::Silent);
    let link = link_to(&node);
    // Long before the link gives up.
    let call = start(&link, within(get("k"), TRY / 6, LONG));
    assert_eq!(unsent(answer(call).await), Unsent::Expired);
}
