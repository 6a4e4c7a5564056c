//! The gateway's HTTP API: routes, and what all of them have in common.
//!
//! One file an endpoint. Every handler runs on the worker that owns its connection and uses that
//! worker's links; there is no state between requests.

mod body;
mod cache;
mod conditional;
mod error;
mod groups;
mod hotkeys;
mod nodes;
mod probes;
mod ring;
mod target;

use std::sync::Arc;

use axum::{
    Router,
    extract::{Request, State},
    response::Response,
    routing::get,
};
use common::error::{Code, Error};
use http::StatusCode;

use crate::{cache::Cache, gateway::Process, metrics::WorkerMetrics};
use error::RequestIds;

/// One worker: its way to the cluster and its counters, and what all workers share.
pub(crate) struct Worker {
    pub(crate) cache: Cache,
    pub(crate) process: Arc<Process>,
    pub(crate) metrics: WorkerMetrics,
    ids: RequestIds,
}

impl Worker {
    pub(crate) fn new(cache: Cache, process: Arc<Process>, metrics: WorkerMetrics) -> Self {
        Self { cache, process, metrics, ids: RequestIds::new() }
    }

    fn refuse(&self, error: &Error) -> Response {
        error::response(error, &self.ids)
    }
}

/// The worker, as handlers receive it.
pub(crate) type AppState = State<Arc<Worker>>;

/// The whole API on one worker.
pub(crate) fn app(worker: Arc<Worker>) -> Router {
    let cache = get(cache::get).put(cache::put).post(cache::put).delete(cache::delete);
    Router::new()
        .route("/api/cache", cache.clone())
        // The path form without anything, which is refused like one with a part missing.
        .route("/api/cache/", cache.clone())
        .route("/api/cache/{*target}", cache)
        .route("/api/nodes", get(nodes::list))
        .route("/api/ring", get(ring::lookup))
        .route("/api/groups", get(groups::list))
        .route("/api/hotkeys", get(hotkeys::list))
        .route("/health", get(probes::health))
        .route("/livez", get(probes::livez))
        .route("/readyz", get(probes::readyz))
        .route("/metrics", get(probes::metrics))
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(unknown_path)
        .with_state(worker)
}

async fn unknown_path(State(worker): AppState, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    body::discard(&parts.headers, body);
    if let Err(too_long) = target::check_length(&parts.uri) {
        return worker.refuse(&too_long);
    }
    let text = format!("there is nothing at {}; the API begins at /api/cache", parts.uri.path());
    worker.refuse(&Error::new(Code::NotFound, text))
}

async fn method_not_allowed(State(worker): AppState, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    body::discard(&parts.headers, body);
    let text = format!("{} is not offered at {}", parts.method, parts.uri.path());
    let error = Error::new(Code::InvalidRequest, text);
    error::with_status(&error, StatusCode::METHOD_NOT_ALLOWED, &worker.ids)
}
