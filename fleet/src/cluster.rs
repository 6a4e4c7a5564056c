//! A fleet of real processes: gateways and nodes as their binaries, and an etcd of its own.
//!
//! They are started with the command lines that people use, on free ports. What a process does
//! inside is not looked at: everything is asked over its sockets. Loads and faults are the
//! business of whoever asked for the fleet.

mod member;
mod view;
mod wiring;

use std::{collections::BTreeSet, net::SocketAddr, thread, time::Duration};

use futures_util::{StreamExt, stream};
use tempfile::TempDir;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::{
    etcd::{Etcd, EtcdError},
    eventually::eventually,
    netns::{NetnsError, Network},
    process::{BuildError, ProcessError},
};

pub use member::{Extras, Member};
pub use view::{NodeView, Nodes, key_path};
use wiring::Surroundings;
pub use wiring::Wiring;

/// How many fleets may run in one test process at a time: each is half a dozen processes, and a
/// machine that is busy with five of them proves nothing about any.
pub const MAX_CLUSTERS: usize = 2;

/// How long a request may take where nobody asks for its time: ten times as long as usual.
pub const PATIENT: Duration = Duration::from_secs(20);

/// How long the processes take to find each other; waited for with the usual patience.
const READY_WITHIN: Duration = Duration::from_secs(2);

/// Lookups of owners under way at once.
const LOOKUPS_AT_ONCE: usize = 16;

static ROOM: Semaphore = Semaphore::const_new(MAX_CLUSTERS);

/// Why there is no fleet.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// etcd did not start.
    #[error(transparent)]
    Etcd(#[from] EtcdError),
    /// There are no binaries to start.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// A process did not start.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// No network for it.
    #[error(transparent)]
    Network(#[from] NetnsError),
    /// No directory, file or port for it.
    #[error("no place for the fleet: {0}")]
    Place(#[from] std::io::Error),
    /// A process announced an address that is none.
    #[error("{name} announces no address in: {line}")]
    NoAddress {
        /// The process's name.
        name: String,
        /// What it logged.
        line: String,
    },
}

/// What to start.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How many nodes.
    pub nodes: usize,
    /// How many gateways.
    pub gateways: usize,
    /// What each node is told beyond where etcd is and its port.
    pub node: Extras,
    /// What each gateway is told beyond where etcd is and its port.
    pub gateway: Extras,
    /// How they reach each other.
    pub wiring: Wiring,
}

impl Default for Plan {
    /// Three nodes and a gateway, told nothing else.
    fn default() -> Self {
        Self {
            nodes: 3,
            gateways: 1,
            node: Extras::default(),
            gateway: Extras::default(),
            wiring: Wiring::Direct,
        }
    }
}

impl Plan {
    /// Nodes stay in the ring for that long after they went silent.
    #[must_use]
    pub fn lease_ttl(mut self, ttl: Duration) -> Self {
        self.node = self.node.arg(format!("--lease-ttl={}s", ttl.as_secs()));
        self
    }

    /// A proxy stands before every node, and one between every process and etcd.
    #[must_use]
    pub fn proxied(mut self) -> Self {
        self.wiring = Wiring::Proxied;
        self
    }

    /// Every process, etcd too, has a network namespace of its own. Only for `make faults`.
    #[must_use]
    pub fn in_namespaces(mut self) -> Self {
        self.wiring = Wiring::Namespaces;
        self
    }

    /// Requests may take as long as [`PATIENT`]. For short tests under load, which ask whether
    /// requests fail and not when: on a busy machine everything can stand still for seconds.
    #[must_use]
    pub fn patient(mut self) -> Self {
        let seconds = PATIENT.as_secs();
        self.gateway = self.gateway.env("RINGWAY_GATEWAY__REQUEST_TIMEOUT", format!("{seconds}s"));
        self
    }
}

/// A running fleet. Dropping it kills everything; if that is because a test panics, the last lines
/// of every process are printed and the logs stay.
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<Member>,
    gateways: Vec<Member>,
    etcd: Etcd,
    plan: Plan,
    // After the processes in it.
    network: Option<Network>,
    // After the processes: they write to it.
    logs: TempDir,
    _room: SemaphorePermit<'static>,
}

impl Cluster {
    /// Starts etcd and the processes, and waits until they know each other.
    ///
    /// # Errors
    /// [`ClusterError`]
    ///
    /// # Panics
    /// As [`Cluster::wait_ready`].
    pub async fn start(plan: Plan) -> Result<Self, ClusterError> {
        let Plan { nodes, gateways, wiring, .. } = plan;
        let room = ROOM.acquire().await.map_err(std::io::Error::other)?;
        let mut network = wiring.network()?;
        let of_etcd = network.as_mut().map(|network| network.join("etcd")).transpose()?;
        let mut cluster = Self {
            nodes: Vec::new(),
            gateways: Vec::new(),
            _room: room,
            etcd: Etcd::start_in(of_etcd, &[]).await?,
            plan,
            network,
            logs: tempfile::Builder::new().prefix("ringway-cluster-").tempdir()?,
        };
        for _ in 0..gateways {
            cluster.add_gateway(&Extras::default()).await?;
        }
        for _ in 0..nodes {
            cluster.add_node(&Extras::default()).await?;
        }
        cluster.wait_ready().await;
        Ok(cluster)
    }

