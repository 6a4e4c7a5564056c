//! What callers ask of a router, in validated types.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use proto::v1;
use uuid::Uuid;

use crate::{
    entry::Version,
    key::{GroupName, Key},
    link::frame::{is_conditional, wire_uuid},
    tags::Tags,
    topology::Topology,
};

/// One operation on one key. Shared from the start, with whoever sends it, keeps it or sends it
/// once more.
#[derive(Debug, Clone)]
pub struct Ask(Arc<v1::Request>);

/// What to store, and when.
#[derive(Debug, Clone, Default)]
pub struct Write {
    /// The value.
    pub value: Bytes,
    /// Its content type; empty: `application/octet-stream`.
    pub content_type: String,
    /// Its tags.
    pub tags: Tags,
    /// Time to live; `None`: the group's own.
    pub ttl: Option<Duration>,
    /// Only if this holds.
    pub condition: Option<v1::Condition>,
    /// Only if this is the key's load token.
    pub token: Option<u64>,
}

impl Ask {
    /// Read a key.
    pub fn get(group: GroupName, key: Key) -> Self {
        Self::of(Self::plain(v1::Verb::Get, group, key))
    }

    /// And hold its value for so long, if its owner lends it.
    #[must_use]
    pub fn to_hold(mut self, lease: Duration) -> Self {
        Arc::make_mut(&mut self.0).loan_ms = lease.as_millis() as u32;
        self
    }

    /// And be told, if there is none, whether to bring it.
    #[must_use]
    pub fn to_load(mut self) -> Self {
        Arc::make_mut(&mut self.0).lease = true;
        self
    }

    /// Write a key.
    pub fn set(group: GroupName, key: Key, write: Write) -> Self {
        Self::of(v1::Request {
            value: write.value,
            content_type: write.content_type,
            tags: write.tags.into_string(),
            lease_token: write.token.unwrap_or(0),
            ttl_ms: write.ttl.map_or(0, ttl_ms),
            condition: write.condition.map(Box::new),
            ..Self::plain(v1::Verb::Set, group, key)
        })
    }

    /// Delete a key.
    pub fn delete(group: GroupName, key: Key, condition: Option<v1::Condition>) -> Self {
        Self::of(v1::Request {
            condition: condition.map(Box::new),
            ..Self::plain(v1::Verb::Delete, group, key)
        })
    }

    fn of(request: v1::Request) -> Self {
        Self(Arc::new(request))
    }

    fn plain(verb: v1::Verb, group: GroupName, key: Key) -> v1::Request {
        v1::Request {
            verb: verb.into(),
            group: group.into_string(),
            key: key.into_string(),
            ..Default::default()
        }
    }

    /// What will be asked.
    pub fn request(&self) -> &v1::Request {
        &self.0
    }

    pub(super) fn into_request(self) -> Arc<v1::Request> {
        self.0
    }
}

/// Says which group is meant, as far as it is known here.
pub(super) fn introduce(request: &mut Arc<v1::Request>, topology: &Topology) {
    let Some(group) = topology.group(&request.group) else { return };
    let (hi, lo) = group.id.as_u64_pair();
    let request = Arc::make_mut(request);
    (request.group_id_hi, request.group_id_lo) = (hi, lo);
    request.group_revision = group.revision;
}

/// A time to live on the wire. One below the wire's resolution must not become "the group's own",
/// nor one of aeons a short one.
fn ttl_ms(ttl: Duration) -> u64 {
    u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).max(1)
}

/// The version of a reply.
pub fn version_of(reply: &v1::Reply) -> Version {
    Version { as_of: reply.version_hi, clock: reply.version_lo }
}

/// Gives unconditional writes a name, so that a repeated one is applied once.
pub(super) struct OpIds {
    /// A UUID's bytes, shared by all requests.
    link: Bytes,
    next: AtomicU64,
}

impl OpIds {
    pub(super) fn new() -> Self {
        Self { link: wire_uuid(Uuid::new_v4()), next: AtomicU64::new(1) }
    }

    pub(super) fn name(&self, request: &mut Arc<v1::Request>) {
        if request.verb() != v1::Verb::Get && !is_conditional(request) {
            let request = Arc::make_mut(request);
            request.op_link = self.link.clone();
            request.op_seq = self.next.fetch_add(1, Ordering::Relaxed);
        }
    }
}
