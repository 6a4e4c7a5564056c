//! Purging a group, or a part of it, on every node there is.
//!
//! Each member does its part and says by which ring it goes afterwards, so that one which has joined
//! meanwhile is asked as well. A member that does not acknowledge may go on answering what it has, and is
//! named: to purge again does no harm. What a purge is on a node is the node's business.

use std::{collections::BTreeMap, time::Duration};

use common::{
    discovery::{NodeId, NodeRecord},
    error::{Code, Error, Result},
    link::frame::uuid_of,
    route::Shared,
    topology::Epoch,
};
use futures_util::{StreamExt, stream};
use proto::v1::{PurgeRequest, PurgeResponse};
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use crate::members::connect;

/// How long the nodes have for all of it.
pub(crate) const PURGE_TIME: Duration = Duration::from_secs(3);
/// How long the cluster state may take to be read before the ring that is known has to do.
const READ_TIME: Duration = Duration::from_millis(500);
/// Nodes asked at once.
const AT_ONCE: usize = 64;
/// How often a ring that has changed meanwhile is looked at again.
const MAX_ROUNDS: usize = 4;

/// A node's part of a purge.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) node: NodeId,
    /// Entries that the group had there, about.
    pub(crate) entries: u64,
    /// The whole group was purged.
    pub(crate) everything: bool,
}

/// A member in one of its lives.
type Life = (NodeId, Uuid);
type Parts = BTreeMap<Life, Result<PurgeResponse>>;

/// Purges on all members. It has happened on those that could be reached, whatever is answered.
///
/// # Errors
/// [`Code::NodeUnavailable`] or [`Code::Timeout`] naming the members that did not acknowledge;
/// [`Code::GroupNotFound`] if no node has the group; what nodes say of a malformed request.
pub(crate) async fn everywhere(route: &Shared, request: &PurgeRequest) -> Result<Vec<Part>> {
    let deadline = Instant::now() + PURGE_TIME;
    // Who has joined a moment ago is to be asked too. Without the registry what the members know has to
    // do: they are asked about it below.
    let _ = route.topologies.catch_up_within(0, READ_TIME).await;
    let mut parts = Parts::new();
    for _ in 0..MAX_ROUNDS {
        let topology = route.topologies.load();
        let members = topology.members();
        if members.is_empty() {
            return Err(Error::new(Code::NoNodes, "the cluster has no nodes"));
        }
        let is_done = |member: &&NodeRecord| matches!(parts.get(&life(member)), Some(Ok(_)));
        let asked: Vec<_> = members.iter().filter(|member| !is_done(member)).cloned().collect();
        let ask = |member: NodeRecord| async move {
            (life(&member), ask(&member, request, deadline).await)
        };
        let answers: Vec<_> =
            stream::iter(asked).map(ask).buffer_unordered(AT_ONCE).collect().await;
        parts.extend(answers);
        if !has_changed(route, topology.epoch, &parts, deadline).await? {
            return judge(members, parts);
        }
    }
    Err(Error::new(Code::Timeout, "the ring keeps changing; purge again when it has settled"))
}

fn life(member: &NodeRecord) -> Life {
    (member.id.clone(), member.instance)
}

async fn ask(
    member: &NodeRecord,
    request: &PurgeRequest,
    deadline: Instant,
) -> Result<PurgeResponse> {
    let asking = async {
        let answer = connect(member).await?.purge(request.clone()).await;
        let answer = answer.map_err(|status| Error::from(&status))?.into_inner();
        let is_meant = answer.node_id == member.id.as_str()
            && (member.instance.is_nil() || uuid_of(&answer.instance) == member.instance);
        let another = || Error::new(Code::NodeUnavailable, "another node is at its address");
        is_meant.then_some(answer).ok_or_else(another)
    };
    let late = |_| Err(Error::new(Code::Timeout, "it did not answer in time"));
    timeout_at(deadline, asking).await.unwrap_or_else(late)
}

