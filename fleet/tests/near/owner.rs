//! What an owner lends, and when it acknowledges a write of what it has lent. Its clock stands still
//! where a test waits for a confirmation: then nothing else can end a loan.

use std::time::{Duration, Instant};

use common::{
    config::Partition,
    link::Answer,
    near::{FEATURE, LEASE},
    topology::Epoch,
};
use proto::v1::{self, Lane, not_started::Reason, op::Kind};
use tokio::task::JoinHandle;

use crate::{
    bench::{Bench, Skipping, get, named, reply, request, set, value, well},
    fake_node::soon,
    raw::Raw,
};

/// A node that has been up for long enough to acknowledge writes, and whose clock stands still.
async fn standing() -> Bench {
    let bench = Bench::start().await;
    bench.clock.skip(LEASE);
    assert_eq!(reply(bench.ask(set(&bench.key(false, 9), "warm")).await).code(), v1::Code::Ok);
    bench.clock.stop();
    bench
}

async fn open(bench: &Bench) -> Raw {
    Raw::open(&bench.node, bench.topology().epoch, FEATURE, Lane::Small).await
}

async fn stored(bench: &Bench, key: &str, value: &str) {
    assert_eq!(reply(bench.ask(set(key, value)).await).code(), v1::Code::Ok);
}

async fn done(write: JoinHandle<Answer>) -> v1::Reply {
    reply(soon("an acknowledgement", write).await.unwrap())
}

/// Whether a write is still not acknowledged after what was sent since has been answered.
async fn waits(bench: &Bench, write: &JoinHandle<Answer>) -> bool {
    for _ in 0..3 {
        let _ = bench.ask(get("anything")).await;
    }
    !write.is_finished()
}

#[tokio::test]
async fn a_write_of_a_lent_key_waits_for_its_holder_and_is_seen_meanwhile() {
    let bench = standing().await;
    let key = bench.key(false, 0);
    stored(&bench, &key, "old").await;
    let mut holder = open(&bench).await;
    let lent = holder.borrow(&key).await;
    assert_eq!((&lent.value[..], lent.loan_ms), (&b"old"[..], LEASE.as_millis() as u32));
    let write = bench.begin(set(&key, "new"));
    let (id, invalidate) = holder.called_back(&key).await;
    let version = |hi, lo| (hi, lo);
    let called_back = version(invalidate.version_hi, invalidate.version_lo);
    assert!(called_back > version(lent.version_hi, lent.version_lo));
    assert!(waits(&bench, &write).await);
    assert_eq!(value(bench.ask(get(&key)).await), Ok("new".to_owned()));
    holder.confirm(id).await;
    let written = done(write).await;
    assert_eq!(called_back, version(written.version_hi, written.version_lo));
}

#[tokio::test]
async fn a_holder_that_is_silent_or_gone_costs_a_write_one_lease() {
    for is_gone in [false, true] {
        let bench = Bench::start().await;
        let key = bench.key(false, 0);
        stored(&bench, &key, "old").await;
        let mut holder = open(&bench).await;
        let lent_at = Instant::now();
        assert!(holder.borrow(&key).await.loan_ms > 0);
        let holder = (!is_gone).then_some(holder);
        stored(&bench, &key, "new").await;
        assert!(lent_at.elapsed() >= LEASE, "acknowledged after {:?}", lent_at.elapsed());
        drop(holder);
    }
}

#[tokio::test]
async fn a_repeated_write_is_acknowledged_no_sooner_than_the_first() {
    let bench = standing().await;
    let key = bench.key(false, 0);
    stored(&bench, &key, "old").await;
    let mut holder = open(&bench).await;
    holder.borrow(&key).await;
    let write = named(set(&key, "new"));
    let first = bench.begin(write.clone());
    let (id, _) = holder.called_back(&key).await;
    let again = bench.begin(write);
    let deletion = bench.begin(request(v1::Verb::Delete, &key));
    assert!(waits(&bench, &first).await && waits(&bench, &again).await);
    assert!(waits(&bench, &deletion).await);
    holder.confirm(id).await;
    let (first, again) = (done(first).await, done(again).await);
    assert_eq!(first.version_lo, again.version_lo, "applied once");
    assert_eq!(done(deletion).await.code(), v1::Code::Ok);
}

#[tokio::test]
async fn only_who_can_be_called_back_is_lent_anything() {
    let bench = standing().await;
    let key = bench.key(false, 0);
    stored(&bench, &key, "v").await;
    let epoch = bench.topology().epoch;
    for (features, lane) in [(0, Lane::Small), (FEATURE, Lane::Bulk)] {
        let mut peer = Raw::open(&bench.node, epoch, features, lane).await;
        let reply = peer.borrow(&key).await;
        assert_eq!((reply.loan_ms, &reply.value[..]), (0, &b"v"[..]));
    }
    assert_eq!(reply(bench.ask(set(&key, "w")).await).code(), v1::Code::Ok, "at once");
}

#[tokio::test]
async fn a_node_that_has_started_waits_for_the_loans_of_its_former_life() {
    let clock = Skipping::default();
    clock.stop();
    let bench = Bench::by(clock, Partition::Available).await;
    let key = bench.key(false, 0);
    let write = bench.begin(set(&key, "v"));
    fleet::eventually("it is applied", Duration::from_secs(2), async || {
        value(bench.ask(get(&key)).await) == Ok("v".to_owned())
    })
    .await;
    assert!(waits(&bench, &write).await);
    bench.clock.skip(LEASE);
    assert_eq!(done(write).await.code(), v1::Code::Ok);
}

