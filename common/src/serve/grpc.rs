//! What tonic's own server would add to its routes, as layers for ours.
//!
//! For tonic's `remote_addr` see [`Target::with_peer_info`](super::Target::with_peer_info).

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use axum::{body::Body, response::Response};
use http::{HeaderMap, Request};
use tokio::time::timeout;
use tonic::Status;
use tower::{Layer, Service};

/// How long any call may take until its response begins, whatever it says of itself: a caller
/// that never sends the rest of its message must not hold its stream for ever.
const LONGEST_CALL: Duration = Duration::from_secs(9);

/// Longest number in a `grpc-timeout`, by the gRPC specification.
const MAX_DIGITS: usize = 8;

/// Answers DEADLINE_EXCEEDED when a call's `grpc-timeout`, or 9 s, passes before its response
/// begins, and drops the call. Unary calls are bounded by that; streams only until they begin.
#[derive(Debug, Clone, Copy, Default)]
pub struct GrpcTimeout;

impl<S> Layer<S> for GrpcTimeout {
    type Service = GrpcTimeoutService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        GrpcTimeoutService { inner }
    }
}

/// The service of [`GrpcTimeout`].
#[derive(Debug, Clone)]
pub struct GrpcTimeoutService<S> {
    inner: S,
}

type Bounded<E> = Pin<Box<dyn Future<Output = Result<Response, E>> + Send>>;

impl<S, B> Service<Request<B>> for GrpcTimeoutService<S>
where
    S: Service<Request<B>, Response = Response>,
    S::Future: Send + 'static,
{
    type Response = Response;
    type Error = S::Error;
    type Future = Bounded<S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let limit = grpc_timeout(request.headers()).unwrap_or(LONGEST_CALL).min(LONGEST_CALL);
        let response = self.inner.call(request);
        Box::pin(async move {
            timeout(limit, response).await.unwrap_or_else(|_| {
                let text = format!("the call took longer than {limit:?}");
                Ok(Status::deadline_exceeded(text).into_http::<Body>())
            })
        })
    }
}

/// The call's `grpc-timeout`: up to 8 digits and a unit of `H M S m u n`. A malformed one is
/// taken for none, as tonic does.
pub fn grpc_timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.len() > MAX_DIGITS || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(count * 3600),
        "M" => Duration::from_secs(count * 60),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use axum::{Router, routing::post};
    use tower::ServiceExt;

    use super::*;

    fn parsed(text: &str) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        headers.insert("grpc-timeout", text.parse().unwrap());
        grpc_timeout(&headers)
    }

    #[test]
    fn every_unit_and_nothing_else() {
        assert_eq!(parsed("2H"), Some(Duration::from_secs(7200)));
        assert_eq!(parsed("3M"), Some(Duration::from_secs(180)));
        assert_eq!(parsed("42S"), Some(Duration::from_secs(42)));
        assert_eq!(parsed("250m"), Some(Duration::from_millis(250)));
        assert_eq!(parsed("7u"), Some(Duration::from_micros(7)));
        assert_eq!(parsed("0n"), Some(Duration::ZERO));
        assert_eq!(parsed("99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        for bad in ["", "S", "5", "5s", "123456789S", "+5S", "-5S", "5 S", "5.0S"] {
            assert_eq!(parsed(bad), None, "{bad:?}");
        }
        assert_eq!(grpc_timeout(&HeaderMap::new()), None);
    }

    async fn status_of_slow_call(header: Option<&str>) -> Option<String> {
        status_of_call(Duration::from_secs(1), header).await
    }

    async fn status_of_call(takes: Duration, header: Option<&str>) -> Option<String> {
        let slow = move || async move { tokio::time::sleep(takes).await };
        let app: Router = Router::new().route("/x/Y", post(slow)).layer(GrpcTimeout);
        let mut request = Request::post("/x/Y");
        if let Some(text) = header {
            request = request.header("grpc-timeout", text);
        }
        let response = app.oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(response.status(), 200);
        let status = response.headers().get("grpc-status")?;
        Some(status.to_str().unwrap().to_owned())
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_outlives_its_timeout_is_answered_deadline_exceeded() {
        assert_eq!(status_of_slow_call(Some("999m")).await.as_deref(), Some("4"));
        assert_eq!(status_of_slow_call(Some("1001m")).await, None);
        assert_eq!(status_of_slow_call(Some("99999999H")).await, None);
        assert_eq!(status_of_slow_call(None).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn no_call_takes_longer_than_it_may_whatever_it_asks_for() {
        let longer = LONGEST_CALL + Duration::from_secs(1);
        for header in [None, Some("99999999H"), Some("nonsense")] {
            assert_eq!(status_of_call(longer, header).await.as_deref(), Some("4"), "{header:?}");
        }
    }
}
