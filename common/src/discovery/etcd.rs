//! The etcd backend: the only module that names `etcd_client`.
//!
//! One task follows the cluster state on a connection of its own ([`watcher`]); each registration
//! has another task and connection ([`seat`]), so that neither waits for the other. The client
//! crate is a thin stub and does not resume anything: whatever goes wrong, the connection is
//! given up, the next endpoint is tried after a jittered wait, and the state is listed again.
//! What is known stays in force meanwhile.

mod carry;
mod connection;
mod fault;
mod group;
mod list;
mod operation;
mod publisher;
mod seat;
mod watcher;

use std::{path::PathBuf, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot, watch},
};
use tokio_util::task::AbortOnDropHandle;

use self::{
    connection::Endpoints,
    publisher::Publisher,
    seat::EtcdSeat,
    watcher::{Watcher, longest_carry},
};
use crate::{
    clock::Clock,
    discovery::{
        Discovery, DiscoveryStatus, EtcdAccess, GroupRecord, NodeRecord, Prober, Registration,
        View, WantedRing,
        layout::{Layout, MAX_VIRTUAL_NODES},
        registrar::{self, Terms},
        settle::Settling,
        snapshot::{Snapshot, SnapshotFile},
        standing::Standing,
    },
    error::{Code, Error, Result},
    key::GroupName,
};

/// Most callers that may wait for the state to be read again; more of them wait for their turn.
const MAX_WAITING_CATCH_UPS: usize = 256;

/// How etcd is used.
#[derive(Debug, Clone)]
pub struct EtcdOptions {
    /// Where etcd answers: `host:port`, `http://host:port` or `https://host:port`, one or more.
    pub endpoints: Vec<String>,
    /// How etcd and this process know each other.
    pub access: EtcdAccess,
    /// The name of the cluster; its state is under `/{service}/`.
    pub service: String,
    /// How long a node's record outlives it. etcd takes whole seconds, and at least 2 of them
    /// with its default election timeouts.
    pub lease_ttl: Duration,
    /// What this process's configuration says explicitly about the ring.
    pub wanted: WantedRing,
    /// Where the last known view is kept over restarts, if it is.
    pub state_dir: Option<PathBuf>,
    /// Longest wait for a connection.
    pub connect_timeout: Duration,
    /// Longest wait for an answer.
    pub request_timeout: Duration,
    /// How often the whole state is listed although the watch says that nothing is amiss.
    pub anti_entropy: Duration,
}

impl Default for EtcdOptions {
    fn default() -> Self {
        Self {
            endpoints: vec!["127.0.0.1:2379".into()],
            access: EtcdAccess::default(),
            service: "ringway".into(),
            lease_ttl: Duration::from_secs(10),
            wanted: WantedRing::default(),
            state_dir: None,
            connect_timeout: Duration::from_secs(1),
            request_timeout: Duration::from_secs(3),
            anti_entropy: Duration::from_secs(30),
        }
    }
}

/// The cluster state in etcd. Dropping it stops following; registrations live on.
pub struct EtcdDiscovery {
    views: watch::Sender<Option<Arc<View>>>,
    /// What etcd says, settled or not.
    raw: watch::Sender<Option<Arc<View>>>,
    standing: Arc<Standing>,
    clock: Arc<dyn Clock>,
    catch_ups: mpsc::Sender<CatchUp>,
    prober: Arc<dyn Prober>,
    endpoints: Endpoints,
    layout: Layout,
    lease_ttl: Duration,
    runtime: Handle,
    _tasks: Vec<AbortOnDropHandle<()>>,
}

/// An order to list again now.
struct CatchUp {
    as_of: u64,
    done: oneshot::Sender<Result<Arc<View>>>,
}

