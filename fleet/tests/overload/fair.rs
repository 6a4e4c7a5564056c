//! One client that asks for as much as its connection lets it, beside one that asks for one thing
//! after the other.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use fleet::cluster::{Cluster, Extras, Plan};
use http::{Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{net::TcpStream, task::JoinSet, time::Instant};

const PATH: &str = "/api/cache/scores/Tom";
/// Requests that the greedy client has under way: all the streams of a connection.
const GREEDY: usize = 256;
/// How long both ask.
const SPAN: Duration = Duration::from_secs(3);

fn request(gateway: SocketAddr, path: &str) -> Request<Empty<Bytes>> {
    Request::get(path).header("host", gateway.to_string()).body(Empty::new()).unwrap()
}

/// Reads an answer to its end. Whether it is a refusal: a slow machine can't do what both ask for.
async fn is_refused(response: Response<Incoming>) -> bool {
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    if status == 200 {
        return false;
    }
    let error: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    assert!(status == 503 && error["error"] == "overloaded", "{status}: {body:?}");
    true
}

/// How long each answer took, with all its refusals, of those that came one after the other.
async fn honest(gateway: SocketAddr, until: Instant) -> Vec<Duration> {
    let stream = TcpStream::connect(gateway).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let (mut times, mut asked) = (Vec::new(), Instant::now());
    while Instant::now() < until {
        sender.ready().await.unwrap();
        let response = sender.send_request(request(gateway, PATH)).await.unwrap();
        if !is_refused(response).await {
            times.push(asked.elapsed());
            asked = Instant::now();
        }
    }
    times
}

/// The same, of those that came by the hundred.
async fn greedy(gateway: SocketAddr, until: Instant) -> Vec<Duration> {
    let stream = TcpStream::connect(gateway).await.unwrap();
    let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (sender, connection) = handshake.await.unwrap();
    tokio::spawn(connection);
    let asking = (0..GREEDY).map(|_| {
        let mut sender: http2::SendRequest<Empty<Bytes>> = sender.clone();
        async move {
            let (mut times, mut asked) = (Vec::new(), None);
            while Instant::now() < until {
                sender.ready().await.unwrap();
                let since = *asked.get_or_insert_with(Instant::now);
                let target = format!("http://{gateway}{PATH}");
                let response = sender.send_request(request(gateway, &target)).await.unwrap();
                if !is_refused(response).await {
                    times.push(since.elapsed());
                    asked = None;
                }
            }
            times
        }
    });
    asking.collect::<JoinSet<_>>().join_all().await.concat()
}

fn at(times: &mut [Duration], part: f64) -> Duration {
    times.sort();
    times[((times.len() - 1) as f64 * part) as usize]
}

#[tokio::test]
async fn a_greedy_connection_does_not_starve_an_honest_one() {
    let one_worker = Extras::patient().arg("--workers=1");
    let plan = Plan { nodes: 1, gateway: one_worker, ..Plan::default() };
    let cluster = Cluster::start(plan).await.unwrap();
    let gateway = cluster.gateway(0).address();
    let until = Instant::now() + SPAN;
    let mut alone = honest(gateway, until).await;
    // On a thread of its own: its work must not hold up the honest client's.
    let until = Instant::now() + SPAN;
    let greedy = tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(greedy(gateway, until))
    });
    let mut beside = honest(gateway, until).await;
    let mut greedy = greedy.await.unwrap();
    let [alone, beside, greedy] =
        [&mut alone, &mut beside, &mut greedy].map(|times| [0.5, 0.99].map(|part| at(times, part)));
    eprintln!(
        "p50 and p99: alone {alone:.1?}, beside a greedy client {beside:.1?}, it {greedy:.1?}"
    );
    // Both take the same way; the greedy one's requests wait for each other on top of it.
    assert!(beside[0] < greedy[0] / 2, "the honest client waits as if it had asked for as much");
}
