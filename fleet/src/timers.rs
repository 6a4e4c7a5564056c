//! Whether this machine is quiet enough to judge by: how late do timers wake?
//!
//! Before a run whose times are asserted ([`assert_punctual`]), and during any run ([`Lateness`]).
//! What lateness means for a run is decided elsewhere.

use std::time::Duration;

use tokio::{
    task::JoinHandle,
    time::{Instant, sleep_until},
};
use tokio_util::sync::{CancellationToken, DropGuard};

/// How late a timer may wake on a machine that times are judged on.
pub const PUNCTUAL: Duration = Duration::from_millis(50);

/// How many timers one look waits for, and how far apart they are.
const TIMERS: u32 = 200;
const STEP: Duration = Duration::from_millis(5);

/// How often the machine is looked at before it is given up.
const LOOKS: u32 = 3;

/// Measures, in a task of the current runtime, how late timers wake while something else runs on it:
/// it sees both a machine that stands still and a harness that blocks itself. Dropping it ends it.
#[derive(Debug)]
pub struct Lateness {
    measuring: JoinHandle<Duration>,
    stop: DropGuard,
}

impl Lateness {
    /// Begins.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn measure() -> Self {
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let measuring = tokio::spawn(async move {
            let mut worst = Duration::ZERO;
            // The timer that is due now is waited for in any case: it may be the late one.
            while !stopped.is_cancelled() {
                let due = Instant::now() + STEP;
                sleep_until(due).await;
                worst = worst.max(due.elapsed());
            }
            worst
        });
        Self { measuring, stop: stop.drop_guard() }
    }

    /// Ends, and returns the most that a timer was late.
    ///
    /// # Panics
    /// When the runtime is shutting down.
    pub async fn worst(self) -> Duration {
        drop(self.stop);
        self.measuring.await.expect("the task ends by itself")
    }
}

/// The most that a timer was late, over a second.
pub async fn worst_lateness() -> Duration {
    let start = Instant::now();
    let mut worst = Duration::ZERO;
    for n in 1..=TIMERS {
        let due = start + STEP * n;
        sleep_until(due).await;
        worst = worst.max(due.elapsed());
    }
    worst
}

/// Makes sure that timers wake in time here, and says how late they are.
///
/// # Panics
/// When they don't, after a few looks.
pub async fn assert_punctual() {
    let mut worst = Duration::MAX;
    for _ in 0..LOOKS {
        worst = worst_lateness().await;
        if worst < PUNCTUAL {
            eprintln!("probe: timers wake up to {worst:.1?} late");
            return;
        }
    }
    panic!("timers wake up to {worst:.1?} late: this machine is too busy to judge times on");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_runtime_that_is_blocked_is_late() {
        let lateness = Lateness::measure();
        // The first timer has to be set before it can be late.
        tokio::task::yield_now().await;
        let blocked = STEP * 20;
        let until = Instant::now() + blocked;
        while Instant::now() < until {
            std::hint::spin_loop();
        }
        let worst = lateness.worst().await;
        assert!(worst >= blocked - STEP * 2, "{worst:?}");
    }
}
