//! Operations whose sender passes over their owner: asked of the owner from here, one hop away, and
//! if it can't be reached from here either, done in its stead.
//!
//! A relay is an ordinary request of a node: its receiver does it as the owner or refuses, and never
//! sends it on (docs/adr/007-relays-are-requests.md). It goes under its writer's own name, so that
//! a write which the owner had applied already is answered and not applied twice. That one is not
//! answered does not make its owner absent: `absence` says what does.

use std::{sync::Arc, time::Duration};

use common::{
    discovery::NodeRecord,
    error::{Code, Error},
    link::frame::is_conditional,
    near::LEASE,
    route::{Handed, Member, Router},
};
use proto::v1::{self, Lane, Verb, not_started::Reason, op::Kind};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use super::{
    NodeService,
    absence::Standing,
    away::{Claim, Crowded},
    deferred::Deferred,
    loading,
    operation::{self, Later, Moment, NotYet, Sender, execute, not_started},
};
use crate::group::{Partition, Waiting};

/// How long the owner may take to answer, so that a requester that has waited for it once, for its
/// own try, still gets its answer soon. To be short costs little: a read that is not answered by then
/// may miss, and nothing else is done before more is known.
const RELAY_TRY: Duration = Duration::from_millis(100);
/// How much longer on the bulk lane.
const BULK_RELAY_FACTOR: u32 = 4;
/// A write whose relay was not answered is done here when this much of the try is over: by then
/// the owner refuses what is still on its way as stale.
const SETTLE: f64 = 1.1;
/// From try to try of telling an owner that lives of a write that waits for that.
const TELL_AGAIN: Duration = Duration::from_millis(50);
const NO_ANSWER: &str = "the owner did not answer in time";
/// When a refused requester may come again.
const COME_AGAIN: Duration = Duration::from_secs(1);

/// Does an operation in its owner's stead at once: any if the owner is known to be absent, and reads of
/// what is not held here if this node does not call it at present.
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
    let is_absent = || node.absences.is_absent(owner.record(), node.clock.monotonic());
    let is_harmless = !owner.is_callable() && !needs_absence(node, owner.record(), request);
    if !is_harmless && !is_absent() {
        return Err(ASK);
    }
    let Ok(claim) = claim(node, owner.record(), request) else {
        return Ok(not_started(Reason::Overloaded));
    };
    // Once more after the claim: it may have come back and asked for its hints meanwhile.
    if claim.is_some() && !is_absent() {
        return Err(ASK);
    }
    let done = stand_in(node, owner.record(), request, sender, claim);
    done.map(|(kind, _)| kind).map_err(NotYet::Loading)
}

/// Whether an operation may be done in an owner's stead only when that is known to be absent. While it
/// lives it may serve others who reach it, and who would not see this write; or have newer values
/// than what is held here. A read that finds nothing, or what the origin has, does no harm, and what is
/// refused anyway need not wait for that.
fn needs_absence(node: &NodeService, owner: &NodeRecord, request: &v1::Request) -> bool {
    let touches_what_is_held =
        || request.verb() != Verb::Get || node.away.holds(&owner.id, &request.group, &request.key);
    !is_strict(node, request) && touches_what_is_held()
}

fn is_strict(node: &NodeService, request: &v1::Request) -> bool {
    let groups = node.groups.now();
    let served = groups.get(&request.group);
    served.is_some_and(|it| operation::partition_of(&it.group) == Partition::Strict)
}

