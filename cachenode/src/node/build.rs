//! The parts a node is made of, each built in its own small step.

use std::{sync::Arc, time::Duration};

use common::{
    clock::Clock,
    condition::ClusterMetrics,
    config::{Settings, host_port},
    discovery::{Discovery, NodeId, NodeRecord, NodeState, RegistrationState},
    lifecycle::{Lifecycle, Stop},
    link::{Identity, frame::MAX_MESSAGE_BYTES},
    route::{self, Persistence, Probed, Router, Shared},
    security::check_listener,
    serve::{self, Limits, Listener, ServeFamilies, Target, grpc::GrpcTimeout},
    telemetry::{Metrics, register_runtimes},
    topology,
    worker::{Workers, default_workers},
};
use proto::v1::{Role, cache_server::CacheServer};
use tokio::{
    runtime::Handle,
    sync::{Notify, watch},
};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::service::Routes;
use tonic_health::{pb::health_server::HealthServer, server::HealthService};
use uuid::Uuid;

use super::{
    StartError, definitions::Local, following, hinting, proposing, purging, relinquish, steadying,
    taking_over,
};
use crate::{
    groups::Groups,
    grpc::{
        Absences, Away, CacheService, Newer, NodeService, Rings, Steadiness, Takeovers, Unknown,
        exchange_route,
    },
    http::{self, Registered},
    metrics::{GroupMetrics, NodeMetrics, RegistrationMetrics},
};

/// How a node reaches others on behalf of a simple client: like a gateway by default.
const PERSISTENCE: Persistence =
    Persistence { try_timeout: Duration::from_millis(250), max_retries: 2 };
/// How often stores do what they have put off.
const MAINTENANCE: Duration = Duration::from_secs(1);

/// A node's two listeners.
pub(super) struct Listeners {
    pub(super) grpc: Listener,
    pub(super) http: Listener,
}

impl Listeners {
    pub(super) async fn bind(settings: &Settings) -> Result<Self, StartError> {
        let node = &settings.node;
        check_listener("node", &node.host, &settings.security)?;
        let grpc = Listener::bind(&node.listen_grpc()).await?;
        let http = match node.http_port {
            Some(port) => Listener::bind(&host_port(&node.host, port)).await?,
            None => Self::default_http(&node.host, node.default_http_port()).await?,
        };
        Ok(Self { grpc, http })
    }

    /// Nobody asked for this port, so a free one does as well when it is taken.
    async fn default_http(host: &str, port: u16) -> Result<Listener, StartError> {
        match Listener::bind(&host_port(host, port)).await {
            Ok(listener) => Ok(listener),
            Err(taken) => {
                let listener = Listener::bind(&host_port(host, 0)).await?;
                let address = listener.local_addr();
                tracing::warn!(%taken, %address, "the default HTTP port is taken, using a free one");
                Ok(listener)
            }
        }
    }
}

/// What the node will register.
pub(super) fn record(
    settings: &Settings,
    listeners: &Listeners,
    clock: &dyn Clock,
) -> Result<NodeRecord, StartError> {
    let node = &settings.node;
    let advertised =
        |listener: &Listener| host_port(node.advertised_host(), listener.local_addr().port());
    let grpc = advertised(&listeners.grpc);
    let id = NodeId::new(node.id.clone().unwrap_or_else(|| grpc.clone()))
        .map_err(|error| StartError::Setting(format!("node.id: {error}")))?;
    Ok(NodeRecord {
        id,
        instance: Uuid::new_v4(),
        grpc,
        http: advertised(&listeners.http),
        zone: node.zone.clone(),
        weight: node.weight,
        state: NodeState::Active,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started_at: humantime::format_rfc3339_seconds(std::time::UNIX_EPOCH + clock.unix())
            .to_string(),
    })
}

/// The service, following the cluster's topology.
pub(super) fn service(
    settings: &Settings,
    groups: Arc<Groups>,
    record: &NodeRecord,
    discovery: &Arc<dyn Discovery>,
    clock: Arc<dyn Clock>,
    lifecycle: &Lifecycle,
    following: CancellationToken,
) -> Arc<NodeService> {
    let identity = Identity {
        service: settings.discovery.service_name.clone(),
        role: Role::Node,
        id: record.id.to_string(),
        instance: record.instance,
    };
    let topologies = topology::follow(Arc::clone(discovery), lifecycle.tracker(), following);
    let route = Shared::new(identity.clone(), topologies, PERSISTENCE, Arc::clone(&clock));
    let metrics = NodeMetrics::default();
    Arc::new(NodeService {
        id: record.id.clone(),
        identity,
        groups,
        route: Arc::new(route),
        started: clock.monotonic(),
        steady: Steadiness::new(Arc::clone(&clock)),
        clock,
        leaving: CancellationToken::new(),
        rings: Rings::new(),
        takeovers: Takeovers::default(),
        newer: Newer::default(),
        unknown: Unknown::default(),
        away: Away::new(metrics.clone()),
        purged: Notify::new(),
        absences: Absences::new(),
        metrics,
    })
}

