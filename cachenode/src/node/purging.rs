//! Giving back the memory of what was purged.
//!
//! A purge itself only notes what is absent from then on; the walk that removes it is made here, at once
//! and to its end, in steps that hold no lock for long.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::grpc::NodeService;

/// Carries purges out until `stop`.
pub(super) async fn carry_out(node: Arc<NodeService>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = node.purged.notified() => {}
        }
        let purging = Arc::clone(&node);
        // A walk over everything that is stored, which no worker can wait for.
        let walk = tokio::task::spawn_blocking(move || walk(&purging));
        if walk.await.is_err() {
            tracing::error!(node_id = %node.id, "removing what was purged has failed");
        }
    }
}

fn walk(node: &NodeService) {
    for group in node.groups.snapshot().iter() {
        let removed = group.carry_out_purges();
        node.metrics.entries_purged.inc_by(removed as u64);
        if removed > 0 {
            tracing::debug!(
                node_id = %node.id, group = %group.name(), removed,
                "removed what was purged"
            );
        }
    }
}