impl EtcdDiscovery {
    /// Begins to follow the cluster state, whether or not etcd can be reached now. Must be called
    /// on the runtime that is to do it.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] when the options can't be used as they are.
    pub fn start(
        options: EtcdOptions,
        clock: Arc<dyn Clock>,
        prober: Arc<dyn Prober>,
    ) -> Result<Self> {
        let unusable = |why: String| Error::new(Code::InvalidRequest, why);
        let layout = Layout::new(&options.service).map_err(unusable)?;
        let endpoints = Endpoints::parse(&options).map_err(unusable)?;
        let lease_ttl = options.lease_ttl;
        if lease_ttl < Duration::from_secs(1) {
            return Err(unusable(format!("lease_ttl is {lease_ttl:?}, it must be at least 1s")));
        }
        if options.wanted.virtual_nodes.is_some_and(|n| !(1..=MAX_VIRTUAL_NODES).contains(&n)) {
            return Err(unusable(format!("virtual_nodes must be 1 to {MAX_VIRTUAL_NODES}")));
        }
        let (catch_ups, orders) = mpsc::channel(MAX_WAITING_CATCH_UPS);
        let standing = Arc::new(Standing::new(Arc::clone(&clock)));
        let (views, raw) = (watch::Sender::new(None), watch::Sender::new(None));
        let file = options.state_dir.as_deref();
        let file = file.map(|dir| SnapshotFile::new(dir, &options.service, Arc::clone(&clock)));
        let stored = file.as_ref().and_then(SnapshotFile::read);
        let publisher = Publisher::new(
            views.clone(),
            raw.clone(),
            Arc::clone(&standing),
            Settling::new(longest_carry(lease_ttl)),
            stored.clone().filter(|stored| agrees(&options.wanted, stored)),
        );
        let watcher = Watcher::new(
            endpoints.clone(),
            layout.clone(),
            options,
            publisher,
            Arc::clone(&standing),
        );
        let runtime = Handle::current();
        let mut _tasks = vec![AbortOnDropHandle::new(runtime.spawn(watcher.run(orders)))];
        if let Some(file) = file {
            let keeping = file.keep(views.subscribe(), stored.map(|stored| stored.view));
            _tasks.push(AbortOnDropHandle::new(runtime.spawn(keeping)));
        }
        Ok(Self {
            views,
            raw,
            standing,
            clock,
            catch_ups,
            prober,
            endpoints,
            layout,
            lease_ttl,
            runtime,
            _tasks,
        })
    }
}

/// Whether a snapshot's ring is one that this process may have.
fn agrees(wanted: &WantedRing, stored: &Snapshot) -> bool {
    let conflict = wanted.conflict_with(&stored.view.ring);
    if let Some(conflict) = &conflict {
        tracing::warn!(conflict, "the snapshot is not used");
    }
    conflict.is_none()
}

impl Discovery for EtcdDiscovery {
    fn views(&self) -> watch::Receiver<Option<Arc<View>>> {
        self.views.subscribe()
    }

    fn status(&self) -> watch::Receiver<DiscoveryStatus> {
        self.standing.subscribe()
    }

    fn catch_up(&self, as_of: u64) -> BoxFuture<'_, Result<Arc<View>>> {
        Box::pin(async move {
            let ended = || Error::new(Code::Internal, "discovery has ended");
            let (done, answer) = oneshot::channel();
            self.catch_ups.send(CatchUp { as_of, done }).await.map_err(|_| ended())?;
            answer.await.map_err(|_| ended())?
        })
    }

    fn write_group(
        &self,
        name: &GroupName,
        record: &GroupRecord,
        seen: u64,
    ) -> BoxFuture<'_, Result<Option<u64>>> {
        let (endpoints, key) = (self.endpoints.clone().shuffled(), self.layout.group(name));
        let json = record.to_json();
        Box::pin(async move {
            let json = json.map_err(|why| Error::new(Code::InvalidRequest, why))?;
            let written = group::write(endpoints, key, seen, json).await;
            written.map_err(|fault| Error::new(Code::NodeUnavailable, fault.in_words()))
        })
    }

    fn register(&self, record: NodeRecord) -> Registration {
        let lease_ttl = self.lease_ttl;
        let seat = EtcdSeat::new(self.endpoints.clone(), &self.layout, &record.id, lease_ttl);
        let (shown, status) = (self.views(), self.status());
        let (raw, clock) = (self.raw.subscribe(), Arc::clone(&self.clock));
        let prober = Arc::clone(&self.prober);
        let terms = Terms { record, lease_ttl, prober, raw, shown, status, clock };
        registrar::spawn(&self.runtime, seat, terms)
    }
}
