//! How a node leaves: out of the ring first, then silent.
//!
//! Its record is marked draining and removed while it still serves, so that nobody is sent to a
//! closed door; then every stream hears Goodbye, answers what is outstanding, and is ended by its
//! peer; only then the listeners close. The lifecycle's deadline and hard token cut this short.

use std::{sync::Arc, time::Duration};

use common::{
    discovery::{NodeState, Registration, RegistrationState},
    lifecycle::{Lifecycle, Stop},
};
use tokio::time::timeout;

use super::hinting;
use crate::grpc::NodeService;

/// How long the registry may take to be told. Unreachable, it forgets the node with its lease.
const TELL: Duration = Duration::from_secs(2);
/// How long to wait for the news. A static ring keeps its nodes whatever happens.
const SEE: Duration = Duration::from_millis(500);

/// Starts the task that takes the node out when the lifecycle stops.
pub(super) fn when_stopped(
    lifecycle: &Lifecycle,
    serving: Stop,
    service: Arc<NodeService>,
    registration: Arc<Registration>,
) {
    let stop = lifecycle.stop();
    lifecycle.tracker().spawn(async move {
        stop.soft.cancelled().await;
        let left = tokio::select! {
            () = stop.hard.cancelled() => false,
            left = async {
                let left = deregister(&registration).await;
                if left {
                    see_it_gone(&service).await;
                    hinting::deliver_the_last(&service).await;
                }
                left
            } => left,
        };
        service.leaving.cancel();
        serving.soft.cancel();
        let done = if left {
            "node has left the ring"
        } else {
            "node stops; its lease takes it out of the ring"
        };
        tracing::info!(node_id = %service.id, "{done}");
    });
}

/// Takes the node's record out. False: it stays until the lease is over.
async fn deregister(registration: &Registration) -> bool {
    let is_member = matches!(*registration.state().borrow(), RegistrationState::Registered { .. });
    let told = timeout(TELL, async {
        // Who is not in the ring must not get there now, as a draining member.
        if is_member {
            registration.set_state(NodeState::Draining).await?;
        }
        registration.leave().await
    });
    match told.await {
        Ok(Ok(())) => return true,
        Ok(Err(error)) => tracing::warn!(%error, "the registry does not know that the node leaves"),
        Err(_) => tracing::warn!("the registry does not answer; the node's lease will run out"),
    }
    false
}

/// Waits until this node knows the ring without itself: from then on it can tell whoever asks by
/// the old one who owns a key now.
async fn see_it_gone(service: &NodeService) {
    let topologies = &service.route.topologies;
    let mut epochs = topologies.changes();
    let gone = async {
        while topologies.load().index_of(&service.id).is_some() {
            if epochs.changed().await.is_err() {
                return;
            }
        }
    };
    if timeout(SEE, gone).await.is_err() {
        tracing::debug!(node_id = %service.id, "the ring still has this node");
    }
}
