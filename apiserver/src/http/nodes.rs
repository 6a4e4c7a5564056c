//! `GET /api/nodes`: the members of the ring, as this gateway sees them.

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use common::topology::{Epoch, Topology};
use serde::Serialize;

use super::AppState;

#[derive(Serialize)]
struct Nodes {
    count: usize,
    epoch: EpochView,
    digest: String,
    nodes: Vec<Node>,
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
    health: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
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
    let nodes: Vec<Node> =
        (0..topology.members().len()).map(|index| node(&worker, &topology, index)).collect();
    let epoch = &topology.epoch;
    Json(Nodes { count: nodes.len(), epoch: epoch.into(), digest: digest(epoch), nodes })
        .into_response()
}

fn node(worker: &super::Worker, topology: &Topology, index: usize) -> Node {
    let record = topology.member(index);
    let health = worker.process.route.health.of(record);
    let seen = health.last_seen_unix_ms().and_then(|ms| {
        let at = jiff::Timestamp::from_millisecond(i64::try_from(ms).ok()?).ok()?;
        Some(at.to_string())
    });
    Node {
        id: record.id.to_string(),
        address: record.grpc.clone(),
        http: record.http.clone(),
        zone: record.zone.clone(),
        weight: record.weight,
        state: record.state.as_str(),
        health: match (health.callable(), &seen) {
            (false, _) => "ejected",
            (true, None) => "unknown",
            (true, Some(_)) => "healthy",
        },
        problem: health.problem(),
        ring_share: (topology.ring.share(index) * 1e4).round() / 1e4,
        last_seen: seen,
        response_time: health.response_time().map(|took| took.as_micros() as f64 / 1e3),
        instance: record.instance.to_string(),
        version: record.version.clone(),
        started_at: record.started_at.clone(),
    }
}
