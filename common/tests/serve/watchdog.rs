//! Whom the watchdog closes, and whom it must not.

use std::time::Duration;

use common::serve::Limits;
use http_body_util::BodyExt;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{
    serving::{http2_client, http2_get},
    support::*,
};

/// Every limit out of the way but the one under test.
fn only(change: impl FnOnce(&mut Limits)) -> Limits {
    let mut limits = long();
    change(&mut limits);
    limits
}

fn assert_took(took: Duration, limit: Duration) {
    // The client's clock starts before the server's.
    assert!(took >= limit && took < limit * 8, "closed after {took:?}, not {limit:?}");
}

#[tokio::test]
async fn a_silent_connection_is_closed() {
    let running = start(only(|limits| limits.first_request = SHORT), 1).await;
    let (answer, took) = running.client().await.rest_and_end().await;
    assert_eq!(answer, "");
    assert_took(took, SHORT);
    assert_eq!(running.metrics.closed_slow_head.get(), 1);
}

#[tokio::test]
async fn a_partial_head_is_closed_however_it_trickles() {
    let running = start(only(|limits| limits.head = SHORT), 1).await;
    let mut client = running.client().await;
    client.send("GET / HTTP/1.1\r\nX: ").await;
    let trickle = async {
        loop {
            tokio::time::sleep(SHORT / 4).await;
            if client.stream.try_write(b"x").is_err() {
                break;
            }
        }
    };
    tokio::time::timeout(SOON, trickle).await.expect("closed");
    assert_eq!(running.metrics.closed_slow_head.get(), 1);
}

#[tokio::test]
async fn a_partial_preface_is_closed() {
    let running = start(only(|limits| limits.head = SHORT), 1).await;
    // Bytes that hyper has not even told one version from the other by, and a preface without a
    // request.
    for start in ["PRI * HTT", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let mut client = running.client().await;
        client.send(start).await;
        assert_took(client.rest_and_end().await.1, SHORT);
    }
    assert_eq!(running.metrics.closed_slow_head.get(), 2);
}

#[tokio::test]
async fn a_later_partial_head_is_closed_too() {
    let running = start(only(|limits| limits.head = SHORT), 1).await;
    let mut client = running.client().await;
    assert_eq!(client.get("/").await, "hello");
    tokio::time::sleep(SHORT * 2).await; // idle, which is no head
    client.send("GET / HT").await;
    assert_took(client.rest_and_end().await.1, SHORT);
    assert_eq!(running.metrics.closed_slow_head.get(), 1);
}

#[tokio::test]
async fn an_idle_connection_is_closed_after_keep_alive_and_not_before() {
    // So long that a client which stands still for a moment does not outlast it.
    let keep_alive = Duration::from_secs(2);
    let running = start(only(|limits| limits.keep_alive = keep_alive), 1).await;
    let mut client = running.client().await;
    for _ in 0..5 {
        assert_eq!(client.get("/").await, "hello");
        tokio::time::sleep(keep_alive / 4).await; // together longer than keep_alive
    }
    assert_eq!(client.get("/").await, "hello");
    let (rest, took) = client.rest_and_end().await;
    assert_eq!(rest, "");
    assert_took(took, keep_alive);
    assert_eq!(running.metrics.closed_idle.get(), 1);
    assert_eq!(running.metrics.closed_slow_head.get(), 0);
}

#[tokio::test]
async fn a_slow_handler_is_not_cut() {
    let running = start(short(), 1).await;
    assert_eq!(running.client().await.get("/slow").await, "");
    let response = http2_client(&running).await.send_request(http2_get("/slow")).await.unwrap();
    assert_eq!(response.status(), 200);
}

#[tokio::test]
async fn a_long_response_is_not_cut() {
    let running = start(short(), 1).await;
    let mut client = running.client().await;
    client.send(GET.replace("GET /", "GET /stream")).await;
    let (answer, took) = client.rest_and_end().await; // closed when idle, after the response
    assert_eq!(answer.matches("chunk!").count(), 8);
    assert!(answer.ends_with("0\r\n\r\n"));
    assert!(took > SHORT * 2, "{took:?} is no test");

    let mut client = http2_client(&running).await;
    let response = client.send_request(http2_get("/stream")).await.unwrap();
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes().len(), 8 * 6);
}

/// A response that hyper has taken whole, and the socket has not, is still under way.
#[tokio::test]
async fn a_reader_slower_than_keep_alive_gets_everything() {
    let keep_alive = Duration::from_secs(2);
    let running = start(every(keep_alive), 1).await;
    let mut client = running.client().await;
    SockRef::from(&client.stream).set_recv_buffer_size(1 << 16).unwrap();
    client.send(GET.replace("GET /", "GET /zeros")).await;
    let (_, length) = client.head().await;
    // In many parts: the last few wait in the kernel's buffers, while the server is idle already.
    // They take a small part of keep_alive, so that a slow machine has the rest for the request.
    let mut part = vec![0; length / 32];
    for _ in 0..32 {
        tokio::time::sleep(keep_alive / 20).await;
        client.stream.read_exact(&mut part).await.unwrap();
    }
    assert_eq!(client.get("/").await, "hello"); // nor was it told to close
}

