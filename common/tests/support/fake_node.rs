//! A node that does what a test tells it to: a real server on a port of its own, whose Exchange
//! streams are handed to the test. It keeps no keys and knows no ring.
#![allow(dead_code)] // each test crate uses its own part of it

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use common::link::{
    Identity, Peer,
    frame::{self, wire_uuid},
};
use futures_util::Stream;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    service::TowerToHyperService,
};
use proto::v1::{
    self,
    cache_server::{Cache, CacheServer},
    op::Kind,
};
use tokio::{
    net::TcpListener,
    sync::mpsc,
    task::{JoinHandle, JoinSet},
    time::timeout,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming, service::Routes};
use uuid::Uuid;

/// The cluster that fake nodes belong to.
pub(crate) const SERVICE: &str = "ringway";
/// How long a test waits for what must come; never decides anything but failure.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// Little room on a stream, so that a node that does not read blocks its peer soon.
const STREAM_WINDOW: u32 = 64 << 10;

/// How a node receives a Hello.
#[derive(Clone)]
pub(crate) enum Greeting {
    /// With its own.
    Own,
    /// With this one.
    Other(Box<v1::Hello>),
    /// With its own, and these operations.
    With(Vec<Kind>),
    /// With an error.
    Refuse,
    /// Not at all.
    Silent,
}

/// Awaits something, or fails the test.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("waited in vain: {what}"))
}

/// A running node. Dropping it, or [`FakeNode::kill`], breaks its connections as a crash does.
pub(crate) struct FakeNode {
    pub(crate) identity: Identity,
    pub(crate) address: String,
    streams: mpsc::UnboundedReceiver<FakeStream>,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

struct Shared {
    identity: Identity,
    greeting: Mutex<Greeting>,
    opened: AtomicUsize,
    open: Arc<AtomicUsize>,
    hellos: Mutex<Vec<v1::Hello>>,
    streams: mpsc::UnboundedSender<FakeStream>,
}

impl FakeNode {
    pub(crate) async fn start(id: &str) -> Self {
        Self::start_at(id, "127.0.0.1:0").await
    }

    pub(crate) async fn start_at(id: &str, address: &str) -> Self {
        let identity = Identity {
            service: SERVICE.to_owned(),
            role: v1::Role::Node,
            id: id.to_owned(),
            instance: Uuid::new_v4(),
        };
        Self::start_as(identity, address).await
    }

    pub(crate) async fn start_as(identity: Identity, address: &str) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (sender, streams) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            identity: identity.clone(),
            greeting: Mutex::new(Greeting::Own),
            opened: AtomicUsize::new(0),
            open: Arc::default(),
            hellos: Mutex::default(),
            streams: sender,
        });
        let server = tokio::spawn(accept(listener, Handler(Arc::clone(&shared))));
        Self { identity, address, streams, shared, server }
    }

    pub(crate) fn greet(&self, greeting: Greeting) {
        *self.shared.greeting.lock().unwrap() = greeting;
    }

    pub(crate) fn peer(&self) -> Peer {
        Peer {
            id: self.identity.id.clone(),
            instance: self.identity.instance,
            address: self.address.clone(),
        }
    }

    /// The next stream that was greeted.
    pub(crate) async fn stream(&mut self) -> FakeStream {
        soon("a stream", self.streams.recv()).await.unwrap()
    }

    /// Streams opened so far, whether greeted or not.
    pub(crate) fn opened(&self) -> usize {
        self.shared.opened.load(Ordering::SeqCst)
    }

    /// Greeted streams that are open now.
    pub(crate) fn open(&self) -> usize {
        self.shared.open.load(Ordering::SeqCst)
    }

    /// The Hellos heard so far.
    pub(crate) fn hellos(&self) -> Vec<v1::Hello> {
        self.shared.hellos.lock().unwrap().clone()
    }

    /// Its own Hello.
    pub(crate) fn hello(&self) -> v1::Hello {
        frame::hello(&self.identity, Uuid::nil(), v1::Lane::Small, None)
    }

    /// Crashes: when this returns, nobody listens there and all connections are gone.
    pub(crate) async fn kill(&mut self) {
        self.server.abort();
        // Only its cancellation is waited for.
        let _ = (&mut self.server).await;
    }

    /// The streams that will be greeted, for whoever serves them itself.
    pub(crate) fn take_streams(&mut self) -> mpsc::UnboundedReceiver<FakeStream> {
        let (_, unused) = mpsc::unbounded_channel();
        std::mem::replace(&mut self.streams, unused)
    }

    /// Answers every stream by `script`, in a task that ends with the runtime.
    pub(crate) fn serve(
        &mut self,
        script: impl Fn(&Asked) -> Option<Kind> + Send + Sync + 'static,
    ) {
        let mut streams = self.take_streams();
        let script = Arc::new(script);
        tokio::spawn(async move {
            while let Some(stream) = streams.recv().await {
                tokio::spawn(stream.serve(Arc::clone(&script)));
            }
        });
    }
}

