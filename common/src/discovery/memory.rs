//! The in-process backend: for local fleets and for tests.
//!
//! A [`MemoryRegistry`] stands for the service that others would run, with revisions and leases;
//! each [`MemoryDiscovery`] is one process's handle on it. It can't be unreachable.

mod state;

use std::{sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use tokio::{runtime::Handle, sync::watch};

use self::state::Shared;
use crate::{
    clock::Clock,
    discovery::{
        Discovery, DiscoveryStatus, GroupRecord, NodeId, NodeRecord, Prober, Registration, View,
        WantedRing,
        registrar::{self, Found, Seat, Setback, Terms, Try, Writing},
        standing::Standing,
    },
    error::{Code, Error, Result},
    key::GroupName,
};

/// How long a lease lasts unless told otherwise.
pub const DEFAULT_LEASE_TTL: Duration = Duration::from_secs(10);

/// Cluster state that lives in this process. Cheap to clone; the clones are one registry.
#[derive(Clone)]
pub struct MemoryRegistry {
    shared: Arc<Shared>,
    clock: Arc<dyn Clock>,
}

impl MemoryRegistry {
    /// An empty registry whose leases last `lease_ttl` by `clock`.
    pub fn new(clock: Arc<dyn Clock>, lease_ttl: Duration) -> Self {
        Self { shared: Shared::new(Arc::clone(&clock), lease_ttl), clock }
    }

    /// One process's handle. The first one's ring settings become the cluster's. Must be called
    /// on the runtime that is to run its registrations.
    pub fn join(&self, wanted: &WantedRing, prober: Arc<dyn Prober>) -> MemoryDiscovery {
        let stored = self.shared.settings_or(wanted.or_default());
        let conflicting = wanted.conflict_with(&stored).map(|conflict| {
            let standing = Standing::new(Arc::clone(&self.clock));
            standing.connected();
            standing.conflict(Some(conflict));
            standing.subscribe()
        });
        let status = conflicting.unwrap_or_else(|| self.shared.standing.subscribe());
        let shared = Arc::clone(&self.shared);
        MemoryDiscovery { shared, status, prober, runtime: Handle::current() }
    }

    /// Ends the lease of a node's record now, as if its time were over. For tests.
    pub fn expire_lease(&self, id: &NodeId) {
        self.shared.expire_lease_of(id);
    }

    /// Deletes a node's record behind its back. For tests.
    pub fn delete_record(&self, id: &NodeId) {
        self.shared.delete(id);
    }

    /// Writes anything at all as a node's record, with no lease to end it. For tests.
    pub fn put_raw(&self, id: &NodeId, value: &[u8]) {
        self.shared.put_raw(id, value);
    }

    /// Writes anything at all as a group's record. For tests.
    pub fn put_raw_group(&self, name: &str, value: &[u8]) {
        self.shared.put_raw_group(name, value);
    }
}

/// One process's handle on a [`MemoryRegistry`].
#[derive(Clone)]
pub struct MemoryDiscovery {
    shared: Arc<Shared>,
    status: watch::Receiver<DiscoveryStatus>,
    prober: Arc<dyn Prober>,
    runtime: Handle,
}

impl Discovery for MemoryDiscovery {
    fn views(&self) -> watch::Receiver<Option<Arc<View>>> {
        self.shared.views.subscribe()
    }

    fn status(&self) -> watch::Receiver<DiscoveryStatus> {
        self.status.clone()
    }

    fn catch_up(&self, as_of: u64) -> BoxFuture<'_, Result<Arc<View>>> {
        Box::pin(async move {
            let view = self.shared.views.borrow().clone();
            view.filter(|view| view.as_of >= as_of).ok_or_else(|| {
                let message = format!("the cluster state has not got to revision {as_of}");
                Error::new(Code::NodeUnavailable, message)
            })
        })
    }

    fn write_group(
        &self,
        name: &GroupName,
        record: &GroupRecord,
        seen: u64,
    ) -> BoxFuture<'_, Result<Option<u64>>> {
        let json = record.to_json().map_err(|why| Error::new(Code::InvalidRequest, why));
        let written = json.map(|json| self.shared.put_group(name, &json, seen));
        Box::pin(async move { written })
    }

    fn register(&self, record: NodeRecord) -> Registration {
        let seat =
            MemorySeat { shared: Arc::clone(&self.shared), id: record.id.clone(), lease: None };
        // Nothing is settled here: what is written is what everybody is shown.
        let (raw, shown, status) = (self.views(), self.views(), self.status());
        let (prober, clock) = (Arc::clone(&self.prober), self.shared.clock());
        let lease_ttl = self.shared.lease_ttl;
        let terms = Terms { record, lease_ttl, prober, raw, shown, status, clock };
        registrar::spawn(&self.runtime, seat, terms)
    }
}

struct MemorySeat {
    shared: Arc<Shared>,
    id: NodeId,
    lease: Option<u64>,
}

impl Seat for MemorySeat {
    /// Without a history: nodes that share a process with the registry live and die with it.
    async fn found(&mut self) -> Try<Found> {
        let holder = self.shared.holder(&self.id, self.lease);
        Ok(Found { holder, ..Found::default() })
    }

    async fn note(&mut self, _history: Vec<u8>) -> Try<()> {
        Ok(())
    }

    async fn put(&mut self, writing: Writing) -> Try<u64> {
        // Nothing is ever carried here, and a history would end with the process it is about.
        let Writing { record, seen, .. } = writing;
        let lease = match self.lease {
            Some(lease) => lease,
            None => *self.lease.insert(self.shared.grant()),
        };
        let put = self.shared.put(&self.id, record, seen, lease);
        if matches!(put, Err(Setback::LeaseLost)) {
            self.lease = None;
        }
        put
    }

    async fn renew(&mut self) -> Setback {
        while self.lease.is_some_and(|lease| self.shared.renew(lease)) {
            tokio::time::sleep(self.shared.lease_ttl / 3).await;
        }
        self.lease = None;
        Setback::LeaseLost
    }

    async fn leave(&mut self, _history: Vec<u8>) -> Try<()> {
        if let Some(lease) = self.lease.take() {
            self.shared.revoke(lease);
        }
        Ok(())
    }
}
