//! The simple calls. Any node answers for any key: a key of its own here, another one by asking
//! its owner, one hop away.

use std::{sync::Arc, time::Duration};

use common::{
    error::{Error, Result},
    key::{GroupName, Key},
    link::frame::wire_uuid,
    route::{Ask, Write, version_of},
};
use proto::v1::{self, Lane, op::Kind};
use tokio::time::Instant;

use crate::group::{Group, LentKey};

use super::{
    CacheService, NodeService, loading,
    operation::{Moment, NotYet, Sender, execute},
    unknown::Looked,
};

/// How long a call may take when its caller did not say (a shorter `grpc-timeout` cuts it short).
const DEADLINE: Duration = Duration::from_secs(2);

pub(super) async fn get(
    service: &CacheService,
    request: v1::GetRequest,
) -> Result<v1::GetResponse> {
    let ask = Ask::get(GroupName::new(request.group)?, Key::new(request.key)?);
    let (reply, node_id) = answer(service, ask).await?;
    Ok(v1::GetResponse {
        version: version(&reply),
        source: reply.source,
        value: reply.value,
        content_type: reply.content_type,
        age_ms: reply.age_ms,
        ttl_ms: reply.ttl_ms,
        node_id,
    })
}

pub(super) async fn set(
    service: &CacheService,
    request: v1::SetRequest,
) -> Result<v1::SetResponse> {
    let write = Write {
        value: request.value,
        content_type: request.content_type,
        ttl: (request.ttl_ms > 0).then(|| Duration::from_millis(request.ttl_ms)),
        condition: request.condition,
        ..Write::default()
    };
    let ask = Ask::set(GroupName::new(request.group)?, Key::new(request.key)?, write);
    let (reply, node_id) = answer(service, ask).await?;
    Ok(v1::SetResponse { version: version(&reply), created: reply.created, node_id })
}

pub(super) async fn delete(
    service: &CacheService,
    request: v1::DeleteRequest,
) -> Result<v1::DeleteResponse> {
    let (group, key) = (GroupName::new(request.group)?, Key::new(request.key)?);
    let (_, node_id) = answer(service, Ask::delete(group, key, request.condition)).await?;
    Ok(v1::DeleteResponse { node_id })
}

/// Here if the key is this node's, else at its owner. The text is who answered.
async fn answer(service: &CacheService, ask: Ask) -> Result<(v1::Reply, String)> {
    let node = &service.node;
    let topology = node.topology();
    let request = ask.request();
    let owner = topology.owner(&request.group, &request.key).map(|(owner, _)| owner);
    if owner.is_some_and(|owner| topology.member(owner).id == node.id) {
        let epoch = topology.epoch.to_wire();
        let (moment, age) = (Moment::of(node), Duration::ZERO);
        let sender = Sender {
            epoch: &epoch,
            age,
            lane: Lane::Bulk,
            moment: &moment,
            pending: true,
            met: true,
            looked: Looked::NotYet,
            stands_in_for: None,
            holder: None,
        };
        let done = |reply: v1::Reply| match Error::from_reply(&reply) {
            Some(error) => Err(error),
            None => Ok((reply, node.id.to_string())),
        };
        match execute(node, request, &sender) {
            Ok(kind) => {
                node.recalled(request, &kind).await;
                if let Kind::Reply(reply) = kind {
                    return done(reply);
                }
            }
            Err(NotYet::Loading(waiting)) => {
                let deadline = Instant::now() + DEADLINE;
                return done(loading::wait(node, request, Lane::Bulk, deadline, waiting).await);
            }
            Err(NotYet::Later(_)) => {}
        }
        // The ring has just changed, and the router sees the new one. Or this node stood still: it asks
        // itself, and waits for that.
    }
    let answered = service.router.call(ask, Instant::now() + DEADLINE).await?;
    let by = answered.node().id.to_string();
    Ok((answered.reply, by))
}

fn version(reply: &v1::Reply) -> bytes::Bytes {
    bytes::Bytes::copy_from_slice(&version_of(reply).to_bytes())
}

pub(super) fn stats(node: &NodeService) -> v1::StatsResponse {
    v1::StatsResponse {
        node_id: node.id.to_string(),
        instance: wire_uuid(node.identity.instance),
        epoch: Some(node.topology().epoch.to_wire()),
        uptime_ms: node.clock.monotonic().saturating_sub(node.started).as_millis() as u64,
        groups: node.groups.now().iter().map(|group| group_stats(group)).collect(),
        draining: node.leaving.is_cancelled(),
    }
}

/// Keys named in one answer, at most.
const MAX_LENT_KEYS: usize = 256;

pub(super) fn loans(node: &NodeService, request: v1::LoansRequest) -> v1::LoansResponse {
    let limit = match request.limit as usize {
        0 => MAX_LENT_KEYS,
        wanted => wanted.min(MAX_LENT_KEYS),
    };
    let of = |group: &Arc<Group>| {
        let name = group.name().to_string();
        let lent = group.lent_keys(limit).into_iter();
        lent.map(move |LentKey { key, holders }| v1::LentKey {
            group: name.clone(),
            key,
            holders: holders as u32,
        })
    };
    let mut keys: Vec<_> = node.groups.now().iter().flat_map(of).collect();
    keys.sort_by_key(|lent| std::cmp::Reverse(lent.holders));
    keys.truncate(limit);
    let outstanding = node.groups.loans().outstanding();
    v1::LoansResponse { node_id: node.id.to_string(), outstanding, keys }
}

fn group_stats(group: &Group) -> v1::GroupStats {
    let (definition, stats) = (group.definition(), group.stats());
    v1::GroupStats {
        name: definition.name.to_string(),
        capacity_bytes: stats.capacity_bytes,
        used_bytes: stats.used_bytes,
        entries: stats.entries,
        ttl_ms: definition.ttl.as_millis() as u64,
        idle_ms: definition.idle.as_millis() as u64,
        eviction: definition.eviction.as_str().to_owned(),
        max_value_bytes: definition.max_value,
        origin: definition.origin.kind().to_owned(),
        hits: stats.hits,
        misses: stats.misses,
        loads: stats.loads,
        sets: stats.sets,
        deletes: stats.deletes,
        evictions: stats.evictions,
    }
}