impl Drop for FakeNode {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// One request as a script sees it.
pub(crate) struct Asked<'a> {
    pub(crate) request: &'a v1::Request,
    pub(crate) lane: v1::Lane,
    pub(crate) epoch: &'a v1::Epoch,
}

async fn accept(listener: TcpListener, handler: Handler) {
    let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    builder.initial_stream_window_size(STREAM_WINDOW);
    let service = CacheServer::new(handler).max_decoding_message_size(frame::MAX_MESSAGE_BYTES);
    let app = Routes::new(service).prepare().into_axum_router();
    // Aborted with this task: a crash closes the sockets.
    let mut connections = JoinSet::new();
    loop {
        let (socket, _) = listener.accept().await.unwrap();
        let service = TowerToHyperService::new(app.clone());
        connections.spawn(builder.serve_connection(TokioIo::new(socket), service));
    }
}

/// The node's end of an Exchange stream, after the Hellos.
pub(crate) struct FakeStream {
    pub(crate) hello: v1::Hello,
    inbound: Streaming<v1::Batch>,
    outbound: mpsc::Sender<Result<v1::Batch, Status>>,
    open: Arc<AtomicUsize>,
}

impl Drop for FakeStream {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::SeqCst);
    }
}

impl FakeStream {
    /// The next batch; `None` when the peer has ended its side, an error when the stream broke.
    pub(crate) async fn next(&mut self) -> Result<Option<v1::Batch>, Status> {
        soon("a batch or the end", self.inbound.message()).await
    }

    /// The same, however long that takes.
    pub(crate) async fn next_ever(&mut self) -> Result<Option<v1::Batch>, Status> {
        self.inbound.message().await
    }

    pub(crate) async fn batch(&mut self) -> v1::Batch {
        self.next().await.unwrap().expect("a batch, not the end of the stream")
    }

    /// As many operations as asked for, from however many batches.
    pub(crate) async fn ops(&mut self, count: usize) -> Vec<v1::Op> {
        let mut ops = Vec::new();
        while ops.len() < count {
            ops.extend(self.batch().await.ops);
        }
        assert_eq!(ops.len(), count);
        ops
    }

    pub(crate) async fn op(&mut self) -> v1::Op {
        self.ops(1).await.remove(0)
    }

    pub(crate) async fn send(&self, ops: Vec<v1::Op>) {
        let batch = v1::Batch { ops, ..Default::default() };
        self.outbound.send(Ok(batch)).await.unwrap();
    }

    pub(crate) async fn answer(&self, id: u64, kind: Kind) {
        self.send(vec![v1::Op { id, kind: Some(kind) }]).await;
    }

    /// Whether nothing arrives for a while.
    pub(crate) async fn is_quiet(&mut self, time: Duration) -> bool {
        timeout(time, self.inbound.message()).await.is_err()
    }

    async fn serve(mut self, script: Arc<impl Fn(&Asked) -> Option<Kind>>) {
        let lane = self.hello.lane();
        while let Ok(Some(batch)) = self.inbound.message().await {
            let epoch = batch.epoch.unwrap_or_default();
            for v1::Op { id, kind } in batch.ops {
                let answer = match &kind {
                    Some(Kind::Request(request)) => script(&Asked { request, lane, epoch: &epoch }),
                    Some(Kind::Ping(_)) => Some(Kind::Pong(v1::Pong::default())),
                    _ => None,
                };
                if let Some(kind) = answer {
                    self.answer(id, kind).await;
                }
            }
        }
    }
}

