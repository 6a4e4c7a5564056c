//! Reading a request's body within its limits of size and time.

use std::{pin::Pin, time::Duration};

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use common::error::{Code, Error, Result};
use http::{HeaderMap, header};
use http_body::Body as _;
use http_body_util::BodyExt;
use tokio::time::timeout;

/// How long a client may take for its body, whatever its size.
const BODY_TIME: Duration = Duration::from_secs(10);
/// After a refusal the rest of the body is read and thrown away, or many clients would see a
/// broken pipe in place of the answer: up to so much of it, for so long.
const DISCARD_BYTES: usize = 128 << 20;
const DISCARD_TIME: Duration = Duration::from_secs(5);

/// That a value is larger than its group takes.
pub(super) fn too_large(limit: usize) -> Error {
    let text = format!("the value is over the {limit} bytes that this group takes");
    Error::new(Code::TooLarge, text)
}

/// Reads a value of at most `limit` bytes.
pub(super) async fn read(headers: &HeaderMap, body: Body, limit: usize) -> Result<Bytes> {
    read_or(headers, body, limit, too_large).await
}

/// Reads a body of at most `limit` bytes, or says by `too_large` that it has more.
pub(super) async fn read_or(
    headers: &HeaderMap,
    mut body: Body,
    limit: usize,
    too_large: impl Fn(usize) -> Error,
) -> Result<Bytes> {
    let announced = body.size_hint().lower();
    if announced > limit as u64 {
        discard(headers, body);
        return Err(too_large(limit));
    }
    match timeout(BODY_TIME, collect(&mut body, limit)).await {
        Ok(Ok(Some(bytes))) => Ok(bytes),
        Ok(Ok(None)) => {
            // Whatever it expected, it has begun to send.
            drain(body);
            Err(too_large(limit))
        }
        Ok(Err(error)) => {
            Err(Error::new(Code::InvalidRequest, "the body broke off").caused_by(error))
        }
        Err(_) => {
            let text = format!("the body took longer than {} s", BODY_TIME.as_secs());
            Err(Error::new(Code::InvalidRequest, text))
        }
    }
}

/// The whole body, or `None` as soon as it is over the limit.
async fn collect(body: &mut Body, limit: usize) -> std::result::Result<Option<Bytes>, axum::Error> {
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        if first.len() + rest.len() + data.len() > limit {
            return Ok(None);
        }
        if first.is_empty() && rest.is_empty() {
            // Most bodies come in one piece, which is passed on as it is.
            first = data;
        } else {
            if rest.is_empty() {
                rest.reserve(first.len() + data.len());
                rest.extend_from_slice(&std::mem::take(&mut first));
            }
            rest.extend_from_slice(&data);
        }
    }
    Ok(Some(if rest.is_empty() { first } else { rest.freeze() }))
}

/// What to do with a body that nobody wants, before the answer is sent.
pub(super) fn discard(
    headers: &HeaderMap,
    body: impl http_body::Body<Data = Bytes, Error: Send> + Unpin + Send + 'static,
) {
    // Whoever waits for "100 Continue" has sent nothing yet and need not.
    if !body.is_end_stream() && !headers.contains_key(header::EXPECT) {
        drain(body);
    }
}

/// Reads on in a task of its own, which ends by itself.
fn drain(mut body: impl http_body::Body<Data = Bytes, Error: Send> + Unpin + Send + 'static) {
    let reading = async move {
        let mut seen = 0;
        while let Some(Ok(frame)) = Pin::new(&mut body).frame().await {
            seen += frame.data_ref().map_or(0, Bytes::len);
            if seen > DISCARD_BYTES {
                return;
            }
        }
    };
    tokio::spawn(timeout(DISCARD_TIME, reading));
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;

    fn chunks(parts: &[&'static str]) -> Body {
        let parts: Vec<std::result::Result<_, std::io::Error>> =
            parts.iter().map(|part| Ok(*part)).collect();
        Body::from_stream(stream::iter(parts))
    }

    #[tokio::test]
    async fn pieces_become_one_value() {
        for parts in [&["abc"][..], &["a", "b", "c"], &["ab", "", "c"]] {
            let read = read(&HeaderMap::new(), chunks(parts), 3).await.expect("within limits");
            assert_eq!(read, "abc");
        }
    }

    #[tokio::test]
    async fn a_body_over_the_limit_is_refused_announced_or_not() {
        for body in [chunks(&["ab", "cd"]), Body::from("abcd")] {
            let refused = read(&HeaderMap::new(), body, 3).await.expect_err("too large");
            assert_eq!(refused.code(), Code::TooLarge);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_stalls_is_given_up() {
        let stalled = Body::from_stream(stream::pending::<std::io::Result<Bytes>>());
        let refused = read(&HeaderMap::new(), stalled, 3).await.expect_err("too slow");
        assert_eq!(refused.code(), Code::InvalidRequest);
    }

    #[tokio::test(start_paused = true)]
    async fn an_unwanted_body_is_read_to_its_end_unless_its_sender_waits() {
        let (sender, receiver) = tokio::sync::mpsc::channel(1);
        let sent = |pieces: tokio::sync::mpsc::Receiver<&'static str>| {
            Body::from_stream(stream::unfold(pieces, |mut pieces| async {
                pieces.recv().await.map(|piece| (Ok::<_, std::io::Error>(piece), pieces))
            }))
        };
        discard(&HeaderMap::new(), sent(receiver));
        for _ in 0..3 {
            sender.send("piece").await.expect("somebody reads on");
        }
        timeout(DISCARD_TIME * 2, sender.closed()).await.expect("not for ever");

        let (sender, receiver) = tokio::sync::mpsc::channel(1);
        let expects =
            HeaderMap::from_iter([(header::EXPECT, "100-continue".parse().expect("valid"))]);
        discard(&expects, sent(receiver));
        assert!(sender.is_closed(), "reading would ask for it");
    }
}
