//! After a change of the ring a node gives up the entries of keys that it no longer owns.
//!
//! Their new owner is written to from then on. Kept here they would be old values by the time the
//! ring changes back, so they become misses instead: at once for readers (`grpc::rings`), and for
//! the memory they take with the walk that is made here. Nothing is handed over.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::grpc::NodeService;

/// Follows the ring until `stop`, noting each change as soon as it comes.
pub(super) async fn follow_ring(node: Arc<NodeService>, stop: CancellationToken) {
    let mut epochs = node.route.topologies.changes();
    loop {
        let changed = tokio::select! {
            () = stop.cancelled() => return,
            changed = epochs.changed() => changed,
        };
        if changed.is_err() {
            // The topology is no longer followed: this node is stopping.
            return stop.cancelled().await;
        }
        let _ = node.topology();
    }
}

/// Walks the groups after changes until `stop`, apart from noting them: a walk takes its time, and
/// no change may be missed meanwhile.
pub(super) async fn give_up(node: Arc<NodeService>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = node.rings.changed.notified() => {}
        }
        let giving_up = Arc::clone(&node);
        // A walk over everything that is stored, which no worker can wait for.
        let walk = tokio::task::spawn_blocking(move || walk(&giving_up));
        if walk.await.is_err() {
            tracing::error!(node_id = %node.id, "giving up entries of other nodes has failed");
        }
    }
}

fn walk(node: &NodeService) {
    for group in node.groups.snapshot().iter() {
        let removed = group.give_up();
        if removed > 0 {
            tracing::info!(
                node_id = %node.id, group = %group.name(), removed,
                "gave up entries whose keys belong to other nodes now"
            );
        }
    }
}
