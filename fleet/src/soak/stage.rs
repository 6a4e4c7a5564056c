//! The fleet of a soak, and how each fault is made and mended.
//!
//! Every fault is made from outside, as it would happen: signals, a proxy that swallows packets,
//! etcd's own tools. Each ends mended: whoever was killed is started again. Whether the fleet took
//! it well is not judged here.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::Duration,
};

use tokio::{
    io::AsyncWriteExt,
    net::TcpStream,
    time::{Instant, sleep, sleep_until},
};

use super::schedule::Fault;
use crate::{
    cluster::{Cluster, ClusterError, Member, Plan},
    etcd::{CtlError, Data, EtcdError},
    process::{ProcessError, Signal},
    proxy::Rule,
};

/// How long a node may take to end politely.
const ENDS_WITHIN: Duration = Duration::from_secs(20);
/// Half of a flapping node's period.
const HALF_PERIOD: Duration = Duration::from_secs(1);
/// Clients that say half a request, at once.
const HALF_CLIENTS: usize = 200;

/// Why a fault could not be made or mended. Not the fleet's fault.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// A process could not be started.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// A process could not be signalled, or did not end.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// etcd did not come back.
    #[error(transparent)]
    Etcd(#[from] EtcdError),
    /// An operator's command failed.
    #[error(transparent)]
    Ctl(#[from] CtlError),
}

/// The fleet of a soak.
#[derive(Debug)]
pub struct Stage {
    cluster: Cluster,
}

impl Stage {
    /// Starts a fleet behind proxies.
    ///
    /// # Errors
    /// [`StageError::Cluster`]
    ///
    /// # Panics
    /// When the fleet does not find itself.
    pub async fn start(nodes: usize, gateways: usize) -> Result<Self, StageError> {
        let plan = Plan { nodes, gateways, ..Plan::default() }.proxied();
        Ok(Self { cluster: Cluster::start(plan).await? })
    }

    /// The fleet.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// All processes of the fleet.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.cluster.gateways().iter().chain(self.cluster.nodes())
    }

    /// The digest of every running process's ring, by its name.
    ///
    /// # Errors
    /// What a process said instead.
    pub async fn digests(&self) -> Result<BTreeMap<String, String>, String> {
        let mut digests = BTreeMap::new();
        for gateway in self.cluster.gateways() {
            digests.insert(gateway.name().to_owned(), gateway.nodes().await?.digest);
        }
        for node in self.cluster.nodes() {
            let epoch = node.stats().await?.epoch.unwrap_or_default();
            digests.insert(node.name().to_owned(), format!("{:016x}", epoch.digest));
        }
        Ok(digests)
    }

    /// Whether all processes go by one ring, whatever it is.
    ///
    /// # Errors
    /// Who goes by which.
    pub async fn agreed(&self) -> Result<(), String> {
        let digests = self.digests().await?;
        let different: BTreeSet<&String> = digests.values().collect();
        if different.len() > 1 { Err(format!("different rings: {digests:?}")) } else { Ok(()) }
    }

    /// Makes a fault, lets it last that long, and mends it.
    ///
    /// # Errors
    /// [`StageError`]
    pub async fn perform(&mut self, fault: Fault, lasts: Duration) -> Result<(), StageError> {
        let over = Instant::now() + lasts;
        match fault {
            Fault::KillNode(node) => self.end_node(node, Signal::KILL, over).await,
            Fault::StopNode(node) => self.end_node(node, Signal::TERM, over).await,
            Fault::FreezeNode(node) => {
                self.cluster.node(node).signal(Signal::STOP)?;
                sleep_until(over).await;
                Ok(self.cluster.node(node).signal(Signal::CONT)?)
            }
            Fault::CutNodeFromEtcd(node) => {
                cut_from_etcd(self.cluster.node(node), over).await;
                Ok(())
            }
            Fault::CutGatewayFromEtcd(gateway) => {
                cut_from_etcd(self.cluster.gateway(gateway), over).await;
                Ok(())
            }
            Fault::CutGatewayFromNode { gateway, node } => {
                let proxy = self.cluster.node(node).proxy();
                proxy.set_for(self.cluster.gateway(gateway).process().id(), Rule::Blackhole);
                sleep_until(over).await;
                proxy.heal();
                Ok(())
            }
            Fault::KillEtcd => {
                self.cluster.etcd_mut().kill();
                sleep_until(over).await;
                Ok(self.cluster.etcd_mut().restart(Data::Kept).await?)
            }
            Fault::FreezeEtcd => {
                self.signal_etcd(Signal::STOP)?;
                sleep_until(over).await;
                self.signal_etcd(Signal::CONT)
            }
            Fault::EmptyEtcd => Ok(self.cluster.etcd_mut().restart(Data::Empty).await?),
            Fault::CompactUnheard(node) => self.compact_unheard(node, over).await,
            Fault::RevokeLease(node) => self.revoke_lease(node).await,
            Fault::Flap(node) => self.flap(node, over).await,
            Fault::HalfRequests(gateway) => {
                half_requests(self.cluster.gateway(gateway).address(), over).await;
                Ok(())
            }
        }
    }

    async fn end_node(
        &mut self,
        node: usize,
        signal: Signal,
        over: Instant,
    ) -> Result<(), StageError> {
        let member = self.cluster.node(node);
        member.signal(signal)?;
        member.process().wait(ENDS_WITHIN).await?;
        sleep_until(over).await;
        Ok(self.cluster.restart_node(node).await?)
    }

    fn signal_etcd(&self, signal: Signal) -> Result<(), StageError> {
        let process = self.cluster.etcd().process();
        Ok(process.map_or(Ok(()), |process| process.signal(signal))?)
    }

    /// Something happens to the cluster state, and is forgotten there, while the node hears nothing.
    async fn compact_unheard(&self, node: usize, over: Instant) -> Result<(), StageError> {
        let proxy = self.cluster.node(node).etcd_proxy();
        proxy.set(Rule::Blackhole);
        let etcd = self.cluster.etcd();
        // A key that nobody looks at moves the revision on.
        etcd.ctl(&["put", "/ringway/soak", "unheard"]).await?;
        etcd.compact().await?;
        sleep_until(over).await;
        proxy.set(Rule::Cut);
        proxy.heal();
        Ok(())
    }

    async fn revoke_lease(&self, node: usize) -> Result<(), StageError> {
        let etcd = self.cluster.etcd();
        let id = self.cluster.node(node).name();
        // One that is about to return has none; then there is nothing to take.
        if let Some(&lease) = etcd.registered().await?.get(id) {
            etcd.revoke(lease).await?;
        }
        Ok(())
    }

    async fn flap(&mut self, node: usize, over: Instant) -> Result<(), StageError> {
        while Instant::now() < over {
            let back = Instant::now() + HALF_PERIOD;
            self.end_node(node, Signal::TERM, back).await?;
            sleep(HALF_PERIOD).await;
        }
        Ok(())
    }
}

async fn cut_from_etcd(member: &Member, over: Instant) {
    member.etcd_proxy().set(Rule::Blackhole);
    sleep_until(over).await;
    member.etcd_proxy().heal();
}

/// Opens connections that say half of a request's head, and keeps them open.
async fn half_requests(address: SocketAddr, over: Instant) {
    let mut open = Vec::with_capacity(HALF_CLIENTS);
    for _ in 0..HALF_CLIENTS {
        // One that is refused, or cut short, is what the gateway may do to such a client.
        if let Ok(mut stream) = TcpStream::connect(address).await {
            let _ = stream.write_all(b"GET /api/cache?group=default&key=").await;
            open.push(stream);
        }
    }
    sleep_until(over).await;
}