/// Serves both listeners until `serving` stops. The answer is for telling readiness.
pub(super) fn serve(
    settings: &Settings,
    listeners: Listeners,
    service: &Arc<NodeService>,
    lifecycle: &Lifecycle,
    serving: &Stop,
    following: DropGuard,
) -> Result<Registered, StartError> {
    let count = match settings.node.workers {
        0 => default_workers(),
        count => count,
    };
    let workers = Workers::start("node", count)?;
    let mut metrics = Metrics::new();
    let families = ServeFamilies::register(metrics.registry());
    service.route.metrics.register(metrics.registry());
    service.route.health.register(metrics.registry());
    register_runtimes(metrics.registry(), workers.handles());
    service.metrics.register(metrics.registry());
    service.groups.loans().register(metrics.registry());
    GroupMetrics::register(metrics.registry(), &service.groups);
    let limits = Limits { max_connections: settings.node.max_connections, ..Limits::default() };
    let clock = &service.clock;
    let registered = Registered::new(service.leaving.clone(), Arc::clone(clock));
    let route = &service.route;
    ClusterMetrics::register(metrics.registry(), Arc::clone(route), Arc::clone(clock));
    RegistrationMetrics::register(metrics.registry(), registered.clone());

    let health = HealthServer::new(HealthService::from_health_reporter(registered.reporter()));
    let app = |runtime: &Handle| {
        let router = Arc::new(Router::new(Arc::clone(&service.route), runtime.clone()));
        grpc_app(service, router, health.clone())
    };
    let targets = workers.handles().iter();
    let targets =
        targets.map(|runtime| Target::new(runtime.clone(), app(runtime)).with_peer_info());
    let grpc_metrics = families.listener("node grpc");
    let (grpc, stop) = (listeners.grpc, serving.clone());
    let serving_grpc = serve::serve(grpc, targets.collect(), limits.clone(), grpc_metrics, stop);
    let http_app = http::app(registered.clone(), Arc::clone(route), Arc::new(metrics));
    let http_target = vec![Target::new(Handle::current(), http_app)];
    let http_metrics = families.listener("node http");
    let serving_http =
        serve::serve(listeners.http, http_target, limits, http_metrics, serving.clone());

    lifecycle.spawn_critical("node grpc listener", async move {
        serving_grpc.await;
        workers.stop().await;
        // Only now: a node that drains has to know who owns its keys.
        drop(following);
    });
    lifecycle.spawn_critical("node http listener", serving_http);
    let prober = Router::new(Arc::clone(&service.route), Handle::current());
    let probing = route::probe_members(prober, Probed::Ejected, serving.soft.clone());
    lifecycle.spawn_critical("prober", probing);
    mind_others(service, lifecycle, serving);
    lifecycle
        .spawn_critical("maintenance", maintain(Arc::clone(&service.groups), serving.soft.clone()));
    Ok(registered)
}

/// The groups of the cluster state, and those that this node's configuration adds to them.
pub(super) fn follow_groups(
    service: &Arc<NodeService>,
    local: Local,
    apply: bool,
    lifecycle: &Lifecycle,
    serving: &Stop,
) {
    let Local { wanted, configured } = local;
    let following =
        following::follow_groups(Arc::clone(service), Arc::new(wanted), serving.soft.clone());
    lifecycle.spawn_critical("groups", following);
    let (topologies, stop) = (service.route.topologies.clone(), serving.soft.clone());
    let proposing = proposing::propose_groups(topologies, configured, apply, stop);
    lifecycle.spawn_critical("groups of the configuration", proposing);
}

/// What other nodes do, and what this one does in their stead.
fn mind_others(service: &Arc<NodeService>, lifecycle: &Lifecycle, serving: &Stop) {
    let router = || Arc::new(Router::new(Arc::clone(&service.route), Handle::current()));
    let (node, stop) = (|| Arc::clone(service), || serving.soft.clone());
    lifecycle.spawn_critical("ring", relinquish::follow_ring(node(), stop()));
    lifecycle.spawn_critical("relinquish", relinquish::give_up(node(), stop()));
    lifecycle.spawn_critical("purging", purging::carry_out(node(), stop()));
    lifecycle.spawn_critical("pulse", steadying::pulse(node(), stop()));
    let shared = router();
    let settling = steadying::settle(node(), Arc::clone(&shared), stop());
    lifecycle.spawn_critical("steadying", settling);
    let taking_over = taking_over::take_over(node(), Arc::clone(&shared), stop());
    lifecycle.spawn_critical("takeovers", taking_over);
    lifecycle.spawn_critical("hints", hinting::deliver(node(), shared, stop()));
}

/// A registration whose task has died lets its lease run out: better to end and be restarted.
pub(super) fn mind_registration(
    lifecycle: &Lifecycle,
    mut state: watch::Receiver<RegistrationState>,
) {
    let soft = lifecycle.stop().soft;
    lifecycle.spawn_critical("registration", async move {
        let died = async { while state.changed().await.is_ok() {} };
        tokio::select! {
            () = soft.cancelled() => {}
            () = died => {}
        }
    });
}

fn grpc_app(
    service: &Arc<NodeService>,
    router: Arc<Router>,
    health: HealthServer<HealthService>,
) -> axum::Router {
    let cache = CacheServer::new(CacheService::new(Arc::clone(service), Arc::clone(&router)))
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let mut routes = Routes::new(cache).add_service(health);
    // Reflection is a convenience: without it the node serves as well.
    if let Ok(reflection) = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
    {
        routes = routes.add_service(reflection);
    }
    let (path, exchange) = exchange_route(Arc::clone(service), router);
    routes.prepare().into_axum_router().route(path, exchange).layer(GrpcTimeout)
}

async fn maintain(groups: Arc<Groups>, stop: CancellationToken) {
    let mut turn = tokio::time::interval(MAINTENANCE);
    turn.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = turn.tick() => {
                // It may walk everything that is stored, which must not hold up the lease.
                let groups = Arc::clone(&groups);
                let walk = tokio::task::spawn_blocking(move || groups.maintain());
                if walk.await.is_err() {
                    tracing::error!("the upkeep of the groups has failed");
                }
            }
        }
    }
}
