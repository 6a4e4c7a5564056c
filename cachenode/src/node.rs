//! The composition root: settings and a discovery in, a registered node out.

mod build;
mod definitions;
mod following;
mod hinting;
mod leave;
mod proposing;
mod purging;
mod relinquish;
mod steadying;
mod taking_over;

use std::{net::SocketAddr, sync::Arc};

use common::{
    clock::Clock,
    config::Settings,
    discovery::{Discovery, NodeId, Registration},
    lifecycle::{Lifecycle, Stop},
    security,
    serve::BindError,
};
use tokio_util::sync::CancellationToken;

use crate::{group::Definition, grpc::NodeService};

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A listener would be open to others without protection.
    #[error(transparent)]
    Exposed(#[from] security::ExposedListener),
    /// An address can't be listened on.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The worker threads could not be started.
    #[error("worker threads: {0}")]
    Workers(#[from] std::io::Error),
    /// A setting makes no sense together with the others.
    #[error("{0}")]
    Setting(String),
}

/// A running node. It leaves the ring when the lifecycle it was started under stops.
pub struct Node {
    id: NodeId,
    grpc: SocketAddr,
    http: SocketAddr,
    service: Arc<NodeService>,
    registration: Arc<Registration>,
}

impl Node {
    /// Listens, serves, and then begins to register.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left running then.
    pub async fn start(
        settings: &Settings,
        discovery: Arc<dyn Discovery>,
        clock: Arc<dyn Clock>,
        lifecycle: &Lifecycle,
    ) -> Result<Self, StartError> {
        Self::start_with(settings, Vec::new(), discovery, clock, lifecycle).await
    }

    /// The same with groups that a program brings along, whose missing values it loads itself
    /// ([`OriginDefinition::Asked`](crate::origin::OriginDefinition::Asked)). One of a name that the
    /// settings have as well takes its place. Gateways route to any group; all nodes of a cluster
    /// have to bring the same.
    ///
    /// # Errors
    /// As [`Node::start`].
    pub async fn start_with(
        settings: &Settings,
        groups: Vec<Definition>,
        discovery: Arc<dyn Discovery>,
        clock: Arc<dyn Clock>,
        lifecycle: &Lifecycle,
    ) -> Result<Self, StartError> {
        let (groups, local) = definitions::groups(settings, groups, &clock)?;
        local.check_secrets()?;
        let listeners = build::Listeners::bind(settings).await?;
        let record = build::record(settings, &listeners, clock.as_ref())?;
        // Serving outlives the soft stop: a node serves until it has left the ring.
        let hard = lifecycle.stop().hard;
        let serving = Stop { soft: hard.child_token(), hard };
        let following = CancellationToken::new();
        let (follow, following) = (following.clone(), following.drop_guard());
        let service =
            build::service(settings, groups, &record, &discovery, clock, lifecycle, follow);
        let (grpc, http) = (listeners.grpc.local_addr(), listeners.http.local_addr());
        let registered =
            build::serve(settings, listeners, &service, lifecycle, &serving, following)?;
        build::follow_groups(&service, local, settings.node.apply_groups, lifecycle, &serving);
        let registration = Arc::new(discovery.register(record));
        service.groups.follow_stint(&registration.stint());
        registered.follow(registration.state());
        build::mind_registration(lifecycle, registration.state());
        leave::when_stopped(lifecycle, serving, Arc::clone(&service), Arc::clone(&registration));
        let id = service.id.clone();
        tracing::info!(node_id = %id, %grpc, %http, "node listens");
        Ok(Self { id, grpc, http, service, registration })
    }

    /// The node's id.
    pub fn id(&self) -> &NodeId {
        &self.id
    }

    /// Where its gRPC service listens.
    pub fn grpc_address(&self) -> SocketAddr {
        self.grpc
    }

    /// Where its probes and metrics listen.
    pub fn http_address(&self) -> SocketAddr {
        self.http
    }

    /// How its registration stands.
    pub fn registration(&self) -> &Registration {
        &self.registration
    }

    /// The digest of the ring by which it serves at present.
    pub fn ring_digest(&self) -> u64 {
        self.service.route.topologies.load().epoch.digest
    }
}
