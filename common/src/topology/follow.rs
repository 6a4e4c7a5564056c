//! Following discovery: view → ring → swap, in one task.
//!
//! Only that task makes topologies, on the runtime it was started on: a worker that has to catch
//! up hands the view over and waits, instead of hashing a ring among its requests. When discovery
//! is cut off nothing happens here: the last topology stays.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    discovery::{Discovery, DiscoveryStatus, View},
    error::{Code, Error, Result},
};

use super::{Epoch, Topology};

/// Callers whose view, read by [`Topologies::catch_up`], waits for the task; further ones wait
/// for room.
const CATCH_UP_QUEUE: usize = 64;
/// How long it is taken for granted that the state can't be read, after it could not.
const UNREADABLE_FOR: Duration = Duration::from_millis(500);
/// Whoever waits for less can't tell whether the state can be read.
const FAIR_PATIENCE: Duration = Duration::from_millis(50);

/// The current topology, for all parts of a process. Cheap to clone.
#[derive(Clone)]
pub struct Topologies {
    shared: Arc<Shared>,
}

struct Shared {
    current: ArcSwap<Topology>,
    epochs: watch::Sender<Epoch>,
    discovery: Arc<dyn Discovery>,
    caught_up: mpsc::Sender<CaughtUp>,
    /// When the state could not be read in time, if that is how the last try ended.
    failed: Mutex<Option<Instant>>,
}

/// A view read ahead of the watch, and who waits for its topology.
struct CaughtUp {
    view: Arc<View>,
    done: oneshot::Sender<Arc<Topology>>,
}

impl Topologies {
    /// The topology now; [`Topology::empty`] until the cluster state has been read.
    pub fn load(&self) -> Arc<Topology> {
        self.shared.current.load_full()
    }

    /// Whether that is the topology now. Cheaper than loading it: no count is touched that other
    /// threads touch too.
    pub fn is_current(&self, topology: &Arc<Topology>) -> bool {
        Arc::ptr_eq(&self.shared.current.load(), topology)
    }

    /// The epoch as it moves. When a new one is seen, [`Topologies::load`] gives its topology or
    /// a later one. It moves with every revision; whether the ring changed, the digest tells.
    pub fn changes(&self) -> watch::Receiver<Epoch> {
        self.shared.epochs.subscribe()
    }

    /// Reads the cluster state again and returns the topology that it makes, with an `as_of` of
    /// at least the one asked for. Dropping the future only ends the waiting.
    ///
    /// # Errors
    /// [`Code::NodeUnavailable`] when the cluster state can't be read that far, or this process
    /// is stopping.
    pub async fn catch_up(&self, as_of: u64) -> Result<Arc<Topology>> {
        let view = self.shared.discovery.catch_up(as_of).await?;
        let (done, answer) = oneshot::channel();
        let stopping = || Error::new(Code::NodeUnavailable, "this process is stopping");
        let caught_up = CaughtUp { view, done };
        self.shared.caught_up.send(caught_up).await.map_err(|_| stopping())?;
        let topology = answer.await.map_err(|_| stopping())?;
        let reached = topology.epoch.as_of;
        if reached < as_of {
            let message = format!(
                "the cluster state is known here up to revision {reached}, not {as_of}: it was \
                 replaced meanwhile"
            );
            return Err(Error::new(Code::NodeUnavailable, message));
        }
        Ok(topology)
    }

    /// As [`Topologies::catch_up`], but gives up after `patience`, and at once if the state could not
    /// be read a moment ago: for requests, of which each would wait to find that out again.
    ///
    /// # Errors
    /// [`Code::Timeout`] when the state can't be read now, [`Code::NodeUnavailable`] when it was
    /// read and has not got that far.
    pub async fn catch_up_within(&self, as_of: u64, patience: Duration) -> Result<Arc<Topology>> {
        let unreadable = || Error::new(Code::Timeout, "the cluster state can't be read now");
        let last = *self.failed();
        if last.is_some_and(|last| last.elapsed() < UNREADABLE_FOR) {
            return Err(unreadable());
        }
        let read = timeout(patience, self.catch_up(as_of)).await;
        let is_answered = match &read {
            Ok(Ok(_)) => true,
            // It may have said that it has not got that far.
            Ok(Err(_)) => self.discovery_status().borrow().connected,
            Err(_) => false,
        };
        // One who had hardly any time has not found out anything.
        if is_answered || patience >= FAIR_PATIENCE {
            *self.failed() = (!is_answered).then(Instant::now);
        }
        read.ok().filter(|_| is_answered).unwrap_or_else(|| Err(unreadable()))
    }

    pub(super) fn discovery(&self) -> &dyn Discovery {
        &*self.shared.discovery
    }

    fn failed(&self) -> MutexGuard<'_, Option<Instant>> {
        self.shared.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How well the cluster state is reached.
    pub fn discovery_status(&self) -> watch::Receiver<DiscoveryStatus> {
        self.shared.discovery.status()
    }
}

/// Starts following, in one task of the current runtime that ends with `stop`. What was current
/// then stays so.
///
/// # Panics
/// Outside a tokio runtime.
pub fn follow(
    discovery: Arc<dyn Discovery>,
    tasks: &TaskTracker,
    stop: CancellationToken,
) -> Topologies {
    let (caught_up, requests) = mpsc::channel(CATCH_UP_QUEUE);
    let empty = Topology::empty();
    let views = discovery.views();
    let shared = Arc::new(Shared {
        epochs: watch::Sender::new(empty.epoch),
        current: ArcSwap::from_pointee(empty),
        discovery,
        caught_up,
        failed: Mutex::default(),
    });
    tasks.spawn(run(shared.clone(), views, requests, stop));
    Topologies { shared }
}

async fn run(
    shared: Arc<Shared>,
    mut views: watch::Receiver<Option<Arc<View>>>,
    mut requests: mpsc::Receiver<CaughtUp>,
    stop: CancellationToken,
) {
    views.mark_changed();
    let mut watching = true;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            changed = views.changed(), if watching => {
                watching = changed.is_ok();
                if !watching {
                    tracing::warn!("discovery has ended; the topology stays as it is");
                }
                let published = views.borrow_and_update().clone();
                if let Some(view) = published {
                    shared.apply(&view);
                }
            }
            Some(CaughtUp { view, done }) = requests.recv() => {
                let published = views.borrow_and_update().clone();
                shared.apply(newest(published.as_ref(), &view));
                // Whoever asked may have gone; the topology is current all the same.
                let _ = done.send(shared.current.load_full());
            }
        }
    }
}

/// Of the view that discovery publishes and one that a caller brings, the one to go by. Between
/// generations revisions can't be compared: there discovery has the say.
fn newest<'a>(published: Option<&'a Arc<View>>, brought: &'a Arc<View>) -> &'a View {
    match published {
        Some(view) if view.generation != brought.generation || view.as_of >= brought.as_of => view,
        _ => brought,
    }
}

impl Shared {
    /// Makes a view's topology the current one, unless a later one of its generation is.
    fn apply(&self, view: &View) {
        let current = self.current.load();
        let before = current.epoch;
        if before.generation == view.generation && before.as_of > view.as_of {
            return;
        }
        let next = current.next(view);
        let (after, members) = (next.epoch, next.members().len());
        self.current.store(Arc::new(next));
        if before.digest != after.digest || before.generation != after.generation {
            let digest = format_args!("{:016x}", after.digest);
            let (generation, as_of) = (after.generation, after.as_of);
            tracing::info!(%generation, as_of, %digest, members, "new topology");
        }
        self.epochs.send_replace(after);
    }
}
