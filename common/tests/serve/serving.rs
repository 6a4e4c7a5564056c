//! What is served, to whom, and where.

use axum::body::Body;
use http::{Request, Version};
use http_body_util::BodyExt;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{io::AsyncWriteExt, net::TcpStream};

use crate::support::*;

/// An HTTP/2 client with prior knowledge.
pub async fn http2_client(running: &Running) -> http2::SendRequest<Body> {
    let io = TokioIo::new(TcpStream::connect(running.address).await.unwrap());
    let (client, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    client
}

pub fn http2_get(path: &str) -> Request<Body> {
    Request::get(format!("http://x{path}")).body(Body::empty()).unwrap()
}

#[tokio::test]
async fn one_connection_serves_one_request_after_another() {
    let running = start(long(), 1).await;
    let mut client = running.client().await;
    assert_eq!(client.get("/").await, "hello");
    assert_eq!(client.get("/").await, "hello");
    assert_eq!(running.metrics.accepted.get(), 1);
    assert_eq!(running.metrics.open_on(0), 1);
    drop(client);
    eventually("the connection is counted off", || running.metrics.open() == 0).await;
}

#[tokio::test]
async fn http2_with_prior_knowledge_on_the_same_port() {
    let running = start(long(), 1).await;
    let mut client = http2_client(&running).await;
    for _ in 0..2 {
        let response = client.send_request(http2_get("/")).await.unwrap();
        assert_eq!(response.version(), Version::HTTP_2);
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "hello");
    }
}

#[tokio::test]
async fn one_over_the_cap_is_closed_at_once_and_the_others_work_on() {
    let running = start(common::serve::Limits { max_connections: 2, ..long() }, 1).await;
    let (mut one, mut two) = (running.client().await, running.client().await);
    assert_eq!(one.get("/").await, "hello");
    assert_eq!(two.get("/").await, "hello");
    let (answer, _) = running.client().await.rest_and_end().await;
    assert_eq!(answer, "");
    assert_eq!(running.metrics.refused_over_cap.get(), 1);
    assert_eq!(one.get("/").await, "hello");
    drop(two);
    eventually("its place is free", || running.metrics.open() == 1).await;
    assert_eq!(running.client().await.get("/").await, "hello");
}

#[tokio::test]
async fn a_head_over_16_kib_is_answered_431_and_closed() {
    let running = start(long(), 1).await;
    let mut client = running.client().await;
    let head = format!("GET / HTTP/1.1\r\nhost: x\r\nbig: {}\r\n\r\n", "x".repeat(15 << 10));
    client.send(&head).await;
    assert_eq!(client.response().await.1, "hello");
    client.send(head.replace("big: ", &format!("big: {}", "y".repeat(1 << 10)))).await;
    let (answer, _) = client.rest_and_end().await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
}

#[tokio::test]
async fn more_than_100_headers_are_answered_431() {
    let running = start(long(), 1).await;
    let mut client = running.client().await;
    let head = |count| format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(count));
    client.send(head(100)).await;
    assert_eq!(client.response().await.1, "hello");
    client.send(head(101)).await;
    assert!(client.rest_and_end().await.0.starts_with("HTTP/1.1 431"));
}

#[tokio::test]
async fn a_body_of_64_mib_is_received() {
    let running = start(long(), 1).await;
    let mut client = running.client().await;
    let length = 64 << 20;
    client
        .send(format!("POST /length HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n"))
        .await;
    client.stream.write_all(&vec![0; length]).await.unwrap();
    assert_eq!(client.response().await.1, length.to_string());
}

#[tokio::test]
async fn connections_are_spread_by_load() {
    let running = start(long(), 2).await;
    let mut clients = Vec::new();
    let mut on = [Vec::new(), Vec::new()];
    for index in 0..11 {
        let mut client = running.client().await;
        on[client.get("/worker").await.parse::<usize>().unwrap()].push(index);
        clients.push(Some(client));
    }
    assert!(on[0].len().abs_diff(on[1].len()) <= 1, "{on:?}");

    // Those that left make room for the next ones on the same worker.
    for &index in &on[0] {
        clients[index] = None;
    }
    eventually("the places are free", || running.metrics.open_on(0) == 0).await;
    for _ in 0..on[1].len() {
        let mut client = running.client().await;
        assert_eq!(client.get("/worker").await, "0");
        clients.push(Some(client));
    }
}

#[tokio::test]
async fn peer_addresses_are_there_where_they_are_asked_for() {
    use common::serve::{Limits, Listener, ServeMetrics, Target, TcpConnectInfo, serve};

    let app = axum::Router::new().fallback(async |request: axum::extract::Request| {
        let info = request.extensions().get::<TcpConnectInfo>();
        info.and_then(TcpConnectInfo::remote_addr).map_or("none".into(), |peer| peer.to_string())
    });
    for wanted in [true, false] {
        let runtime = tokio::runtime::Handle::current();
        let mut target = Target::new(runtime, app.clone());
        if wanted {
            target = target.with_peer_info();
        }
        let listener = Listener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr();
        let metrics = ServeMetrics::unregistered();
        let stop = common::lifecycle::Stop::new();
        tokio::spawn(serve(listener, vec![target], Limits::default(), metrics, stop));
        let mut client = connect(address).await;
        let local = client.stream.local_addr().unwrap().to_string();
        assert_eq!(client.get("/").await, if wanted { local } else { "none".into() });
    }
}

#[tokio::test]
async fn the_requests_of_one_http2_connection_take_turns_and_others_are_not_held_up() {
    const AT_WORK: usize = 32;
    const ASKED: usize = 2 * AT_WORK + 1;
    let running = start(long(), 1).await;
    let client = http2_client(&running).await;
    let asked: Vec<_> = (0..ASKED)
        .map(|_| {
            let mut client = client.clone();
            tokio::spawn(async move { client.send_request(http2_get("/held")).await.unwrap() })
        })
        .collect();
    for _ in 0..AT_WORK {
        running.held_called().await;
    }
    // Somebody else's request comes to its handler; no other one of these has.
    assert_eq!(running.client().await.get("/").await, "hello");
    assert_eq!(running.handlers.called.available_permits(), 0);
    // Its requests with a body don't wait: their data would be in the way of the others'.
    let posted = Request::post("http://x/length").body(Body::from("12345")).unwrap();
    let length = client.clone().send_request(posted).await.unwrap();
    assert_eq!(length.into_body().collect().await.unwrap().to_bytes(), "5");
    // Whoever is done makes room for the next.
    running.handlers.release.add_permits(1);
    running.held_called().await;
    running.handlers.release.add_permits(ASKED);
    for response in asked {
        assert_eq!(response.await.unwrap().status(), 200);
    }
}
