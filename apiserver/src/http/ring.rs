//! `GET /api/ring?group=&key=`: who owns a key.

use std::time::Duration;

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use common::error::{Code, Error};
use http::Uri;
use serde::Serialize;

use super::{
    AppState,
    nodes::{EpochView, digest},
    target,
};

/// When to ask again if there are no nodes.
const COME_AGAIN: Duration = Duration::from_secs(1);

#[derive(Serialize)]
struct Place {
    group: String,
    key: String,
    owner: String,
    /// The other nodes, in the order in which they would be asked.
    replicas: Vec<String>,
    /// The key's position on the ring, in hexadecimal.
    position: String,
    epoch: EpochView,
    digest: String,
}

/// The handler.
pub(super) async fn lookup(State(worker): AppState, uri: Uri) -> Response {
    let target = match target::of(&uri) {
        Ok(target) => target,
        Err(error) => return worker.refuse(&error),
    };
    let topology = worker.cache.topology();
    let position = topology.ring.position(target.group.as_str(), target.key.as_str());
    let mut preferred =
        topology.ring.preference(position).map(|node| topology.member(node).id.to_string());
    let Some(owner) = preferred.next() else {
        let none = Error::new(Code::NoNodes, worker.process.why_no_nodes());
        return worker.refuse(&none.retry_after(COME_AGAIN));
    };
    Json(Place {
        group: target.group.into_string(),
        key: target.key.into_string(),
        owner,
        replicas: preferred.collect(),
        position: format!("{position:016x}"),
        epoch: (&topology.epoch).into(),
        digest: digest(&topology.epoch),
    })
    .into_response()
}
