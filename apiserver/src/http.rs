//! The gateway's HTTP API: routes, and what all of them have in common.
//!
//! One file an endpoint. Every handler runs on the worker that owns its connection and uses that
//! worker's links; there is no state between requests.

mod admin;
mod batch;
mod body;
mod cache;
mod conditional;
mod cross_site;
mod error;
mod groups;
mod hotkeys;
mod nodes;
mod probes;
mod ring;
pub mod target;

use std::{future::ready, sync::Arc};

use axum::{
    Router,
    extract::{Request, State},
    response::Response,
    routing::{get, post},
};
use common::{
    error::{Code, Error},
    serve::{App, Payload},
};
use futures_util::future::Either;
use http::StatusCode;
use hyper::body::Incoming;
use tower::Service;

use crate::{admission::Admission, cache::Cache, gateway::Process, metrics::WorkerMetrics};
use error::RequestIds;

/// One worker: its way to the cluster, its counters and what it takes on, and what all workers share.
pub(crate) struct Worker {
    pub(crate) cache: Cache,
    pub(crate) process: Arc<Process>,
    pub(crate) metrics: WorkerMetrics,
    pub(crate) admission: Admission,
    ids: RequestIds,
}

impl Worker {
    pub(crate) fn new(
        cache: Cache,
        process: Arc<Process>,
        metrics: WorkerMetrics,
        admission: Admission,
    ) -> Self {
        Self { cache, process, metrics, admission, ids: RequestIds::new() }
    }

    fn refuse(&self, error: &Error) -> Response {
        error::response(error, &self.ids)
    }
}

/// The worker, as handlers receive it.
pub(crate) type AppState = State<Arc<Worker>>;

/// The whole API on one worker.
#[derive(Clone)]
pub(crate) struct Api(Arc<Inner>);

struct Inner {
    worker: Arc<Worker>,
    router: Router,
}

impl Api {
    pub(crate) fn new(worker: Arc<Worker>) -> Self {
        let router = router(Arc::clone(&worker)).with_state(());
        Self(Arc::new(Inner { worker, router }))
    }

    fn worker(&self) -> &Worker {
        &self.0.worker
    }
}

impl App for Api {
    /// Requests for keys do not pass the router: what that does for them (matching, boxes,
    /// extensions) costs as much as what they are there for.
    fn call(
        self,
        request: http::Request<Incoming>,
    ) -> impl Future<Output = Response<Payload>> + Send {
        let (method, uri) = (request.method(), request.uri());
        if let Err(error) = cross_site::check(method, uri, request.headers()) {
            let (parts, body) = request.into_parts();
            body::discard(&parts.headers, body);
            let refused = self.worker().refuse(&error).map(Payload::Streamed);
            return Either::Right(Either::Left(ready(refused)));
        }
        match cache::asked(method, uri) {
            Some(asked) => {
                let (parts, body) = request.into_parts();
                Either::Left(cache::respond(self, asked, parts, body))
            }
            None => {
                let response = Service::call(&mut self.0.router.clone(), request);
                Either::Right(Either::Right(Box::pin(async move {
                    let Ok(response) = response.await;
                    response.map(Payload::Streamed)
                })))
            }
        }
    }
}

fn router(worker: Arc<Worker>) -> Router {
    // Answered before anything is routed: here so that what is not offered is refused by their names.
    let keys = get(unknown_path).put(unknown_path).post(unknown_path).delete(unknown_path);
    Router::new()
        .route(target::BATCH_PATH, post(batch::run))
        .route("/api/cache", keys.clone())
        .route("/api/cache/", keys.clone())
        .route("/api/cache/{*target}", keys)
        .route("/api/nodes", get(nodes::list))
        .route("/api/ring", get(ring::lookup))
        .route("/api/groups", get(groups::list))
        .route("/api/hotkeys", get(hotkeys::list))
        .merge(admin::router())
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
