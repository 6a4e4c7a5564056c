//! The canonical API of a local fleet, as a client uses it.

#![allow(dead_code, reason = "every test crate uses a part of it")]

use std::time::Duration;

use bytes::Bytes;
use fleet::{
    http::{self, Response},
    local::{LocalFleet, Plan},
};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

/// A running fleet and a client of it.
pub(crate) struct Api {
    pub(crate) fleet: LocalFleet,
}

/// Three nodes and a gateway with two workers. Tries are long: what is tested here is what the
/// API says, not how quickly a busy machine answers.
pub(crate) fn plan() -> Plan {
    let mut plan = Plan::default();
    plan.settings.gateway.workers = 2;
    plan.settings.gateway.try_timeout = Duration::from_secs(5);
    plan.settings.gateway.request_timeout = Duration::from_secs(15);
    plan.settings.node.workers = 1;
    plan.settings.node.drain_timeout = Duration::from_secs(1);
    plan
}

impl Api {
    pub(crate) async fn start() -> Self {
        Self::of(plan()).await
    }

    pub(crate) async fn of(plan: Plan) -> Self {
        Self { fleet: LocalFleet::start(plan).await.unwrap() }
    }

    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Response {
        let answer = http::request(self.fleet.gateway(), method, path, headers, body).await;
        answer.unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    pub(crate) async fn get(&self, path: &str) -> Response {
        self.send("GET", path, &[], "").await
    }

    pub(crate) async fn put(&self, path: &str, value: impl Into<Bytes>) -> Response {
        self.send("PUT", path, &[], value).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Response {
        self.send("DELETE", path, &[], "").await
    }

    /// Puts a value that must be taken, and returns its ETag.
    pub(crate) async fn stored(&self, path: &str, value: impl Into<Bytes>) -> String {
        let answer = self.put(path, value).await;
        assert!(matches!(answer.status, 201 | 204), "{path}: {} {}", answer.status, answer.text());
        answer.header("etag").unwrap().to_owned()
    }
}

/// A text with everything percent-encoded that can be.
pub(crate) fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

/// `/api/cache?group=&key=`
pub(crate) fn query(group: &str, key: &str) -> String {
    format!("/api/cache?group={}&key={}", encoded(group), encoded(key))
}

/// `/api/cache/{group}/{key}`
pub(crate) fn path(group: &str, key: &str) -> String {
    format!("/api/cache/{}/{}", encoded(group), encoded(key))
}

/// That an answer is an error of this status and code, in the one shape that errors have.
pub(crate) fn assert_error(what: &str, answer: &Response, status: u16, code: &str) {
    let text = answer.text();
    assert_eq!(answer.status, status, "{what}: {text}");
    assert_eq!(answer.header("content-type"), Some("application/json"), "{what}");
    let json = answer.json();
    assert_eq!(json["error"], code, "{what}: {text}");
    let fields: Vec<_> = json.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(fields, ["error", "message", "request_id", "timestamp"], "{what}: {text}");
    assert!(json["message"].as_str().is_some_and(|message| message.len() > 5), "{what}: {text}");
    let timestamp = json["timestamp"].as_str().unwrap();
    let age = jiff::Timestamp::now().duration_since(timestamp.parse().unwrap());
    assert!(age.abs() < jiff::SignedDuration::from_mins(1), "{what}: {timestamp}");
    assert!(json["request_id"].as_str().is_some_and(|id| !id.is_empty()), "{what}: {text}");
    assert_eq!(answer.header("x-request-id"), json["request_id"].as_str(), "{what}");
}
