//! A served app on a free port, and a client that sees the bytes.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::{Body, Bytes},
    routing::{get, post},
};
use common::{
    lifecycle::Stop,
    serve::{Limits, Listener, ServeMetrics, Target, serve},
    worker::Workers,
};
use futures_util::StreamExt;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Semaphore,
    task::JoinHandle,
    time::{sleep, timeout},
};

/// The limits of these tests that run out.
pub const SHORT: Duration = Duration::from_millis(300);
/// What is expected to happen soon has happened by then.
pub const SOON: Duration = Duration::from_secs(10);

pub const GET: &str = "GET / HTTP/1.1\r\nhost: x\r\n\r\n";

/// Every time limit the same.
pub fn every(limit: Duration) -> Limits {
    Limits { first_request: limit, head: limit, keep_alive: limit, ..Limits::default() }
}

/// Every time limit short.
pub fn short() -> Limits {
    every(SHORT)
}

/// Every time limit out of the way.
pub fn long() -> Limits {
    every(Duration::from_secs(3600))
}

/// What the app under test waits for and has seen.
pub struct Handlers {
    /// `/held` takes a permit of this before it answers.
    pub release: Semaphore,
    /// `/held` adds a permit to this when it is called.
    pub called: Semaphore,
}

pub struct Running {
    pub address: SocketAddr,
    pub stop: Stop,
    pub metrics: Arc<ServeMetrics>,
    pub handlers: Arc<Handlers>,
    pub done: JoinHandle<()>,
    _workers: Workers,
}

fn app(handlers: &Arc<Handlers>, worker: usize) -> Router {
    let held = Arc::clone(handlers);
    let chunks = || {
        futures_util::stream::iter(0..8).then(async |_| {
            sleep(SHORT / 3).await;
            Ok::<_, std::convert::Infallible>("chunk!")
        })
    };
    Router::new()
        .route("/", get(|| async { "hello" }))
        .route("/worker", get(move || async move { worker.to_string() }))
        .route("/slow", get(|| async { sleep(SHORT * 4).await }))
        .route("/stream", get(move || async move { Body::from_stream(chunks()) }))
        .route("/zeros", get(|| async { Bytes::from(vec![0; 64 << 20]) }))
        .route(
            "/held",
            get(move || async move {
                held.called.add_permits(1);
                held.release.acquire().await.unwrap().forget();
                "let go"
            }),
        )
        .route(
            "/length",
            post(async |body: Body| {
                let length = |sum, part: Result<Bytes, _>| async move { sum + part.unwrap().len() };
                body.into_data_stream().fold(0, length).await.to_string()
            }),
        )
}

/// Serves the app on so many workers.
pub async fn start(limits: Limits, workers: usize) -> Running {
    let workers = Workers::start("test", workers).unwrap();
    let handlers = Arc::new(Handlers { release: Semaphore::new(0), called: Semaphore::new(0) });
    let target = |(index, runtime): (usize, &tokio::runtime::Handle)| {
        Target::new(runtime.clone(), app(&handlers, index))
    };
    let targets = workers.handles().iter().enumerate().map(target).collect();
    let listener = Listener::bind("127.0.0.1:0").await.unwrap();
    let (address, metrics, stop) =
        (listener.local_addr(), ServeMetrics::unregistered(), Stop::new());
    let done = tokio::spawn(serve(listener, targets, limits, Arc::clone(&metrics), stop.clone()));
    Running { address, stop, metrics, handlers, done, _workers: workers }
}

impl Running {
    pub async fn client(&self) -> Client {
        connect(self.address).await
    }

    /// Waits until `/held` is called.
    pub async fn held_called(&self) {
        timeout(SOON, self.handlers.called.acquire()).await.unwrap().unwrap().forget();
    }

    /// Waits until everything has ended.
    pub async fn ended(self) {
        timeout(SOON, self.done).await.expect("serve ends").unwrap();
        assert_eq!(self.metrics.open(), 0);
    }
}

/// Waits for a condition that nothing announces.
pub async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !condition() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        sleep(Duration::from_millis(5)).await;
    }
}

pub async fn connect(address: SocketAddr) -> Client {
    let since = Instant::now();
    Client { stream: TcpStream::connect(address).await.unwrap(), since }
}

pub struct Client {
    pub stream: TcpStream,
    /// Before it connected, or sent something last: no limit of the server's began earlier.
    since: Instant,
}

impl Client {
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.since = Instant::now();
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Reads the head of a response, and the length of its body.
    pub async fn head(&mut self) -> (String, usize) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(timeout(SOON, self.stream.read_u8()).await.unwrap().unwrap());
        }
        let head = String::from_utf8(head).unwrap().to_lowercase();
        let length = head.split("content-length: ").nth(1).unwrap();
        let length = length.split('\r').next().unwrap().parse().unwrap();
        (head, length)
    }

    /// Reads a response with a content-length; its head and its body.
    pub async fn response(&mut self) -> (String, String) {
        let (head, length) = self.head().await;
        let mut body = vec![0; length];
        timeout(SOON, self.stream.read_exact(&mut body)).await.unwrap().unwrap();
        (head, String::from_utf8(body).unwrap())
    }

    /// Sends a GET and expects its 200; the body.
    pub async fn get(&mut self, path: &str) -> String {
        self.send(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n")).await;
        let (head, body) = self.response().await;
        assert!(head.starts_with("http/1.1 200"), "{head}");
        body
    }

    /// Reads to the end; what came, and how long the end took since something was sent last.
    pub async fn rest_and_end(&mut self) -> (String, Duration) {
        let mut rest = Vec::new();
        // An error is a reset, which is an end too.
        let _ = timeout(SOON, self.stream.read_to_end(&mut rest)).await.expect("closed");
        (String::from_utf8_lossy(&rest).into_owned(), self.since.elapsed())
    }
}
