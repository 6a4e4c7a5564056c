//! `/api/cache`: one key's value, read, written or deleted.

mod leased;

use std::{convert::Infallible, time::Duration};

use axum::{body::Body, response::Response};
use bytes::Bytes;
use common::{
    error::{Code, Error, Result},
    key::{GroupName, Key},
    route::Write,
    serve::Payload,
    tags::Tags,
};
use futures_util::stream;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, Version, header, request::Parts};
use http_body::Body as _;
use hyper::body::Incoming;
use tokio::time::Instant;

use super::{
    Api, Worker, body,
    conditional::{etag, must_match, not_modified, of_write},
    target::{self, Target},
};
use crate::{
    cache::{Entry, Way},
    metrics::Operation,
};

/// What a value is when nobody said.
const DEFAULT_TYPE: HeaderValue = HeaderValue::from_static("application/octet-stream");
/// How the value came about, in the terms of RFC 9211.
const STATUS: http::HeaderName = http::HeaderName::from_static("cache-status");
/// Which tags a value is to have.
const TAGS: http::HeaderName = http::HeaderName::from_static("ringway-tags");
/// The longest content type that is stored; nodes take as much.
const MAX_CONTENT_TYPE_BYTES: usize = 256;

/// What can be asked of a key.
#[derive(Debug, Clone, Copy)]
pub(super) enum Asked {
    Get,
    Set,
    Delete,
}

impl From<Asked> for Operation {
    fn from(asked: Asked) -> Self {
        match asked {
            Asked::Get => Self::Get,
            Asked::Set => Self::Set,
            Asked::Delete => Self::Delete,
        }
    }
}

/// What is asked of a key, if the request is for one.
pub(super) fn asked(method: &Method, uri: &Uri) -> Option<Asked> {
    if !target::is_key(uri.path()) {
        return None;
    }
    match *method {
        Method::GET | Method::HEAD => Some(Asked::Get),
        Method::PUT | Method::POST => Some(Asked::Set),
        Method::DELETE => Some(Asked::Delete),
        _ => None,
    }
}

/// Answers a request for a key.
///
/// The future is one of every request, so it had better be small: what is large is lent to what
/// is called here, and this is no `async fn`, whose parameters are kept twice.
#[expect(clippy::manual_async_fn, reason = "an async fn keeps its parameters twice")]
pub(super) fn respond(
    api: Api,
    asked: Asked,
    parts: Parts,
    body: Incoming,
) -> impl Future<Output = Response<Payload>> {
    async move {
        let worker = api.worker();
        let started = Instant::now();
        let counted = worker.metrics.begun(asked.into());
        let admitted = match worker.admission.admit() {
            Ok(admitted) => admitted,
            Err(overload) => {
                body::discard(&parts.headers, body);
                counted.shed();
                return headed(&parts, worker.refuse(&overload).map(Payload::Streamed));
            }
        };
        let answer = match asked {
            Asked::Get => {
                let _admitted = admitted;
                body::discard(&parts.headers, body);
                get(worker, &parts, started).await
            }
            // These are seldom enough that all requests' futures need not have room for them.
            Asked::Set => {
                // Asked for again later: whoever is slow with a body is not under way meanwhile.
                drop(admitted);
                Box::pin(put(worker, &parts, Body::new(body))).await
            }
            Asked::Delete => {
                let _admitted = admitted;
                Box::pin(delete(worker, &parts, body, started)).await
            }
        };
        let ended = Instant::now();
        let response = match answer {
            Ok((response, waited)) => {
                if let Some(since) = waited {
                    worker.admission.answered(since, ended);
                }
                response
            }
            Err(error) => worker.refuse(&error).map(Payload::Streamed),
        };
        counted.done(response.status(), ended - started);
        headed(&parts, response)
    }
}

/// An answer, and since when a node was asked for it, where that tells how long others wait.
type Answer = (Response<Payload>, Option<Instant>);

/// A HEAD is answered like a GET, without the body.
fn headed(asked: &Parts, response: Response<Payload>) -> Response<Payload> {
    if asked.method == Method::HEAD { without_body(response) } else { response }
}

/// `GET` and `HEAD`.
async fn get(worker: &Worker, parts: &Parts, started: Instant) -> Result<Answer> {
    let Target { group, key, lease, .. } = target::of(&parts.uri)?;
    if lease {
        // Seldom enough for a box.
        return Box::pin(leased::get(worker, parts, (group, key), started)).await;
    }
    let entry = worker.cache.get(group, key, started).await?;
    answered(worker, entry, parts, started)
}

/// The answer with an entry that was read.
fn answered(worker: &Worker, entry: Entry, parts: &Parts, started: Instant) -> Result<Answer> {
    must_match(&parts.headers, entry.version)?;
    let waited = entry.was_at_its_node().then_some(started);
    Ok((found(worker, entry, parts)?, waited))
}

