//! Requests go out as written, and every way to get no answer is told apart.

use axum::{Router, extract::Request as Received, routing::any};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::*;

async fn echo(received: Received) -> String {
    let (head, body) = received.into_parts();
    let header =
        |name: &str| head.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    let body = body.collect().await.unwrap().to_bytes();
    format!("{} {} {:?} {:?} {body:?}", head.method, head.uri, header("host"), header("x-odd"))
}

async fn server() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    tokio::spawn(async { axum::serve(listener, Router::new().fallback(any(echo))).await });
    addr
}

/// A server that answers the first request of its only connection with these bytes.
async fn raw_server(answer: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = [0; 4096];
        let _ = stream.read(&mut head).await.unwrap();
        stream.write_all(answer).await.unwrap();
        stream.set_zero_linger().unwrap();
    });
    addr
}

#[tokio::test]
async fn the_path_goes_out_as_written() {
    let addr = server().await;
    for path in ["/a%2fb/%7e/../x", "/api/cache?group=g&key=%00+%2B&key=", "/%zz", "//a//?"] {
        let text = get(&addr, path).await.unwrap().text();
        assert!(text.starts_with(&format!("GET {path} Some({addr:?})")), "{path}: {text}");
    }
    assert!(matches!(get(&addr, "/a b").await, Err(HttpError::NotARequest(_))));
}

#[tokio::test]
async fn methods_headers_and_bodies_arrive() {
    let addr = server().await;
    assert!(put(&addr, "/k", "v").await.unwrap().text().ends_with(r#"None b"v""#));
    assert!(delete(&addr, "/k").await.unwrap().text().starts_with("DELETE /k"));
    let answer = request(&addr, "PATCH", "/", &[("x-odd", "1"), ("host", "h")], "b").await.unwrap();
    assert_eq!(answer.text(), r#"PATCH / Some("h") Some("1") b"b""#);
    assert_eq!(
        (answer.status, answer.header("content-type")),
        (200, Some("text/plain; charset=utf-8"))
    );
}

#[tokio::test]
async fn a_reset_before_and_within_the_answer_is_a_lost_connection() {
    let whole = raw_server(b"HTTP/1.1 204 No Content\r\n\r\n").await;
    assert_eq!(get(whole, "/").await.unwrap().status, 204);
    for answer in [&b""[..], b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf"] {
        let error = get(raw_server(answer).await, "/").await.unwrap_err();
        assert!(matches!(error, HttpError::Lost(_)), "{error:?}");
    }
}

#[tokio::test]
async fn nobody_there_is_an_error_of_its_own() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    drop(listener);
    assert!(matches!(get(addr, "/").await, Err(HttpError::Connect(_))));
}

#[tokio::test]
async fn a_connection_that_was_closed_while_idle_is_told_from_a_lost_one() {
    let mut connection =
        Connection::open(raw_server(b"HTTP/1.1 204 No Content\r\n\r\n").await).await.unwrap();
    let request = || Request::get("/").body(Full::default()).unwrap();
    assert_eq!(connection.send(request()).await.unwrap().status, 204);
    // The server is gone; until the driver has noticed, hyper itself may take the request.
    crate::eventually("the driver ends", Duration::from_secs(1), async || {
        connection.driver.is_finished()
    })
    .await;
    assert!(matches!(connection.send(request()).await, Err(HttpError::Closed)));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_answer_is_not_waited_for_forever() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let error = get(listener.local_addr().unwrap(), "/").await.unwrap_err();
    assert!(matches!(error, HttpError::Late(_)), "{error:?}");
}
