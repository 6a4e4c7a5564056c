//! Row 18: keys, values and heads that are too large, announced or not.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};

use crate::{
    h2,
    server::{Server, status_of, throw},
};

/// The largest value, in bytes: the limit of the row.
const LIMIT: usize = 1 << 20;
/// Uploads at a time.
const UPLOADS: usize = 16;
/// What is written at a time.
const PIECE: usize = 64 << 10;

/// How an upload says how long it is.
#[derive(Debug, Clone, Copy)]
enum Framing {
    Announced,
    Chunked,
}

/// Writes a body to its end, whatever is answered meanwhile, as a simple client does; then reads
/// the status.
async fn upload(api: SocketAddr, framing: Framing, size: usize) -> Result<Option<u16>, String> {
    let mut stream = TcpStream::connect(api).await.unwrap();
    let length = match framing {
        Framing::Announced => format!("Content-Length: {size}"),
        Framing::Chunked => "Transfer-Encoding: chunked".to_owned(),
    };
    let head = format!(
        "PUT /api/cache?group=default&key=large HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
         {length}\r\n\r\n"
    );
    let broken = |error: std::io::Error| format!("{framing:?}: {error}");
    stream.write_all(head.as_bytes()).await.map_err(broken)?;
    let piece = vec![b'x'; PIECE];
    for _ in 0..size / PIECE {
        if let Framing::Chunked = framing {
            stream.write_all(format!("{PIECE:x}\r\n").as_bytes()).await.map_err(broken)?;
        }
        stream.write_all(&piece).await.map_err(broken)?;
        if let Framing::Chunked = framing {
            stream.write_all(b"\r\n").await.map_err(broken)?;
        }
    }
    if let Framing::Chunked = framing {
        stream.write_all(b"0\r\n\r\n").await.map_err(broken)?;
    }
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.map_err(broken)?;
    Ok(status_of(&answer))
}

/// Uploads that many at once, half of them chunked, and expects 413 for each.
async fn uploads_are_refused(server: &Server, size: usize) {
    let mut uploads = JoinSet::new();
    for n in 0..UPLOADS {
        let framing = if n % 2 == 0 { Framing::Announced } else { Framing::Chunked };
        uploads.spawn(upload(server.api, framing, size));
    }
    for status in uploads.join_all().await {
        assert_eq!(status, Ok(Some(413)), "every client hears the answer");
    }
}

/// How much the process may grow: each upload may fill its limit twice (once while it is put
/// together), and some room for what the connections themselves take.
const ROOM: usize = 2 * UPLOADS * LIMIT;

#[tokio::test]
async fn oversize_values_are_refused_in_bounded_memory() {
    let server = Server::start().await;
    server.serves().await;
    let before = server.resident();
    // Together twice the room, and little enough to be read to its end on a slow machine: a gateway does that
    // for five seconds after it has refused.
    uploads_are_refused(&server, 4 << 20).await;
    let grew = server.peak().saturating_sub(before);
    eprintln!("{UPLOADS} uploads of 4 MiB: {} KiB more at the peak", grew >> 10);
    assert!(grew < ROOM, "grew by {grew} bytes");
    server.is_well().await;
}

#[tokio::test]
#[ignore = "long: make faults"]
async fn oversize_values_are_refused_in_bounded_memory_for_a_minute() {
    let server = Server::start().await;
    server.serves().await;
    let (before, started) = (server.resident(), Instant::now());
    let mut rounds = 0;
    while started.elapsed() < Duration::from_secs(60) {
        uploads_are_refused(&server, 64 << 20).await;
        server.serves().await;
        rounds += 1;
    }
    let grew = server.peak().saturating_sub(before);
    eprintln!("{rounds} × {UPLOADS} uploads of 64 MiB: {} KiB more at the peak", grew >> 10);
    assert!(grew < ROOM, "grew by {grew} bytes");
    server.is_well().await;
}

#[tokio::test]
async fn a_client_that_asks_first_need_not_send() {
    let server = Server::start().await;
    let mut stream = TcpStream::connect(server.api).await.unwrap();
    let head = "PUT /api/cache?group=default&key=k HTTP/1.1\r\nHost: x\r\n\
                Expect: 100-continue\r\nContent-Length: 1073741824\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(status_of(&answer), Some(413));
    server.is_well().await;
}

#[tokio::test]
async fn oversize_keys_and_heads_are_refused() {
    let server = Server::start().await;
    let before = server.resident();
    let get = |target: &str, rest: &str| format!("GET {target} HTTP/1.1\r\nHost: x\r\n{rest}\r\n");
    let key = "k".repeat(1025);
    let many: String = (0..1000).map(|n| format!("X-{n}: y\r\n")).collect();
    let close = "Connection: close\r\n";
    for (what, request, statuses) in [
        ("key", get(&format!("/api/cache/default/{key}"), close), &[400][..]),
        ("target", get(&format!("/{}", "x".repeat(9 << 10)), close), &[414]),
        // Beyond the head's own limit hyper answers, before there is a target to judge.
        ("huge target", get(&format!("/{}", "x".repeat(100 << 10)), close), &[414, 431]),
        ("header", get("/", &format!("X: {}\r\n", "y".repeat(20 << 10))), &[431]),
        ("headers", get("/", &many), &[431]),
        ("endless header", format!("GET / HTTP/1.1\r\nX: {}", "y".repeat(4 << 20)), &[431]),
        ("endless name", format!("GET / HTTP/1.1\r\n{}", "y".repeat(4 << 20)), &[400, 431]),
        ("endless target", format!("GET /{}", "y".repeat(4 << 20)), &[414, 431]),
        ("endless method", "G".repeat(4 << 20), &[400, 431]),
        (
            "chunk size",
            "PUT /api/cache/default/k HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n\
             FFFFFFFFFFFFFFFFF\r\nx"
                .to_owned(),
            &[400],
        ),
    ] {
        for address in [server.api, server.http] {
            let answer = throw(address, request.as_bytes()).await;
            let status = status_of(&answer);
            // The node's port has no such paths, and no opinion on keys.
            let expected = address == server.http && status == Some(404)
                || status.is_some_and(|status| statuses.contains(&status))
                // Closing with bytes unread may reach the client as a reset.
                || status.is_none() && request.len() > 1 << 20;
            assert!(expected, "{what} at {address}: {}", String::from_utf8_lossy(&answer));
        }
    }
    let large = "y".repeat(20 << 10);
    let answer = h2::call(server.grpc, "/ringway.v1.Cache/Get", &[("x", &large)], vec![]).await;
    assert!(answer.as_ref().map_or(true, |answer| answer.http == 431), "{answer:?}");
    let grew = server.peak().saturating_sub(before);
    assert!(grew < ROOM, "grew by {grew} bytes");
    server.is_well().await;
}
