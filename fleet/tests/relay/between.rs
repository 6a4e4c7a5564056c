//! Owners that are gone, and a node before this one that may stand in for them as well: two must not do so
//! without knowing of each other.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use proto::v1::{self, op::Kind};

use crate::bench::*;

const ORDER: [&str; 2] = ["other", "neighbour"];

#[tokio::test]
async fn a_stand_in_before_this_one_hears_of_a_write_before_its_writer_does() {
    let mut bench = Bench::start().await;
    let neighbour = bench.neighbour().await;
    let key = bench.key_of(&ORDER, 0);
    bench.kill_other().await;
    // The first hint goes unanswered.
    let told = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&told);
    neighbour.on(move |kind| match kind {
        Kind::Hint(_) if count.fetch_add(1, Ordering::SeqCst) < 1 => None,
        other => well(other),
    });
    assert_eq!(reply(bench.ask(set(&key, "here")).await).code(), v1::Code::Ok);
    assert!(told.load(Ordering::SeqCst) > 1, "not before it has taken the hint");
    // It may be written there from now on.
    assert_eq!(value(bench.ask(get(&key)).await), Err(v1::Code::NotFound));
}

#[tokio::test]
async fn where_the_one_before_this_is_gone_too_writes_are_kept_until_it_is_heard_of() {
    let mut bench = Bench::start().await;
    let mut neighbour = bench.neighbour().await;
    let key = bench.key_of(&ORDER, 0);
    bench.kill_other().await;
    neighbour.kill().await;
    assert_eq!(reply(bench.ask(set(&key, "here")).await).code(), v1::Code::Ok);
    assert_eq!(value(bench.ask(get(&key)).await).unwrap(), "here");
    neighbour.revive().await;
    fleet::eventually("a hint of the write", Duration::from_secs(5), async || {
        neighbour.has_seen(|kind| hints(kind, &key))
    })
    .await;
    // The owner is still gone, but the neighbour may have been written to.
    assert_eq!(value(bench.ask(get(&key)).await), Err(v1::Code::NotFound));
}

#[tokio::test]
async fn a_late_neighbour_is_waited_for() {
    let mut bench = Bench::start().await;
    let neighbour = bench.neighbour().await;
    let key = bench.key_of(&ORDER, 0);
    bench.kill_other().await;
    // It misses one question, which is no absence.
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    neighbour.on(move |kind| match kind {
        Kind::Ping(_) if count.fetch_add(1, Ordering::SeqCst) < 1 => None,
        other => well(other),
    });
    assert_eq!(reply(bench.ask(set(&key, "here")).await).code(), v1::Code::Ok);
    assert!(neighbour.has_seen(|kind| hints(kind, &key)));
    assert_eq!(value(bench.ask(get(&key)).await), Err(v1::Code::NotFound));
}
