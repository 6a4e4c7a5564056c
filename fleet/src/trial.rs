//! Runs that count, and runs that show nothing.
//!
//! A fleet under test shares a machine with its client and with strangers. When that machine stands
//! still, requests fail whatever the fleet does; when the load did not get through before the fault,
//! the fault met no load. Such a run is void: it is repeated, a few times at most, and then the test
//! is red. What is right in spite of a standstill is right, and is not repeated.

use std::{any::Any, panic::AssertUnwindSafe, time::Duration};

use futures_util::FutureExt;

use crate::timers::Lateness;

/// A machine on which the harness's own timers wake later than this stands still. A quarter of the
/// client's deadline: what remains is enough for all tries of a request.
pub const STANDSTILL: Duration = Duration::from_millis(500);

/// How many void runs are repeated.
pub const VOID_RUNS: u32 = 2;

/// A run that shows nothing, and why.
#[derive(Debug)]
pub struct Void(pub String);

/// Runs it, and again while that was void: when it says so itself, or when it panicked and the
/// machine stood still meanwhile. Both together happen at most [`VOID_RUNS`] times.
///
/// # Panics
/// When the run does, or when one more would be needed; without a thread to measure on.
pub async fn trial<T>(run: impl AsyncFnMut() -> Result<T, Void>) -> T {
    judged_by(STANDSTILL, run).await
}

/// As [`trial`], with how late is too late.
async fn judged_by<T>(standstill: Duration, mut run: impl AsyncFnMut() -> Result<T, Void>) -> T {
    let mut void = 0;
    loop {
        let lateness = Lateness::measure().expect("a thread");
        let ended = AssertUnwindSafe(run()).catch_unwind().await;
        let worst = lateness.worst();
        let why = match ended {
            Ok(Ok(done)) => return done,
            Ok(Err(Void(why))) => why,
            Err(panic) if worst <= standstill => std::panic::resume_unwind(panic),
            Err(panic) => format!("the machine stood still for {worst:.1?}: {}", message(&*panic)),
        };
        void += 1;
        assert!(void <= VOID_RUNS, "{void} runs in a row were void, this one because {why}");
        eprintln!("void run {void}: {why}");
    }
}

/// The first line of what a panic said.
fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic");
    text.lines().next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::panic::panic_any;

    use super::*;

    /// Any machine is later than this, and none is later than that.
    const ALWAYS_LATE: Duration = Duration::ZERO;
    const NEVER_LATE: Duration = Duration::from_secs(3600);

    /// Runs what may panic and says how often it ran and whether it came to an end.
    async fn tried(standstill: Duration, end: impl Fn(u32) -> Result<(), Void>) -> (u32, bool) {
        let mut runs = 0;
        let all = judged_by(standstill, async || {
            runs += 1;
            // Long enough for a timer, and any timer is late.
            tokio::time::sleep(crate::timers::STEP * 2).await;
            end(runs)
        });
        let ended = AssertUnwindSafe(all).catch_unwind().await.is_ok();
        (runs, ended)
    }

    fn fails(_: u32) -> Result<(), Void> {
        panic_any("wrong")
    }

    #[tokio::test]
    async fn a_failure_counts_unless_the_machine_stood_still() {
        assert_eq!(tried(NEVER_LATE, fails).await, (1, false));
        assert_eq!(tried(ALWAYS_LATE, fails).await, (VOID_RUNS + 1, false), "then it is red");
        let in_the_end = |run| if run == 3 { Ok(()) } else { fails(run) };
        assert_eq!(tried(ALWAYS_LATE, in_the_end).await, (3, true));
        assert_eq!(tried(ALWAYS_LATE, |_| Ok(())).await, (1, true), "right is right");
    }

    #[tokio::test]
    async fn a_run_that_shows_nothing_is_repeated_a_few_times() {
        let empty = |_| Err(Void("no load".to_owned()));
        assert_eq!(tried(NEVER_LATE, empty).await, (VOID_RUNS + 1, false));
        let second = |run| if run == 2 { Ok(()) } else { Err(Void(String::new())) };
        assert_eq!(tried(NEVER_LATE, second).await, (2, true));
    }
}
