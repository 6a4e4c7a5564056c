//! The node's HTTP port: probes and metrics, for orchestrators and Prometheus. No data.

use std::sync::Arc;

use axum::{
    Router,
    extract::State,
    response::{IntoResponse, Response},
    routing::get,
};
use common::{
    clock::Clock,
    condition::{self, Check, is_verbose, since, verbose},
    discovery::RegistrationState,
    route::Shared,
    telemetry::{METRICS_CONTENT_TYPE, Metrics},
};
use http::{StatusCode, Uri, header};
use proto::v1::cache_server::CacheServer;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic_health::{ServingStatus, server::HealthReporter};

use crate::grpc::CacheService;

/// How a registration stands, and since when it has stood that way.
#[derive(Debug, Clone)]
struct Standing {
    state: RegistrationState,
    since_unix_ms: u64,
}

/// Whether the node is registered: what `/readyz` and gRPC health answer.
#[derive(Clone)]
pub(crate) struct Registered {
    standing: watch::Sender<Standing>,
    leaving: CancellationToken,
    reporter: HealthReporter,
    clock: Arc<dyn Clock>,
}

impl Registered {
    pub(crate) fn new(leaving: CancellationToken, clock: Arc<dyn Clock>) -> Self {
        let state = RegistrationState::Trying { problem: None };
        let standing = Standing { state, since_unix_ms: unix_ms(&*clock) };
        let standing = watch::Sender::new(standing);
        Self { standing, leaving, reporter: HealthReporter::new(), clock }
    }

    pub(crate) fn reporter(&self) -> HealthReporter {
        self.reporter.clone()
    }

    /// Follows a registration for as long as it lives.
    pub(crate) fn follow(self, mut states: watch::Receiver<RegistrationState>) {
        tokio::spawn(async move {
            loop {
                let state = states.borrow_and_update().clone();
                let serving = if is_registered(&state) && !self.leaving.is_cancelled() {
                    ServingStatus::Serving
                } else {
                    ServingStatus::NotServing
                };
                self.stands(state);
                let service = <CacheServer<CacheService> as tonic::server::NamedService>::NAME;
                self.reporter.set_service_status(service, serving).await;
                self.reporter.set_service_status("", serving).await;
                if states.changed().await.is_err() {
                    return;
                }
            }
        });
    }

    /// A new problem with the same thing is no new time.
    fn stands(&self, state: RegistrationState) {
        let now = unix_ms(&*self.clock);
        self.standing.send_modify(|standing| {
            if is_registered(&standing.state) != is_registered(&state) {
                standing.since_unix_ms = now;
            }
            standing.state = state;
        });
    }

    /// Where the registration stands.
    pub(crate) fn state(&self) -> RegistrationState {
        self.standing.borrow().state.clone()
    }

    /// Why the node is not ready, if it is not.
    fn problem(&self) -> Option<String> {
        if self.leaving.is_cancelled() {
            return Some(LEAVING.to_owned());
        }
        problem_of(&self.standing.borrow().state)
    }

    fn check(&self) -> Check {
        let Standing { state, since_unix_ms } = self.standing.borrow().clone();
        let since = since(since_unix_ms, unix_ms(&*self.clock));
        match problem_of(&state) {
            None => Check::ok("registration", format!("registered since {since}")),
            Some(problem) => Check::failed("registration", format!("{problem}, since {since}")),
        }
    }
}

const LEAVING: &str = "the node is leaving";

fn unix_ms(clock: &dyn Clock) -> u64 {
    clock.unix().as_millis() as u64
}

fn is_registered(state: &RegistrationState) -> bool {
    matches!(state, RegistrationState::Registered { .. })
}

fn problem_of(state: &RegistrationState) -> Option<String> {
    Some(match state {
        RegistrationState::Registered { .. } => return None,
        RegistrationState::Trying { problem: Some(problem) } => format!("registering: {problem}"),
        RegistrationState::Trying { problem: None } => "the node has not registered yet".to_owned(),
        RegistrationState::HeldByOther { instance, address } => format!(
            "another node (instance {instance}) holds this id at {address}: \
             stop it, or give this node another --node-id"
        ),
        RegistrationState::Left => "the node has left the ring".to_owned(),
    })
}

struct App {
    registered: Registered,
    route: Arc<Shared>,
    metrics: Arc<Metrics>,
}

/// The routes.
pub(crate) fn app(registered: Registered, route: Arc<Shared>, metrics: Arc<Metrics>) -> Router {
    Router::new()
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(render_metrics))
        .with_state(Arc::new(App { registered, route, metrics }))
}

async fn readyz(State(app): State<Arc<App>>, uri: Uri) -> Response {
    let (code, mut text) = match app.registered.problem() {
        None => (StatusCode::OK, "ok\n".to_owned()),
        Some(problem) => (StatusCode::SERVICE_UNAVAILABLE, format!("{problem}\n")),
    };
    if is_verbose(uri.query()) {
        text = verbose(&app.checks(), code == StatusCode::OK);
    }
    (code, text).into_response()
}

impl App {
    fn checks(&self) -> [Check; 6] {
        let topology = self.route.topologies.load();
        let now = unix_ms(&*self.registered.clock);
        let status = self.route.topologies.discovery_status();
        let (stopping, serving) = if self.registered.leaving.is_cancelled() {
            let serving = Check::failed("serving", "what comes now is sent elsewhere");
            (Check::failed("stopping", LEAVING), serving)
        } else {
            // Registered or not: whoever takes it for the owner is answered.
            let digest = topology.epoch.digest;
            let serving = format!("by the ring with the digest {digest:016x}");
            (Check::ok("stopping", "no"), Check::ok("serving", serving))
        };
        [
            stopping,
            serving,
            self.registered.check(),
            condition::members(&topology),
            condition::discovery(&status.borrow(), &topology, now),
            condition::ejected(&self.route.health, now),
        ]
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
