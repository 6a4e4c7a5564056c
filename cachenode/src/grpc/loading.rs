//! Reads that wait for their key's load.

use std::{sync::Arc, time::Duration};

use common::error::{Code, Error};
use proto::v1::{self, Lane, op::Kind};
use tokio::time::{Instant, timeout_at};

use super::{
    NodeService,
    deferred::Deferred,
    operation::{absent, authority_to_store, reply_on, source_of},
};
use crate::group::{Outcome, Waiting};

/// So much before its requester gives up, or that part of the time there is, a reader hears that its
/// load takes longer, so that the requester need not guess.
const SAYS_SO_BEFORE: Duration = Duration::from_millis(50);
const PART: u32 = 8;

/// Waits for a load until the requester gives up, and runs it if that is nobody's business yet.
pub(super) async fn answer(op: &Deferred, waiting: Waiting) -> Kind {
    Kind::Reply(wait(&op.node, &op.request, op.lane, op.deadline(), waiting).await)
}

/// The same for a request of whatever kind.
pub(super) async fn wait(
    node: &Arc<NodeService>,
    request: &v1::Request,
    lane: Lane,
    deadline: Instant,
    mut waiting: Waiting,
) -> v1::Reply {
    if let Some(reply) = at_once(node, request, lane, &mut waiting) {
        return reply;
    }
    let left = deadline.saturating_duration_since(Instant::now());
    let until = deadline - SAYS_SO_BEFORE.min(left / PART);
    let collapsed = waiting.is_joined();
    let instead = waiting.stale().filter(|stale| stale.on_error).cloned();
    let patience = instead.as_ref().and_then(|stale| stale.patience);
    let until = patience.map_or(until, |patience| until.min(Instant::now() + patience));
    let with = |reply: v1::Reply| v1::Reply { collapsed, ..reply };
    let failed = |error: Error| match &instead {
        Some(stale) => with(reply_on(lane, &stale.item, v1::Source::Stale)),
        None => error.to_reply(),
    };
    match timeout_at(until, waiting.outcome()).await {
        Ok(Outcome::Loaded(item)) => with(reply_on(lane, &item, source_of(&item))),
        Ok(Outcome::Absent) => absent().to_reply(),
        Ok(Outcome::Failed(error)) => failed(error),
        Err(_) => {
            let text = "the origin has not answered yet; its answer will be kept";
            failed(Error::new(Code::Timeout, text))
        }
    }
}

/// Runs a load if it falls to this requester, and answers with what is at hand, if that may be.
pub(super) fn at_once(
    node: &Arc<NodeService>,
    request: &v1::Request,
    lane: Lane,
    waiting: &mut Waiting,
) -> Option<v1::Reply> {
    run(node, request, waiting);
    let stale = waiting.stale().filter(|stale| stale.now)?;
    Some(reply_on(lane, &stale.item, source_of(&stale.item)))
}

/// Runs a load, if it falls to this requester, in a task of its own: it goes on when its requester does
/// not, and others may wait for it.
fn run(node: &Arc<NodeService>, request: &v1::Request, waiting: &mut Waiting) {
    let Some(ticket) = waiting.take_ticket() else { return };
    let groups = node.groups.snapshot();
    let Some(served) = groups.get(&request.group) else { return };
    let (node, group) = (Arc::clone(node), Arc::clone(&served.group));
    tokio::spawn(async move {
        let (key, began) = (ticket.key().to_owned(), ticket.authority());
        let name = group.name().clone();
        group.load(ticket, || authority_to_store(&node, name.as_str(), &key, began)).await;
    });
}
