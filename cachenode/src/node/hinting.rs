//! Asking after owners that did not answer: whether they are absent, and whether they are back, and then
//! delivering their hints until they have taken them.

use std::{collections::HashSet, panic::resume_unwind, sync::Arc, time::Duration};

use common::{discovery::NodeId, route::Router};
use tokio::{
    runtime::Handle,
    task::JoinSet,
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::grpc::{NodeService, QUESTION};

/// How long a node that leaves may take for the hints it still has.
const LAST_CHANCE: Duration = Duration::from_millis(500);

/// Asks after owners until `stop`, as soon as there is a reason to.
pub(super) async fn deliver(node: Arc<NodeService>, router: Arc<Router>, stop: CancellationToken) {
    let mut asked = HashSet::new();
    let mut asking = JoinSet::new();
    loop {
        node.forget_the_gone();
        for id in node.away.missed().into_iter().chain(node.absences.awaited()) {
            if asked.insert(id.clone()) {
                asking.spawn(ask_until_heard(Arc::clone(&node), Arc::clone(&router), id));
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = node.away.wake.notified() => {}
            () = node.absences.wake.notified() => {}
            Some(ended) = asking.join_next() => match ended {
                Ok(id) => {
                    asked.remove(&id);
                }
                // Nobody aborts them.
                Err(error) => resume_unwind(error.into_panic()),
            },
        }
    }
}

/// Asks one owner until there is no reason to any more: it has taken its hints and nobody waits for it,
/// or it is no member. Each on its own, so that one that is silent holds up no other's hints.
async fn ask_until_heard(node: Arc<NodeService>, router: Arc<Router>, id: NodeId) -> NodeId {
    let mut round = interval(QUESTION);
    round.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while node.misses(&id) {
        round.tick().await;
        node.forget_the_gone();
        let Some(owner) = router.member(&id) else {
            node.absences.heard_of(&id);
            break;
        };
        node.ask_after(&owner).await;
    }
    node.absences.forget(&id);
    id
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
    let mut tries = JoinSet::new();
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