/// The same where the client's HTTP/2 window is what holds the response back.
#[tokio::test]
async fn an_http2_reader_slower_than_keep_alive_gets_everything() {
    let keep_alive = Duration::from_secs(1);
    let running = start(every(keep_alive), 1).await;
    let io = TokioIo::new(running.client().await.stream);
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder.initial_stream_window_size(1 << 20).initial_connection_window_size(1 << 20);
    let (mut client, connection) = builder.handshake(io).await.unwrap();
    tokio::spawn(connection);
    let mut body = client.send_request(http2_get("/zeros")).await.unwrap().into_body();
    let (mut got, mut pause_at) = (0, 0);
    while let Some(frame) = body.frame().await {
        got += frame.unwrap().into_data().unwrap().len();
        if got >= pause_at {
            pause_at += 8 << 20;
            tokio::time::sleep(keep_alive / 4).await;
        }
    }
    assert_eq!(got, 64 << 20);
    eventually("it is closed when idle", || running.metrics.open() == 0).await;
    assert_eq!(running.metrics.closed_idle.get(), 1);
}

#[tokio::test]
async fn a_reader_that_stalls_is_cut_by_the_kernel() {
    let running = start(only(|limits| limits.stalled_reader = SHORT), 1).await;
    let mut client = running.client().await;
    client.send(GET.replace("GET /", "GET /zeros")).await;
    client.stream.readable().await.unwrap();
    eventually("the stalled connection is gone", || running.metrics.open() == 0).await;
    assert_eq!(running.metrics.closed_idle.get() + running.metrics.closed_slow_head.get(), 0);
}

/// A client that answers pings and reads nothing: its window is closed from the start, or after
/// the first bytes, when h2 has the response and the handler's work is done.
#[tokio::test]
async fn an_http2_client_that_does_not_open_its_window_is_cut() {
    for window in [0, 1, 100_000] {
        let limits = only(|limits| {
            limits.stalled_reader = SHORT;
            limits.ping_interval = SHORT / 10;
        });
        let running = start(limits, 1).await;
        let client = running.client().await;
        let io = TokioIo::new(client.stream);
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder.initial_stream_window_size(window).initial_connection_window_size(1 << 20);
        let (mut sender, connection) = builder.handshake(io).await.unwrap();
        tokio::spawn(connection);
        let since = std::time::Instant::now();
        // A body that is not read opens no window.
        let response = sender.send_request(http2_get("/zeros")).await.unwrap();
        eventually("the connection is gone", || running.metrics.open() == 0).await;
        assert_took(since.elapsed(), SHORT);
        assert_eq!(running.metrics.closed_slow_reader.get(), 1, "window {window}");
        drop(response);
    }
}

/// The same on a connection that is otherwise lively.
#[tokio::test]
async fn a_response_that_nobody_takes_is_noticed_beside_others() {
    let running = start(only(|limits| limits.stalled_reader = SHORT), 1).await;
    let mut client = http2_client(&running).await;
    let unread = client.send_request(http2_get("/zeros")).await.unwrap();
    let lively = async { while client.send_request(http2_get("/")).await.is_ok() {} };
    tokio::time::timeout(SOON, lively).await.expect("closed");
    eventually("the connection is gone", || running.metrics.open() == 0).await;
    assert_eq!(running.metrics.closed_slow_reader.get(), 1);
    drop(unread);
}

#[tokio::test]
async fn a_flood_of_frames_without_content_is_cut() {
    const PING: &[u8] = b"\0\0\x08\x06\0\0\0\0\x0012345678";
    let running = start(long(), 1).await;
    let mut client = running.client().await;
    client.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await;
    let (mut reader, mut writer) = client.stream.into_split();
    tokio::spawn(async move { tokio::io::copy(&mut reader, &mut tokio::io::sink()).await });
    let flood = async { while writer.write_all(&PING.repeat(100)).await.is_ok() {} };
    tokio::time::timeout(SOON, flood).await.expect("closed");
    eventually("the connection is gone", || running.metrics.open() == 0).await;
    assert_eq!(running.metrics.closed_flood.get(), 1);
}

/// Pings keep an HTTP/2 connection alive, not busy; and it is told before it is closed.
#[tokio::test]
async fn an_idle_http2_connection_is_closed_gracefully_in_spite_of_pings() {
    let ping = |limits: &mut Limits| {
        limits.keep_alive = SHORT;
        limits.head = SHORT;
        limits.ping_interval = SHORT / 10;
    };
    let running = start(only(ping), 1).await;
    let io = TokioIo::new(running.client().await.stream);
    let (mut client, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
    let connection = tokio::spawn(connection);
    let response = client.send_request(http2_get("/")).await.unwrap();
    response.into_body().collect().await.unwrap();
    let end = tokio::time::timeout(SOON, connection).await.expect("closed").unwrap();
    end.expect("closed by GOAWAY, without an error");
    eventually("the connection is gone", || running.metrics.open() == 0).await;
    assert_eq!(running.metrics.closed_idle.get(), 1);
    assert_eq!(running.metrics.closed_slow_head.get(), 0);
}
