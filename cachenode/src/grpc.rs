//! The node's gRPC service: the Exchange stream, the simple calls, and what they share.

mod absence;
mod away;
mod behind;
mod deferred;
mod exchange;
mod hints;
mod lent;
mod loading;
mod newer;
mod operation;
mod ownership;
mod passed;
mod purge;
mod recall;
mod relay;
mod rings;
mod stale;
mod steady;
mod takeovers;
mod unary;
mod unknown;

use std::{sync::Arc, time::Duration};

use axum::routing::{MethodRouter, post};
use common::{
    clock::Clock,
    discovery::NodeId,
    link::{
        Identity,
        frame::{EXCHANGE, MAX_MESSAGE_BYTES},
        wire::BatchCodec,
    },
    route::{Router, Shared},
};
use proto::v1::{self, cache_server::Cache};
use tokio::sync::Notify;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use tower::service_fn;

use crate::{groups::Groups, metrics::NodeMetrics};

pub(crate) use absence::{Absences, QUESTION};
pub(crate) use away::Away;
pub(crate) use newer::Newer;
pub(crate) use rings::Rings;
pub(crate) use steady::{PULSE, Standstill, Steadiness};
pub(crate) use takeovers::{Takeover, Takeovers};
pub(crate) use unknown::Unknown;

/// What the streams and calls of a node share.
pub(crate) struct NodeService {
    pub(crate) id: NodeId,
    pub(crate) identity: Identity,
    pub(crate) groups: Arc<Groups>,
    /// Which groups of the cluster state it has taken on, and looking for others.
    pub(crate) unknown: Unknown,
    pub(crate) route: Arc<Shared>,
    pub(crate) clock: Arc<dyn Clock>,
    /// When the node started, by that clock.
    pub(crate) started: Duration,
    /// The node has left the ring: new operations go elsewhere.
    pub(crate) leaving: CancellationToken,
    /// The changes of the ring.
    pub(crate) rings: Rings,
    /// What this node gained by them and others may have lent.
    pub(crate) takeovers: Takeovers,
    /// What was done in the stead of other nodes.
    pub(crate) away: Arc<Away>,
    /// Whether owners that do not answer are gone.
    pub(crate) absences: Absences,
    /// What others have seen of the cluster state, and this node has not.
    pub(crate) newer: Newer,
    /// Whether this process has been running all the time.
    pub(crate) steady: Steadiness,
    /// Something was purged whose memory has to be given back.
    pub(crate) purged: Notify,
    pub(crate) metrics: NodeMetrics,
}

/// The service on one worker, with that worker's links to other nodes.
pub(crate) struct CacheService {
    node: Arc<NodeService>,
    router: Arc<Router>,
}

impl CacheService {
    pub(crate) fn new(node: Arc<NodeService>, router: Arc<Router>) -> Self {
        Self { node, router }
    }
}

/// `Exchange`, served with a codec that bounds what it decodes. To be put in front of what tonic
/// generated for it.
pub(crate) fn exchange_route(
    node: Arc<NodeService>,
    router: Arc<Router>,
) -> (&'static str, MethodRouter) {
    let serve = move |request: axum::extract::Request| {
        let (node, router) = (Arc::clone(&node), Arc::clone(&router));
        let stream = service_fn(move |request: Request<Streaming<v1::Batch>>| {
            let answers =
                exchange::start(Arc::clone(&node), Arc::clone(&router), request.into_inner());
            async { Ok::<_, Status>(Response::new(ReceiverStream::new(answers))) }
        });
        async move {
            tonic::server::Grpc::new(BatchCodec::<v1::Batch>::default())
                .apply_max_message_size_config(Some(MAX_MESSAGE_BYTES), Some(MAX_MESSAGE_BYTES))
                .streaming(stream, request)
                .await
        }
    };
    (EXCHANGE, post(serve))
}

#[tonic::async_trait]
impl Cache for CacheService {
    type ExchangeStream = ReceiverStream<Result<v1::Batch, Status>>;

    async fn exchange(
        &self,
        request: Request<Streaming<v1::Batch>>,
    ) -> Result<Response<Self::ExchangeStream>, Status> {
        let (node, router) = (Arc::clone(&self.node), Arc::clone(&self.router));
        let answers = exchange::start(node, router, request.into_inner());
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

    async fn purge(
        &self,
        request: Request<v1::PurgeRequest>,
    ) -> Result<Response<v1::PurgeResponse>, Status> {
        Ok(Response::new(purge::purge(&self.node, request.into_inner()).await?))
    }

    async fn loans(
        &self,
        request: Request<v1::LoansRequest>,
    ) -> Result<Response<v1::LoansResponse>, Status> {
        Ok(Response::new(unary::loans(&self.node, request.into_inner())))
    }
}
