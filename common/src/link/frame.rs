//! What a frame may hold, and the Hello that opens a stream: the same for both of its ends.

use proto::v1;
use uuid::Uuid;

use super::{Identity, Peer};
use crate::topology::Epoch;

/// The gRPC method that opens an Exchange stream.
pub const EXCHANGE: &str = "/ringway.v1.Cache/Exchange";
/// Operations in a batch, at most.
pub const MAX_BATCH_OPS: usize = 64;
/// Keys that one hint may name.
pub const HINTS_PER_OPERATION: usize = 256;
/// Bytes in a batch, at most (a single operation may be larger on the bulk lane).
pub const MAX_BATCH_BYTES: usize = 256 << 10;
/// Values over this travel on the bulk lane.
pub const BULK_OVER: usize = 64 << 10;
/// The largest value that any group can be configured to take.
pub const MAX_VALUE_BYTES: usize = 64 << 20;
/// The largest message a stream accepts: a value and what surrounds it.
pub const MAX_MESSAGE_BYTES: usize = MAX_VALUE_BYTES + (64 << 10);
/// The protocol versions spoken here.
pub const PROTOCOL: std::ops::RangeInclusive<u32> = 1..=1;
/// What an operation weighs besides its strings and value: its tags, lengths and numbers, and its
/// part of what surrounds a batch. At least what they take, so that bounds hold on the wire.
const OP_OVERHEAD: usize = 128;
/// What one of a condition's versions takes.
const VERSION_BYTES: usize = 18;
/// What a hinted key takes besides its texts.
const HINTED_BYTES: usize = 10;

/// A Hello was not what it had to be. The text says which field and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HelloError {
    /// The first batch carried none.
    #[error("the stream did not begin with a Hello")]
    Missing,
    /// No protocol version in common.
    #[error("the peer speaks protocol {0} to {1}, this process {PROTOCOL:?}")]
    Protocol(u32, u32),
    /// The peer belongs to another cluster.
    #[error("the peer belongs to service {0:?}")]
    Service(String),
    /// Another node, or another life of it, listens there.
    #[error("{0} was expected there, {1} answered")]
    Peer(String, String),
}

/// The Hello with which `identity` opens or answers a stream.
pub fn hello(identity: &Identity, link: Uuid, lane: v1::Lane, epoch: Option<&Epoch>) -> v1::Hello {
    v1::Hello {
        protocol_min: *PROTOCOL.start(),
        protocol_max: *PROTOCOL.end(),
        service: identity.service.clone(),
        role: identity.role.into(),
        id: identity.id.clone(),
        instance: wire_uuid(identity.instance),
        epoch: epoch.map(|epoch| epoch.to_wire()),
        link: wire_uuid(link),
        lane: lane.into(),
        ..Default::default()
    }
}

/// Checks the Hello of whoever opened a stream to this node.
///
/// # Errors
/// [`HelloError`]; the stream must be closed with it before any operation is looked at.
pub fn accept_hello(own: &Identity, hello: Option<&v1::Hello>) -> Result<(), HelloError> {
    let hello = compatible(own, hello)?;
    let meant = (hello.to_id.as_str(), uuid_of(&hello.to_instance));
    let is_me =
        (meant.0.is_empty() || meant.0 == own.id) && (meant.1.is_nil() || meant.1 == own.instance);
    if is_me {
        return Ok(());
    }
    Err(HelloError::Peer(named(meant.0, meant.1), named(&own.id, own.instance)))
}

/// Checks the Hello with which a node answered.
///
/// # Errors
/// [`HelloError`]; nothing may be sent to it.
pub(super) fn check_answer(
    own: &Identity,
    peer: &Peer,
    hello: Option<&v1::Hello>,
) -> Result<(), HelloError> {
    let hello = compatible(own, hello)?;
    let instance = uuid_of(&hello.instance);
    if hello.id == peer.id && (peer.instance.is_nil() || peer.instance == instance) {
        return Ok(());
    }
    Err(HelloError::Peer(named(&peer.id, peer.instance), named(&hello.id, instance)))
}

