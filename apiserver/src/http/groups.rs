//! `GET /api/groups`: the groups that the nodes serve, asked of all of them.

use std::{collections::BTreeMap, time::Duration};

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use common::discovery::NodeId;
use proto::v1::{GroupStats, StatsRequest, cache_client::CacheClient};
use serde::Serialize;

use super::AppState;
use crate::members::{Answers, ask_each};

#[derive(Serialize)]
struct Groups {
    count: usize,
    groups: Vec<Group>,
    /// Nodes that did not answer: the totals lack their part.
    missing: Vec<NodeId>,
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
    let ask = |mut node: CacheClient<_>| async move { node.stats(StatsRequest {}).await };
    let Answers { given, missing } = ask_each(topology.members(), ask).await;
    let mut groups = BTreeMap::new();
    let stats = given.into_iter().flat_map(|(_, stats)| stats.groups);
    stats.for_each(|group| add(&mut groups, group));
    let groups: Vec<Group> = groups.into_values().collect();
    Json(Groups { count: groups.len(), groups, missing }).into_response()
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