/// Whether somebody goes by another ring than `asked`, which is known here by now.
///
/// # Errors
/// It can't be read.
async fn has_changed(
    route: &Shared,
    asked: Epoch,
    parts: &Parts,
    deadline: Instant,
) -> Result<bool> {
    let patience = READ_TIME.min(deadline.saturating_duration_since(Instant::now()));
    let answers = parts.values().filter_map(|part| part.as_ref().ok()?.epoch.as_ref());
    let others = answers.filter(|epoch| epoch.digest != asked.digest);
    let (comparable, foreign): (Vec<_>, Vec<_>) =
        others.partition(|epoch| epoch.generation == asked.generation.as_bytes()[..]);
    let newest = comparable.iter().map(|epoch| epoch.as_of).max();
    let read = if let Some(newest) = newest.filter(|newest| *newest > asked.as_of) {
        route.topologies.catch_up_within(newest, patience).await.map(drop)
    } else if !foreign.is_empty() {
        route.meet_generation(patience).await
    } else {
        Ok(())
    };
    read.map_err(|_| {
        let text = "a node goes by a newer ring, which can't be read now; purge again";
        Error::new(Code::NodeUnavailable, text)
    })?;
    Ok(route.topologies.load().epoch.digest != asked.digest)
}

/// What all members' parts come to.
fn judge(members: &[NodeRecord], mut parts: Parts) -> Result<Vec<Part>> {
    let (mut done, mut failed, mut unknown) = (Vec::new(), Vec::new(), None);
    for member in members {
        match parts.remove(&life(member)) {
            Some(Ok(PurgeResponse { entries, everything, .. })) => {
                done.push(Part { node: member.id.clone(), entries, everything });
            }
            Some(Err(error)) if error.code() == Code::InvalidRequest => return Err(error),
            // It has nothing of the group.
            Some(Err(error)) if error.code() == Code::GroupNotFound => unknown = Some(error),
            Some(Err(error)) => failed.push((&member.id, error)),
            None => {}
        }
    }
    if failed.is_empty() {
        return unknown.filter(|_| done.is_empty()).map_or(Ok(done), Err);
    }
    let is_late = failed.iter().all(|(_, error)| error.code() == Code::Timeout);
    let code = if is_late { Code::Timeout } else { Code::NodeUnavailable };
    let failed = failed.iter().map(|(id, error)| format!("{id} ({})", error.message()));
    let failed: Vec<_> = failed.collect();
    let done: Vec<_> = done.iter().map(|part| part.node.as_str()).collect();
    let done = if done.is_empty() { "no node".to_owned() } else { done.join(", ") };
    let failed = failed.join(", ");
    let text = format!("not acknowledged by {failed}; done on {done}; purge again to be sure");
    Err(Error::new(code, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(id: &str) -> NodeRecord {
        NodeRecord::new(id.parse().unwrap(), Uuid::nil(), "127.0.0.1:1".to_owned())
    }

    fn judged(parts: &[(&str, Result<u64>)]) -> Result<Vec<Part>> {
        let members: Vec<_> = parts.iter().map(|(id, _)| member(id)).collect();
        let part = |entries| PurgeResponse { entries, ..PurgeResponse::default() };
        let parts = parts.iter().zip(&members);
        let parts = parts.map(|((_, said), member)| (life(member), said.clone().map(part)));
        judge(&members, parts.collect())
    }

    fn failed(code: Code) -> Result<u64> {
        Err(Error::new(code, "why"))
    }

    #[test]
    fn a_purge_is_done_when_every_node_has_said_so() {
        let parts = judged(&[("a", Ok(3)), ("b", Ok(0))]).unwrap();
        let parts: Vec<_> = parts.iter().map(|it| (it.node.as_str(), it.entries)).collect();
        assert_eq!(parts, [("a", 3), ("b", 0)]);
    }

    #[test]
    fn who_did_not_acknowledge_is_named_beside_those_who_did() {
        let error = judged(&[("a", Ok(3)), ("b", failed(Code::NodeUnavailable))]).unwrap_err();
        assert_eq!(error.code(), Code::NodeUnavailable);
        let text = "not acknowledged by b (why); done on a; purge again to be sure";
        assert_eq!(error.message(), text);
        let error = judged(&[("a", failed(Code::Timeout)), ("b", Ok(1))]).unwrap_err();
        assert_eq!(error.code(), Code::Timeout);
    }

    #[test]
    fn a_node_without_the_group_has_nothing_to_purge() {
        assert_eq!(judged(&[("a", failed(Code::GroupNotFound)), ("b", Ok(1))]).unwrap().len(), 1);
        let error = judged(&[("a", failed(Code::GroupNotFound))]).unwrap_err();
        assert_eq!(error.code(), Code::GroupNotFound);
    }
}
