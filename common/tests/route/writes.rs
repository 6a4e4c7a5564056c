//! What may become of a write whose try was not answered.

use common::error::Code;
use proto::v1::{self, op::Kind};
use tokio::time::{Instant, timeout};

use crate::{TRY, fake_node::soon, fleet::*};

#[tokio::test]
async fn an_unconditional_write_goes_on_once_its_try_is_certainly_over_under_the_same_name() {
    let fleet = Fleet::hasty(3).await;
    let key = fleet.key(&[0, 1]);
    fleet.hangs(0);
    for ask in [set(&key), delete(&key)] {
        let started = Instant::now();
        assert_eq!(node_of(&fleet.call(ask).await.unwrap()), 1);
        assert!(started.elapsed() >= TRY.mul_f64(1.1));
        let seen = fleet.seen();
        assert_eq!(seen.len(), 2);
        let name = |i: usize| (seen[i].request.op_link.clone(), seen[i].request.op_seq);
        assert_eq!(name(0), name(1));
        assert_eq!((name(0).0.len(), seen[1].request.stand_in), (16, true));
    }
}

#[tokio::test]
async fn every_write_has_a_name_of_its_own() {
    let fleet = Fleet::new(1).await;
    let key = fleet.key(&[0]);
    for ask in [set(&key), set(&key), delete(&key)] {
        fleet.call(ask).await.unwrap();
    }
    let names: std::collections::HashSet<_> =
        fleet.seen().into_iter().map(|seen| (seen.request.op_link, seen.request.op_seq)).collect();
    assert_eq!(names.len(), 3);
    fleet.call(set_if_absent(&key)).await.unwrap();
    assert!(fleet.seen()[0].request.op_link.is_empty(), "a condition is enough");
}

#[tokio::test]
async fn a_write_whose_stream_broke_goes_on_when_its_try_would_be_over() {
    let mut fleet = Fleet::hasty(3).await;
    let key = fleet.key(&[0, 1]);
    fleet.hangs(0);
    let (router, ask) = (fleet.router.clone(), set(&key));
    let started = Instant::now();
    let call = tokio::spawn(async move { router.call(ask, Instant::now() + LONG).await });
    fleet.has_seen(1).await;
    fleet.nodes[0].kill().await;
    assert_eq!(node_of(&soon("an answer", call).await.unwrap().unwrap()), 1);
    assert!(started.elapsed() >= TRY.mul_f64(1.1));
}

#[tokio::test]
async fn a_conditional_write_that_is_not_answered_is_not_tried_again() {
    let fleet = Fleet::hasty(3).await;
    let key = fleet.key(&[0]);
    fleet.hangs(0);
    let version = common::entry::Version::default();
    for ask in [set_if_absent(&key), delete_if(&key, version), set_with_token(&key)] {
        let error = fleet.call(ask).await.unwrap_err();
        assert_eq!(error.code(), Code::Timeout);
        assert!(error.message().contains("unknown"), "{error}");
        assert_eq!(fleet.asked(), [(0, false)]);
    }
}

#[tokio::test]
async fn a_conditional_write_whose_stream_broke_is_not_tried_again() {
    let mut fleet = Fleet::new(3).await;
    let key = fleet.key(&[0]);
    fleet.hangs(0);
    let (router, ask) = (fleet.router.clone(), set_if_absent(&key));
    let call = tokio::spawn(async move { router.call(ask, Instant::now() + LONG).await });
    fleet.has_seen(1).await;
    fleet.nodes[0].kill().await;
    let error = soon("an answer", call).await.unwrap().unwrap_err();
    assert_eq!(error.code(), Code::Timeout);
    assert_eq!(fleet.asked(), [(0, false)]);
}

#[tokio::test]
async fn a_write_that_a_node_said_takes_longer_waits_and_is_never_sent_elsewhere() {
    let mut fleet = Fleet::hasty(3).await;
    let key = fleet.key(&[0, 1]);
    fleet.on(0, |_| Some(Kind::Pending(v1::Pending {})));
    let started = Instant::now();
    let error = fleet.call_within(set(&key), TRY * 3).await.unwrap_err();
    assert_eq!(error.code(), Code::Timeout);
    assert!(started.elapsed() >= TRY * 3, "the request's whole time");
    assert_eq!(fleet.asked(), [(0, false)]);

    let (router, ask) = (fleet.router.clone(), set(&key));
    let mut call = tokio::spawn(async move { router.call(ask, Instant::now() + LONG).await });
    assert!(timeout(TRY * 2, &mut call).await.is_err(), "its try is over, and it waits");
    fleet.nodes[0].kill().await;
    let error = soon("an answer", call).await.unwrap().unwrap_err();
    assert!(error.message().contains("unknown"), "{error}");
    assert_eq!(fleet.asked(), [(0, false)]);
}

#[tokio::test]
async fn a_write_that_may_have_been_applied_is_not_called_unavailable() {
    let fleet = Fleet::hasty(3).await;
    let key = fleet.key(&[0, 1, 2]);
    fleet.hangs(0);
    fleet.refuses(1);
    fleet.refuses(2);
    let error = fleet.call(set(&key)).await.unwrap_err();
    assert_eq!(error.code(), Code::Timeout);
    assert!(error.message().contains("unknown"), "{error}");
    assert_eq!(fleet.asked().len(), 3);
    assert_eq!(fleet.get(&key).await.unwrap_err().code(), Code::NodeUnavailable);
}

#[tokio::test]
async fn a_value_that_no_frame_can_hold_is_refused_here() {
    let fleet = Fleet::new(1).await;
    let value = vec![0; common::link::frame::MAX_VALUE_BYTES + 1].into();
    let write = common::route::Write { value, ..Default::default() };
    let ask = common::route::Ask::set(group(), fleet.key(&[0]), write);
    assert_eq!(fleet.call(ask).await.unwrap_err().code(), Code::TooLarge);
    assert_eq!(fleet.nodes[0].opened(), 0);
}
