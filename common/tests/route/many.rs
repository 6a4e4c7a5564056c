//! Many operations of one request: sent together, ended each for itself.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use common::{
    error::Code,
    key::Key,
    link::frame::BULK_OVER,
    route::{Ask, Done, Event, Many},
};
use proto::v1::{self, op::Kind};
use tokio::time::{Instant, sleep};

use crate::{TRY, fake_node::*, fleet::*};

/// All of these under way, numbered from 0 on.
fn begun(fleet: &Fleet, asks: impl IntoIterator<Item = Ask>, time: Duration) -> Many {
    let now = Instant::now();
    let mut many = Many::new(Arc::clone(&fleet.router), 0, now + time);
    for (number, ask) in asks.into_iter().enumerate() {
        assert_eq!(many.begin(ask, now), number);
    }
    many
}

/// What became of each; large values are fetched at once.
async fn ended(mut many: Many) -> BTreeMap<usize, Box<Done>> {
    let mut ended = BTreeMap::new();
    while let Some(event) = soon("an event", many.next()).await {
        match event {
            Event::Done(number, done) => assert!(ended.insert(number, done).is_none()),
            Event::Large(number, large) => many.fetch(number, large),
        }
    }
    ended
}

async fn all(fleet: &Fleet, asks: impl IntoIterator<Item = Ask>) -> BTreeMap<usize, Box<Done>> {
    ended(begun(fleet, asks, LONG)).await
}

fn value_of(done: &Done) -> Bytes {
    done.result.as_ref().unwrap().value.clone()
}

/// So many keys, of all nodes.
fn keys(count: usize) -> Vec<Key> {
    (0..count).map(|i| format!("key {i}").parse().unwrap()).collect()
}

/// A fleet whose nodes answer only what the test answers itself.
async fn by_hand(count: usize) -> Fleet {
    let mut fleet = Fleet::new(0).await;
    for index in 0..count {
        fleet.nodes.push(FakeNode::start(&format!("n{index}")).await);
    }
    fleet.publish(2, 0..count).await;
    fleet
}

#[tokio::test]
async fn what_goes_to_one_node_leaves_as_one_batch() {
    let mut fleet = by_hand(3).await;
    let topology = fleet.topologies().load();
    let mut of_each = [0; 3];
    for key in keys(100) {
        of_each[topology.owner(group().as_str(), key.as_str()).unwrap().0] += 1;
    }
    assert!(of_each.iter().all(|&count| (1..=64).contains(&count)), "{of_each:?}");
    let mut streams = Vec::new();
    // Once while the streams are opened, and once on open ones.
    for round in 0..2 {
        let many = begun(&fleet, keys(100).iter().map(get), LONG);
        if round == 0 {
            for node in &mut fleet.nodes {
                streams.push(node.stream().await);
            }
        }
        for (stream, count) in streams.iter_mut().zip(of_each) {
            let batch = stream.batch().await;
            assert_eq!(batch.ops.len(), count);
            let answers = batch.ops.iter().map(|op| {
                let kind = Some(value(request(op).key.clone()));
                v1::Op { id: op.id, kind }
            });
            stream.send(answers.collect()).await;
        }
        let ended = ended(many).await;
        assert_eq!(ended.len(), 100);
        for (number, done) in ended {
            let key = format!("key {number}");
            assert_eq!((value_of(&done), &done.request.key), (key.clone().into(), &key));
        }
    }
}

#[tokio::test]
async fn each_ends_as_it_would_by_itself_and_none_waits_for_another() {
    let fleet = Fleet::hasty(4).await;
    fleet.refuses(1);
    fleet.hangs(2);
    fleet.on(3, |_| Some(Kind::Moved(v1::Moved { owner: "n0".to_owned(), epoch: None })));
    let of = |order: &[usize]| get(&fleet.key(order));
    let plain = of(&[0]);
    let (refused, moved) = (of(&[1, 0]), of(&[3, 1]));
    let topology = fleet.topologies().load();
    let is_silent = |key: &Key| {
        let position = topology.ring.position(group().as_str(), key.as_str());
        topology.preference(position).take(2).eq([2, 0])
    };
    let silent: Vec<_> = keys(1000).into_iter().filter(is_silent).take(20).collect();
    let started = Instant::now();
    let asks = [plain, refused, moved].into_iter().chain(silent.iter().map(get));
    let ended = all(&fleet, asks).await;
    assert_eq!(ended.len(), 23);
    for (number, done) in &ended {
        assert_eq!(value_of(done), "n0", "{number}");
    }
    assert!(started.elapsed() >= TRY);
    let seen = fleet.seen();
    assert_eq!(seen.iter().filter(|seen| seen.node == 2).count(), 20);
    // One try for all twenty: each was asked for before any was asked for again.
    let again =
        |seen: &&Seen| seen.node == 0 && silent.iter().any(|k| *k.as_str() == seen.request.key);
    let first_again = seen.iter().filter(again).map(|seen| seen.at).min().unwrap();
    assert!(seen.iter().all(|seen| seen.node != 2 || seen.at < first_again));
}

