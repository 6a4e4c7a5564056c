//! Rings that change under a router, and links that stay.

use common::error::Code;
use proto::v1::{self, op::Kind};
use tokio::time::Instant;

use crate::{
    PATIENT, TRY,
    fake_node::{FakeNode, soon, value},
    fleet::*,
};

fn moved(as_of: u64) -> Kind {
    let epoch = v1::Epoch {
        generation: GENERATION.into_bytes().to_vec().into(),
        as_of,
        ..Default::default()
    };
    Kind::Moved(v1::Moved { owner: "n2".to_owned(), epoch: Some(epoch) })
}

/// Three nodes of which two are members, and a key that moves from `n0` to the third.
async fn growing() -> (Fleet, common::key::Key) {
    let fleet = Fleet::new(3).await;
    let of_three = fleet.topologies().load();
    fleet.publish(2, 0..2).await;
    let of_two = fleet.topologies().load();
    let owner = |topology: &common::topology::Topology, key: &str| {
        topology.owner("default", key).unwrap().0
    };
    let key = fleet.key_where(|key| owner(&of_two, key) == 0 && owner(&of_three, key) == 2);
    (fleet, key)
}

#[tokio::test]
async fn a_node_that_knows_a_newer_ring_makes_the_router_read_it() {
    let (fleet, key) = growing().await;
    fleet.on(0, |_| Some(moved(9)));
    fleet.discovery.hold_ahead(fleet.view(9, 0..3));
    assert_eq!(fleet.get(&key).await.unwrap(), 2);
    assert_eq!(fleet.discovery.caught_up(), [9]);
    let seen: Vec<_> = fleet.seen().iter().map(|s| (s.node, s.request.stand_in, s.as_of)).collect();
    assert_eq!(seen, [(0, false, 2), (2, false, 9)]);
    assert_eq!(fleet.shared.metrics.retries(), 0, "that is no retry");
}

#[tokio::test]
async fn a_ring_that_is_known_by_then_is_not_read_again() {
    let (mut fleet, key) = growing().await;
    // A life of the owner that answers by hand.
    fleet.nodes[0] = FakeNode::start("n0").await;
    fleet.publish(3, 0..2).await;
    let (router, ask) = (fleet.router.clone(), get(&key));
    let call = tokio::spawn(async move { router.call(ask, Instant::now() + LONG).await });
    let mut stream = fleet.nodes[0].stream().await;
    let op = stream.op().await;
    fleet.publish(9, 0..3).await;
    stream.answer(op.id, moved(9)).await;
    assert_eq!(node_of(&soon("an answer", call).await.unwrap().unwrap()), 2);
    assert!(fleet.discovery.caught_up().is_empty());
}

#[tokio::test]
async fn nodes_that_do_not_agree_make_it_unavailable() {
    let (fleet, key) = growing().await;
    fleet.on(0, |_| Some(moved(9)));
    fleet.on(2, |_| Some(moved(9)));
    fleet.discovery.hold_ahead(fleet.view(9, 0..3));
    let error = fleet.get(&key).await.unwrap_err();
    assert_eq!(error.code(), Code::NodeUnavailable);
    assert!(error.retry_hint().is_some());
    assert_eq!(fleet.asked(), [(0, false), (2, false), (2, false)], "named twice, asked twice");
}

/// A key that moved to `n2`, which is a member all the time, for a router that can't read that.
async fn cut_off(fleet: &Fleet) -> common::key::Key {
    fleet.on(0, |_| Some(moved(9)));
    let topology = fleet.topologies().load();
    fleet.key_where(|key| topology.owner("default", key).unwrap().0 == 0)
}

#[tokio::test]
async fn who_can_not_read_the_ring_asks_the_owner_that_was_named() {
    let fleet = Fleet::hasty(3).await;
    let key = cut_off(&fleet).await;
    let started = Instant::now();
    assert_eq!(fleet.get(&key).await.unwrap(), 2);
    assert!(started.elapsed() >= TRY, "reading it was given a try's time");
    let seen = fleet.seen();
    let asked: Vec<_> = seen.iter().map(|s| (s.node, s.request.stand_in, s.as_of)).collect();
    assert_eq!(asked, [(0, false, 1), (2, false, 9)], "by the epoch of who named it");
    assert_eq!(node_of(&fleet.call(set(&key)).await.unwrap()), 2);
}

#[tokio::test]
async fn a_named_owner_that_is_not_reached_is_asked_through_the_node_that_named_it() {
    let mut fleet = Fleet::hasty(3).await;
    let key = cut_off(&fleet).await;
    fleet.nodes[2].kill().await;
    fleet.on(0, |request| Some(if request.stand_in { value("n0") } else { moved(9) }));
    assert_eq!(fleet.get(&key).await.unwrap(), 0);
    assert_eq!(fleet.asked(), [(0, false), (0, true)]);
    fleet.on(0, |_| Some(moved(9)));
    assert_eq!(fleet.get(&key).await.unwrap_err().code(), Code::NodeUnavailable);
}

