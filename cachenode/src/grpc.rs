//! The node's gRPC service: the Exchange stream, the simple calls, and what they share.

mod exchange;
mod operation;
mod ownership;
mod stale;
mod unary;

use std::{sync::Arc, time::Duration};

use common::{
    clock::Clock,
    discovery::NodeId,
    link::Identity,
    route::{Router, Shared},
    topology::Topologies,
};
use proto::v1::{self, cache_server::Cache};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use crate::groups::Groups;

/// What the streams and calls of a node share.
pub(crate) struct NodeService {
    pub(crate) id: NodeId,
    pub(crate) identity: Identity,
    pub(crate) groups: Arc<Groups>,
    pub(crate) route: Arc<Shared>,
    pub(crate) clock: Arc<dyn Clock>,
    /// When the node started, by that clock.
    pub(crate) started: Duration,
    /// The node has left the ring: new operations go elsewhere.
    pub(crate) leaving: CancellationToken,
}

impl NodeService {
    fn topologies(&self) -> &Topologies {
        &self.route.topologies
    }
}

/// The service on one worker, with that worker's links to other nodes.
pub(crate) struct CacheService {
    node: Arc<NodeService>,
    router: Router,
}

impl CacheService {
    pub(crate) fn new(node: Arc<NodeService>, router: Router) -> Self {
        Self { node, router }
    }
}

#[tonic::async_trait]
impl Cache for CacheService {
    type ExchangeStream = ReceiverStream<Result<v1::Batch, Status>>;

    async fn exchange(
        &self,
        request: Request<Streaming<v1::Batch>>,
    ) -> Result<Response<Self::ExchangeStream>, Status> {
        let answers = exchange::start(Arc::clone(&self.node), request.into_inner());
        Ok(Response::new(ReceiverStream::new(answers)))
    }

    async fn get(
        &self,
        request: Request<v1::GetRequest>,
    ) -> Result<Response<v1::GetResponse>, Status> {
        Ok(Response::new(unary::get(self, request.into_inner()).await?))
    }

    async fn set(
        &self,
        request: Request<v1::SetRequest>,
    ) -> Result<Response<v1::SetResponse>, Status> {
        Ok(Response::new(unary::set(self, request.into_inner()).await?))
    }

    async fn delete(
        &self,
        request: Request<v1::DeleteRequest>,
    ) -> Result<Response<v1::DeleteResponse>, Status> {
        Ok(Response::new(unary::delete(self, request.into_inner()).await?))
    }

    async fn stats(
        &self,
        _: Request<v1::StatsRequest>,
    ) -> Result<Response<v1::StatsResponse>, Status> {
        Ok(Response::new(unary::stats(&self.node)))
    }
}
