//! Whether this machine is quiet enough to judge times by: how late do timers wake?
//!
//! Only the long fault suite asks; the short one asserts no times.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// How late a timer may wake on a machine that times are judged on.
pub const PUNCTUAL: Duration = Duration::from_millis(50);

/// How many timers one look waits for, and how far apart they are.
const TIMERS: u32 = 200;
const STEP: Duration = Duration::from_millis(5);

/// How often the machine is looked at before it is given up.
const LOOKS: u32 = 3;

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