#[tokio::test]
async fn an_owner_that_is_a_stranger_here_is_asked_through_the_node_that_named_it() {
    const GETS: usize = 20;
    let fleet = Fleet::hasty(3).await;
    let key = cut_off(&fleet).await;
    fleet.on(0, |request| {
        let Kind::Moved(mut named) = moved(9) else { unreachable!() };
        named.owner = "a-stranger".to_owned();
        Some(if request.stand_in { value("n0") } else { Kind::Moved(named) })
    });
    assert_eq!(fleet.get(&key).await.unwrap(), 0);
    let seen = fleet.seen();
    let asked: Vec<_> = seen.iter().map(|s| (s.node, s.request.stand_in, s.as_of)).collect();
    assert_eq!(asked, [(0, false, 1), (0, true, 9)], "to relay, by its own epoch");
    for _ in 0..GETS {
        assert_eq!(fleet.get(&key).await.unwrap(), 0);
    }
    let readings = fleet.discovery.caught_up().len();
    assert!(readings < GETS / 2, "{readings} of {GETS} waited for what can't be read");
}

#[tokio::test]
async fn another_generation_is_read_again_and_not_more_than_once_in_a_while() {
    let fleet = Fleet::new(3).await;
    let key = cut_off(&fleet).await;
    fleet.on(0, |_| {
        let Kind::Moved(mut moved) = moved(9) else { unreachable!() };
        moved.epoch.as_mut().unwrap().generation = vec![5; 16].into();
        Some(Kind::Moved(moved))
    });
    fleet.discovery.hold_ahead(fleet.view(1, 0..3));
    let started = Instant::now();
    for _ in 0..5 {
        assert_eq!(fleet.get(&key).await.unwrap(), 2);
        // Asked again by the ring that was read, then its word is taken.
        let nodes: Vec<_> = fleet.asked().into_iter().map(|(node, _)| node).collect();
        assert_eq!(nodes, [0, 0, 2]);
    }
    let readings = fleet.discovery.caught_up();
    assert!(readings.iter().all(|&of| of == 0), "revisions of two generations don't compare");
    let most = 1 + started.elapsed().as_secs() as usize;
    assert!((1..=most).contains(&readings.len()), "{} in {:?}", readings.len(), started.elapsed());
}

#[tokio::test]
async fn catching_up_keeps_the_deadline() {
    let (fleet, key) = growing().await;
    // Opens the link.
    assert_eq!(fleet.get(&key).await.unwrap(), 0);
    fleet.on(0, |_| Some(moved(9)));
    let started = Instant::now();
    let error = fleet.call_within(get(&key), TRY).await.unwrap_err();
    assert_eq!(error.code(), Code::Timeout);
    assert!(started.elapsed() >= TRY && started.elapsed() < PATIENT);
    assert_eq!(fleet.discovery.caught_up(), [9]);
}

/// Reads a key of each of these nodes.
async fn visit(fleet: &Fleet, nodes: &[usize]) {
    for &node in nodes {
        let topology = fleet.topologies().load();
        let id = fleet.record(node).id;
        let index = topology.index_of(&id).unwrap();
        assert_eq!(fleet.get(&fleet.key(&[index])).await.unwrap(), node);
    }
}

#[tokio::test]
async fn links_stay_while_their_nodes_do() {
    let fleet = Fleet::new(3).await;
    visit(&fleet, &[0, 1, 2]).await;
    // Only the revision moves.
    fleet.publish(2, 0..3).await;
    visit(&fleet, &[0, 1, 2]).await;
    assert!(fleet.seen()[3..].iter().all(|seen| seen.as_of == 2));
    // One leaves: it loses its link, the others keep theirs.
    fleet.publish(3, [0, 2]).await;
    visit(&fleet, &[0, 2]).await;
    eventually("the link to end", || fleet.nodes[1].open() == 0).await;
    assert!(fleet.seen().iter().all(|seen| seen.as_of == 3 && seen.node != 1));
    // It comes back.
    fleet.publish(4, 0..3).await;
    visit(&fleet, &[0, 1, 2]).await;
    let opened: Vec<_> = fleet.nodes.iter().map(|node| (node.opened(), node.open())).collect();
    assert_eq!(opened, [(1, 1), (2, 1), (1, 1)]);
}

#[tokio::test]
async fn another_life_of_a_node_gets_another_link() {
    let mut fleet = Fleet::new(2).await;
    visit(&fleet, &[0, 1]).await;
    let mut old = std::mem::replace(&mut fleet.nodes[0], FakeNode::start("n0").await);
    fleet.serve(0);
    fleet.publish(2, 0..2).await;
    visit(&fleet, &[0, 1]).await;
    eventually("the old link to end", || old.open() == 0).await;
    assert_eq!((fleet.nodes[0].opened(), fleet.nodes[1].opened(), old.opened()), (1, 1, 1));
    old.kill().await;
}
