//! HTTP/2 by hand: gRPC calls whose frames are whatever a test wants them to be.

#![allow(dead_code, reason = "every test crate uses a part of it")]

use std::{net::SocketAddr, time::Duration};

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::stream;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, StreamBody, combinators::BoxBody};
use hyper::{body::Frame, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tokio::{net::TcpStream, sync::mpsc, time::timeout};

/// How long a call may take before a test gives it up.
const PATIENCE: Duration = Duration::from_secs(10);

/// What came back.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    /// The HTTP status.
    pub(crate) http: u16,
    /// `grpc-status`, from the trailers or the headers.
    pub(crate) status: Option<i32>,
    /// `grpc-message`.
    pub(crate) message: String,
    /// The whole body, frames and all.
    pub(crate) body: BytesMut,
}

impl Answer {
    /// The messages in the body.
    pub(crate) fn messages<M: Message + Default>(&self) -> Vec<M> {
        let (mut rest, mut messages) = (&self.body[..], Vec::new());
        while let Some((head, more)) = rest.split_at_checked(5) {
            let length = u32::from_be_bytes(head[1..].try_into().unwrap()) as usize;
            let (message, more) = more.split_at(length);
            messages.push(M::decode(message).unwrap());
            rest = more;
        }
        messages
    }

    fn note(&mut self, headers: &HeaderMap) {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        if let Some(status) = text("grpc-status") {
            self.status = status.parse().ok();
            self.message = text("grpc-message").unwrap_or_default().replace("%20", " ");
        }
    }
}

/// One gRPC frame with this content.
pub(crate) fn frame(content: &[u8]) -> Bytes {
    frame_of(content.len() as u32, content)
}

/// One gRPC frame that claims a length of its own.
pub(crate) fn frame_of(length: u32, content: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(5 + content.len());
    frame.put_u8(0);
    frame.put_u32(length);
    frame.put_slice(content);
    frame.freeze()
}

/// Sends a whole body to `path` and reads the answer to its end. What breaks is told in words.
pub(crate) async fn call(
    address: SocketAddr,
    path: &str,
    headers: &[(&str, &str)],
    parts: Vec<Bytes>,
) -> Result<Answer, String> {
    let parts = parts.into_iter().map(|part| Ok(Frame::data(part)));
    exchange(address, path, headers, BodyExt::boxed(StreamBody::new(stream::iter(parts)))).await
}

/// As [`call`], with a body that never ends.
pub(crate) async fn call_and_hang(
    address: SocketAddr,
    path: &str,
    headers: &[(&str, &str)],
    first: Bytes,
) -> Result<Answer, String> {
    let (sender, mut parts) = mpsc::channel::<Bytes>(1);
    sender.try_send(first).unwrap();
    let parts = stream::poll_fn(move |cx| parts.poll_recv(cx).map(|part| part.map(data)));
    let answer = exchange(address, path, headers, BodyExt::boxed(StreamBody::new(parts))).await;
    drop(sender);
    answer
}

fn data(part: Bytes) -> Result<Frame<Bytes>, std::convert::Infallible> {
    Ok(Frame::data(part))
}

async fn exchange(
    address: SocketAddr,
    path: &str,
    headers: &[(&str, &str)],
    body: BoxBody<Bytes, std::convert::Infallible>,
) -> Result<Answer, String> {
    let mut request = Request::post(format!("http://{address}{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(body).map_err(|error| error.to_string())?;
    let talking = async {
        let stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
        let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .map_err(|error| error.to_string())?;
        let driver = tokio::spawn(connection);
        let answer = read(sender.send_request(request).await).await;
        driver.abort();
        answer
    };
    timeout(PATIENCE, talking).await.unwrap_or_else(|_| Err("no answer in time".to_owned()))
}

async fn read(
    response: Result<http::Response<hyper::body::Incoming>, hyper::Error>,
) -> Result<Answer, String> {
    let mut response = response.map_err(|error| format!("{error:?}"))?;
    let mut answer = Answer { http: response.status().as_u16(), ..Answer::default() };
    answer.note(response.headers());
    while let Some(part) = response.body_mut().frame().await {
        let part = part.map_err(|error| format!("{error:?}"))?;
        match part.into_data() {
            Ok(data) => answer.body.extend_from_slice(&data),
            Err(part) => answer.note(part.trailers_ref().unwrap_or(&HeaderMap::new())),
        }
    }
    Ok(answer)
}
