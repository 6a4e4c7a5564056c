//! The node's HTTP port: probes and metrics, for orchestrators and Prometheus. No data.

use std::sync::Arc;

use axum::{
    Router,
    extract::State,
    response::{IntoResponse, Response},
    routing::get,
};
use common::{
    discovery::RegistrationState,
    telemetry::{METRICS_CONTENT_TYPE, Metrics},
};
use http::{StatusCode, header};
use proto::v1::cache_server::CacheServer;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic_health::{ServingStatus, server::HealthReporter};

use crate::grpc::CacheService;

/// Whether the node is registered: what `/readyz` and gRPC health answer.
#[derive(Clone)]
pub(crate) struct Registered {
    /// Empty when ready, else why not.
    problem: watch::Sender<String>,
    leaving: CancellationToken,
    reporter: HealthReporter,
}

impl Registered {
    pub(crate) fn new(leaving: CancellationToken) -> Self {
        let problem = watch::Sender::new("the node has not registered yet".to_owned());
        Self { problem, leaving, reporter: HealthReporter::new() }
    }

    pub(crate) fn reporter(&self) -> HealthReporter {
        self.reporter.clone()
    }

    /// Follows a registration for as long as it lives.
    pub(crate) fn follow(self, mut states: watch::Receiver<RegistrationState>) {
        tokio::spawn(async move {
            loop {
                let problem = problem_of(&states.borrow_and_update());
                let serving = if problem.is_empty() && !self.leaving.is_cancelled() {
                    ServingStatus::Serving
                } else {
                    ServingStatus::NotServing
                };
                self.problem.send_replace(problem);
                let service = <CacheServer<CacheService> as tonic::server::NamedService>::NAME;
                self.reporter.set_service_status(service, serving).await;
                self.reporter.set_service_status("", serving).await;
                if states.changed().await.is_err() {
                    return;
                }
            }
        });
    }
}

fn problem_of(state: &RegistrationState) -> String {
    match state {
        RegistrationState::Registered { .. } => String::new(),
        RegistrationState::Trying { problem: Some(problem) } => format!("registering: {problem}"),
        RegistrationState::Trying { problem: None } => "registering".to_owned(),
        RegistrationState::HeldByOther { instance, address } => format!(
            "another node (instance {instance}) holds this id at {address}: \
             stop it, or give this node another --node-id"
        ),
        RegistrationState::Left => "the node has left the ring".to_owned(),
    }
}

struct App {
    registered: Registered,
    metrics: Arc<Metrics>,
}

/// The routes.
pub(crate) fn app(registered: Registered, metrics: Arc<Metrics>) -> Router {
    Router::new()
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(render_metrics))
        .with_state(Arc::new(App { registered, metrics }))
}

async fn readyz(State(app): State<Arc<App>>) -> Response {
    if app.registered.leaving.is_cancelled() {
        return (StatusCode::SERVICE_UNAVAILABLE, "the node is leaving\n").into_response();
    }
    match app.registered.problem.borrow().as_str() {
        "" => "ok\n".into_response(),
        problem => (StatusCode::SERVICE_UNAVAILABLE, format!("{problem}\n")).into_response(),
    }
}

async fn render_metrics(State(app): State<Arc<App>>) -> Response {
    match app.metrics.encode() {
        Ok(text) => ([(header::CONTENT_TYPE, METRICS_CONTENT_TYPE)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "metrics can't be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
