//! Operations whose sender passes over their owner: asked of the owner from here, one hop away, and
//! if it can't be reached from here either, done in its stead.
//!
//! A relay is an ordinary request of a node: its receiver does it as the owner or refuses, and never
//! sends it on (docs/adr/007-relays-are-requests.md). It goes under its writer's own name, so that
//! a write which the owner had applied already is answered and not applied twice.

use std::{sync::Arc, time::Duration};

use common::{
    discovery::NodeRecord,
    error::{Code, Error},
    near::LEASE,
    route::{Handed, Member, Router},
};
use proto::v1::{self, Lane, Verb, not_started::Reason, op::Kind};
use tokio::time::{Instant, sleep_until};

use super::{
    NodeService,
    away::{Claim, Crowded},
    deferred::Deferred,
    loading,
    operation::{self, Later, Moment, NotYet, Sender, execute, not_started},
};
use crate::group::{Partition, Waiting};

/// How long the owner may take to answer, so that a requester that has waited for it once, for its
/// own try, still gets its answer soon.
const RELAY_TRY: Duration = Duration::from_millis(125);
/// How much longer on the bulk lane.
const BULK_RELAY_FACTOR: u32 = 4;
/// A write whose relay was not answered is done here when this much of the try is over: by then
/// the owner refuses what is still on its way as stale.
const SETTLE: f64 = 1.1;
/// When a refused requester may come again.
const COME_AGAIN: Duration = Duration::from_secs(1);

/// Does an operation in its owner's stead at once if this node does not call the owner at present.
///
/// # Errors
/// The owner has to be asked, or the key is being loaded.
pub(super) fn at_once(
    node: &Arc<NodeService>,
    router: &Router,
    request: &v1::Request,
    sender: &Sender<'_>,
) -> Result<Kind, NotYet> {
    const ASK: NotYet = NotYet::Later(Later::PassedOver);
    let owner = router.owner_of(&request.group, &request.key).ok_or(ASK)?;
    if owner.record().id == node.id {
        return Err(ASK);
    }
    // A write waits for what the owner may have lent before it was heard last: for nothing if that is
    // long ago.
    let is_long_ago = owner.ejected_for().is_some_and(|ejected| ejected >= LEASE);
    if request.verb() != Verb::Get && !owner.is_callable() && !is_long_ago {
        return Err(ASK);
    }
    // Before the look at the owner's health: it may come back and ask for its hints meanwhile.
    let Ok(claim) = claim(node, owner.record(), request) else {
        return Ok(not_started(Reason::Overloaded));
    };
    if owner.is_callable() {
        return Err(ASK);
    }
    let done = stand_in(node, owner.record(), request, sender, claim);
    done.map(|(kind, _)| kind).map_err(NotYet::Loading)
}

/// Relays an operation to its owner, or stands in for it.
pub(super) async fn relay(op: &Deferred) -> Kind {
    let (node, request) = (&op.node, &op.request);
    let owner = op.router.owner_of(&request.group, &request.key);
    let Some(owner) = owner.filter(|owner| owner.record().id != node.id) else {
        return not_started(Reason::CatchingUp);
    };
    let Ok(claim) = claim(node, owner.record(), request) else {
        return not_started(Reason::Overloaded);
    };
    let started = Instant::now();
    let try_time = RELAY_TRY * if op.lane == Lane::Bulk { BULK_RELAY_FACTOR } else { 1 };
    let handed = if owner.is_callable() {
        node.metrics.relays.inc();
        let asked = v1::Request { stand_in: false, loan_ms: 0, ..request.clone() };
        owner.hand(asked, op.lane, try_time, op.deadline()).await
    } else {
        Handed::NotReached
    };
    let is_write = request.verb() != Verb::Get;
    let refused = match handed {
        Handed::Reply(_) | Handed::Moved(_) | Handed::Full => return done(node, &owner, handed),
        Handed::Refused => true,
        Handed::NotReached => false,
        // The outcome is unknown: it may not be done here as well, or not yet.
        Handed::Unknown { lasting } if is_write && (lasting || request.condition.is_some()) => {
            node.metrics.relays_failed.inc();
            return outcome_unknown();
        }
        Handed::Unknown { .. } => {
            if is_write {
                sleep_until(started + try_time.mul_f64(SETTLE)).await;
            }
            false
        }
    };
    node.metrics.relays_failed.inc();
    if is_write && Instant::now() >= op.deadline() {
        return outcome_unknown();
    }
    let moment = Moment::of(node);
    let done = stand_in(node, owner.record(), request, &op.sender(&moment), claim);
    let (kind, has_hint) = match done {
        Ok(done) => done,
        Err(waiting) => {
            if refused {
                node.heard_of(&owner);
            }
            return loading::answer(op, waiting).await;
        }
    };
    let written = Instant::now();
    let mut has_heard = false;
    if refused {
        node.heard_of(&owner);
        if has_hint {
            // It lives: it must not answer with what it has before it has heard. If it does not
            // take the hint now, that is tried again.
            has_heard = node.deliver_hints(&owner).await;
        }
    }
    if has_hint && !has_heard {
        // It may have lent the old value until a moment ago.
        sleep_until(written + LEASE).await;
    }
    kind
}