/// The head of an answer, with the length of the body that a GET would have got.
fn without_body(response: Response<Payload>) -> Response<Payload> {
    let (mut head, body) = response.into_parts();
    if let Some(length) = body.size_hint().exact() {
        head.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    Response::from_parts(head, Payload::Whole(Bytes::new()))
}

/// The answer with a value, which counts in the budget of bodies until it is sent.
fn found(worker: &Worker, entry: Entry, asked: &Parts) -> Result<Response<Payload>> {
    let unchanged = not_modified(&asked.headers, entry.version);
    let status = cache_status(&entry);
    let body = if unchanged {
        no_body()
    } else {
        let alone = asked.version != Version::HTTP_2;
        Payload::Whole(worker.process.bodies.hold(entry.value, alone)?)
    };
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
    Ok(response)
}

/// A body without a length, or HEAD would be answered `Content-Length: 0`, which caches take for
/// the length of the value they hold (RFC 9110, 8.6).
fn no_body() -> Payload {
    let nothing = stream::empty::<std::result::Result<Bytes, Infallible>>();
    Payload::Streamed(Body::from_stream(nothing))
}

/// The time from when the entry was stored: whoever reads it takes `Age` off (RFC 9111, 4.2).
fn max_age(age: Duration, ttl_left: Duration) -> HeaderValue {
    // Each rounded down, as `Age` is, so that what is left is never more than it really is.
    let seconds = age.as_secs().saturating_add(ttl_left.as_secs());
    HeaderValue::from_str(&format!("max-age={seconds}"))
        .unwrap_or(HeaderValue::from_static("no-cache"))
}

/// How the value came about. What is stale is told with its `ttl`, which is below zero.
fn cache_status(entry: &Entry) -> HeaderValue {
    let (way, is_loaded) = match entry.way {
        Way::Near => return HeaderValue::from_static("ringway; hit; detail=near"),
        Way::Hit => return HeaderValue::from_static("ringway; hit"),
        Way::Outdated => ("hit", false),
        Way::Stale => ("fwd=stale", false),
        Way::Loaded => ("fwd=miss", true),
        Way::Reloaded => ("fwd=stale", true),
        Way::Renewed => ("fwd=stale; fwd-status=304", true),
    };
    let stored = if is_loaded && entry.is_stored { "; stored" } else { "" };
    let collapsed = if entry.is_collapsed && way != "hit" { "; collapsed" } else { "" };
    let mut text = format!("ringway; {way}{stored}{collapsed}");
    if !is_loaded {
        // Rounded up: not a moment of it was fresh.
        text.push_str(&format!("; ttl=-{}", entry.stale_ms.div_ceil(1000)));
    }
    HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("ringway"))
}

fn content_type(stored: Bytes) -> HeaderValue {
    if stored.is_empty() {
        return DEFAULT_TYPE;
    }
    HeaderValue::from_maybe_shared(stored).unwrap_or(DEFAULT_TYPE)
}

/// `PUT` and `POST`.
async fn put(worker: &Worker, parts: &Parts, body: Body) -> Result<Answer> {
    let (group, key, mut write) = match announced(parts) {
        Ok(announced) => announced,
        Err(error) => {
            body::discard(&parts.headers, body);
            return Err(error);
        }
    };
    let (process, admission) = (&worker.process, &worker.admission);
    let limit = process.max_value(group.as_str());
    let body = body::read(&parts.headers, body, limit, &process.bodies).await?;
    write.value = body.bytes.clone();
    let _admitted = admission.admit()?;
    let asked = Instant::now();
    let stored = worker.cache.put(group, key, write, asked).await?;
    let status = if stored.created { StatusCode::CREATED } else { StatusCode::NO_CONTENT };
    let mut response = empty(status);
    response.headers_mut().insert(header::ETAG, etag(stored.version));
    Ok((response, Some(asked)))
}

fn empty(status: StatusCode) -> Response<Payload> {
    let mut response = Response::new(Payload::Whole(Bytes::new()));
    *response.status_mut() = status;
    response
}

/// What a request's head says of a write, whose value comes after it.
fn announced(parts: &Parts) -> Result<(GroupName, Key, Write)> {
    let target = target::of(&parts.uri)?;
    whole_and_plain(&parts.headers)?;
    let content_type = stored_type(&parts.headers)?;
    let condition = of_write(&parts.headers)?;
    let tags = tags(&parts.headers)?;
    let token = leased::token(&parts.headers)?;
    let (value, ttl) = (Bytes::new(), target.ttl);
    let write = Write { value, content_type, tags, ttl, condition, token };
    Ok((target.group, target.key, write))
}

/// The tags that a value is to have.
fn tags(headers: &HeaderMap) -> Result<Tags> {
    if !headers.contains_key(TAGS) {
        return Ok(Tags::default());
    }
    let list = |list: &'_ HeaderValue| String::from_utf8_lossy(list.as_bytes()).into_owned();
    let lists: Vec<String> = headers.get_all(TAGS).into_iter().map(list).collect();
    Ok(Tags::parse(lists.iter().map(String::as_str))?)
}

/// Refuses what would be stored as something else than its sender means: a part of a value as the
/// whole (RFC 9110, 14.5), or an encoded one without its encoding, which is not kept.
pub(super) fn whole_and_plain(headers: &HeaderMap) -> Result<()> {
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
    headers.get(header::CONTENT_TYPE).map_or(Ok(String::new()), kept_type)
}

/// The same of one that is there.
pub(super) fn kept_type(value: &HeaderValue) -> Result<String> {
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
async fn delete(
    worker: &Worker,
    parts: &Parts,
    body: Incoming,
    started: Instant,
) -> Result<Answer> {
    body::discard(&parts.headers, body);
    let target = target::of(&parts.uri)?;
    let condition = of_write(&parts.headers)?;
    worker.cache.delete(target.group, target.key, condition, started).await?;
    Ok((empty(StatusCode::NO_CONTENT), None))
}

#[cfg(test)]
mod tests;
