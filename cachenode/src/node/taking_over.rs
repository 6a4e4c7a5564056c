//! After a change of the ring: asking all others to go by it, so that keys which this node has gained
//! are lent by nobody else any more (`grpc::takeovers` says what for).

use std::{sync::Arc, time::Duration};

use common::{
    discovery::NodeRecord,
    link::{Answer, Call, Link, Peer},
    route::Router,
};
use proto::v1::{self, Lane, op::Kind};
use tokio::{runtime::Handle, task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::grpc::{NodeService, Takeover};

/// How long a node may take to answer. One that is gone refuses the connection at once.
const ASK: Duration = Duration::from_millis(500);

/// Asks about every change until `stop`.
pub(super) async fn take_over(
    node: Arc<NodeService>,
    router: Arc<Router>,
    stop: CancellationToken,
) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = node.takeovers.wake.notified() => {}
        }
        for takeover in node.takeovers.take_up() {
            let (node, router) = (Arc::clone(&node), Arc::clone(&router));
            let stop = stop.clone();
            tokio::spawn(async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = ask_everybody(&node, &router, &takeover) => {}
                }
            });
        }
    }
}

async fn ask_everybody(node: &Arc<NodeService>, router: &Arc<Router>, takeover: &Takeover) {
    let mut questions = JoinSet::new();
    for other in takeover.others.clone() {
        let (node, router, epoch) = (Arc::clone(node), Arc::clone(router), takeover.epoch);
        questions.spawn(async move {
            let answer = match router.member(&other.id) {
                Some(member) if member.record().instance == other.instance => {
                    member.tell(question(), ASK).await
                }
                _ => former(&node, &other).call(Call::other(question(), epoch, deadline())).await,
            };
            matches!(answer, Answer::Reply(_))
        });
    }
    let answers = questions.join_all().await;
    takeover.asked(node.clock.as_ref());
    let unreached = answers.iter().filter(|answered| !**answered).count();
    tracing::debug!(node_id = %node.id, asked = answers.len(), unreached, "took over keys");
}

fn question() -> Kind {
    Kind::Takeover(v1::Takeover {})
}

fn deadline() -> Instant {
    Instant::now() + ASK
}

/// A link to a node that is no member any more, for one question.
fn former(node: &NodeService, record: &NodeRecord) -> Link {
    let peer =
        Peer { id: record.id.to_string(), instance: record.instance, address: record.grpc.clone() };
    Link::spawn(&Handle::current(), node.identity.clone(), peer, Lane::Small)
}
