//! Whether this machine is quiet enough to judge by: how late do timers wake?
//!
//! Before a run whose times are asserted ([`assert_punctual`]), and during any run ([`Lateness`]).
//! What lateness means for a run is decided elsewhere.

use std::{
    sync::mpsc::{self, RecvTimeoutError},
    thread::{self, JoinHandle},
    time::Duration,
};

use tokio::time::{Instant, sleep_until};

/// How late a timer may wake on a machine that times are judged on.
pub const PUNCTUAL: Duration = Duration::from_millis(50);

/// How many timers one look waits for, and how far apart they are.
const TIMERS: u32 = 200;
pub(crate) const STEP: Duration = Duration::from_millis(5);

/// How often the machine is looked at before it is given up.
const LOOKS: u32 = 3;

/// Measures how late timers wake while something else goes on. On a thread of its own, so that it
/// sees a machine that stands still, and not a harness that blocks itself. Dropping it ends it.
#[derive(Debug)]
pub struct Lateness {
    measuring: JoinHandle<Duration>,
    /// The thread ends when this is gone.
    stop: mpsc::Sender<()>,
}

impl Lateness {
    /// Begins.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn measure() -> std::io::Result<Self> {
        let (stop, stopped) = mpsc::channel();
        let measuring = thread::Builder::new().name("lateness".to_owned()).spawn(move || {
            let mut worst = Duration::ZERO;
            loop {
                let due = Instant::now() + STEP;
                let waited = stopped.recv_timeout(STEP);
                worst = worst.max(due.elapsed());
                if waited != Err(RecvTimeoutError::Timeout) {
                    return worst;
                }
            }
        })?;
        Ok(Self { measuring, stop })
    }

    /// Ends, and returns the most that a timer was late.
    pub fn worst(self) -> Duration {
        drop(self.stop);
        // It has nothing to panic about; and nothing measured is nothing late.
        self.measuring.join().unwrap_or_default()
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
