//! The one accept loop behind every listener, HTTP and gRPC alike, hardened against bad clients.
//!
//! One acceptor takes the sockets and hands each to the least loaded worker; there it is served as
//! HTTP/1.1 or HTTP/2 (prior knowledge), whichever the client speaks, under a watchdog. Left to
//! others on purpose: slow request bodies (a layer of the app, which knows its routes), what the
//! requests mean, and when to stop (`lifecycle`).

mod acceptor;
mod activity;
mod app;
mod connection;
mod frames;
pub mod grpc;
mod listener;
mod metrics;
mod rarely;
mod sending;
mod watchdog;

use std::{sync::Arc, time::Duration};

use tokio::runtime::Handle;
pub use tonic::transport::server::TcpConnectInfo;

pub use self::{
    app::{App, Payload},
    listener::{BindError, Listener},
    metrics::{ServeFamilies, ServeMetrics},
};
use crate::lifecycle::Stop;

/// What one listener grants its clients.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Open connections of this listener; one more is closed as soon as it is accepted.
    pub max_connections: usize,
    /// How long a new connection may stay silent.
    pub first_request: Duration,
    /// How long a request's head may take from its first byte on. On HTTP/2 this holds for the
    /// connection preface and the first request together.
    pub head: Duration,
    /// How long a connection may stay without a request after its last response.
    pub keep_alive: Duration,
    /// How long written bytes may wait for the peer's acknowledgement (TCP_USER_TIMEOUT), and an
    /// HTTP/2 response for its client to take another 64 KiB of it, or the rest.
    pub stalled_reader: Duration,
    /// Bytes of a request's head: more is answered 431. HTTP/1 can't go below 8 KiB.
    pub max_head_bytes: usize,
    /// Headers of an HTTP/1 request: more is answered 431.
    pub max_headers: usize,
    /// Requests at a time on one HTTP/2 connection.
    pub max_streams: u32,
    /// Bytes of one HTTP/2 request that may be on their way before they are read.
    pub stream_window: u32,
    /// The same for all requests of an HTTP/2 connection together.
    pub connection_window: u32,
    /// How often a quiet HTTP/2 peer is asked whether it is there.
    pub ping_interval: Duration,
    /// How long it may take to answer that.
    pub ping_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 10_000,
            // Promised are ten. Of a reader the kernel notices it up to a second late, with its next
            // probe.
            first_request: Duration::from_secs(9),
            head: Duration::from_secs(9),
            keep_alive: Duration::from_secs(75),
            stalled_reader: Duration::from_secs(9),
            max_head_bytes: 16 << 10,
            max_headers: 100,
            max_streams: 256,
            stream_window: 1 << 20,
            connection_window: 4 << 20,
            ping_interval: Duration::from_secs(20),
            ping_timeout: Duration::from_secs(20),
        }
    }
}

/// Where connections are served: a worker's runtime, and the app with that worker's state.
#[derive(Debug, Clone)]
pub struct Target<A> {
    pub(crate) runtime: Handle,
    pub(crate) app: A,
    pub(crate) peer_info: bool,
}

impl<A: App> Target<A> {
    /// A target without peer addresses in its requests.
    pub fn new(runtime: Handle, app: A) -> Self {
        Self { runtime, app, peer_info: false }
    }

    /// Puts a [`TcpConnectInfo`] into every request's extensions, which is where tonic's
    /// `Request::remote_addr` looks. It costs an allocation per request: not for the data port.
    #[must_use]
    pub fn with_peer_info(mut self) -> Self {
        self.peer_info = true;
        self
    }
}

/// Serves a listener until `stop`: on `soft` the listener closes and connections finish what they
/// are at, on `hard` they are dropped. Ends when none is left (after `hard`: at most a second
/// later, whatever the workers do).
///
/// Run it on the runtime the listener was bound on (the control runtime). With no targets every
/// connection is refused. A future that is dropped closes the listener; connections that are open
/// then still follow `stop`.
pub async fn serve<A: App>(
    listener: Listener,
    targets: Vec<Target<A>>,
    limits: Limits,
    metrics: Arc<ServeMetrics>,
    stop: Stop,
) {
    acceptor::Acceptor::new(targets, limits, metrics, stop).run(listener).await;
}
