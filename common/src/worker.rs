//! Worker threads: each one current-thread runtime, so that a request never leaves its core.
//!
//! A worker knows nothing of what runs on it: `serve` hands it connections, `link` its streams.
//! There is no stealing between workers; the acceptor spreads connections by load instead.

use std::{io, thread, time::Duration};

use tokio::{
    runtime::{Builder, Handle, Runtime},
    sync::oneshot,
    time::timeout,
};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Most workers a process starts unless it is told otherwise: beyond that the kernel's share of
/// the work leaves them idle.
const MAX_DEFAULT_WORKERS: usize = 8;
/// How long [`Workers::stop`] waits for the threads before it leaves them behind.
const STOP_DEADLINE: Duration = Duration::from_secs(5);
/// How long an ending worker waits for its blocking calls (a file, a name lookup).
const BLOCKING_DEADLINE: Duration = Duration::from_secs(1);

/// How many workers to start when the configuration does not say: one per core, at most 8.
pub fn default_workers() -> usize {
    thread::available_parallelism().map_or(1, usize::from).min(MAX_DEFAULT_WORKERS)
}

/// Running worker threads. Dropping them tells them to end and does not wait.
#[derive(Debug)]
pub struct Workers {
    handles: Vec<Handle>,
    ended: Vec<oneshot::Receiver<()>>,
    stop: DropGuard,
}

impl Workers {
    /// Starts `count` threads (at least one), named `{name}-0`, `{name}-1` and so on.
    ///
    /// # Errors
    /// When the system refuses a thread or an epoll instance; those started so far end again.
    pub fn start(name: &str, count: usize) -> io::Result<Self> {
        let token = CancellationToken::new();
        let mut workers =
            Self { handles: Vec::new(), ended: Vec::new(), stop: token.clone().drop_guard() };
        for index in 0..count.max(1) {
            // Built here, so that a failure is the caller's to see.
            let runtime = Builder::new_current_thread().enable_all().build()?;
            let (ended, wait) = oneshot::channel();
            workers.handles.push(runtime.handle().clone());
            workers.ended.push(wait);
            let token = token.clone();
            thread::Builder::new()
                .name(format!("{name}-{index}"))
                .spawn(move || run(runtime, &token, ended))?;
        }
        Ok(workers)
    }

    /// The runtimes, for spawning onto them; worker 0 first.
    pub fn handles(&self) -> &[Handle] {
        &self.handles
    }

    /// Ends every worker, dropping the tasks that are left on it, and waits for that.
    ///
    /// A worker that is stuck in a computation is left behind after 5 s, with a line in the log.
    pub async fn stop(self) {
        let Self { ended, stop, .. } = self;
        drop(stop); // cancels
        let all = async {
            for worker in ended {
                let _ = worker.await; // a sender that was dropped has ended too
            }
        };
        if timeout(STOP_DEADLINE, all).await.is_err() {
            tracing::warn!("a worker thread does not end, left behind after {STOP_DEADLINE:?}");
        }
    }
}

/// One worker's thread. `_ended` tells of its end by being dropped last, after the runtime.
fn run(runtime: Runtime, stop: &CancellationToken, _ended: oneshot::Sender<()>) {
    runtime.block_on(stop.cancelled());
    runtime.shutdown_timeout(BLOCKING_DEADLINE);
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn each_handle_is_a_thread_of_its_own_with_its_name() {
        let workers = Workers::start("cell", 2).unwrap();
        let mut names = Vec::new();
        for handle in workers.handles() {
            let here = async { thread::current().name().map(str::to_owned) };
            names.push(handle.spawn(here).await.unwrap().unwrap());
        }
        assert_eq!(names, ["cell-0", "cell-1"]);
        workers.stop().await;
    }

    #[tokio::test]
    async fn stopping_drops_the_tasks_and_waits_for_that() {
        let workers = Workers::start("cell", 1).unwrap();
        let alive = Arc::new(());
        let held = Arc::clone(&alive);
        let (started, wait) = oneshot::channel();
        workers.handles()[0].spawn(async move {
            started.send(()).unwrap();
            std::future::pending::<()>().await;
            drop(held);
        });
        wait.await.unwrap();
        assert_eq!(Arc::strong_count(&alive), 2);
        workers.stop().await;
        assert_eq!(Arc::strong_count(&alive), 1);
    }

    #[tokio::test]
    async fn dropping_ends_them_too() {
        let workers = Workers::start("cell", 1).unwrap();
        let task = workers.handles()[0].spawn(std::future::pending::<()>());
        drop(workers);
        let end = timeout(STOP_DEADLINE, task).await.expect("ends with its runtime");
        assert!(end.unwrap_err().is_cancelled());
    }

    #[test]
    fn at_least_one_worker_and_at_most_eight_by_default() {
        assert!((1..=8).contains(&default_workers()));
        assert_eq!(Workers::start("cell", 0).unwrap().handles().len(), 1);
    }
}
