//! Who is asked next, and who is not asked at all.

use std::time::Duration;

use common::{
    discovery::NodeState,
    error::Code,
    route::{Persistence, Probed, probe_members},
};
use proto::v1::{self, op::Kind};
use tokio::{runtime::Handle, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    TRY,
    fake_node::{FakeNode, soon},
    fleet::*,
};

#[tokio::test]
async fn the_owner_is_asked_and_nobody_else() {
    let fleet = Fleet::new(3).await;
    for owner in 0..3 {
        let key = fleet.key(&[owner]);
        let answered = fleet.call(get(&key)).await.unwrap();
        assert_eq!(
            (node_of(&answered), &answered.reply.value[..]),
            (owner, format!("n{owner}").as_bytes())
        );
        let seen = fleet.seen();
        assert_eq!(seen.len(), 1);
        assert_eq!((seen[0].node, seen[0].request.stand_in, seen[0].as_of), (owner, false, 1));
        assert_eq!(
            (seen[0].request.key.as_str(), seen[0].request.verb()),
            (key.as_str(), v1::Verb::Get)
        );
        assert!(seen[0].request.op_link.is_empty(), "reads need no name");
    }
}

#[tokio::test]
async fn an_owner_that_can_not_be_reached_is_ejected_and_comes_back_by_a_probe() {
    let mut fleet = Fleet::new(3).await;
    let key = fleet.key(&[0, 1]);
    fleet.nodes[0].kill().await;
    let health = fleet.shared.health.of(fleet.shared.topologies.load().member(0));
    for callable in [true, true, false] {
        assert_eq!(fleet.get(&key).await.unwrap(), 1);
        assert_eq!(fleet.asked(), [(1, true)]);
        assert_eq!(health.callable(), callable);
    }
    assert_eq!((fleet.shared.health.ejected(), fleet.shared.metrics.retries()), (1, 3));
    let ejection = fleet.shared.health.ejection(&health).unwrap();
    assert!(ejection.why.contains("refused"), "{ejection:?}");

    // It listens again, but nobody risks a request on it.
    let (identity, address) = (fleet.nodes[0].identity.clone(), fleet.nodes[0].address.clone());
    fleet.nodes[0] = FakeNode::start_as(identity, &address).await;
    fleet.serve(0);
    assert_eq!(fleet.get(&key).await.unwrap(), 1);
    assert_eq!((fleet.asked(), fleet.nodes[0].opened()), (vec![(1, true)], 0));
    assert_eq!(fleet.shared.metrics.retries(), 3, "the first node asked, so no retry");

    let stop = CancellationToken::new();
    let prober = common::route::Router::new(fleet.shared.clone(), Handle::current());
    let probing = tokio::spawn(probe_members(prober, Probed::Everybody, stop.clone()));
    eventually("probes of the others", || fleet.nodes[1].hellos().len() == 2).await;
    assert!(!health.callable() && fleet.nodes[0].opened() == 0, "not before its time is over");
    fleet.clock.advance(Duration::from_secs(2));
    eventually("the node to be back", || health.callable()).await;
    assert!(health.last_seen_unix_ms().is_some() && health.response_time().is_some());
    assert_eq!(fleet.get(&key).await.unwrap(), 0);
    assert_eq!(fleet.asked(), [(0, false)]);
    stop.cancel();
    soon("the prober's end", probing).await.unwrap();
}

#[tokio::test]
async fn a_node_that_waits_for_something_itself_is_not_passed_over_for_that() {
    let fleet = Fleet::with(2, Persistence { try_timeout: LONG, max_retries: 2 }).await;
    fleet.open_links().await;
    let key = fleet.key(&[0, 1]);
    fleet.on(0, |_| Some(Kind::Pending(v1::Pending {})));
    let health = fleet.shared.health.of(fleet.shared.topologies.load().member(0));
    for _ in 0..4 {
        let error = fleet.call_within(get(&key), TRY).await.unwrap_err();
        assert_eq!(error.code(), Code::Timeout);
        assert!(health.callable(), "its origin is slow, not the node");
    }
    assert_eq!(fleet.asked(), [(0, false); 4], "nobody else was asked");
}

#[tokio::test]
async fn whoever_probes_only_the_ejected_gets_them_back_and_leaves_the_others_alone() {
    let mut fleet = Fleet::new(3).await;
    let key = fleet.key(&[0, 1]);
    fleet.nodes[0].kill().await;
    for _ in 0..3 {
        assert_eq!(fleet.get(&key).await.unwrap(), 1);
    }
    let health = fleet.shared.health.of(fleet.shared.topologies.load().member(0));
    assert!(!health.callable());
    let (identity, address) = (fleet.nodes[0].identity.clone(), fleet.nodes[0].address.clone());
    fleet.nodes[0] = FakeNode::start_as(identity, &address).await;
    fleet.serve(0);
    fleet.clock.advance(Duration::from_secs(2));

    let stop = CancellationToken::new();
    let prober = common::route::Router::new(fleet.shared.clone(), Handle::current());
    let probing = tokio::spawn(probe_members(prober, Probed::Ejected, stop.clone()));
    eventually("the node to be back", || health.callable()).await;
    assert_eq!((fleet.nodes[1].hellos().len(), fleet.nodes[2].opened()), (1, 0));
    stop.cancel();
    soon("the prober's end", probing).await.unwrap();
}