/// A reply that brings a value.
pub(crate) fn value(value: impl Into<Bytes>) -> Kind {
    Kind::Reply(v1::Reply { value: value.into(), ..Default::default() })
}

pub(crate) fn not_started(reason: v1::not_started::Reason) -> Kind {
    Kind::NotStarted(v1::NotStarted { reason: reason.into() })
}

/// The request of an operation that must be one.
pub(crate) fn request(op: &v1::Op) -> &v1::Request {
    match &op.kind {
        Some(Kind::Request(request)) => request,
        other => panic!("not a request: {other:?}"),
    }
}

struct Handler(Arc<Shared>);

type Outbound = Pin<Box<dyn Stream<Item = Result<v1::Batch, Status>> + Send>>;

#[tonic::async_trait]
impl Cache for Handler {
    type ExchangeStream = Outbound;

    async fn exchange(
        &self,
        request: Request<Streaming<v1::Batch>>,
    ) -> Result<Response<Outbound>, Status> {
        let Self(shared) = self;
        shared.opened.fetch_add(1, Ordering::SeqCst);
        let mut inbound = request.into_inner();
        let hello = inbound.message().await?.and_then(|batch| batch.hello).unwrap();
        shared.hellos.lock().unwrap().push(hello.clone());
        let (outbound, answers) = mpsc::channel(64);
        let own = frame::hello(&shared.identity, Uuid::nil(), hello.lane(), None);
        let greeting = shared.greeting.lock().unwrap().clone();
        let (answer, kinds) = match greeting {
            Greeting::Own => (own, Vec::new()),
            Greeting::Other(other) => (*other, Vec::new()),
            Greeting::With(kinds) => (own, kinds),
            Greeting::Refuse => return Err(Status::failed_precondition("not here")),
            Greeting::Silent => std::future::pending().await,
        };
        let ops = kinds.into_iter().map(|kind| v1::Op { id: 0, kind: Some(kind) }).collect();
        let first = v1::Batch { hello: Some(answer), ops, ..Default::default() };
        outbound.send(Ok(first)).await.unwrap();
        let open = Arc::clone(&shared.open);
        open.fetch_add(1, Ordering::SeqCst);
        // The test may have ended.
        let _ = shared.streams.send(FakeStream { hello, inbound, outbound, open });
        Ok(Response::new(Box::pin(ReceiverStream::new(answers))))
    }

    async fn get(&self, _: Request<v1::GetRequest>) -> Result<Response<v1::GetResponse>, Status> {
        Err(Status::unimplemented("a fake"))
    }

    async fn set(&self, _: Request<v1::SetRequest>) -> Result<Response<v1::SetResponse>, Status> {
        Err(Status::unimplemented("a fake"))
    }

    async fn delete(
        &self,
        _: Request<v1::DeleteRequest>,
    ) -> Result<Response<v1::DeleteResponse>, Status> {
        Err(Status::unimplemented("a fake"))
    }

    async fn purge(
        &self,
        _: Request<v1::PurgeRequest>,
    ) -> Result<Response<v1::PurgeResponse>, Status> {
        Err(Status::unimplemented("a fake"))
    }

    async fn loans(
        &self,
        _: Request<v1::LoansRequest>,
    ) -> Result<Response<v1::LoansResponse>, Status> {
        Err(Status::unimplemented("a fake"))
    }

    async fn stats(
        &self,
        _: Request<v1::StatsRequest>,
    ) -> Result<Response<v1::StatsResponse>, Status> {
        Err(Status::unimplemented("a fake"))
    }
}

/// The identity of whoever opens links in a test.
pub(crate) fn gateway() -> Identity {
    Identity {
        service: SERVICE.to_owned(),
        role: v1::Role::Gateway,
        id: "gateway".to_owned(),
        instance: Uuid::from_u128(1),
    }
}

/// A version of the peer's Hello that names another instance.
pub(crate) fn another_instance(mut hello: v1::Hello) -> v1::Hello {
    hello.instance = wire_uuid(Uuid::from_u128(99));
    hello
}
