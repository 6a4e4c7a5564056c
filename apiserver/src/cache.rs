//! The cache as every HTTP dialect sees it: get, put and delete of one key or of many, by a
//! deadline.
//!
//! Dialects translate; they have no behaviour of their own. Where an operation goes is decided by
//! [`common::route`], what it does by the node.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use common::{
    entry::Version,
    error::Result,
    key::{GroupName, Key},
    route::{Answered, Ask, Many, Router, Write, version_of},
    topology::Topology,
};
use futures_util::FutureExt;
use proto::v1::{self, Condition};
use tokio::time::Instant;

/// A value, and what is to be known about it.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) value: Bytes,
    /// Empty: `application/octet-stream`.
    pub(crate) content_type: String,
    pub(crate) version: Version,
    pub(crate) age: Duration,
    /// `None`: it never expires.
    pub(crate) ttl: Option<Duration>,
    pub(crate) source: v1::Source,
}

impl Entry {
    fn of(reply: v1::Reply) -> Self {
        Self {
            version: version_of(&reply),
            source: reply.source(),
            value: reply.value,
            content_type: reply.content_type,
            age: Duration::from_millis(reply.age_ms),
            ttl: (reply.ttl_ms > 0).then(|| Duration::from_millis(reply.ttl_ms)),
        }
    }
}

/// What a write did.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) version: Version,
    pub(crate) created: bool,
}

/// One worker's way to the cluster.
pub(crate) struct Cache {
    router: Arc<Router>,
    request_timeout: Duration,
}

impl Cache {
    pub(crate) fn new(router: Router, request_timeout: Duration) -> Self {
        Self { router: Arc::new(router), request_timeout }
    }

    /// The topology as of now.
    pub(crate) fn topology(&self) -> Arc<Topology> {
        self.router.shared().topologies.load()
    }

    /// No `async fn`: its future would keep room for the names.
    pub(crate) fn get(
        &self,
        group: GroupName,
        key: Key,
        started: Instant,
    ) -> impl Future<Output = Result<Entry>> {
        self.call(Ask::get(group, key), started).map(|answered| Ok(Entry::of(answered?.reply)))
    }

    pub(crate) async fn put(
        &self,
        group: GroupName,
        key: Key,
        write: Write,
        started: Instant,
    ) -> Result<Stored> {
        let reply = self.call(Ask::set(group, key, write), started).await?.reply;
        Ok(Stored { version: version_of(&reply), created: reply.created })
    }

    pub(crate) async fn delete(
        &self,
        group: GroupName,
        key: Key,
        condition: Option<Condition>,
        started: Instant,
    ) -> Result<()> {
        self.call(Ask::delete(group, key, condition), started).await.map(drop)
    }

    /// Operations of one request, about `count` of them, that are begun together.
    pub(crate) fn many(&self, count: usize, started: Instant) -> Many {
        Many::new(Arc::clone(&self.router), count, self.deadline(started))
    }

    /// When a request's time is over that began to run at `started`.
    fn deadline(&self, started: Instant) -> Instant {
        started + self.request_timeout
    }

    fn call(&self, ask: Ask, started: Instant) -> impl Future<Output = Result<Answered>> {
        self.router.call(ask, self.deadline(started))
    }
}