/// The owner's own answer.
fn done(node: &NodeService, owner: &Member<'_>, handed: Handed) -> Kind {
    match handed {
        Handed::Reply(reply) => {
            node.metrics.relays_done.inc();
            node.heard_of(owner);
            Kind::Reply(reply)
        }
        Handed::Moved(moved) => {
            node.heard_of(owner);
            Kind::Moved(moved)
        }
        _ => {
            let text = format!("too much is queued for node {}", owner.record().id);
            Kind::Reply(Error::new(Code::Overloaded, text).retry_after(COME_AGAIN).to_reply())
        }
    }
}

/// The claim of a write; reads need none.
fn claim(
    node: &NodeService,
    owner: &NodeRecord,
    request: &v1::Request,
) -> Result<Option<Claim>, Crowded> {
    // What is held here for a former life of the owner is older than what the present one has.
    if node.away.knew_another(owner) {
        node.give_back(&owner.id);
    }
    if request.verb() == Verb::Get {
        return Ok(None);
    }
    node.away.claim(owner, &request.group, &request.key).map(Some)
}

/// Does the operation here, if the group allows that. Whether the owner has to hear of it. `Err`: its
/// key is being loaded.
fn stand_in(
    node: &Arc<NodeService>,
    owner: &NodeRecord,
    request: &v1::Request,
    sender: &Sender<'_>,
    claim: Option<Claim>,
) -> Result<(Kind, bool), Waiting> {
    let strict = |group: &crate::group::Group| operation::partition_of(group) == Partition::Strict;
    if node.groups.now().get(&request.group).is_some_and(|it| strict(&it.group)) {
        let text = format!("node {} can't be reached, and its group is strict", owner.id);
        let error = Error::new(Code::NodeUnavailable, text).retry_after(COME_AGAIN);
        return Ok((Kind::Reply(error.to_reply()), false));
    }
    if let Some(claim) = &claim {
        claim.hold();
    }
    let alone = Sender { stands_in_for: Some(owner), holder: None, ..*sender };
    // Another change of the ring, or another standstill, at this moment: the requester goes on.
    let kind = match execute(node, request, &alone) {
        Ok(kind) => kind,
        Err(NotYet::Loading(waiting)) => {
            node.metrics.stand_ins.inc();
            return Err(waiting);
        }
        Err(NotYet::Later(_)) => not_started(Reason::CatchingUp),
    };
    let Kind::Reply(reply) = &kind else { return Ok((kind, false)) };
    node.metrics.stand_ins.inc();
    // A deletion that found nothing here still has to happen at the owner.
    let was_written = match request.verb() {
        Verb::Set => reply.code() == v1::Code::Ok,
        Verb::Delete => matches!(reply.code(), v1::Code::Ok | v1::Code::NotFound),
        Verb::Get | Verb::Unspecified => false,
    };
    match claim.filter(|_| was_written) {
        Some(claim) => {
            claim.keep();
            Ok((kind, true))
        }
        None => Ok((kind, false)),
    }
}

fn outcome_unknown() -> Kind {
    let text = "the owner did not answer in time; whether the write was applied is unknown";
    Kind::Reply(Error::new(Code::Timeout, text).to_reply())
}
