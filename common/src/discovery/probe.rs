//! Asks who answers at an address: the real [`Prober`], over the unary Stats call.

use std::time::Duration;

use futures_util::future::BoxFuture;
use proto::v1::{StatsRequest, cache_client::CacheClient};
use tonic::transport::Endpoint;
use uuid::Uuid;

use crate::discovery::Prober;

/// How long a node has to answer, connecting included.
pub const PROBE_TIMEOUT: Duration = Duration::from_millis(500);

/// Asks nodes over gRPC, on a new connection each time: an old one could still reach a process
/// that has stopped listening.
#[derive(Debug, Clone, Copy, Default)]
pub struct GrpcProber;

impl Prober for GrpcProber {
    fn instance_at(&self, grpc: &str) -> BoxFuture<'_, Option<Uuid>> {
        let uri = format!("http://{grpc}");
        Box::pin(async move { tokio::time::timeout(PROBE_TIMEOUT, ask(uri)).await.ok().flatten() })
    }
}

async fn ask(uri: String) -> Option<Uuid> {
    let channel = Endpoint::from_shared(uri).ok()?.connect().await.ok()?;
    let answer = CacheClient::new(channel).stats(StatsRequest {}).await.ok()?;
    Uuid::from_slice(&answer.into_inner().instance).ok()
}
