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
    near::LEASE,
    route::{Answered, Ask, Many, Router, Write, version_of},
    topology::Topology,
};
use futures_util::{
    FutureExt,
    future::{Either, ready},
};
use proto::v1::{self, Condition};
use tokio::time::Instant;

use crate::near::{Lent, Look, Near, Wish};

/// A value, and what is to be known about it.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) value: Bytes,
    /// Text; empty: `application/octet-stream`.
    pub(crate) content_type: Bytes,
    pub(crate) version: Version,
    pub(crate) age: Duration,
    /// `None`: it never expires.
    pub(crate) ttl: Option<Duration>,
    pub(crate) way: Way,
    /// Somebody else's load, or read, brought it.
    pub(crate) is_collapsed: bool,
    /// It was loaded, and is kept.
    pub(crate) is_stored: bool,
    /// Time since it expired, in milliseconds.
    pub(crate) stale_ms: u32,
}

/// How a value came. Not the wire's word for it, which takes four bytes in each request's future.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// It was held here.
    Near,
    /// It was at its node.
    Hit,
    /// The same, past its time; its origin is being asked for the next reader.
    Outdated,
    /// The same, and its origin failed or is late.
    Stale,
    /// Its origin had it, and its node nothing.
    Loaded,
    /// Its origin had it, and its node one that was past its time.
    Reloaded,
    /// Its origin said that what its node has is still true.
    Renewed,
}

impl From<v1::Source> for Way {
    fn from(source: v1::Source) -> Self {
        match source {
            v1::Source::Hit => Self::Hit,
            v1::Source::Outdated => Self::Outdated,
            v1::Source::Stale => Self::Stale,
            v1::Source::Loaded => Self::Loaded,
            v1::Source::Reloaded => Self::Reloaded,
            v1::Source::Renewed => Self::Renewed,
        }
    }
}

impl Entry {
    /// Whether the time until it came tells how long others wait. What was held here tells nothing,
    /// nor what had to be loaded.
    pub(crate) fn was_at_its_node(&self) -> bool {
        self.way == Way::Hit
    }
}

impl From<v1::Reply> for Entry {
    fn from(reply: v1::Reply) -> Self {
        Self {
            version: version_of(&reply),
            way: reply.source().into(),
            is_collapsed: reply.collapsed,
            is_stored: !reply.not_stored,
            stale_ms: reply.stale_ms,
            value: reply.value,
            content_type: reply.content_type.into(),
            age: Duration::from_millis(reply.age_ms),
            ttl: (reply.ttl_ms > 0).then(|| Duration::from_millis(reply.ttl_ms)),
        }
    }
}

impl From<Lent> for Entry {
    fn from(lent: Lent) -> Self {
        let Lent { value, content_type, version, age, ttl } = lent;
        Self {
            value,
            content_type,
            version,
            age,
            ttl,
            way: Way::Near,
            is_collapsed: false,
            is_stored: true,
            stale_ms: 0,
        }
    }
}

/// What a reader gets who would load what is missing.
#[derive(Debug)]
pub(crate) enum Leased {
    Entry(Entry),
    /// There is no value, and this reader is to bring it, with the token.
    Token(u64),
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
    near: Option<Arc<Near>>,
    request_timeout: Duration,
}

impl Cache {
    /// `near` has to be the one for which the router was made.
    pub(crate) fn new(router: Router, near: Option<Arc<Near>>, request_timeout: Duration) -> Self {
        Self { router: Arc::new(router), near, request_timeout }
    }

    /// The topology as of now.
    pub(crate) fn topology(&self) -> Arc<Topology> {
        self.router.shared().topologies.load()
    }

    /// Reads a key: from what is held here, or from its owner.
    ///
    /// No `async fn`: its future would keep room for the names.
    pub(crate) fn get(
        &self,
        group: GroupName,
        key: Key,
        started: Instant,
    ) -> impl Future<Output = Result<Entry>> {
        let look = self
            .near
            .as_ref()
            .map(|near| near.look(&self.router.shared().topologies, group.as_str(), key.as_str()));
        match look {
            Some(Look::Held(lent)) => Either::Left(ready(Ok(lent.into()))),
            None | Some(Look::Ask(None)) => Either::Right(Either::Left(
                self.call(Ask::get(group, key), started).map(|answered| Ok(answered?.reply.into())),
            )),
            // Once in a lease and key: seldom enough for a box.
            Some(Look::Ask(Some(wish))) => {
                let ask = Ask::get(group.clone(), key.clone());
                let borrowed = self.borrow(wish, ask, group, key, started);
                Either::Right(Either::Right(Box::pin(borrowed.map(|reply| Ok(reply?.into())))))
            }
        }
    }

    /// The same for who would load what is missing: if there is nothing, one of them is told to. Who is
    /// not told so fails with [`Code::NotFound`](common::error::Code), and hears when to come again.
    pub(crate) async fn get_leased(
        &self,
        group: GroupName,
        key: Key,
        started: Instant,
    ) -> Result<Leased> {
        let ask = Ask::get(group.clone(), key.clone()).to_load();
        let topologies = &self.router.shared().topologies;
        let look = self.near.as_ref().map(|it| it.look(topologies, group.as_str(), key.as_str()));
        let reply = match look {
            Some(Look::Held(lent)) => return Ok(Leased::Entry(lent.into())),
            None | Some(Look::Ask(None)) => self.call(ask, started).await?.reply,
            Some(Look::Ask(Some(wish))) => self.borrow(wish, ask, group, key, started).await?,
        };
        Ok(if reply.to_bring {
            Leased::Token(reply.version_lo)
        } else {
            Leased::Entry(reply.into())
        })
    }

    /// Asks for a value that is to be held here.
    async fn borrow(
        &self,
        wish: Wish,
        ask: Ask,
        group: GroupName,
        key: Key,
        started: Instant,
    ) -> Result<v1::Reply> {
        let ask = ask.to_hold(LEASE);
        let answered = self.call(ask, started).await;
        let lent = answered.as_ref().ok().and_then(|a| Some((a.lender()?, &a.reply)));
        match (&self.near, lent) {
            (Some(near), Some((lender, reply))) => {
                near.install(&wish, group.as_str(), key.as_str(), reply, lender);
            }
            (Some(near), None) => near.not_lent(&wish),
            (None, _) => {}
        }
        Ok(answered?.reply)
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
