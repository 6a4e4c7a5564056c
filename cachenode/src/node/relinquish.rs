//! After a change of the ring a node gives up the entries of keys that it no longer owns.
//!
//! Their new owner is written to from then on. Kept here they would be old values by the time the
//! ring changes back, so they become misses instead. Nothing is handed over.

use std::sync::Arc;

use common::topology::Topology;
use tokio_util::sync::CancellationToken;

use crate::grpc::NodeService;

/// Follows the ring until `stop`, one change at a time.
pub(super) async fn follow_ring(node: Arc<NodeService>, stop: CancellationToken) {
    let mut epochs = node.route.topologies.changes();
    let mut digest = node.route.topologies.load().epoch.digest;
    loop {
        let changed = tokio::select! {
            () = stop.cancelled() => return,
            changed = epochs.changed() => changed,
        };
        if changed.is_err() {
            // The topology is no longer followed: this node is stopping.
            return stop.cancelled().await;
        }
        let topology = node.route.topologies.load();
        if topology.epoch.digest == digest {
            continue;
        }
        digest = topology.epoch.digest;
        let giving_up = Arc::clone(&node);
        // A walk over everything that is stored, which no worker can wait for.
        let walk = tokio::task::spawn_blocking(move || give_up(&giving_up, &topology));
        if walk.await.is_err() {
            tracing::error!(node_id = %node.id, "giving up entries of other nodes has failed");
        }
    }
}

fn give_up(node: &NodeService, topology: &Topology) {
    for group in node.groups.iter() {
        let name = group.definition().name.as_str();
        let removed = group.relinquish(|key| {
            let owner = topology.owner(name, key).map(|(owner, _)| owner);
            owner.is_some_and(|owner| topology.member(owner).id == node.id)
        });
        if removed > 0 {
            tracing::info!(
                node_id = %node.id, group = name, removed,
                "gave up entries whose keys belong to other nodes now"
            );
        }
    }
}
