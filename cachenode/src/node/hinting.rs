//! Delivering hints until their owners have taken them.

use std::{sync::Arc, time::Duration};

use common::route::Router;
use tokio::{
    runtime::Handle,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::grpc::NodeService;

/// How long to wait before owners that did not take their hints are tried again.
const TRY_AGAIN: Duration = Duration::from_millis(250);
/// How long a node that leaves may take for the hints it still has.
const LAST_CHANCE: Duration = Duration::from_millis(500);

/// Delivers hints until `stop`, as soon as there are any.
pub(super) async fn deliver(node: Arc<NodeService>, router: Arc<Router>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = node.away.wake.notified() => {}
        }
        while !deliver_all(&node, &router).await {
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(TRY_AGAIN) => {}
            }
        }
    }
}

/// What a leaving node still has for others is told now or never.
pub(super) async fn deliver_the_last(node: &Arc<NodeService>) {
    if node.away.waiting().is_empty() {
        return;
    }
    let router = Arc::new(Router::new(Arc::clone(&node.route), Handle::current()));
    if timeout(LAST_CHANCE, deliver_all(node, &router)).await != Ok(true) {
        tracing::warn!(node_id = %node.id, "leaves with hints for nodes that can't be reached");
    }
}

/// One try for each owner, all at once. True: nothing is left.
async fn deliver_all(node: &Arc<NodeService>, router: &Arc<Router>) -> bool {
    node.forget_the_gone();
    let mut tries = tokio::task::JoinSet::new();
    for id in node.away.waiting() {
        let (node, router) = (Arc::clone(node), Arc::clone(router));
        tries.spawn(async move {
            match router.member(&id) {
                Some(owner) => node.deliver_hints(&owner).await,
                None => true,
            }
        });
    }
    tries.join_all().await.into_iter().all(|delivered| delivered)
}
