//! How a process ends: in two phases, and never by losing a part of itself unnoticed.
//!
//! The soft token asks everything to finish what it has begun. When all tracked tasks are gone the
//! process is drained; when the deadline passes, or a second signal comes, the hard token cuts off
//! what is left. A critical task that ends before it was asked to stops the whole process with a
//! failing code: a node whose registration has died is better restarted than half alive.
//! What is done while draining is the business of the tasks, not of this module.

use std::{
    future::Future,
    io,
    process::ExitCode,
    sync::{Arc, OnceLock},
    time::Duration,
};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// How long tasks may take to notice the hard token before the process ends around them.
const HARD_GRACE: Duration = Duration::from_secs(1);

/// The two requests to stop, for everything that has to hear them.
#[derive(Debug, Clone)]
pub struct Stop {
    /// Finish what was begun, take on nothing new. Also cancelled when `hard` is.
    pub soft: CancellationToken,
    /// Drop everything.
    pub hard: CancellationToken,
}

impl Stop {
    /// Two tokens that nobody has cancelled.
    pub fn new() -> Self {
        let hard = CancellationToken::new();
        Self { soft: hard.child_token(), hard }
    }

    /// Asks for a stop, as a signal does: the first time to drain, then to drop everything.
    pub fn request(&self) {
        if self.soft.is_cancelled() {
            self.hard.cancel();
        } else {
            self.soft.cancel();
        }
    }
}

impl Default for Stop {
    fn default() -> Self {
        Self::new()
    }
}

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// Everything finished what it had begun.
    Drained,
    /// Draining was cut off by the deadline or a second request, with so many tasks left by then.
    Cut(usize),
    /// The critical task of that name died.
    Failed(String),
}

impl Ending {
    /// What the process says to whoever started it: success only for [`Ending::Drained`].
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Drained => ExitCode::SUCCESS,
            Self::Cut(_) | Self::Failed(_) => ExitCode::FAILURE,
        }
    }
}

/// The life of a gateway or node. Clones are handles to the same one.
#[derive(Debug, Clone)]
pub struct Lifecycle {
    stop: Stop,
    tracker: TaskTracker,
    drain: Duration,
    failed: Arc<OnceLock<String>>,
}

impl Lifecycle {
    /// A life that ends at most `drain` (and a second) after the first request to stop.
    pub fn new(drain: Duration) -> Self {
        let (tracker, failed) = (TaskTracker::new(), Arc::default());
        Self { stop: Stop::new(), tracker, drain, failed }
    }

    /// The tokens; [`Stop::request`] on them stops this process without a signal.
    pub fn stop(&self) -> Stop {
        self.stop.clone()
    }

    /// Whoever has something to finish spawns it here: draining waits for these tasks.
    pub fn tracker(&self) -> &TaskTracker {
        &self.tracker
    }

    /// Spawns a tracked task that the process can't do without: when it panics, or ends before the
    /// soft token is cancelled, everything stops and the ending is [`Ending::Failed`].
    pub fn spawn_critical<F>(&self, name: impl Into<String>, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (name, life) = (name.into(), self.clone());
        // A task of its own, so that its panic is an answer here.
        let task = tokio::spawn(task);
        self.tracker.spawn(async move {
            let problem = match task.await {
                Ok(()) if life.stop.soft.is_cancelled() => return,
                Ok(()) => "it ended by itself".to_owned(),
                Err(error) if error.is_panic() => format!("it panicked: {}", panic_text(error)),
                Err(_) => return, // the runtime is being shut down
            };
            tracing::error!(task = name, problem, "a critical task died, the process stops");
            let _ = life.failed.set(name);
            life.stop.soft.cancel();
        });
    }

    /// Lets SIGTERM and SIGINT stop this process: the first one drains, the second one cuts off.
    /// From here on they do nothing else. Must be called on a runtime, best before listening.
    ///
    /// # Errors
    /// If the handlers can't be installed.
    pub fn listen_for_signals(&self) -> io::Result<()> {
        let (mut term, mut int) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let stop = self.stop();
        tokio::spawn(async move {
            let name = either(&mut term, &mut int).await;
            tracing::info!(signal = name, "draining; a second signal ends the process at once");
            stop.soft.cancel();
            let name = either(&mut term, &mut int).await;
            tracing::warn!(signal = name, "a second signal, ending at once");
            stop.hard.cancel();
        });
        Ok(())
    }

    /// Listens for signals and runs until the process has ended. The code is for `main`.
    pub async fn run_until_signal(self) -> ExitCode {
        if let Err(error) = self.listen_for_signals() {
            tracing::error!(%error, "signals can't be handled");
            return ExitCode::FAILURE;
        }
        self.run_until_stopped().await.exit_code()
    }

