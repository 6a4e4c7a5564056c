//! What a registration is set up with, and what can be judged by that alone.

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;

use super::seat::{Holder, Setback, Try, UnixMs};
use crate::{
    clock::Clock,
    discovery::{DiscoveryStatus, NodeRecord, Prober, View, continuity},
};

/// How a registration is set up.
pub(crate) struct Terms {
    pub(crate) record: NodeRecord,
    pub(crate) lease_ttl: Duration,
    pub(crate) prober: Arc<dyn Prober>,
    /// What the backend says.
    pub(crate) raw: watch::Receiver<Option<Arc<View>>>,
    /// What others are shown, as far as this process can know.
    pub(crate) shown: watch::Receiver<Option<Arc<View>>>,
    pub(crate) status: watch::Receiver<DiscoveryStatus>,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Terms {
    /// Whether the holder of our id has to make room. Only a holder that answers may stay: a
    /// restart after a crash must not wait for the old lease.
    pub(super) async fn judge(&self, holder: &Holder, was_registered: bool) -> Try<()> {
        let ours = &self.record;
        // Nobody can be called by a record that can't be read.
        let Ok(theirs) = NodeRecord::parse(&holder.value) else { return Ok(()) };
        if theirs.instance == ours.instance {
            return Ok(());
        }
        // On the first claim we hold the port, so whoever had it before is dead. Later it may be
        // us who lost the address; then ask.
        if theirs.grpc == ours.grpc && !was_registered {
            return Ok(());
        }
        if self.prober.instance_at(&theirs.grpc).await == Some(theirs.instance) {
            return Err(Setback::Held { instance: theirs.instance, address: theirs.grpc });
        }
        tracing::info!(id = %ours.id, instance = %theirs.instance, address = theirs.grpc,
            "the record of an instance that does not answer is replaced");
        Ok(())
    }

    /// Waits until the ring's settings are known here, and refuses to be a member of a ring that
    /// this process would compute differently, be it only for the moment until it ends.
    pub(super) async fn agree(&self) -> Try<()> {
        let mut views = self.raw.clone();
        // Conflicts are told before the first view. The bound is for a watcher whose connection
        // hangs while ours works.
        let known = tokio::time::timeout(self.lease_ttl, views.wait_for(Option::is_some)).await;
        if let Some(conflict) = &self.status.borrow().conflict {
            return Err(Setback::Unfit(conflict.clone()));
        }
        let why = || Setback::Unreachable("the cluster state has not been read yet".into());
        known.map(drop).map_err(|_| why())
    }

    pub(super) fn now(&self) -> UnixMs {
        self.clock.unix().as_millis() as u64
    }

    /// Whether this node is in the ring all the same, so that nobody else owned its keys.
    pub(super) async fn is_carried(&self) -> bool {
        let Self { record, raw, shown, lease_ttl, .. } = self;
        continuity::is_carried(record, raw.clone(), shown, *lease_ttl / 3).await
    }

    /// Whether others still see this node as a member: then its return changes nothing for them.
    pub(super) fn is_shown(&self) -> bool {
        let shown = self.shown.borrow();
        shown.as_ref().is_some_and(|view| view.members.contains_key(&self.record.id))
    }
}
