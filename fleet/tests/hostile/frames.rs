//! Row 19, single messages: malformed and oversize protobuf on the calls and the stream.

use bytes::Bytes;
use futures_util::future::join_all;
use prost::Message;
use proto::v1;

use crate::{
    h2::{self, Answer},
    server::{Server, throw},
};

pub(crate) const EXCHANGE: &str = "/ringway.v1.Cache/Exchange";
const CALLS: [&str; 5] = [
    "/ringway.v1.Cache/Get",
    "/ringway.v1.Cache/Set",
    "/ringway.v1.Cache/Delete",
    "/ringway.v1.Cache/Stats",
    EXCHANGE,
];
/// About the largest message that a stream reads.
pub(crate) const LARGE: usize = 64 << 20;

/// Messages that are none.
fn malformed() -> Vec<Bytes> {
    [
        &b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"[..], // a tag that never ends
        b"\x0a\xff\xff\xff\xff\x0f",                          // a string of 4 GiB
        b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7f",          // one of 2^63
        b"\x0a\x05ab",                                        // cut short
        b"\x0a\x02\xff\xfe",                                  // a string that is not UTF-8
        b"\x0b\x0b\x0b\x0b",                                  // groups that never end
        b"\x0c",                                              // an end without a beginning
        b"\x0f\x00",                                          // a wire type that is none
        b"\x00\x00",                                          // field 0
        b"\x08",                                              // a number that is missing
        b"\x22\x03\x12\x05x",                                 // an operation cut short inside
    ]
    .map(Bytes::from_static)
    .into()
}

/// That a node took a message for what it is: an error with a status, or an end of the stream.
fn refused(what: &str, answer: &Result<Answer, String>) {
    if let Ok(answer) = answer {
        assert!(
            answer.http != 200 || answer.status.is_some_and(|code| code != 0),
            "{what}: {answer:?}"
        );
    }
}

#[tokio::test]
async fn malformed_messages_are_refused() {
    let server = Server::start().await;
    for path in CALLS.into_iter().filter(|path| !path.ends_with("Stats")) {
        for message in malformed() {
            let what = format!("{path} {message:x?}");
            refused(&what, &h2::call(server.grpc, path, &[], vec![h2::frame(&message)]).await);
        }
    }
    // Frames that are wrong in themselves.
    for path in CALLS {
        for (what, bytes) in [
            ("a length of 4 GiB", h2::frame_of(u32::MAX, b"x")),
            ("a length beyond the body", h2::frame_of(1000, b"x")),
            ("a compression nobody announced", Bytes::from_static(b"\x01\x00\x00\x00\x01x")),
            ("a compression that is none", Bytes::from_static(b"\x07\x00\x00\x00\x01x")),
            ("half a head", Bytes::from_static(b"\x00\x00")),
        ] {
            refused(
                &format!("{path}: {what}"),
                &h2::call(server.grpc, path, &[], vec![bytes]).await,
            );
        }
    }
    for path in ["/", "/ringway.v1.Cache/None", "/no.such.Service/Get", "//", "/%00"] {
        refused(path, &h2::call(server.grpc, path, &[], vec![h2::frame(b"")]).await);
    }
    let headers = [("content-type", "application/json"), ("grpc-encoding", "br")];
    for header in headers {
        refused(header.1, &h2::call(server.grpc, CALLS[0], &[header], vec![h2::frame(b"")]).await);
    }
    server.is_well().await;
}

#[tokio::test]
async fn unknown_fields_are_skipped() {
    let server = Server::start().await;
    let mut message = v1::GetRequest { group: "scores".into(), key: "Tom".into() }.encode_to_vec();
    message.extend_from_slice(b"\xfa\x3f\x03xyz\xf8\x3f\x2a\xf9\x3f12345678\xfd\x3f1234");
    let answer = h2::call(server.grpc, CALLS[0], &[], vec![h2::frame(&message)]).await.unwrap();
    assert_eq!(answer.status, Some(0), "{answer:?}");
    assert_eq!(answer.messages::<v1::GetResponse>()[0].value, "630");
    server.is_well().await;
}

#[tokio::test]
async fn lengths_that_are_promised_and_not_sent_take_no_memory() {
    let server = Server::start().await;
    let before = server.resident();
    // As much as a message may have, for each of many calls at once; then nothing.
    let frame = h2::frame_of(LARGE as u32, &[0; 1000]);
    let calls = (0..32).map(|_| h2::call(server.grpc, EXCHANGE, &[], vec![frame.clone()]));
    for answer in join_all(calls).await {
        refused("a promise", &answer);
    }
    let grew = server.peak().saturating_sub(before);
    assert!(grew < LARGE / 2, "grew by {grew} bytes");
    server.is_well().await;
}

#[tokio::test]
async fn bytes_that_are_no_protocol_close_the_connection() {
    let server = Server::start().await;
    let mut random = fastrand::Rng::with_seed(19);
    let noise: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(64 << 10).collect();
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let after = |rest: &[u8]| [&preface[..], rest].concat();
    let settings = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00";
    let cases: Vec<Vec<u8>> = vec![
        noise.clone(),
        b"\0".repeat(1000),
        b"\r\n".repeat(1000),
        b"GET / HTTP/9.9\r\n\r\n".to_vec(),
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n".to_vec(),
        b"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n".to_vec(),
        b"GET / HTTP/1.1\r\nA\0B: x\r\n\r\n".to_vec(),
        b"GET http://[::1 HTTP/1.1\r\n\r\n".to_vec(),
        b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(), // TLS
        b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n".to_vec(),
        after(&noise),
        after(&[settings, &noise[..]].concat()),
        after(b"\xff\xff\xff\x00\x00\x00\x00\x00\x01"), // DATA of 16 MiB on stream 1
        after(&[settings, &b"\x00\x00\x01\x01\x04\x00\x00\x00\x00\x82"[..]].concat()), // HEADERS on stream 0
        after(&[settings, &b"\x00\x00\x04\x08\x00\x00\x00\x00\x00\x00\x00\x00\x00"[..]].concat()),
    ];
    for (number, bytes) in cases.iter().enumerate() {
        let everywhere = [server.grpc, server.http, server.api];
        for answer in join_all(everywhere.map(|address| throw(address, bytes))).await {
            let text = String::from_utf8_lossy(&answer);
            assert!(!text.starts_with("HTTP/1.1 5"), "case {number}: {text}");
        }
    }
    server.is_well().await;
}

#[tokio::test]
async fn requests_that_are_not_grpc_are_refused_on_its_port() {
    let server = Server::start().await;
    for method in ["GET", "POST", "PUT"] {
        let target = "/api/cache?group=scores&key=Tom";
        let answer = fleet::http::request(server.grpc, method, target, &[], "x").await.unwrap();
        let refused = answer.status != 200 || answer.header("grpc-status") == Some("12");
        assert!(refused, "{method}: {}", answer.status);
    }
    server.is_well().await;
}