    /// Starts one more node, told these things after those of the plan, and waits until it listens
    /// (not until it is registered). Returns its index.
    ///
    /// # Errors
    /// [`ClusterError`]
    pub async fn add_node(&mut self, extras: &Extras) -> Result<usize, ClusterError> {
        let index = self.nodes.len();
        let name = format!("node-{index}");
        let around = self.surroundings(&name, Some(index))?;
        let told = around.told(self.etcd.address()).and(&self.plan.node).and(extras);
        let node = Member::node_within(&name, told, self.logs.path(), around).await?;
        self.nodes.push(node);
        Ok(index)
    }

    /// Starts one more gateway, told these things after those of the plan, and waits until it
    /// listens. Returns its index.
    ///
    /// # Errors
    /// [`ClusterError`]
    pub async fn add_gateway(&mut self, extras: &Extras) -> Result<usize, ClusterError> {
        let index = self.gateways.len();
        let name = format!("gateway-{index}");
        let around = self.surroundings(&name, None)?;
        let told = around.told(self.etcd.address()).and(&self.plan.gateway).and(extras);
        let gateway = Member::gateway_within(&name, told, self.logs.path(), around).await?;
        self.gateways.push(gateway);
        Ok(index)
    }

    fn surroundings(
        &mut self,
        name: &str,
        node: Option<usize>,
    ) -> Result<Surroundings, ClusterError> {
        let etcd = self.etcd.address();
        self.plan.wiring.surroundings(name, node, etcd, self.network.as_mut())
    }

    /// Starts a node that has ended once more: the same command line, port and id.
    ///
    /// # Errors
    /// [`ClusterError`]
    pub async fn restart_node(&mut self, index: usize) -> Result<(), ClusterError> {
        self.nodes[index].restart(self.logs.path()).await
    }

    /// Waits until every running gateway and node knows the same ring of exactly the running
    /// nodes, in their present lives.
    ///
    /// # Panics
    /// When that takes too long.
    pub async fn wait_ready(&self) {
        eventually("everyone knows the same ring", READY_WITHIN, async || self.agreement().await)
            .await;
    }

    async fn agreement(&self) -> Result<(), String> {
        let mut running = BTreeSet::new();
        let mut digests = BTreeSet::new();
        for node in self.nodes.iter().filter(|node| node.is_running()) {
            let (life, digest) = node.life().await?;
            running.insert(life);
            digests.insert(digest);
        }
        for gateway in self.gateways.iter().filter(|gateway| gateway.is_running()) {
            let nodes = gateway.nodes().await?;
            let known: BTreeSet<_> =
                nodes.nodes.iter().map(|node| (node.id.clone(), node.instance.clone())).collect();
            if known != running {
                let name = gateway.name();
                return Err(format!("{name} knows {known:?}, running are {running:?}"));
            }
            if let Some(node) = nodes.nodes.iter().find(|node| node.state != "active") {
                return Err(format!("{} is {}", node.id, node.state));
            }
            digests.insert(nodes.digest);
        }
        if digests.len() > 1 { Err(format!("different rings: {digests:?}")) } else { Ok(()) }
    }

    /// The node of that index, in the order in which they were added.
    pub fn node(&self, index: usize) -> &Member {
        &self.nodes[index]
    }

    /// The gateway of that index.
    pub fn gateway(&self, index: usize) -> &Member {
        &self.gateways[index]
    }

    /// Where the gateways listen.
    pub fn gateway_addresses(&self) -> Vec<SocketAddr> {
        self.gateways.iter().map(Member::address).collect()
    }

    /// The cluster's etcd.
    pub fn etcd(&self) -> &Etcd {
        &self.etcd
    }

    /// The cluster's etcd, to stop and restart it.
    pub fn etcd_mut(&mut self) -> &mut Etcd {
        &mut self.etcd
    }

    /// The network, to drop packets between the namespaces of two members, or of one and etcd.
    ///
    /// # Panics
    /// When the cluster was not started [in namespaces](Plan::in_namespaces).
    pub fn network(&self) -> &Network {
        self.network.as_ref().expect("a cluster in namespaces: Plan::in_namespaces")
    }

    /// Who owns each of these keys, as a gateway says.
    ///
    /// # Errors
    /// What the gateway said instead.
    pub async fn owners(
        &self,
        gateway: usize,
        group: &str,
        keys: &[String],
    ) -> Result<Vec<String>, String> {
        let gateway = self.gateway(gateway);
        let lookups = keys.iter().map(|key| gateway.owner(group, key));
        let answers: Vec<_> = stream::iter(lookups).buffered(LOOKUPS_AT_ONCE).collect().await;
        answers.into_iter().collect()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if thread::panicking() {
            self.logs.disable_cleanup(true);
            eprintln!("--- the logs of this fleet stay in {}", self.logs.path().display());
        }
    }
}
