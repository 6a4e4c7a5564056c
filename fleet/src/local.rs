//! A fleet in one process: nodes and a gateway on real sockets, sharing one discovery.
//!
//! For trying Ringway out and for tests that do not need processes of their own. Every part has
//! its own lifecycle, so that a node can be stopped while the others go on.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use apiserver::Gateway;
use cachenode::{Node, group::Definition};
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
    /// Groups that every node has besides, with origins of their own.
    pub groups: Vec<Definition>,
}

impl Default for Plan {
    /// Three nodes and a gateway on free ports, serving the demo group.
    fn default() -> Self {
        let mut settings = Settings::default();
        settings.gateway.port = 0;
        Self { nodes: 3, registry: Registry::Memory, settings, groups: Vec::new() }
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

/// One part of a fleet, running under a lifecycle of its own. Dropping it cuts it off.
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

    /// Stops it as a first signal would, and waits for its end: whether it drained.
    async fn stop(mut self) -> bool {
        self.lifecycle.stop().soft.cancel();
        // It can only fail by panicking, and then it has ended as well.
        matches!((&mut self.ending).await, Ok(Ending::Drained))
    }
}

impl<T> Drop for Part<T> {
    fn drop(&mut self) {
        self.lifecycle.stop().hard.cancel();
    }
}

/// A running fleet. Dropping it cuts everything off, as a second signal would.
pub struct LocalFleet {
    gateway: Part<Gateway>,
    nodes: Vec<Part<Node>>,
    members: Members,
    settings: Settings,
    groups: Vec<Definition>,
}

impl LocalFleet {
    /// Starts a fleet and waits until its gateway knows every node.
    ///
    /// # Errors
    /// [`FleetError`]; what had started is stopped again. If this future is dropped before it is
    /// ready, that is cut off.
    pub async fn start(plan: Plan) -> Result<Self, FleetError> {
        let Plan { nodes, registry, mut settings, groups } = plan;
        (settings.node.port, settings.node.http_port) = (0, Some(0));
        let members = Members::new(registry, &settings);
        let lifecycle = Lifecycle::new(settings.node.drain_timeout);
        let discovery = members.join()?;
        let gateway = Gateway::start(&settings, discovery, members.clock(), &lifecycle).await?;
        let gateway = Part::new(gateway, lifecycle);
        let mut fleet = Self { gateway, nodes: Vec::new(), members, settings, groups };
        if let Err(error) = fleet.complete_with(nodes).await {
            // Politely: what is registered already must not stay until its lease is over.
            fleet.stop().await;
            return Err(error);
        }
        Ok(fleet)
    }

    async fn complete_with(&mut self, nodes: usize) -> Result<(), FleetError> {
        for _ in 0..nodes {
            self.add_node().await?;
        }
        self.wait_until_complete().await
    }

    /// Starts one more node and waits until it is registered.
    ///
    /// # Errors
    /// [`FleetError`]
    pub async fn add_node(&mut self) -> Result<(), FleetError> {
        let lifecycle = Lifecycle::new(self.settings.node.drain_timeout);
        let (discovery, clock) = (self.members.join()?, self.members.clock());
        let (settings, groups) = (&self.settings, self.groups.clone());
        let node = Node::start_with(settings, groups, discovery, clock, &lifecycle).await?;
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

    /// Stops the node of that index, as SIGTERM would, and waits for its end: whether it drained.
    pub async fn stop_node(&mut self, index: usize) -> bool {
        self.nodes.remove(index).stop().await
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
    /// Returns whether everything drained; what did not was cut off.
    pub async fn stop(self) -> bool {
        let mut drained = self.gateway.stop().await;
        let nodes: Vec<_> = self.nodes.into_iter().map(|node| tokio::spawn(node.stop())).collect();
        for node in nodes {
            drained &= node.await.unwrap_or(false);
        }
        drained
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

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::{etcd::free_address, eventually};

    async fn gone(address: SocketAddr) {
        eventually("nobody listens", Duration::from_secs(1), async || {
            TcpStream::connect(address).await.is_err()
        })
        .await;
    }

    /// A fleet's plan with a gateway at that address.
    fn plan(gateway: SocketAddr) -> Plan {
        let mut plan = Plan { nodes: 1, ..Plan::default() };
        plan.settings.gateway.port = gateway.port();
        plan
    }

    #[tokio::test]
    async fn a_taken_port_is_an_error_that_names_it() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = taken.local_addr().unwrap();
        let error = LocalFleet::start(plan(address)).await.err().unwrap().to_string();
        assert!(error.contains(&address.to_string()), "{error}");
    }

    #[tokio::test]
    async fn a_node_that_can_not_start_leaves_no_gateway_behind() {
        let address = free_address().unwrap();
        let mut plan = plan(address);
        // Open to others, which is refused.
        plan.settings.node.host = "0.0.0.0".to_owned();
        let error = LocalFleet::start(plan).await.err().unwrap();
        assert!(matches!(error, FleetError::Node(_)), "{error}");
        // Not eventually: it has ended when the error comes.
        assert!(TcpStream::connect(address).await.is_err());
    }

    #[tokio::test]
    async fn a_start_that_is_given_up_leaves_nothing_behind() {
        let (gateway, nobody) = (free_address().unwrap(), free_address().unwrap());
        let plan = Plan { registry: Registry::Etcd(vec![nobody.to_string()]), ..plan(gateway) };
        let starting = tokio::spawn(LocalFleet::start(plan));
        eventually("the gateway listens", Duration::from_secs(1), async || {
            TcpStream::connect(gateway).await.is_ok()
        })
        .await;
        starting.abort();
        gone(gateway).await;
    }

    #[tokio::test]
    async fn a_dropped_fleet_is_gone_and_a_stopped_one_has_drained() {
        let fleet = LocalFleet::start(Plan { nodes: 1, ..Plan::default() }).await.unwrap();
        let addresses = [fleet.gateway(), fleet.nodes().next().unwrap().grpc_address()];
        drop(fleet);
        for address in addresses {
            gone(address).await;
        }
        let fleet = LocalFleet::start(Plan { nodes: 1, ..Plan::default() }).await.unwrap();
        assert!(fleet.stop().await);
    }
}