#[tokio::test]
async fn errors_of_nodes_are_outcomes() {
    let fleet = Fleet::new(1).await;
    fleet.on(0, |request| {
        let code = if request.key == "key 1" { v1::Code::NotFound } else { v1::Code::Ok };
        let message = "none".to_owned();
        Some(Kind::Reply(v1::Reply { code: code.into(), message, ..Default::default() }))
    });
    let ended = all(&fleet, keys(3).iter().map(get)).await;
    let codes =
        ended.values().map(|done| done.result.as_ref().map_or_else(|e| Some(e.code()), |_| None));
    assert_eq!(codes.collect::<Vec<_>>(), [None, Some(Code::NotFound), None]);
}

#[tokio::test]
async fn writes_go_on_under_their_names_unless_they_have_conditions() {
    let fleet = Fleet::hasty(3).await;
    fleet.hangs(0);
    let (one, other) = (fleet.key(&[0, 1]), fleet.key(&[0, 2]));
    let conditional = [set_if_absent(&one), set_with_token(&one)];
    let started = Instant::now();
    let ended = all(&fleet, [set(&one), delete(&other)].into_iter().chain(conditional)).await;
    assert_eq!((value_of(&ended[&0]), value_of(&ended[&1])), ("n1".into(), "n2".into()));
    for conditional in [2, 3] {
        let unknown = ended[&conditional].result.as_ref().unwrap_err();
        assert_eq!(unknown.code(), Code::Timeout);
        assert!(unknown.message().contains("unknown"), "{unknown}");
    }
    let seen = fleet.seen();
    assert_eq!(seen.len(), 6);
    for again in &seen[4..] {
        let first = &seen[usize::from(again.node == 2)];
        assert_eq!(first.request.op_seq, again.request.op_seq);
        assert_eq!((&first.request.key, first.node), (&again.request.key, 0));
        assert!(again.at - started >= TRY.mul_f64(1.1), "its try is certainly over");
    }
    assert_ne!(seen[4].request.op_seq, seen[5].request.op_seq);
}

#[tokio::test]
async fn large_values_wait_until_they_are_fetched() {
    let fleet = Fleet::new(2).await;
    fleet.open_links().await;
    fleet.on(1, |_| Some(Kind::Reply(v1::Reply { use_bulk: true, ..Default::default() })));
    let mut many = begun(&fleet, [get(&fleet.key(&[1])), get(&fleet.key(&[0]))], TRY * 2);
    let (mut large, mut plain) = (None, false);
    while large.is_none() || !plain {
        match soon("an event", many.next()).await.unwrap() {
            Event::Large(number, event) => large = Some((number, event)),
            Event::Done(number, _) => plain = number == 1,
        }
    }
    assert_eq!(fleet.seen().len(), 2, "not asked for again by itself");
    let (number, large) = large.unwrap();
    assert_eq!((number, large.group()), (0, group().as_str()));
    let bytes = vec![7; BULK_OVER + 1];
    fleet.on(1, move |_| Some(value(bytes.clone())));
    // Whoever had no room for it may have let the time pass.
    sleep(TRY * 2).await;
    many.put_off(LONG);
    many.fetch(number, large);
    let ended = ended(many).await;
    assert_eq!(value_of(&ended[&0]).len(), BULK_OVER + 1);
    let seen = fleet.seen();
    assert_eq!((seen.len(), seen[0].node, seen[0].lane), (1, 1, v1::Lane::Bulk));
}

#[tokio::test]
async fn without_nodes_or_time_nobody_is_asked() {
    let fleet = Fleet::new(1).await;
    let late = begun(&fleet, [get(&fleet.key(&[0]))], Duration::ZERO);
    let error = ended(late).await.remove(&0).unwrap().result.unwrap_err();
    assert_eq!(error.code(), Code::Timeout);
    assert_eq!(fleet.seen().len(), 0);

    let empty = Fleet::new(0).await;
    let ended = all(&empty, keys(2).iter().map(get)).await;
    for number in 0..2 {
        assert_eq!(ended[&number].result.as_ref().unwrap_err().code(), Code::NoNodes);
        assert_eq!(ended[&number].request.key, format!("key {number}"));
    }
}

#[tokio::test]
async fn nobody_waits_for_none() {
    let fleet = Fleet::new(1).await;
    assert!(soon("the end", begun(&fleet, [], LONG).next()).await.is_none());
}

#[tokio::test]
async fn what_is_dropped_is_cancelled() {
    let mut fleet = by_hand(1).await;
    let many = begun(&fleet, keys(3).iter().map(get), LONG);
    let mut stream = fleet.nodes[0].stream().await;
    assert_eq!(stream.ops(3).await.len(), 3);
    drop(many);
    for op in stream.ops(3).await {
        assert!(matches!(op.kind, Some(Kind::Cancel(_))), "{op:?}");
    }
}
