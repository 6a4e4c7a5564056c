//! `/health`, `/livez`, `/readyz` and `/metrics`: for people, orchestrators and Prometheus.

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use common::{
    condition::{Check, is_verbose, verbose},
    error::{Code, Error},
    telemetry::METRICS_CONTENT_TYPE,
};
use http::{StatusCode, Uri, header};
use serde::Serialize;

use super::{AppState, nodes::digest};
use crate::gateway::Readiness;

#[derive(Serialize)]
struct Health {
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
    nodes: usize,
    ejected: usize,
    digest: String,
    /// Seconds.
    uptime: u64,
    version: &'static str,
}

/// `/health`: 200 while requests can be answered, and what is not as it should be.
pub(super) async fn health(State(worker): AppState) -> Response {
    let process = &worker.process;
    let topology = worker.cache.topology();
    let problems: Vec<_> = process.checks().iter().filter_map(Check::problem).collect();
    let (code, status) = match process.readiness() {
        Readiness::Ready if problems.is_empty() => (StatusCode::OK, "healthy"),
        Readiness::Ready => (StatusCode::OK, "degraded"),
        Readiness::NotReady { .. } => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
    };
    let body = Health {
        status,
        problem: Some(problems.join("; ")).filter(|problem| !problem.is_empty()),
        nodes: topology.members().len(),
        ejected: process.route.health.ejected(),
        digest: digest(&topology.epoch),
        uptime: process.uptime().as_secs(),
        version: env!("CARGO_PKG_VERSION"),
    };
    (code, Json(body)).into_response()
}

/// `/livez`: the process serves HTTP.
pub(super) async fn livez() -> &'static str {
    "ok\n"
}

/// `/readyz`: requests can be answered; otherwise 503 and why not. With `?verbose` every check.
pub(super) async fn readyz(State(worker): AppState, uri: Uri) -> Response {
    let process = &worker.process;
    let (code, mut text) = match process.readiness() {
        Readiness::Ready => (StatusCode::OK, "ok\n".to_owned()),
        Readiness::NotReady { problem } => {
            (StatusCode::SERVICE_UNAVAILABLE, format!("{problem}\n"))
        }
    };
    if is_verbose(uri.query()) {
        text = verbose(&process.checks(), code == StatusCode::OK);
    }
    (code, text).into_response()
}

/// `/metrics`: OpenMetrics text.
pub(super) async fn metrics(State(worker): AppState) -> Response {
    match worker.process.metrics().encode() {
        Ok(text) => ([(header::CONTENT_TYPE, METRICS_CONTENT_TYPE)], text).into_response(),
        Err(error) => {
            let internal = Error::new(Code::Internal, "the metrics can't be written");
            worker.refuse(&internal.caused_by(error))
        }
    }
}
