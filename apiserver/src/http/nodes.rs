//! `GET /api/nodes`: the members of the ring, as this gateway sees them.

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use common::{
    discovery::{DiscoveryStatus, NodeId, Serving, moment},
    topology::{Epoch, Topology},
};
use serde::Serialize;

use super::AppState;

#[derive(Serialize)]
struct Nodes {
    count: usize,
    epoch: EpochView,
    digest: String,
    discovery: Discovery,
    nodes: Vec<Node>,
}

/// How the cluster state is followed, and what the ring is when it is not simply that.
#[derive(Serialize)]
struct Discovery {
    connected: bool,
    since: String,
    /// When the backend was last heard.
    #[serde(skip_serializing_if = "Option::is_none")]
    heard: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
    /// `live`: what the cluster state says. `last`: what it said last. `snapshot`: what it said in
    /// an earlier life. `kept`: with members that are not registered.
    ring: &'static str,
    /// When the snapshot was saved, or since when members are kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    ring_since: Option<String>,
    /// Records that can't be read.
    skipped_records: u64,
}

impl From<&DiscoveryStatus> for Discovery {
    fn from(status: &DiscoveryStatus) -> Self {
        let (ring, ring_since) = match &status.serving {
            Some(Serving::Snapshot { saved_unix_ms }) => ("snapshot", Some(*saved_unix_ms)),
            Some(Serving::Keeping { since_unix_ms, .. }) => ("kept", Some(*since_unix_ms)),
            None if status.connected => ("live", None),
            None => ("last", Some(status.since_unix_ms)),
        };
        let problems = [status.problem.clone(), status.conflict.clone()];
        let problem = problems.into_iter().flatten().collect::<Vec<_>>().join("; ");
        Self {
            connected: status.connected,
            since: moment(status.since_unix_ms),
            heard: status.heard_unix_ms.map(moment),
            problem: Some(problem).filter(|problem| !problem.is_empty()),
            ring,
            ring_since: ring_since.map(moment),
            skipped_records: status.skipped_records,
        }
    }
}

/// An epoch in JSON.
#[derive(Serialize)]
pub(super) struct EpochView {
    generation: String,
    as_of: u64,
}

impl From<&Epoch> for EpochView {
    fn from(epoch: &Epoch) -> Self {
        Self { generation: epoch.generation.to_string(), as_of: epoch.as_of }
    }
}

/// A ring's digest in JSON: too large a number for many readers, hence text.
pub(super) fn digest(epoch: &Epoch) -> String {
    format!("{:016x}", epoch.digest)
}

#[derive(Serialize)]
struct Node {
    id: String,
    address: String,
    http: String,
    zone: String,
    weight: u32,
    state: &'static str,
    /// False: it is kept in the ring although its record is gone.
    registered: bool,
    health: &'static str,
    /// Why it is ejected.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ejected_since: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_probe: Option<String>,
    ring_share: f64,
    last_seen: Option<String>,
    /// Milliseconds.
    response_time: Option<f64>,
    instance: String,
    version: String,
    started_at: String,
}

/// The handler.
pub(super) async fn list(State(worker): AppState) -> Response {
    let topology = worker.cache.topology();
    let status = worker.process.route.topologies.discovery_status().borrow().clone();
    let kept = match &status.serving {
        Some(Serving::Keeping { members, .. }) => members.as_slice(),
        _ => &[],
    };
    let members = 0..topology.members().len();
    let nodes: Vec<_> = members.map(|index| node(&worker, &topology, index, kept)).collect();
    let epoch = &topology.epoch;
    Json(Nodes {
        count: nodes.len(),
        epoch: epoch.into(),
        digest: digest(epoch),
        discovery: (&status).into(),
        nodes,
    })
    .into_response()
}

fn node(worker: &super::Worker, topology: &Topology, index: usize, kept: &[NodeId]) -> Node {
    let record = topology.member(index);
    let table = &worker.process.route.health;
    let health = table.of(record);
    let ejection = table.ejection(&health);
    let seen = health.last_seen_unix_ms();
    Node {
        id: record.id.to_string(),
        address: record.grpc.clone(),
        http: record.http.clone(),
        zone: record.zone.clone(),
        weight: record.weight,
        state: record.state.as_str(),
        registered: !kept.contains(&record.id),
        health: match (&ejection, seen) {
            (Some(_), _) => "ejected",
            (None, None) => "unknown",
            (None, Some(_)) => "healthy",
        },
        ejected_since: ejection.as_ref().map(|ejection| moment(ejection.since_unix_ms)),
        next_probe: ejection.as_ref().map(|ejection| moment(ejection.next_probe_unix_ms)),
        problem: ejection.map(|ejection| ejection.why),
        ring_share: (topology.ring.share(index) * 1e4).round() / 1e4,
        last_seen: seen.map(moment),
        response_time: health.response_time().map(|took| took.as_micros() as f64 / 1e3),
        instance: record.instance.to_string(),
        version: record.version.clone(),
        started_at: record.started_at.clone(),
    }
}