    /// Waits for the soft token, whoever cancels it, then drains. For fleets within one process.
    pub async fn run_until_stopped(self) -> Ending {
        self.stop.soft.cancelled().await;
        self.tracker.close();
        // The hard token first: tasks that it has cut off are gone as well, but not drained.
        let cut = tokio::select! {
            biased;
            () = self.stop.hard.cancelled() => Some("it was asked to stop at once"),
            () = self.tracker.wait() => None,
            () = tokio::time::sleep(self.drain) => Some("the time for draining is over"),
        };
        let left = self.tracker.len();
        if let Some(why) = cut {
            tracing::warn!(why, tasks = left, "not drained");
        }
        self.stop.hard.cancel();
        if timeout(HARD_GRACE, self.tracker.wait()).await.is_err() {
            let tasks = self.tracker.len();
            tracing::error!(tasks, "tasks that do not stop are left behind");
        }
        match (self.failed.get(), cut) {
            (Some(task), _) => Ending::Failed(task.clone()),
            (None, Some(_)) => Ending::Cut(left),
            (None, None) => Ending::Drained,
        }
    }
}

async fn either(term: &mut Signal, int: &mut Signal) -> &'static str {
    tokio::select! {
        _ = term.recv() => "SIGTERM",
        _ = int.recv() => "SIGINT",
    }
}

fn panic_text(error: tokio::task::JoinError) -> String {
    let payload = error.into_panic();
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use tokio::{sync::oneshot, time::Instant};

    use super::*;

    const DRAIN: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn draining_waits_for_what_was_begun() {
        let life = Lifecycle::new(DRAIN);
        let stop = life.stop();
        let (done, finished) = oneshot::channel();
        life.tracker().spawn({
            let soft = stop.soft.clone();
            async move {
                soft.cancelled().await;
                tokio::time::sleep(DRAIN / 2).await;
                let _ = done.send(());
            }
        });
        let running = tokio::spawn(life.run_until_stopped());
        assert!(!stop.soft.is_cancelled());
        stop.request();
        assert_eq!(running.await.unwrap(), Ending::Drained);
        assert_eq!(finished.await, Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn the_deadline_cuts_off_what_listens_only_to_the_hard_token() {
        let life = Lifecycle::new(DRAIN);
        let stop = life.stop();
        life.tracker().spawn(stop.hard.clone().cancelled_owned());
        let start = Instant::now();
        stop.request();
        assert_eq!(life.run_until_stopped().await, Ending::Cut(1));
        assert_eq!(start.elapsed().as_secs(), DRAIN.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_request_does_not_wait_for_the_deadline() {
        let life = Lifecycle::new(DRAIN);
        let stop = life.stop();
        life.tracker().spawn(stop.hard.clone().cancelled_owned());
        let start = Instant::now();
        stop.request();
        let running = tokio::spawn(life.run_until_stopped());
        tokio::task::yield_now().await;
        stop.request();
        assert!(matches!(running.await.unwrap(), Ending::Cut(_)));
        assert!(start.elapsed() < DRAIN);
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_never_stops_does_not_hold_the_process() {
        let life = Lifecycle::new(DRAIN);
        life.tracker().spawn(std::future::pending::<()>());
        let start = Instant::now();
        life.stop().request();
        assert_eq!(life.run_until_stopped().await, Ending::Cut(1));
        assert_eq!(start.elapsed().as_secs(), (DRAIN + HARD_GRACE).as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn a_critical_task_that_panics_stops_everything() {
        let life = Lifecycle::new(DRAIN);
        let soft = life.stop().soft;
        life.tracker().spawn(soft.cancelled_owned());
        life.spawn_critical("registration", async { panic!("lost") });
        let ending = life.run_until_stopped().await;
        assert_eq!(ending, Ending::Failed("registration".into()));
        assert_eq!(ending.exit_code(), ExitCode::FAILURE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_critical_task_that_ends_by_itself_stops_everything() {
        let life = Lifecycle::new(DRAIN);
        life.spawn_critical("acceptor", async {});
        assert_eq!(life.run_until_stopped().await, Ending::Failed("acceptor".into()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_critical_task_may_end_when_asked() {
        let life = Lifecycle::new(DRAIN);
        let stop = life.stop();
        life.spawn_critical("acceptor", stop.soft.clone().cancelled_owned());
        stop.request();
        let ending = life.run_until_stopped().await;
        assert_eq!(ending, Ending::Drained);
        assert_eq!(ending.exit_code(), ExitCode::SUCCESS);
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_while_draining_is_a_failure_too() {
        let life = Lifecycle::new(DRAIN);
        let soft = life.stop().soft;
        life.spawn_critical("handoff", async move {
            soft.cancelled().await;
            panic!("halfway");
        });
        life.stop().request();
        assert_eq!(life.run_until_stopped().await, Ending::Failed("handoff".into()));
    }

    #[test]
    fn hard_includes_soft() {
        let stop = Stop::new();
        stop.hard.cancel();
        assert!(stop.soft.is_cancelled());
    }
}
