//! `/api/cache`: one key's value, read, written or deleted.

use std::{convert::Infallible, time::Duration};

use axum::{
    body::Body,
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use common::{
    error::{Code, Error, Result},
    key::{GroupName, Key},
    route::Write,
};
use futures_util::stream;
use http::{HeaderMap, HeaderValue, StatusCode, Uri, header, request::Parts};
use proto::v1::Source;
use tokio::time::Instant;

use super::{
    AppState, Worker, body,
    conditional::{etag, must_match, not_modified, of_write},
    target,
};
use crate::{cache::Entry, metrics::Operation};

/// What a value is when nobody said.
const DEFAULT_TYPE: HeaderValue = HeaderValue::from_static("application/octet-stream");
/// How the value came about, in the terms of RFC 9211.
const STATUS: http::HeaderName = http::HeaderName::from_static("cache-status");
/// The longest content type that is stored; nodes take as much.
const MAX_CONTENT_TYPE_BYTES: usize = 256;

/// `GET` and `HEAD`.
pub(super) async fn get(State(worker): AppState, request: Request) -> Response {
    let started = Instant::now();
    let counted = worker.metrics.begun(Operation::Get);
    // Taken apart here: axum's extractors would clone the parts.
    let (parts, body) = request.into_parts();
    body::discard(&parts.headers, body);
    let response = match read(&worker, &parts.uri, &parts.headers, started).await {
        Ok(entry) => found(entry, &parts.headers),
        Err(error) => worker.refuse(&error),
    };
    counted.done(response.status(), started.elapsed());
    response
}

async fn read(worker: &Worker, uri: &Uri, headers: &HeaderMap, started: Instant) -> Result<Entry> {
    let target = target::of(uri)?;
    let entry = worker.cache.get(target.group, target.key, started).await?;
    must_match(headers, entry.version)?;
    Ok(entry)
}

fn found(entry: Entry, headers: &HeaderMap) -> Response {
    let unchanged = not_modified(headers, entry.version);
    let status = cache_status(&entry);
    let body = if unchanged { no_body() } else { Body::from(entry.value) };
    let mut response = Response::new(body);
    let fields = response.headers_mut();
    fields.reserve(6);
    fields.insert(header::ETAG, etag(entry.version));
    fields.insert(header::AGE, HeaderValue::from(entry.age.as_secs()));
    if let Some(ttl) = entry.ttl {
        fields.insert(header::CACHE_CONTROL, max_age(entry.age, ttl));
    }
    fields.insert(STATUS, status);
    if unchanged {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    } else {
        fields.insert(header::CONTENT_TYPE, content_type(entry.content_type));
    }
    response
}

/// A body without a length, or HEAD would be answered `Content-Length: 0`, which caches take for
/// the length of the value they hold (RFC 9110, 8.6).
fn no_body() -> Body {
    Body::from_stream(stream::empty::<std::result::Result<Bytes, Infallible>>())
}

/// The time from when the entry was stored: whoever reads it takes `Age` off (RFC 9111, 4.2).
fn max_age(age: Duration, ttl_left: Duration) -> HeaderValue {
    // Each rounded down, as `Age` is, so that what is left is never more than it really is.
    let seconds = age.as_secs().saturating_add(ttl_left.as_secs());
    HeaderValue::from_str(&format!("max-age={seconds}"))
        .unwrap_or(HeaderValue::from_static("no-cache"))
}

fn cache_status(entry: &Entry) -> HeaderValue {
    HeaderValue::from_static(match entry.source {
        Source::Hit if entry.is_near => "ringway; hit; detail=near",
        Source::Hit => "ringway; hit",
        Source::Loaded => "ringway; fwd=miss; stored",
        Source::Stale => "ringway; hit; fwd=stale",
    })
}

fn content_type(stored: String) -> HeaderValue {
    if stored.is_empty() {
        return DEFAULT_TYPE;
    }
    HeaderValue::from_maybe_shared(Bytes::from(stored)).unwrap_or(DEFAULT_TYPE)
}

/// `PUT` and `POST`.
pub(super) async fn put(State(worker): AppState, request: Request) -> Response {
    let started = Instant::now();
    let counted = worker.metrics.begun(Operation::Set);
    let (parts, body) = request.into_parts();
    let response = match write(&worker, &parts, body).await {
        Ok(response) => response,
        Err(error) => worker.refuse(&error),
    };
    counted.done(response.status(), started.elapsed());
    response
}

async fn write(worker: &Worker, parts: &Parts, body: Body) -> Result<Response> {
    let (group, key, mut write) = match announced(parts) {
        Ok(announced) => announced,
        Err(error) => {
            body::discard(&parts.headers, body);
            return Err(error);
        }
    };
    write.value = body::read(&parts.headers, body, worker.process.max_value(&group)).await?;
    let stored = worker.cache.put(group, key, write, Instant::now()).await?;
    let status = if stored.created { StatusCode::CREATED } else { StatusCode::NO_CONTENT };
    Ok((status, [(header::ETAG, etag(stored.version))]).into_response())
}

/// What a request's head says of a write, whose value comes after it.
fn announced(parts: &Parts) -> Result<(GroupName, Key, Write)> {
    let target = target::of(&parts.uri)?;
    whole_and_plain(&parts.headers)?;
    let content_type = stored_type(&parts.headers)?;
    let condition = of_write(&parts.headers)?;
    let write = Write { value: Bytes::new(), content_type, ttl: target.ttl, condition };
    Ok((target.group, target.key, write))
}

/// Refuses what would be stored as something else than its sender means: a part of a value as the
/// whole (RFC 9110, 14.5), or an encoded one without its encoding, which is not kept.
fn whole_and_plain(headers: &HeaderMap) -> Result<()> {
    if headers.contains_key(header::CONTENT_RANGE) {
        let text = "a value is stored whole: send all of it, without Content-Range";
        return Err(Error::new(Code::InvalidRequest, text));
    }
    let plain = |value: &HeaderValue| {
        let mut codings = value.as_bytes().split(|&byte| byte == b',').map(<[u8]>::trim_ascii);
        codings.all(|coding| coding.is_empty() || coding.eq_ignore_ascii_case(b"identity"))
    };
    if !headers.get_all(header::CONTENT_ENCODING).into_iter().all(plain) {
        let text = "Content-Encoding is not kept with a value: send the value unencoded";
        return Err(Error::new(Code::UnsupportedMedia, text));
    }
    Ok(())
}

/// The content type to keep with the value; empty for the default one.
fn stored_type(headers: &HeaderMap) -> Result<String> {
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return Ok(String::new()) };
    if value == DEFAULT_TYPE {
        return Ok(String::new());
    }
    match value.to_str() {
        Ok(text) if text.len() <= MAX_CONTENT_TYPE_BYTES => Ok(text.to_owned()),
        _ => {
            let text =
                format!("Content-Type must be at most {MAX_CONTENT_TYPE_BYTES} ASCII characters");
            Err(Error::new(Code::InvalidRequest, text))
        }
    }
}

/// `DELETE`.
pub(super) async fn delete(State(worker): AppState, request: Request) -> Response {
    let started = Instant::now();
    let counted = worker.metrics.begun(Operation::Delete);
    let (parts, body) = request.into_parts();
    body::discard(&parts.headers, body);
    let response = match remove(&worker, &parts.uri, &parts.headers, started).await {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => worker.refuse(&error),
    };
    counted.done(response.status(), started.elapsed());
    response
}

async fn remove(worker: &Worker, uri: &Uri, headers: &HeaderMap, started: Instant) -> Result<()> {
    let target = target::of(uri)?;
    worker.cache.delete(target.group, target.key, of_write(headers)?, started).await
}
