//! Errors as HTTP responses, the same JSON everywhere.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use common::error::{Code, Error};
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde::Serialize;

/// The header that repeats an error's `request_id`.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// When to come again after a 503 whose cause says nothing about it.
const COME_AGAIN: Duration = Duration::from_secs(1);

#[derive(Serialize)]
struct Body<'a> {
    error: &'a str,
    message: &'a str,
    timestamp: String,
    request_id: &'a str,
}

/// Names failed requests, so that a caller's report can be found in the log.
pub(crate) struct RequestIds {
    prefix: String,
    next: AtomicU64,
}

impl RequestIds {
    /// Ids that begin with something unique to this worker's life.
    pub(crate) fn new() -> Self {
        let random = uuid::Uuid::new_v4().simple().to_string();
        Self { prefix: random[..12].to_owned(), next: AtomicU64::new(1) }
    }

    fn next(&self) -> String {
        format!("{}-{:x}", self.prefix, self.next.fetch_add(1, Ordering::Relaxed))
    }
}

/// The response to a failed request. Logged here, once: at `warn` when it is our fault.
pub(crate) fn response(error: &Error, ids: &RequestIds) -> Response {
    with_status(error, error.code().http_status(), ids)
}

/// The same with a status that is HTTP's own business, such as 405.
pub(crate) fn with_status(error: &Error, status: StatusCode, ids: &RequestIds) -> Response {
    let request_id = ids.next();
    log(error, status, &request_id);
    let body = Body {
        error: error.code().as_str(),
        message: error.message(),
        // Not by strftime, which interprets its format each time: an overloaded gateway does
        // little else than this.
        timestamp: format!("{:.3}", jiff::Timestamp::now()),
        request_id: &request_id,
    };
    let mut response = (status, Json(body)).into_response();
    let headers = response.headers_mut();
    if let Ok(id) = HeaderValue::from_str(&request_id) {
        headers.insert(REQUEST_ID, id);
    }
    if status == StatusCode::UNSUPPORTED_MEDIA_TYPE {
        // RFC 9110, 15.5.16: what would have been taken.
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    }
    // A key that somebody is about to bring is not found yet.
    let after = match status {
        StatusCode::SERVICE_UNAVAILABLE => Some(error.retry_hint().unwrap_or(COME_AGAIN)),
        StatusCode::NOT_FOUND => error.retry_hint(),
        _ => None,
    };
    if let Some(after) = after {
        let seconds = after.as_secs_f64().ceil().max(1.0) as u64;
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

fn log(error: &Error, status: StatusCode, request_id: &str) {
    let cause = std::error::Error::source(error).map(ToString::to_string);
    if error.code() == Code::Internal {
        tracing::error!(%error, cause, %status, request_id, "request failed");
    } else if status.is_server_error() {
        tracing::debug!(%error, cause, %status, request_id, "request failed");
    }
}
