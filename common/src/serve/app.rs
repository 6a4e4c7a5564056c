//! What answers requests: any axum router, or something that looks at them before one does.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use axum::{Router, body::Body};
use bytes::Bytes;
use http::{Request, Response};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use tower::Service;

/// What answers the requests of a connection. Cloned for every request: let it be one pointer.
pub trait App: Clone + Send + Sync + 'static {
    /// Made ready for one worker, sharing no reference count with those of the others: one that
    /// all of them changed for every request would bounce between the cores.
    #[must_use]
    fn for_worker(self) -> Self {
        self
    }

    /// Answers one request.
    fn call(self, request: Request<Incoming>) -> impl Future<Output = Response<Payload>> + Send;
}

impl App for Router {
    fn for_worker(self) -> Self {
        self.with_state(())
    }

    async fn call(mut self, request: Request<Incoming>) -> Response<Payload> {
        let Ok(response) = Service::call(&mut self, request).await;
        response.map(Payload::Streamed)
    }
}

/// A response's body. A value, which is what nearly all responses carry, needs no box.
#[derive(Debug)]
pub enum Payload {
    /// All of it, or nothing once it was taken.
    Whole(Bytes),
    /// Whatever comes, as it comes.
    Streamed(Body),
}

impl From<Payload> for Body {
    fn from(payload: Payload) -> Self {
        match payload {
            Payload::Whole(bytes) => bytes.into(),
            Payload::Streamed(body) => body,
        }
    }
}

impl http_body::Body for Payload {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        match self.get_mut() {
            Self::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::Streamed(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_empty(),
            Self::Streamed(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Streamed(body) => body.size_hint(),
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body::Body as _;
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn a_value_is_one_frame_of_known_length() {
        let mut value = Payload::Whole(Bytes::from_static(b"value"));
        assert_eq!(value.size_hint().exact(), Some(5));
        assert!(!value.is_end_stream());
        let frame = value.frame().await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), "value");
        assert!(value.is_end_stream());
        assert!(value.frame().await.is_none());
        assert!(Payload::Whole(Bytes::new()).is_end_stream());
        assert_eq!(Payload::Whole(Bytes::new()).size_hint().exact(), Some(0));
    }

    #[tokio::test]
    async fn a_streamed_one_is_as_its_stream() {
        let streamed = Payload::Streamed(Body::from("value"));
        assert_eq!(streamed.size_hint().exact(), Some(5));
        assert_eq!(streamed.collect().await.unwrap().to_bytes(), "value");
        let body: Body = Payload::Whole(Bytes::from_static(b"value")).into();
        assert_eq!(body.collect().await.unwrap().to_bytes(), "value");
    }
}