#[tokio::test]
async fn an_answer_between_failures_keeps_a_node() {
    let fleet = Fleet::hasty(3).await;
    let key = fleet.key(&[0, 1]);
    for _ in 0..2 {
        fleet.hangs(0);
        for _ in 0..2 {
            assert_eq!(fleet.get(&key).await.unwrap(), 1);
        }
        fleet.refuses(0);
        assert_eq!(fleet.get(&key).await.unwrap(), 1, "a refusal is an answer");
    }
    assert!(fleet.shared.health.of(fleet.shared.topologies.load().member(0)).callable());
}

#[tokio::test]
async fn what_was_refused_before_it_began_goes_to_the_next_node() {
    let fleet = Fleet::new(3).await;
    let key = fleet.key(&[2, 0]);
    fleet.refuses(2);
    let version = common::entry::Version::default();
    for ask in [get(&key), set(&key), set_if_absent(&key), delete(&key), delete_if(&key, version)] {
        assert_eq!(node_of(&fleet.call(ask).await.unwrap()), 0);
        assert_eq!(fleet.asked(), [(2, false), (0, true)]);
    }
    assert_eq!(fleet.shared.health.ejected(), 0);
}

#[tokio::test]
async fn a_read_that_is_not_answered_goes_to_the_next_node() {
    let fleet = Fleet::hasty(3).await;
    let key = fleet.key(&[0, 1]);
    fleet.hangs(0);
    let started = Instant::now();
    assert_eq!(fleet.get(&key).await.unwrap(), 1);
    let seen = fleet.seen();
    assert_eq!(seen.len(), 2);
    assert!(seen[1].at.duration_since(started) >= TRY);
}

#[tokio::test]
async fn an_error_that_a_node_reports_is_the_answer() {
    let fleet = Fleet::new(3).await;
    let key = fleet.key(&[0]);
    let reply = common::error::Error::new(Code::OriginError, "503 there").to_reply();
    fleet.on(0, move |_| Some(v1::op::Kind::Reply(reply.clone())));
    let error = fleet.get(&key).await.unwrap_err();
    assert_eq!((error.code(), error.message()), (Code::OriginError, "503 there"));
    assert_eq!(fleet.asked(), [(0, false)]);
}

#[tokio::test]
async fn nobody_is_left_to_ask() {
    let fleet = Fleet::new(0).await;
    let key = "k".parse().unwrap();
    let error = fleet.get(&key).await.unwrap_err();
    assert_eq!(error.code(), Code::NoNodes);
    assert!(error.retry_hint().is_some());
}

#[tokio::test]
async fn the_deadline_holds_whatever_hangs() {
    // Tries so long that a busy machine does not eat up the half of one that is left.
    let patient = Persistence { try_timeout: Duration::from_secs(1), max_retries: 2 };
    let fleet = Fleet::with(3, patient).await;
    fleet.open_links().await;
    let key = fleet.key(&[0, 1, 2]);
    (0..3).for_each(|node| fleet.hangs(node));
    for ask in [get(&key), set(&key)] {
        let started = Instant::now();
        let time = patient.try_timeout * 3 / 2;
        let error = fleet.call_within(ask, time).await.unwrap_err();
        assert_eq!(error.code(), Code::Timeout);
        assert!(started.elapsed() >= time && started.elapsed() < time * 10);
        let seen = fleet.seen();
        assert_eq!(seen.len(), 2, "there was time for a try and a half");
        assert!(seen[1].request.try_ms <= 500 && seen[1].request.budget_ms <= 500);
    }
}

#[tokio::test]
async fn so_many_further_nodes_are_tried_and_no_more() {
    for (max_retries, order) in
        [(0, vec![0]), (1, vec![0, 1]), (2, vec![0, 1, 2]), (9, vec![0, 1, 2, 3])]
    {
        let fleet = Fleet::with_retries(4, max_retries).await;
        let key = fleet.key(&[0, 1, 2, 3]);
        (0..4).for_each(|node| fleet.refuses(node));
        let error = fleet.get(&key).await.unwrap_err();
        assert_eq!(error.code(), Code::NodeUnavailable);
        assert!(error.retry_hint().is_some());
        let asked: Vec<_> = fleet.asked().into_iter().map(|(node, _)| node).collect();
        assert_eq!(asked, order);
    }
}

#[tokio::test]
async fn an_empty_budget_leaves_a_fifth_of_the_retries() {
    let fleet = Fleet::new(3).await;
    let key = fleet.key(&[0, 1, 2]);
    (0..3).for_each(|node| fleet.refuses(node));
    let mut calls = 0;
    loop {
        assert!(fleet.get(&key).await.is_err());
        calls += 1;
        match fleet.asked().len() {
            3 => assert!(calls < 4096, "the budget has an end"),
            fewer => break assert!(calls > 1000, "it was full: {fewer} tries"),
        }
    }
    for _ in 0..50 {
        assert!(fleet.get(&key).await.is_err());
    }
    let tries = fleet.asked().len();
    assert!((59..=61).contains(&tries), "{tries}");
}

#[tokio::test]
async fn a_draining_member_is_asked_until_it_has_left() {
    let fleet = Fleet::new(2).await;
    let key = fleet.key(&[0, 1]);
    let draining =
        |node| common::discovery::NodeRecord { state: NodeState::Draining, ..fleet.record(node) };
    fleet.publish_view(view_of(2, [draining(0), fleet.record(1)])).await;
    assert_eq!(fleet.get(&key).await.unwrap(), 0);
    assert_eq!(fleet.asked(), [(0, false)]);
    fleet.refuses(0);
    assert_eq!(fleet.get(&key).await.unwrap(), 1);
    assert_eq!(fleet.asked(), [(0, false), (1, true)]);
}
