//! Who is in the cluster: one trait, and the backends that know.
//!
//! A process reads membership through [`Discovery`] and a node makes itself known through the
//! same trait; gateways and nodes therefore learn from one source only. Remote state is a
//! `watch::Receiver` whose recovery is inside: the last view known stays while the backend is
//! unreachable or has lost most members at once, and [`DiscoveryStatus`] says in plain words what is wrong and since when. What
//! follows from a view (ring, topology) is not made here, and nothing here probes members: the
//! only question ever asked of another node is who answers at an address that a record holds.
//!
//! Cluster state lives under `/{service}/`:
//!
//! | key | value |
//! |---|---|
//! | `nodes/{id}` | a [`NodeRecord`], bound to its node's lease |
//! | `ring` | [`RingSettings`], written once by the first process that comes |
//! | `generation` | the uuid of this cluster state's life, written once |
//! | `carried` | members that are kept for a while though they are not registered |
//! | `flaps/{id}` | when a node joined and left lately |
//! | `durable/{id}` | reserved: the durable ring's records |
//! | `groups/{name}` | a [`GroupRecord`]: a group's id and definition, or that it was deleted |

mod access;
mod backoff;
mod carried;
mod continuity;
mod etcd;
mod fixed;
mod flaps;
mod groups;
mod layout;
mod memory;
mod mirror;
mod probe;
mod record;
mod registrar;
mod registration;
mod settle;
mod snapshot;
mod standing;
mod status;
mod view;

use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::sync::watch;
use uuid::Uuid;

use crate::{
    error::{Code, Error, Result},
    key::GroupName,
};

pub use access::{EtcdAccess, EtcdUser};
pub use etcd::{EtcdDiscovery, EtcdOptions};
pub use fixed::StaticDiscovery;
pub use groups::{GroupRecord, GroupRecords, MAX_GROUP_RECORD_BYTES, MAX_GROUP_RECORDS};
pub use layout::{MAX_SERVICE_BYTES, MAX_VIRTUAL_NODES};
pub use memory::{DEFAULT_LEASE_TTL, MemoryDiscovery, MemoryRegistry};
pub use probe::{GrpcProber, PROBE_TIMEOUT};
pub use record::*;
pub use registration::{Registration, RegistrationState, Stint};
pub use status::{DiscoveryStatus, Serving, moment};
pub use view::*;

/// Knows the cluster's state, and keeps nodes in it.
///
/// Every backend passes the suite in `common/tests/discovery_contract`.
pub trait Discovery: Send + Sync + 'static {
    /// The cluster state as it is known here; `None` until it has been read for the first time.
    /// The `as_of` of one generation's views never goes backwards.
    fn views(&self) -> watch::Receiver<Option<Arc<View>>>;

    /// How well the backend is reached.
    fn status(&self) -> watch::Receiver<DiscoveryStatus>;

    /// Reads the state again now, and returns a view with an `as_of` of at least `as_of`.
    /// A caller that stops waiting only stops waiting.
    ///
    /// # Errors
    /// [`Code::NodeUnavailable`] when the backend can't be reached or has not got that far.
    fn catch_up(&self, as_of: u64) -> BoxFuture<'_, Result<Arc<View>>>;

    /// Puts the node into the cluster state and keeps it there, in the background, until the
    /// registration is left or dropped.
    fn register(&self, record: NodeRecord) -> Registration;

    /// Writes a group's record if its key still stands at revision `seen` (zero: nothing stands
    /// there). A backend without a place for them has none. Returns the revision that wrote it, or `None`: somebody else was first.
    ///
    /// # Errors
    /// [`Code::Unsupported`] where groups are no cluster state, [`Code::NodeUnavailable`] when the
    /// backend can't be reached or does not say whether it has been written,
    /// [`Code::InvalidRequest`] when nobody would read it.
    fn write_group(
        &self,
        _name: &GroupName,
        _record: &GroupRecord,
        _seen: u64,
    ) -> BoxFuture<'_, Result<Option<u64>>> {
        let message = "here each process's own file defines its groups: change [groups.NAME] there \
                       and start it again, or use etcd for discovery";
        Box::pin(async move { Err(Error::new(Code::Unsupported, message)) })
    }

    /// Waits until the state has been read for the first time, however long that takes: an
    /// unreachable backend is no error. A snapshot does not count.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] when this process's ring settings contradict those of the
    /// cluster. That does not mend itself: the process should end with the message.
    fn ready(&self) -> BoxFuture<'_, Result<()>> {
        let (mut views, mut status) = (self.views(), self.status());
        Box::pin(async move {
            loop {
                if let Some(conflict) = &status.borrow_and_update().conflict {
                    return Err(Error::new(Code::InvalidRequest, conflict.clone()));
                }
                let is_snapshot = matches!(status.borrow().serving, Some(Serving::Snapshot { .. }));
                if views.borrow_and_update().is_some() && !is_snapshot {
                    return Ok(());
                }
                let changed = tokio::select! {
                    changed = views.changed() => changed,
                    changed = status.changed() => changed,
                };
                changed.map_err(|_| Error::new(Code::Internal, "discovery has ended"))?;
            }
        })
    }
}

/// What a process's configuration says explicitly about the ring. The rest is the cluster's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WantedRing {
    /// Virtual nodes of a node of normal weight.
    pub virtual_nodes: Option<u32>,
    /// The seed of every hash.
    pub seed: Option<String>,
}

impl WantedRing {
    /// The settings to write when the cluster has none yet.
    pub fn or_default(&self) -> RingSettings {
        let default = RingSettings::default();
        RingSettings {
            virtual_nodes: self.virtual_nodes.unwrap_or(default.virtual_nodes),
            seed: self.seed.clone().unwrap_or(default.seed),
        }
    }

    /// What is wanted here but differs in the cluster, in plain words. Seeds are secret: that
    /// they differ is said, not what they are.
    pub fn conflict_with(&self, stored: &RingSettings) -> Option<String> {
        let nodes =
            self.virtual_nodes.filter(|wanted| *wanted != stored.virtual_nodes).map(|wanted| {
                let stored = stored.virtual_nodes;
                format!("virtual_nodes is {wanted} here but {stored} in the cluster state")
            });
        let seed = self.seed.as_ref().filter(|wanted| **wanted != stored.seed);
        let seed = seed.map(|_| "seed is not the one in the cluster state".to_owned());
        let differences: Vec<String> = nodes.into_iter().chain(seed).collect();
        (!differences.is_empty()).then(|| {
            let what = differences.join(", and ");
            format!("ring settings differ: {what}; remove them from this process's configuration or set the cluster's")
        })
    }
}

/// Finds out who answers at an address, before a record at another address is replaced.
pub trait Prober: Send + Sync + 'static {
    /// The instance that answers at `grpc` (`host:port`); `None` when nobody does.
    fn instance_at(&self, grpc: &str) -> BoxFuture<'_, Option<Uuid>>;
}
