//! The real prober against a node, against nobody, and against listeners that are no node.
#![allow(clippy::unwrap_used)]

use common::discovery::{GrpcProber, PROBE_TIMEOUT, Prober};
use proto::v1::{
    Batch, DeleteRequest, DeleteResponse, GetRequest, GetResponse, SetRequest, SetResponse,
    StatsRequest, StatsResponse,
    cache_server::{Cache, CacheServer},
};
use tokio::{net::TcpListener, time::Instant};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, Streaming, transport::Server};
use uuid::Uuid;

/// A node that only says who it is.
struct Named(Vec<u8>);

#[tonic::async_trait]
impl Cache for Named {
    type ExchangeStream = tokio_stream::Empty<Result<Batch, Status>>;

    async fn exchange(
        &self,
        _: Request<Streaming<Batch>>,
    ) -> Result<Response<Self::ExchangeStream>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn get(&self, _: Request<GetRequest>) -> Result<Response<GetResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn set(&self, _: Request<SetRequest>) -> Result<Response<SetResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn delete(&self, _: Request<DeleteRequest>) -> Result<Response<DeleteResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn purge(
        &self,
        _: Request<proto::v1::PurgeRequest>,
    ) -> Result<Response<proto::v1::PurgeResponse>, Status> {
        Err(Status::unimplemented("a fake"))
    }

    async fn loans(
        &self,
        _: Request<proto::v1::LoansRequest>,
    ) -> Result<Response<proto::v1::LoansResponse>, Status> {
        Err(Status::unimplemented("a fake"))
    }

    async fn stats(&self, _: Request<StatsRequest>) -> Result<Response<StatsResponse>, Status> {
        let instance = self.0.clone().into();
        Ok(Response::new(StatsResponse { instance, ..StatsResponse::default() }))
    }
}

async fn listener() -> (TcpListener, String) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

async fn node(instance: &[u8]) -> String {
    let (listener, address) = listener().await;
    let service = CacheServer::new(Named(instance.to_vec()));
    let serving = Server::builder().add_service(service);
    tokio::spawn(serving.serve_with_incoming(TcpListenerStream::new(listener)));
    address
}

#[tokio::test]
async fn a_node_says_which_instance_it_is() {
    let instance = Uuid::new_v4();
    let address = node(instance.as_bytes()).await;
    assert_eq!(GrpcProber.instance_at(&address).await, Some(instance));
}

#[tokio::test]
async fn nobody_is_nobody() {
    let (closed, address) = listener().await;
    drop(closed);
    let nonsense = node(b"not a uuid").await;
    for address in [address.as_str(), &nonsense, "", "not an address"] {
        assert_eq!(GrpcProber.instance_at(address).await, None, "{address:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_accepts_and_says_nothing_is_given_up() {
    let (_silent, address) = listener().await;
    let began = Instant::now();
    assert_eq!(GrpcProber.instance_at(&address).await, None);
    assert!(began.elapsed() >= PROBE_TIMEOUT && began.elapsed() < PROBE_TIMEOUT * 2);
}
