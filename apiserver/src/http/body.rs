//! Reading a request's body within its limits of size and time.

use std::{pin::Pin, time::Duration};

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use common::error::{Code, Error, Result};
use http::{HeaderMap, header};
use http_body::Body as _;
use http_body_util::BodyExt;
use tokio::time::timeout;

use crate::budget::{Budget, COUNTED_OVER, Held};

/// How long a client may take for its body, whatever its size: it is to be gone after ten seconds.
const BODY_TIME: Duration = Duration::from_secs(9);
/// After a refusal the rest of the body is read and thrown away, or many clients would see a
/// broken pipe in place of the answer: up to so much of it, for so long.
const DISCARD_BYTES: usize = 128 << 20;
const DISCARD_TIME: Duration = Duration::from_secs(5);

/// A body, counted in the gateway's budget until it is dropped.
#[derive(Debug)]
pub(super) struct Whole {
    pub(super) bytes: Bytes,
    _held: Held,
}

/// Why there is no whole body.
enum Broken {
    /// It is over the limit.
    TooLarge,
    /// The gateway holds too many others.
    NoRoom(Error),
    /// The client ended it.
    Off(axum::Error),
}

/// That a value is larger than its group takes.
pub(super) fn too_large(limit: usize) -> Error {
    let text = format!("the value is over the {limit} bytes that this group takes");
    Error::new(Code::TooLarge, text)
}

/// Reads a value of at most `limit` bytes. One that is known not to fit into the budget is not read.
pub(super) async fn read(
    headers: &HeaderMap,
    body: Body,
    limit: usize,
    budget: &Budget,
) -> Result<Whole> {
    read_or(headers, body, limit, budget, too_large).await
}

/// The same for any body, where `too_large` says that it has more than `limit` bytes.
pub(super) async fn read_or(
    headers: &HeaderMap,
    mut body: Body,
    limit: usize,
    budget: &Budget,
    too_large: impl Fn(usize) -> Error,
) -> Result<Whole> {
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    let refused = if announced > limit { Err(too_large(limit)) } else { budget.look(announced) };
    if let Err(refused) = refused {
        discard(headers, body);
        return Err(refused);
    }
    let error = match timeout(BODY_TIME, collect(&mut body, announced, limit, budget)).await {
        Ok(Ok(whole)) => return Ok(whole),
        Ok(Err(Broken::Off(error))) => {
            return Err(Error::new(Code::InvalidRequest, "the body broke off").caused_by(error));
        }
        Ok(Err(Broken::TooLarge)) => too_large(limit),
        Ok(Err(Broken::NoRoom(error))) => error,
        Err(_) => {
            let text = format!("the body took longer than {} s", BODY_TIME.as_secs());
            return Err(Error::new(Code::InvalidRequest, text));
        }
    };
    // Whatever it expected, it has begun to send.
    drain(body);
    Err(error)
}

/// The whole body, given up as soon as it is over the limit or the budget.
async fn collect(
    body: &mut Body,
    announced: usize,
    limit: usize,
    budget: &Budget,
) -> std::result::Result<Whole, Broken> {
    let mut held = budget.begin();
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(Broken::Off)?.into_data() else { continue };
        let length = first.len() + rest.len() + data.len();
        if length > limit {
            return Err(Broken::TooLarge);
        }
        // One that is there at once, and small, is not worth counting.
        if length > COUNTED_OVER || !body.is_end_stream() {
            // A buffer whose size is not known beforehand is doubled as it grows.
            let taken = if announced < length { (length * 2).min(limit) } else { length };
            held.cover(taken).map_err(Broken::NoRoom)?;
        }
        if first.is_empty() && rest.is_empty() {
            // Most bodies come in one piece, which is passed on as it is.
            first = data;
        } else {
            if rest.is_empty() {
                rest.reserve(announced.max(length));
                rest.extend_from_slice(&std::mem::take(&mut first));
            }
            rest.extend_from_slice(&data);
        }
    }
    let bytes = if rest.is_empty() { first } else { rest.freeze() };
    Ok(Whole { bytes, _held: held })
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
    use crate::budget::tests::budget;

    fn chunks(parts: &[&'static str]) -> Body {
        let parts: Vec<std::result::Result<_, std::io::Error>> =
            parts.iter().map(|part| Ok(*part)).collect();
        Body::from_stream(stream::iter(parts))
    }

    async fn read_within(body: Body, limit: usize, budget: &Budget) -> Result<Whole> {
        read(&HeaderMap::new(), body, limit, budget).await
    }

    #[tokio::test]
    async fn pieces_become_one_value() {
        for parts in [&["abc"][..], &["a", "b", "c"], &["ab", "", "c"]] {
            let whole =
                read_within(chunks(parts), 3, &budget(1 << 20)).await.expect("within limits");
            assert_eq!(whole.bytes, "abc");
        }
    }

    #[tokio::test]
    async fn a_body_over_the_limit_is_refused_announced_or_not() {
        for body in [chunks(&["ab", "cd"]), Body::from("abcd")] {
            let refused = read_within(body, 3, &budget(1 << 20)).await.expect_err("too large");
            assert_eq!(refused.code(), Code::TooLarge);
        }
    }

    #[tokio::test]
    async fn a_body_is_held_in_the_budget_until_it_is_dropped_and_refused_beyond() {
        const SIZE: usize = 128 << 10;
        static PIECE: [u8; SIZE / 2] = [b'x'; SIZE / 2];
        let text = std::str::from_utf8(&PIECE).expect("ASCII");
        let announced = || Body::from(vec![b'x'; SIZE]);
        let (budget, limit) = (budget(SIZE), 2 * SIZE);
        let whole = read_within(announced(), limit, &budget).await.expect("fits");
        assert_eq!(whole.bytes.len(), SIZE);
        for body in [announced(), chunks(&[text, text])] {
            let refused = read_within(body, limit, &budget).await.expect_err("no room");
            assert_eq!(refused.code(), Code::Overloaded);
        }
        let small = read_within(Body::from("small"), limit, &budget).await;
        assert_eq!(small.expect("not counted").bytes, "small");
        assert!(read_within(chunks(&["in ", "pieces"]), limit, &budget).await.is_err());
        drop(whole);
        assert!(read_within(announced(), limit, &budget).await.is_ok());
        let doubled = read_within(chunks(&[text, text]), limit, &budget).await;
        assert!(doubled.is_err(), "its buffer takes twice as much");
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_stalls_is_given_up() {
        let stalled = Body::from_stream(stream::pending::<std::io::Result<Bytes>>());
        let refused = read_within(stalled, 3, &budget(0)).await.expect_err("too slow");
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
