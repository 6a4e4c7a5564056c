//! How serving ends.

use std::io::ErrorKind;

use http_body_util::BodyExt;
use tokio::net::TcpStream;

use crate::{
    serving::{http2_client, http2_get},
    support::*,
};

#[tokio::test]
async fn a_soft_stop_finishes_what_is_under_way_and_refuses_the_rest() {
    let running = start(long(), 1).await;
    let (mut busy, mut idle, mut silent) =
        (running.client().await, running.client().await, running.client().await);
    assert_eq!(idle.get("/").await, "hello");
    busy.send(GET.replace("GET /", "GET /held")).await;
    let mut streams = http2_client(&running).await;
    let stream = tokio::spawn(streams.send_request(http2_get("/held")));
    running.held_called().await;
    running.held_called().await;

    running.stop.soft.cancel();
    assert_eq!(idle.rest_and_end().await.0, "");
    assert_eq!(silent.rest_and_end().await.0, "");
    let refused = || async { TcpStream::connect(running.address).await.map(drop) };
    let error = refused().await.expect_err("the listener is closed");
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    assert!(!running.done.is_finished());

    running.handlers.release.add_permits(2);
    let (head, body) = busy.response().await;
    assert!(head.contains("connection: close"), "{head}");
    assert_eq!(body, "let go");
    assert_eq!(busy.rest_and_end().await.0, "");
    let response = stream.await.unwrap().unwrap();
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "let go");
    running.ended().await;
}

#[tokio::test]
async fn requests_that_had_arrived_are_answered() {
    let running = start(long(), 1).await;
    let mut idle = running.client().await;
    assert_eq!(idle.get("/").await, "hello");
    // This test's runtime does not run between these steps: the acceptor has seen none of it.
    let mut clients = Vec::new();
    for _ in 0..5 {
        let stream = std::net::TcpStream::connect(running.address).unwrap();
        std::io::Write::write_all(&mut &stream, GET.as_bytes()).unwrap();
        clients.push(stream);
    }
    let mut idle = idle.stream.into_std().unwrap();
    idle.set_nonblocking(false).unwrap();
    std::io::Write::write_all(&mut idle, GET.as_bytes()).unwrap();
    clients.push(idle);
    running.stop.soft.cancel();
    running.ended().await;
    for mut stream in clients {
        let mut answer = String::new();
        std::io::Read::read_to_string(&mut stream, &mut answer).unwrap();
        assert!(answer.ends_with("hello"), "{answer:?}");
    }
}

#[tokio::test]
async fn a_hard_stop_cuts() {
    let running = start(long(), 1).await;
    let mut busy = running.client().await;
    busy.send(GET.replace("GET /", "GET /held")).await;
    let mut streams = http2_client(&running).await;
    let stream = tokio::spawn(streams.send_request(http2_get("/held")));
    running.held_called().await;
    running.held_called().await;
    running.stop.soft.cancel();
    running.stop.hard.cancel();
    assert_eq!(busy.rest_and_end().await.0, "");
    assert!(stream.await.unwrap().is_err());
    running.ended().await;
}

#[tokio::test]
async fn a_slow_head_does_not_hold_a_soft_stop() {
    let limits = common::serve::Limits { head: SHORT, ..long() };
    let running = start(limits, 1).await;
    let mut client = running.client().await;
    client.send("GET / HTTP/1.1\r\nhost: some-long-name\r\n").await;
    eventually("the connection is served", || running.metrics.open() == 1).await;
    running.stop.soft.cancel();
    assert_eq!(client.rest_and_end().await.0, "");
    running.ended().await;
}
