//! One HTTP/1.1 request, sent as given.
//!
//! Thin on purpose: no pool, no redirects, no retries, no decoding, so that what a test sees is
//! what the server sent. The path goes out as it is written, odd percent-encodings included (only
//! what can't stand in a request line at all is refused). Statuses are plain numbers here: what
//! they mean is the gateway's business.

use std::{future::Future, io, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Request, header::HOST};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpStream, ToSocketAddrs},
    task::JoinHandle,
    time::timeout,
};

/// How long [`request`] waits for the whole answer.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// The largest body that is read.
pub const MAX_BODY_BYTES: usize = 256 << 20;

/// An answer, read to its end.
#[derive(Debug, Clone)]
pub struct Response {
    /// The status, such as 200.
    pub status: u16,
    /// The headers, in the order received.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

impl Response {
    /// The body as text; bytes that are not UTF-8 are replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON; `null` when it is not JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The first header of that name, if it is plain text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The request can't be put on the wire.
    #[error("not a request: {0}")]
    NotARequest(#[from] http::Error),
    /// No connection.
    #[error("cannot connect: {0}")]
    Connect(#[source] io::Error),
    /// The connection broke after (part of) the request was sent.
    #[error("connection lost: {0}")]
    Lost(String),
    /// The connection was closed before anything was sent: harmless, try another one.
    #[error("connection closed before the request was sent")]
    Closed,
    /// The body is larger than [`MAX_BODY_BYTES`].
    #[error("the body is over {MAX_BODY_BYTES} bytes")]
    TooLarge,
    /// No whole answer in time.
    #[error("no answer within {0:?}")]
    Late(Duration),
}

/// `GET path`.
///
/// # Errors
///
/// As [`request`].
pub async fn get(addr: impl ToSocketAddrs, path: &str) -> Result<Response, HttpError> {
    request(addr, "GET", path, &[], Bytes::new()).await
}

/// `PUT path` with a body.
///
/// # Errors
///
/// As [`request`].
pub async fn put(
    addr: impl ToSocketAddrs,
    path: &str,
    body: impl Into<Bytes>,
) -> Result<Response, HttpError> {
    request(addr, "PUT", path, &[], body).await
}

/// `DELETE path`.
///
/// # Errors
///
/// As [`request`].
pub async fn delete(addr: impl ToSocketAddrs, path: &str) -> Result<Response, HttpError> {
    request(addr, "DELETE", path, &[], Bytes::new()).await
}

/// One request on a connection of its own.
///
/// # Errors
///
/// When it can't be sent, or no whole answer comes within [`ANSWER_WITHIN`]. An answer of any
/// status is not an error.
pub async fn request(
    addr: impl ToSocketAddrs,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Result<Response, HttpError> {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(body.into()))?;
    let answer = async { Connection::open(addr).await?.send(request).await };
    timeout(ANSWER_WITHIN, answer).await.unwrap_or(Err(HttpError::Late(ANSWER_WITHIN)))
}

/// A connection for one request after the other.
#[derive(Debug)]
pub struct Connection {
    sender: SendRequest<Full<Bytes>>,
    peer: String,
    driver: JoinHandle<()>,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// When nobody listens there.
    pub async fn open(addr: impl ToSocketAddrs) -> Result<Self, HttpError> {
        let stream = TcpStream::connect(addr).await.map_err(HttpError::Connect)?;
        let _ = stream.set_nodelay(true);
        let peer = stream.peer_addr().map_err(HttpError::Connect)?.to_string();
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(lost)?;
        let driver = tokio::spawn(async move {
            // What breaks it is reported to the request in flight.
            let _ = connection.await;
        });
        Ok(Self { sender, peer, driver })
    }

    /// Sends a request and reads the whole answer. After an error the connection is of no use.
    ///
    /// # Errors
    /// When it can't be sent, or no whole answer comes. Waits for it for ever.
    pub fn send(
        &mut self,
        mut request: Request<Full<Bytes>>,
    ) -> impl Future<Output = Result<Response, HttpError>> + Send {
        if let Ok(peer) = self.peer.parse() {
            request.headers_mut().entry(HOST).or_insert(peer);
        }
        async move {
            self.sender.ready().await.map_err(|_| HttpError::Closed)?;
            let answer = self.sender.try_send_request(request).await.map_err(|mut error| {
                match error.take_message() {
                    Some(_) => HttpError::Closed,
                    None => lost(error.into_error()),
                }
            })?;
            let (head, body) = answer.into_parts();
            let body = Limited::new(body, MAX_BODY_BYTES).collect().await.map_err(|error| {
                if error.is::<LengthLimitError>() {
                    HttpError::TooLarge
                } else {
                    HttpError::Lost(error.to_string())
                }
            })?;
            Ok(Response {
                status: head.status.as_u16(),
                headers: head.headers,
                body: body.to_bytes(),
            })
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

fn lost(error: hyper::Error) -> HttpError {
    // hyper says "connection error" and leaves the reset itself to the source.
    let source = std::error::Error::source(&error).map(|source| format!(": {source}"));
    HttpError::Lost(format!("{error}{}", source.unwrap_or_default()))
}

#[cfg(test)]
mod tests;