#[tokio::test]
async fn writes_of_gained_keys_wait_until_nobody_else_can_have_lent_them() {
    let bench = standing().await;
    let passer_by = bench.passer_by().await;
    let was_lost = passer_by.topology.clone();
    let is_gained = |key: &String| {
        let owner_in = |ring: &common::topology::Topology| {
            let (owner, _) = ring.owner("default", key).unwrap();
            ring.member(owner).id.clone()
        };
        owner_in(&was_lost).as_str() == "passer-by"
            && owner_in(&bench.topology()) == *bench.node.id()
    };
    passer_by.leave().await;
    bench.rings_agree(2).await;
    bench.sees("a question", |kind| matches!(kind, Kind::Takeover(_))).await;
    let gained = (0..).map(|n| format!("k{n}")).find(is_gained).unwrap();
    let write = bench.begin(set(&gained, "v"));
    let kept = (0..).map(|n| bench.key(false, n)).find(|key| !is_gained(key)).unwrap();
    stored(&bench, &kept, "at once").await;
    assert!(waits(&bench, &write).await);
    // The one that has gone can't be asked, and is waited for as long as it may have lent.
    fleet::eventually("the lease is over", Duration::from_secs(5), async || {
        bench.clock.skip(LEASE);
        write.is_finished()
    })
    .await;
    assert_eq!(done(write).await.code(), v1::Code::Ok);
}

#[tokio::test]
async fn who_is_asked_goes_by_the_newer_ring_from_then_on() {
    let bench = standing().await;
    let takeover = || Kind::Takeover(v1::Takeover {});
    let refused = bench.tell_as(v1::Role::Gateway, takeover()).await;
    assert_eq!(reply(refused).code(), v1::Code::Unsupported);
    let key = bench.key(false, 0);
    stored(&bench, &key, "v").await;
    let ours = bench.topology().epoch;
    for (as_of, is_newer) in [(ours.as_of, false), (ours.as_of + 1, true)] {
        let epoch = Epoch { as_of, digest: !ours.digest, ..ours };
        let told = bench.tell_by(epoch, v1::Role::Node, takeover()).await;
        assert_eq!(reply(told).code(), v1::Code::Ok);
        let read = bench.ask(get(&key)).await;
        // Nothing of that ring can be read, so it vouches for nothing.
        let refuses = matches!(read, Answer::NotStarted(Reason::CatchingUp));
        assert_eq!(refuses, is_newer, "{read:?}");
    }
}

#[tokio::test]
async fn a_hint_is_confirmed_when_what_it_names_is_not_lent_any_more() {
    let bench = standing().await;
    let key = bench.key(false, 0);
    stored(&bench, &key, "old").await;
    let mut holder = open(&bench).await;
    holder.borrow(&key).await;
    let hinted = v1::HintedKey { group: "default".to_owned(), key: key.clone() };
    let hint = Kind::Hint(v1::Hint { keys: vec![hinted], ..Default::default() });
    let telling = bench.tell_as(v1::Role::Node, hint);
    tokio::pin!(telling);
    let (id, _) = tokio::select! {
        called_back = holder.called_back(&key) => called_back,
        answer = &mut telling => panic!("confirmed too soon: {answer:?}"),
    };
    holder.confirm(id).await;
    assert_eq!(reply(telling.await).code(), v1::Code::Ok);
    assert_eq!(value(bench.ask(get(&key)).await), Err(v1::Code::NotFound));
}

#[tokio::test]
async fn a_hint_is_confirmed_no_sooner_than_a_write_would_be() {
    let clock = Skipping::default();
    clock.stop();
    let bench = Bench::by(clock, Partition::Available).await;
    let hinted = v1::HintedKey { group: "default".to_owned(), key: bench.key(false, 0) };
    let hint = Kind::Hint(v1::Hint { keys: vec![hinted], ..Default::default() });
    let telling = bench.tell_as(v1::Role::Node, hint);
    tokio::pin!(telling);
    // What a former life of it lent is not over.
    tokio::select! {
        biased;
        answer = &mut telling => panic!("confirmed too soon: {answer:?}"),
        () = async { for _ in 0..20 { let _ = bench.ask(get("anything")).await; } } => {}
    }
    bench.clock.skip(LEASE);
    assert_eq!(reply(telling.await).code(), v1::Code::Ok);
}

#[tokio::test]
async fn a_write_in_a_dead_owners_stead_waits_for_what_it_may_have_lent() {
    let mut bench = Bench::start().await;
    bench.on(well);
    let key = bench.key(true, 0);
    bench.kill_other().await;
    let began = Instant::now();
    stored(&bench, &key, "meanwhile").await;
    assert!(began.elapsed() >= LEASE, "acknowledged after {:?}", began.elapsed());
}

#[tokio::test]
async fn a_requester_hears_that_it_takes_longer_only_when_its_try_is_half_over() {
    let bench = standing().await;
    let key = bench.key(false, 0);
    stored(&bench, &key, "old").await;
    let (mut holder, mut writer) = (open(&bench).await, open(&bench).await);
    let write = |try_ms, value: &str| {
        Kind::Request(v1::Request { try_ms, budget_ms: 60_000, ..set(&key, value) })
    };
    holder.borrow(&key).await;
    writer.send(1, write(60_000, "new")).await;
    let (id, _) = holder.called_back(&key).await;
    holder.confirm(id).await;
    assert!(matches!(writer.op().await, (1, Kind::Reply(_))), "confirmed at once");
    holder.borrow(&key).await;
    writer.send(2, write(1_000, "newer")).await;
    let (id, _) = holder.called_back(&key).await;
    assert!(matches!(writer.op().await, (2, Kind::Pending(_))));
    holder.confirm(id).await;
    assert!(matches!(writer.op().await, (2, Kind::Reply(_))));
}
