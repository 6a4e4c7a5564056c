//! A node that stood still asks the others before it answers.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use common::link::Answer;
use proto::v1::{self, op::Kind};

use crate::bench::*;

/// Long enough to be noticed, and too short for anybody to have written elsewhere.
const SHORT: Duration = Duration::from_millis(110);

fn hint_of(keys: &[&String]) -> Kind {
    let hinted = |key: &&String| v1::HintedKey { group: "default".into(), key: (*key).clone() };
    Kind::Hint(v1::Hint { keys: keys.iter().map(hinted).collect(), ..Default::default() })
}

fn asks_for_hints(kind: &Kind) -> bool {
    matches!(kind, Kind::HintsWanted(_))
}

#[tokio::test]
async fn it_answers_when_it_has_heard_what_was_written_elsewhere() {
    let bench = Bench::start().await;
    let (hinted, kept, written) = (bench.key(false, 0), bench.key(false, 1), bench.key(false, 2));
    for key in [&hinted, &kept, &written] {
        assert_eq!(reply(bench.ask(set(key, "old")).await).code(), v1::Code::Ok);
    }
    let may_answer = Arc::new(AtomicBool::new(false));
    let (gate, key) = (Arc::clone(&may_answer), hinted.clone());
    bench.on(move |kind| match kind {
        // The first question stays open, and the next ones until the gate is.
        Kind::HintsWanted(_) if !gate.load(Ordering::SeqCst) => None,
        Kind::HintsWanted(_) => Some(hint_of(&[&key])),
        other => well(other),
    });
    bench.clock.skip(SHORT);
    let read = bench.begin(get(&hinted));
    let write = bench.begin(set(&written, "new"));
    bench.sees("a question for hints", asks_for_hints).await;
    assert!(!read.is_finished() && !write.is_finished(), "they hear that it takes longer");
    // It stands still once more before the first round is over, so that there is another one.
    may_answer.store(true, Ordering::SeqCst);
    bench.clock.skip(SHORT);
    assert_eq!(value(read.await.unwrap()), Err(v1::Code::NotFound));
    assert_eq!(reply(write.await.unwrap()).code(), v1::Code::Ok);
    assert_eq!(value(bench.ask(get(&written)).await).unwrap(), "new");
    assert_eq!(value(bench.ask(get(&kept)).await).unwrap(), "old", "nothing else is dropped");
    assert!(bench.metric("unsteady_total").await >= 1);
}

#[tokio::test]
async fn hints_that_are_gone_with_their_keeper_cost_everything_after_a_long_standstill() {
    let mut bench = Bench::start().await;
    let key = bench.key(false, 0);
    assert_eq!(reply(bench.ask(set(&key, "old")).await).code(), v1::Code::Ok);
    bench.kill_other().await;
    bench.clock.skip(SHORT);
    assert_eq!(value(bench.ask(get(&key)).await).unwrap(), "old", "too short for anybody to write");
    bench.clock.skip(Duration::from_millis(250));
    assert_eq!(value(bench.ask(get(&key)).await), Err(v1::Code::NotFound));
    assert_eq!(reply(bench.ask(set(&key, "new")).await).code(), v1::Code::Ok);
    assert_eq!(value(bench.ask(get(&key)).await).unwrap(), "new");
    assert!(bench.metric("entries_dropped_total").await >= 1);
}

#[tokio::test]
async fn a_long_standstill_costs_nothing_when_everybody_answers() {
    let bench = Bench::start().await;
    let key = bench.key(false, 0);
    assert_eq!(reply(bench.ask(set(&key, "old")).await).code(), v1::Code::Ok);
    bench.clock.skip(Duration::from_secs(5));
    assert_eq!(value(bench.ask(get(&key)).await).unwrap(), "old");
    assert_eq!(bench.metric("unsteady_total").await, 1);
    assert_eq!(bench.metric("entries_dropped_total").await, 0);
}

#[tokio::test]
async fn whoever_asks_for_hints_is_told_and_heard_of() {
    let mut bench = Bench::start().await;
    let key = bench.key(true, 0);
    bench.kill_other().await;
    for _ in 0..4 {
        assert_eq!(reply(bench.ask(set(&key, "v")).await).code(), v1::Code::Ok);
    }
    let identity = bench.other.identity.clone();
    let Answer::Hints(told) = bench.ask_hints_as(identity).await else { panic!("hints") };
    assert!(hints(&Kind::Hint(told.clone()), &key), "{told:?}");
    assert_eq!(told.epoch, Some(bench.topology().epoch.to_wire()));
    // It lives, so what was written in its stead is not read any more.
    assert_eq!(value(bench.ask(get(&key)).await), Err(v1::Code::NotFound));
}
