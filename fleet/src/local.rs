//! A fleet in one process: nodes and a gateway on real sockets, sharing one discovery.
//!
//! For trying Ringway out and for tests that do not need processes of their own. Every part has
//! its own lifecycle, so that a node can be stopped while the others go on.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use apiserver::Gateway;
use cachenode::Node;
use common::{
    clock::{Clock, SystemClock},
    config::Settings,
    discovery::{
        DEFAULT_LEASE_TTL, Discovery, EtcdDiscovery, EtcdOptions, GrpcProber, MemoryRegistry,
        RegistrationState, WantedRing,
    },
    lifecycle::{Ending, Lifecycle},
};
use tokio::{task::JoinHandle, time::timeout};

/// How long the nodes may take until they are registered and the gateway knows them all.
const READY_WITHIN: Duration = Duration::from_secs(10);
/// How often that is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Where a fleet's members find each other.
#[derive(Debug, Clone, Default)]
pub enum Registry {
    /// In this process.
    #[default]
    Memory,
    /// In an etcd that runs at these endpoints.
    Etcd(Vec<String>),
}

/// What to start.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How many nodes.
    pub nodes: usize,
    /// Where they find each other.
    pub registry: Registry,
    /// The settings of all of them. Nodes take free ports whatever it says.
    pub settings: Settings,
}

impl Default for Plan {
    /// Three nodes and a gateway on free ports, serving the demo group.
    fn default() -> Self {
        let mut settings = Settings::default();
        settings.gateway.port = 0;
        Self { nodes: 3, registry: Registry::Memory, settings }
    }
}

/// Why a fleet did not start.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// The gateway did not.
    #[error("gateway: {0}")]
    Gateway(#[from] apiserver::StartError),
    /// A node did not.
    #[error("node: {0}")]
    Node(#[from] cachenode::StartError),
    /// The registry can't be used.
    #[error("{}", .0.message())]
    Registry(#[from] common::error::Error),
    /// The members did not find each other.
    #[error("the fleet is not complete after {READY_WITHIN:?}: {0}")]
    NotReady(String),
}

/// One part of a fleet, running under a lifecycle of its own.
struct Part<T> {
    it: T,
    lifecycle: Lifecycle,
    ending: JoinHandle<Ending>,
}

impl<T> Part<T> {
    fn new(it: T, lifecycle: Lifecycle) -> Self {
        let ending = tokio::spawn(lifecycle.clone().run_until_stopped());
        Self { it, lifecycle, ending }
    }

    /// Stops it as a first signal would, and waits for its end.
    async fn stop(self) {
        self.lifecycle.stop().soft.cancel();
        // It can only fail by panicking, and then it has ended as well.
        let _ = self.ending.await;
    }
}

/// A running fleet.
pub struct LocalFleet {
    gateway: Part<Gateway>,
    nodes: Vec<Part<Node>>,
    members: Members,
    settings: Settings,
}

impl LocalFleet {
    /// Starts a fleet and waits until its gateway knows every node.
    ///
    /// # Errors
    /// [`FleetError`]; what had started is stopped again.
    pub async fn start(plan: Plan) -> Result<Self, FleetError> {
        let Plan { nodes, registry, mut settings } = plan;
        (settings.node.port, settings.node.http_port) = (0, Some(0));
        let members = Members::new(registry, &settings);
        let lifecycle = Lifecycle::new(settings.node.drain_timeout);
        let discovery = members.join()?;
        let gateway = Gateway::start(&settings, discovery, members.clock(), &lifecycle).await?;
        let gateway = Part::new(gateway, lifecycle);
        let mut fleet = Self { gateway, nodes: Vec::new(), members, settings };
        for _ in 0..nodes {
            fleet.add_node().await?;
        }
        fleet.wait_until_complete().await?;
        Ok(fleet)
    }

    /// Starts one more node and waits until it is registered.
    ///
    /// # Errors
    /// [`FleetError`]
    pub async fn add_node(&mut self) -> Result<(), FleetError> {
        let lifecycle = Lifecycle::new(self.settings.node.drain_timeout);
        let (discovery, clock) = (self.members.join()?, self.members.clock());
        let node = Node::start(&self.settings, discovery, clock, &lifecycle).await?;
        let mut state = node.registration().state();
        self.nodes.push(Part::new(node, lifecycle));
        let registered =
            |state: &RegistrationState| matches!(state, RegistrationState::Registered { .. });
        let waited = timeout(READY_WITHIN, state.wait_for(registered)).await;
        if waited.is_ok_and(|state| state.is_ok()) {
            return Ok(());
        }
        let state = state.borrow();
        Err(FleetError::NotReady(format!("a node's registration stands at {state:?}")))
    }

    /// Stops the node of that index, as SIGTERM would, and waits for its end.
    pub async fn stop_node(&mut self, index: usize) {
        self.nodes.remove(index).stop().await;
    }

    async fn wait_until_complete(&self) -> Result<(), FleetError> {
        let complete = async {
            while !self.is_complete() {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        timeout(READY_WITHIN, complete).await.map_err(|_| {
            FleetError::NotReady("the gateway and the nodes do not see the same ring".to_owned())
        })
    }

    /// Whether the gateway and every node route by the same ring, of all of these nodes.
    pub fn is_complete(&self) -> bool {
        let digest = self.gateway.it.ring_digest();
        self.gateway.it.member_count() == self.nodes.len()
            && self.nodes.iter().all(|node| node.it.ring_digest() == digest)
    }

    /// Where the gateway listens.
    pub fn gateway(&self) -> SocketAddr {
        self.gateway.it.address()
    }

    /// The nodes, in the order in which they were started.
    pub fn nodes(&self) -> impl ExactSizeIterator<Item = &Node> {
        self.nodes.iter().map(|part| &part.it)
    }

    /// Stops the gateway first, so that nobody is sent to a node that has gone, then the nodes.
    pub async fn stop(self) {
        self.gateway.stop().await;
        let nodes: Vec<_> = self.nodes.into_iter().map(|node| tokio::spawn(node.stop())).collect();
        for node in nodes {
            let _ = node.await;
        }
    }
}

/// Makes each member's own handle on the registry.
struct Members {
    memory: MemoryRegistry,
    registry: Registry,
    wanted: WantedRing,
    service: String,
    lease_ttl: Duration,
}

impl Members {
    fn new(registry: Registry, settings: &Settings) -> Self {
        let wanted = WantedRing {
            virtual_nodes: settings.ring.virtual_nodes,
            seed: settings.ring.seed.as_ref().map(|seed| seed.expose().to_owned()),
        };
        Self {
            memory: MemoryRegistry::new(Arc::new(SystemClock), DEFAULT_LEASE_TTL),
            registry,
            wanted,
            service: settings.discovery.service_name.clone(),
            lease_ttl: settings.discovery.lease_ttl,
        }
    }

    fn clock(&self) -> Arc<dyn Clock> {
        Arc::new(SystemClock)
    }

    fn join(&self) -> Result<Arc<dyn Discovery>, FleetError> {
        let prober = Arc::new(GrpcProber);
        Ok(match &self.registry {
            Registry::Memory => Arc::new(self.memory.join(&self.wanted, prober)),
            Registry::Etcd(endpoints) => {
                let options = EtcdOptions {
                    endpoints: endpoints.clone(),
                    service: self.service.clone(),
                    lease_ttl: self.lease_ttl,
                    wanted: self.wanted.clone(),
                    ..EtcdOptions::default()
                };
                Arc::new(EtcdDiscovery::start(options, self.clock(), prober)?)
            }
        })
    }
}