/// Relays an operation to its owner, again for as long as that lives and does not answer, or stands in
/// for it.
pub(super) async fn relay(op: &Deferred) -> Kind {
    let (node, request) = (&op.node, &op.request);
    let is_write = request.verb() != Verb::Get;
    let mut try_time = RELAY_TRY * if op.lane == Lane::Bulk { BULK_RELAY_FACTOR } else { 1 };
    let mut is_unknown = false;
    loop {
        let owner = op.router.owner_of(&request.group, &request.key);
        let Some(owner) = owner.filter(|owner| owner.record().id != node.id) else {
            return given_up(is_unknown, Reason::CatchingUp);
        };
        let Ok(claim) = claim(node, owner.record(), request) else {
            return given_up(is_unknown, Reason::Overloaded);
        };
        // A large value leaves no time to begin with that only when its try is over.
        let watched = is_write && op.lane == Lane::Bulk;
        let _watching = watched.then(|| node.absences.watch(owner.record()));
        let started = Instant::now();
        let refused = match hand(op, &owner, try_time).await {
            Handed::Full if is_unknown => return outcome_unknown(),
            handed @ (Handed::Reply(_) | Handed::Moved(_) | Handed::Full) => {
                return done(node, &owner, handed);
            }
            Handed::Refused => true,
            Handed::NotReached => false,
            // The outcome is unknown: it may not be done here as well, or not yet.
            Handed::Unknown { lasting } if is_write && (lasting || is_conditional(request)) => {
                node.metrics.relays_failed.inc();
                return outcome_unknown();
            }
            Handed::Unknown { .. } => {
                if is_write {
                    is_unknown = true;
                    sleep_until(started + try_time.mul_f64(SETTLE)).await;
                }
                false
            }
        };
        node.metrics.relays_failed.inc();
        if is_write && Instant::now() >= op.deadline() {
            return outcome_unknown();
        }
        if refused {
            return in_stead_of_a_living(op, &owner, claim).await;
        }
        if !needs_absence(node, owner.record(), request) {
            return in_stead(op, &owner, claim).await;
        }
        let standing = node.absences.of(owner.record(), node.clock.as_ref());
        match timeout_at(op.deadline(), standing).await {
            Ok(Standing::Absent) => return in_stead(op, &owner, claim).await,
            // Without a name a write that it has applied would be applied twice.
            Ok(Standing::Heard) if is_unknown && request.op_link.is_empty() => {
                return outcome_unknown();
            }
            Ok(Standing::Heard) => try_time *= 2,
            Err(_) if is_write => return outcome_unknown(),
            Err(_) => return Kind::Reply(Error::new(Code::Timeout, NO_ANSWER).to_reply()),
        }
    }
}

/// Asks the owner, if this node calls it at present.
async fn hand(op: &Deferred, owner: &Member<'_>, try_time: Duration) -> Handed {
    if !owner.is_callable() {
        return Handed::NotReached;
    }
    op.node.metrics.relays.inc();
    let asked = v1::Request { stand_in: false, loan_ms: 0, ..op.request.clone() };
    owner.hand(asked, op.lane, try_time, op.deadline()).await
}

/// Stands in for an owner that is absent, or where that does no harm.
async fn in_stead(op: &Deferred, owner: &Member<'_>, claim: Option<Claim>) -> Kind {
    let moment = Moment::of(&op.node);
    match stand_in(&op.node, owner.record(), &op.request, &op.sender(&moment), claim) {
        Ok((kind, _)) => kind,
        Err(waiting) => loading::answer(op, waiting).await,
    }
}

/// Stands in for an owner that has refused: it lives, and must not answer with what it has before it has
/// heard of a write. What is held here for it is void, before anything is read of it; and so is what is
/// written now.
async fn in_stead_of_a_living(op: &Deferred, owner: &Member<'_>, claim: Option<Claim>) -> Kind {
    let node = &op.node;
    node.heard_of(owner);
    let moment = Moment::of(node);
    let done = stand_in(node, owner.record(), &op.request, &op.sender(&moment), claim);
    node.heard_of(owner);
    match done {
        Ok((kind, false)) => kind,
        Ok((kind, true)) => match timeout_at(op.deadline(), told(op, owner)).await {
            Ok(()) => kind,
            Err(_) => outcome_unknown(),
        },
        Err(waiting) => loading::answer(op, waiting).await,
    }
}

/// Waits until the owner has taken its hints, or can't answer anybody any more.
async fn told(op: &Deferred, owner: &Member<'_>) {
    let (node, record) = (&op.node, owner.record());
    let written = Instant::now();
    let is_gone = || {
        let member = op.router.member(&record.id);
        let is_member = member.is_some_and(|it| it.record().instance == record.instance);
        !is_member || node.absences.is_absent(record, node.clock.monotonic())
    };
    while !node.deliver_hints(owner).await {
        if is_gone() {
            // It may have lent the old value until a moment ago.
            return sleep_until(written + LEASE).await;
        }
        sleep(TELL_AGAIN).await;
    }
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
    if is_strict(node, request) {
        let text = format!("node {} can't be reached, and its group is strict", owner.id);
        let error = Error::new(Code::NodeUnavailable, text).retry_after(COME_AGAIN);
        return Ok((Kind::Reply(error.to_reply()), false));
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

/// Refuses an operation, unless it may have been done.
fn given_up(is_unknown: bool, reason: Reason) -> Kind {
    if is_unknown { outcome_unknown() } else { not_started(reason) }
}

fn outcome_unknown() -> Kind {
    let text = format!("{NO_ANSWER}; whether the write was applied is unknown");
    Kind::Reply(Error::new(Code::Timeout, text).to_reply())
}
