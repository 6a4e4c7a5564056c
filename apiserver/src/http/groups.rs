//! `GET /api/groups`: the groups that the nodes serve, asked of all of them.

use std::{collections::BTreeMap, time::Duration};

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use common::discovery::NodeId;
use futures_util::{StreamExt, stream};
use proto::v1::{GroupStats, StatsRequest, StatsResponse, cache_client::CacheClient};
use serde::Serialize;
use tokio::time::timeout;
use tonic::transport::Endpoint;

use super::AppState;

/// How long a node has to answer.
const NODE_TIME: Duration = Duration::from_secs(1);
/// Nodes asked at once.
const AT_ONCE: usize = 16;

#[derive(Serialize)]
struct Groups {
    count: usize,
    groups: Vec<Group>,
    /// Nodes that did not answer: the totals lack their part.
    missing: Vec<String>,
}

/// A group: its definition, and what all nodes together hold and did.
#[derive(Serialize)]
struct Group {
    name: String,
    /// Bytes, on each node.
    capacity: u64,
    /// Seconds; 0: entries do not expire.
    ttl: f64,
    /// Seconds; 0: unused entries stay.
    idle: f64,
    eviction: String,
    max_value: u64,
    origin: String,
    nodes: usize,
    entries: u64,
    used: u64,
    hits: u64,
    misses: u64,
    loads: u64,
    sets: u64,
    deletes: u64,
    evictions: u64,
}

/// The handler.
pub(super) async fn list(State(worker): AppState) -> Response {
    let _survey = match worker.process.survey() {
        Ok(survey) => survey,
        Err(error) => return worker.refuse(&error),
    };
    let topology = worker.cache.topology();
    let members: Vec<_> =
        topology.members().iter().map(|m| (m.id.clone(), m.grpc.clone())).collect();
    let ask = |(id, address): (NodeId, String)| async move { (id, stats(&address).await) };
    let answers: Vec<_> = stream::iter(members).map(ask).buffered(AT_ONCE).collect().await;
    let mut groups = BTreeMap::new();
    let mut missing = Vec::new();
    for (id, stats) in answers {
        match stats {
            Some(stats) => stats.groups.into_iter().for_each(|group| add(&mut groups, group)),
            None => missing.push(id.to_string()),
        }
    }
    let groups: Vec<Group> = groups.into_values().collect();
    Json(Groups { count: groups.len(), groups, missing }).into_response()
}

async fn stats(address: &str) -> Option<StatsResponse> {
    let asking = async {
        let endpoint = Endpoint::from_shared(format!("http://{address}")).ok()?;
        let mut node = CacheClient::new(endpoint.connect().await.ok()?);
        Some(node.stats(StatsRequest {}).await.ok()?.into_inner())
    };
    timeout(NODE_TIME, asking).await.ok().flatten()
}

fn add(groups: &mut BTreeMap<String, Group>, stats: GroupStats) {
    let seconds = |ms: u64| Duration::from_millis(ms).as_secs_f64();
    let group = groups.entry(stats.name.clone()).or_insert_with(|| Group {
        name: stats.name,
        capacity: stats.capacity_bytes,
        ttl: seconds(stats.ttl_ms),
        idle: seconds(stats.idle_ms),
        eviction: stats.eviction,
        max_value: stats.max_value_bytes,
        origin: stats.origin,
        nodes: 0,
        entries: 0,
        used: 0,
        hits: 0,
        misses: 0,
        loads: 0,
        sets: 0,
        deletes: 0,
        evictions: 0,
    });
    group.nodes += 1;
    group.entries += stats.entries;
    group.used += stats.used_bytes;
    group.hits += stats.hits;
    group.misses += stats.misses;
    group.loads += stats.loads;
    group.sets += stats.sets;
    group.deletes += stats.deletes;
    group.evictions += stats.evictions;
}