fn compatible<'a>(
    own: &Identity,
    hello: Option<&'a v1::Hello>,
) -> Result<&'a v1::Hello, HelloError> {
    let hello = hello.ok_or(HelloError::Missing)?;
    if hello.protocol_min > *PROTOCOL.end() || hello.protocol_max < *PROTOCOL.start() {
        return Err(HelloError::Protocol(hello.protocol_min, hello.protocol_max));
    }
    if hello.service != own.service {
        return Err(HelloError::Service(hello.service.clone()));
    }
    Ok(hello)
}

fn named(id: &str, instance: Uuid) -> String {
    format!("{id} (instance {instance})")
}

/// A UUID's 16 bytes for the wire.
pub fn wire_uuid(uuid: Uuid) -> bytes::Bytes {
    bytes::Bytes::copy_from_slice(uuid.as_bytes())
}

/// A UUID from the wire; nil for anything but 16 bytes.
pub fn uuid_of(bytes: &[u8]) -> Uuid {
    Uuid::from_slice(bytes).unwrap_or_default()
}

/// Whether a request is done only if something holds: not twice, then, and not in two places.
pub fn is_conditional(request: &v1::Request) -> bool {
    request.condition.is_some() || request.lease_token != 0
}

/// About how many bytes an operation takes in a batch.
pub fn weight(op: &v1::op::Kind) -> usize {
    match op {
        v1::op::Kind::Request(request) => request_weight(request),
        v1::op::Kind::Reply(reply) => {
            OP_OVERHEAD + reply.value.len() + reply.message.len() + reply.content_type.len()
        }
        v1::op::Kind::Invalidate(lent) => OP_OVERHEAD + lent.group.len() + lent.key.len(),
        v1::op::Kind::Hint(hint) => {
            let of = |hinted: &v1::HintedKey| HINTED_BYTES + hinted.group.len() + hinted.key.len();
            OP_OVERHEAD + hint.keys.iter().map(of).sum::<usize>()
        }
        _ => OP_OVERHEAD,
    }
}

/// The same for a request that is not in its frame yet.
pub(super) fn request_weight(request: &v1::Request) -> usize {
    let versions = request.condition.as_ref().map_or(0, |condition| condition.if_version.len());
    let names = request.key.len() + request.group.len();
    let words = request.content_type.len() + request.tags.len();
    OP_OVERHEAD + names + words + versions * VERSION_BYTES + request.value.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(service: &str, id: &str) -> Identity {
        Identity {
            service: service.to_owned(),
            role: v1::Role::Node,
            id: id.to_owned(),
            instance: Uuid::from_u128(7),
        }
    }

    #[test]
    fn only_the_node_that_was_meant_accepts_a_stream() {
        let own = identity("ringway", "n1");
        let mut hello = hello(&identity("ringway", "gw"), Uuid::nil(), v1::Lane::Small, None);
        assert_eq!(accept_hello(&own, Some(&hello)), Ok(()));
        hello.to_id = "n1".to_owned();
        hello.to_instance = wire_uuid(Uuid::from_u128(7));
        assert_eq!(accept_hello(&own, Some(&hello)), Ok(()));
        hello.to_instance = wire_uuid(Uuid::from_u128(8));
        assert!(matches!(accept_hello(&own, Some(&hello)), Err(HelloError::Peer(..))));
        assert_eq!(accept_hello(&own, None), Err(HelloError::Missing));
    }

    #[test]
    fn another_cluster_or_protocol_is_refused() {
        let own = identity("ringway", "n1");
        let mut other = hello(&identity("staging", "gw"), Uuid::nil(), v1::Lane::Small, None);
        assert_eq!(
            accept_hello(&own, Some(&other)),
            Err(HelloError::Service("staging".to_owned()))
        );
        (other.protocol_min, other.protocol_max) = (2, 3);
        assert_eq!(accept_hello(&own, Some(&other)), Err(HelloError::Protocol(2, 3)));
    }

    #[test]
    fn a_caller_trusts_only_the_node_it_expects() {
        let own = identity("ringway", "gw");
        let mut peer = Peer { id: "n1".to_owned(), instance: Uuid::nil(), address: String::new() };
        let answer = hello(&identity("ringway", "n1"), Uuid::nil(), v1::Lane::Small, None);
        assert_eq!(check_answer(&own, &peer, Some(&answer)), Ok(()));
        peer.instance = Uuid::from_u128(9);
        assert!(check_answer(&own, &peer, Some(&answer)).is_err());
    }
}
