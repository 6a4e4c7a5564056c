//! Real signals, in a process of their own: the first drains, the second cuts off.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use common::lifecycle::{Ending, Lifecycle};
use rustix::process::{Signal, getpid, kill_process};
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(10);

#[tokio::test]
async fn the_first_signal_drains_and_the_second_cuts_off() {
    let life = Lifecycle::new(SOON * 10);
    let stop = life.stop();
    life.tracker().spawn(stop.hard.clone().cancelled_owned());
    life.listen_for_signals().unwrap();
    let running = tokio::spawn(life.run_until_stopped());

    kill_process(getpid(), Signal::TERM).unwrap();
    timeout(SOON, stop.soft.cancelled()).await.unwrap();
    assert!(!stop.hard.is_cancelled());

    kill_process(getpid(), Signal::INT).unwrap();
    let ending = timeout(SOON, running).await.unwrap().unwrap();
    assert!(matches!(ending, Ending::Cut(_)), "{ending:?}");
}
