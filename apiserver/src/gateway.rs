//! The composition root: settings and a discovery in, a running gateway out.

mod process;

use std::{net::SocketAddr, sync::Arc};

use common::{
    clock::Clock,
    condition::ClusterMetrics,
    config::{GatewaySettings, Settings},
    discovery::Discovery,
    lifecycle::Lifecycle,
    link::Identity,
    route::{self, Persistence, Probed, Router, Shared},
    security, serve,
    serve::{Listener, ServeFamilies, ServeMetrics, Target},
    telemetry,
    topology::{self, Topologies},
    worker::{Workers, default_workers},
};
use prometheus_client::registry::Registry;
use proto::v1::Role;
use tokio::runtime::Handle;
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;

use crate::{
    admission::Admission,
    budget::Budget,
    cache::Cache,
    http::{Api, Worker},
    metrics::Metrics,
    near::{Near, NearFamilies},
};
pub(crate) use process::{Process, Readiness};

/// Why a gateway did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The listener would be open to others without protection.
    #[error(transparent)]
    Exposed(#[from] security::ExposedListener),
    /// The address can't be listened on.
    #[error(transparent)]
    Bind(#[from] serve::BindError),
    /// The worker threads could not be started.
    #[error("worker threads: {0}")]
    Workers(#[from] std::io::Error),
}

/// A running gateway. It ends with the lifecycle it was started under.
pub struct Gateway {
    address: SocketAddr,
    process: Arc<Process>,
}

impl Gateway {
    /// Listens and serves. Requests are answered with `no_nodes` until the cluster is known.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left running then.
    pub async fn start(
        settings: &Settings,
        discovery: Arc<dyn Discovery>,
        clock: Arc<dyn Clock>,
        lifecycle: &Lifecycle,
    ) -> Result<Self, StartError> {
        let gateway = &settings.gateway;
        security::check_listener("gateway", &gateway.host, &settings.security)?;
        let listener = Listener::bind(&gateway.listen()).await?;
        let address = listener.local_addr();
        let workers = Workers::start("gateway", workers(gateway.workers))?;
        let following = CancellationToken::new();
        let topologies = topology::follow(discovery, lifecycle.tracker(), following.clone());
        let route = route(settings, address, topologies, Arc::clone(&clock));

        let mut registry = telemetry::Metrics::new();
        route.metrics.register(registry.registry());
        route.health.register(registry.registry());
        telemetry::register_runtimes(registry.registry(), workers.handles());
        ClusterMetrics::register(registry.registry(), Arc::clone(&route), Arc::clone(&clock));
        let metrics = Metrics::register(registry.registry());
        let nears = nears(gateway, workers.handles().len(), &clock, registry.registry());
        let connections = ServeFamilies::register(registry.registry()).listener("gateway");
        let stop = lifecycle.stop();
        let bodies = Budget::new(
            gateway.max_body_bytes_in_flight,
            metrics.body_bytes.clone(),
            metrics.shed_bytes(),
        );
        let stopping = stop.soft.clone();
        let process = Process::new(settings, route, nears, registry, bodies, clock, stopping);
        let process = Arc::new(process);

        let prober = Router::new(Arc::clone(&process.route), Handle::current());
        let probing = route::probe_members(prober, Probed::Everybody, stop.soft.clone());
        lifecycle.spawn_critical("prober", probing);
        let targets = targets(&workers, &process, &metrics, gateway);
        let following = following.drop_guard();
        serve_until_stopped(
            lifecycle,
            listener,
            targets,
            workers,
            &process,
            connections,
            following,
        );
        tracing::info!(%address, "gateway listens");
        Ok(Self { address, process })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many nodes it knows.
    pub fn member_count(&self) -> usize {
        self.process.route.topologies.load().members().len()
    }

    /// The digest of the ring by which it routes at present.
    pub fn ring_digest(&self) -> u64 {
        self.process.route.topologies.load().epoch.digest
    }
}

fn workers(configured: usize) -> usize {
    if configured == 0 { default_workers() } else { configured }
}

/// What all workers need to route.
fn route(
    settings: &Settings,
    address: SocketAddr,
    topologies: Topologies,
    clock: Arc<dyn Clock>,
) -> Arc<Shared> {
    let gateway = &settings.gateway;
    let identity = Identity {
        service: settings.discovery.service_name.clone(),
        role: Role::Gateway,
        id: gateway.id.clone().unwrap_or_else(|| address.to_string()),
        instance: Uuid::new_v4(),
    };
    let persistence =
        Persistence { try_timeout: gateway.try_timeout, max_retries: gateway.max_retries as usize };
    Arc::new(Shared::new(identity, topologies, persistence, clock))
}

/// Each worker's near cache; none if the gateway is to hold nothing.
fn nears(
    gateway: &GatewaySettings,
    workers: usize,
    clock: &Arc<dyn Clock>,
    registry: &mut Registry,
) -> Vec<Arc<Near>> {
    let families = NearFamilies::register(registry);
    let each = gateway.near_capacity as usize / workers;
    let near = |worker| Arc::new(Near::new(each, Arc::clone(clock), families.worker(worker)));
    (0..workers).filter(|_| each > 0).map(near).collect()
}

/// One application for each worker, with links of its own.
fn targets(
    workers: &Workers,
    process: &Arc<Process>,
    metrics: &Metrics,
    gateway: &GatewaySettings,
) -> Vec<Target<Api>> {
    let count = workers.handles().len();
    let target = |(index, runtime): (usize, &Handle)| {
        let (route, runtime) = (Arc::clone(&process.route), runtime.clone());
        let near = process.nears.get(index).cloned();
        let router = match near.clone() {
            Some(near) => Router::lending(route, runtime.clone(), near),
            None => Router::new(route, runtime.clone()),
        };
        let cache = Cache::new(router, near, gateway.request_timeout);
        let admission = Admission::new(gateway.max_in_flight, count, metrics.load(index));
        let worker = Worker::new(cache, Arc::clone(process), metrics.worker(index), admission);
        Target::new(runtime, Api::new(Arc::new(worker)))
    };
    workers.handles().iter().enumerate().map(target).collect()
}

fn serve_until_stopped(
    lifecycle: &Lifecycle,
    listener: Listener,
    targets: Vec<Target<Api>>,
    workers: Workers,
    process: &Process,
    connections: Arc<ServeMetrics>,
    following: DropGuard,
) {
    let stop = lifecycle.stop();
    let serving = serve::serve(listener, targets, process.limits(), connections, stop);
    lifecycle.spawn_critical("gateway listener", async move {
        serving.await;
        workers.stop().await;
        // Only now: requests that are being finished are routed by the ring as it is.
        drop(following);
    });
}
