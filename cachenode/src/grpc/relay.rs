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
    away::{Claim, Crowded, Kept},
    deferred::Deferred,
    loading,
    operation::{self, Later, Moment, NotYet, Sender, execute, not_started},
    passed::Passed,
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

/// Does an operation in its owner's stead at once: any if the owner, and everybody else who was passed
/// by, is known to be absent, and reads of what is not held here if this node does not call the owner at
/// present.
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
    let passed = passed_by(node, request).ok_or(ASK)?;
    let owner = router.member(&passed.owner().id).ok_or(ASK)?;
    let are_absent = || {
        let now = node.clock.monotonic();
        passed.all().all(|member| node.absences.is_absent(member, now))
    };
    let is_harmless = || !owner.is_callable() && !needs_absence(node, &passed, request);
    if !are_absent() && !is_harmless() {
        return Err(ASK);
    }
    let Ok(claims) = claim(node, &passed, request) else {
        return Ok(crowded());
    };
    // Once more after the claim: they may have come back and asked for their hints meanwhile.
    if !claims.is_empty() && !are_absent() {
        return Err(ASK);
    }
    let (kind, was_written) = stand_in(node, &passed, request, sender).map_err(NotYet::Loading)?;
    if was_written {
        claims.into_iter().for_each(Claim::keep);
    }
    Ok(kind)
}

fn passed_by(node: &NodeService, request: &v1::Request) -> Option<Passed> {
    Passed::of(node.topology(), &node.id, &request.group, &request.key)
}

/// Whether an operation may be done in an owner's stead only when that is known to be absent, and whoever
/// else was passed by. While they live they may serve others who reach them, and who would not see this
/// write; or have newer values than what is held here. A read that finds nothing, or what the origin has,
/// does no harm, and what is refused anyway need not wait for that.
fn needs_absence(node: &NodeService, passed: &Passed, request: &v1::Request) -> bool {
    let is_held = |member: &NodeRecord| node.away.holds(&member.id, &request.group, &request.key);
    let touches_what_is_held = || request.verb() != Verb::Get || passed.all().any(is_held);
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
    let mut is_unknown = false;
    let kind = relay_until_done(op, &mut is_unknown).await;
    settled(is_unknown, &op.request, kind)
}

/// `is_unknown` is set once the owner may have applied the write.
async fn relay_until_done(op: &Deferred, is_unknown: &mut bool) -> Kind {
    let (node, request) = (&op.node, &op.request);
    let is_write = request.verb() != Verb::Get;
    let mut try_time = RELAY_TRY * if op.lane == Lane::Bulk { BULK_RELAY_FACTOR } else { 1 };
    loop {
        let passed = passed_by(node, request);
        let owner = passed.as_ref().and_then(|passed| op.router.member(&passed.owner().id));
        let (Some(passed), Some(owner)) = (passed, owner) else {
            return not_started(Reason::CatchingUp);
        };
        let Ok(claims) = claim(node, &passed, request) else { return crowded() };
        // A large value leaves no time to begin with that only when its try is over.
        let watched = is_write && op.lane == Lane::Bulk;
        let _watching = watched.then(|| node.absences.watch(owner.record()));
        let started = Instant::now();
        let refused = match hand(op, &owner, try_time).await {
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
                    *is_unknown = true;
                    let over = started + try_time.mul_f64(SETTLE);
                    sleep_until(over.min(op.deadline())).await;
                }
                false
            }
        };
        node.metrics.relays_failed.inc();
        if Instant::now() >= op.deadline() {
            return late(request);
        }
        let touches_held = needs_absence(node, &passed, request);
        // All at once, and to the end: who is not waited for is forgotten, also while another one is asked.
        let _all_watched: Vec<_> = if touches_held {
            passed.all().map(|member| node.absences.watch(member)).collect()
        } else {
            Vec::new()
        };
        if !refused && touches_held {
            let standing = node.absences.of(owner.record(), node.clock.as_ref());
            match timeout_at(op.deadline(), standing).await {
                Ok(Standing::Absent) => {}
                // Without a name a write that it has applied would be applied twice.
                Ok(Standing::Heard) if *is_unknown && request.op_link.is_empty() => {
                    return outcome_unknown();
                }
                Ok(Standing::Heard) => {
                    try_time = longer(try_time, op.deadline());
                    continue;
                }
                Err(_) => return late(request),
            }
        }
        if let Some(kind) = in_stead(op, &owner, &passed, claims, refused).await {
            return kind;
        }
    }
}

/// The next try's time: twice as long, if there is as much.
fn longer(try_time: Duration, deadline: Instant) -> Duration {
    (try_time * 2).min(deadline.saturating_duration_since(Instant::now()))
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

/// Stands in for an owner that is absent, or has refused, or where that does no harm. `None`: the owner has
/// been heard of meanwhile, and is to be asked again.
async fn in_stead(
    op: &Deferred,
    owner: &Member<'_>,
    passed: &Passed,
    claims: Vec<Claim>,
    refused: bool,
) -> Option<Kind> {
    let (node, request) = (&op.node, &op.request);
    let mut lives = refused;
    if needs_absence(node, passed, request) {
        match timeout_at(op.deadline(), does_any_live(node, passed)).await {
            Ok(does) => lives |= does,
            Err(_) => return Some(late(request)),
        }
        let is_absent = node.absences.is_absent(passed.owner(), node.clock.monotonic());
        if !refused && !is_absent {
            return None;
        }
    }
    if refused {
        node.heard_of(owner);
    }
    let moment = Moment::of(node);
    // Who lives may have taken newer values than what is held here: that is void, before anything is read of
    // it; and so is what is written now.
    if lives {
        drop_held(node, request);
    }
    let done = stand_in(node, passed, request, &op.sender(&moment));
    if lives {
        drop_held(node, request);
    }
    let (kind, was_written) = match done {
        Ok(done) => done,
        Err(waiting) => return Some(loading::answer(op, waiting).await),
    };
    if !was_written {
        return Some(kind);
    }
    let acknowledged = async {
        if lives {
            // In turn: they are told in the background as well.
            for kept in claims.into_iter().map(Claim::keep_and_hear).collect::<Vec<_>>() {
                told(op, kept).await;
            }
        } else {
            claims.into_iter().for_each(Claim::keep);
        }
        // It may have lent the key itself, as its owner before.
        node.recalled(request, &kind).await;
    };
    let is_over = timeout_at(op.deadline(), acknowledged).await;
    Some(if is_over.is_ok() { kind } else { outcome_unknown() })
}

/// Whether any of those between the owner and this node lives; waits until that is known.
async fn does_any_live(node: &NodeService, passed: &Passed) -> bool {
    let mut lives = false;
    for member in passed.between() {
        lives |= !node.absences.is_absent(member, node.clock.monotonic())
            && node.absences.of(member, node.clock.as_ref()).await == Standing::Heard;
    }
    lives
}

/// What is held here under a request's key for somebody who lives is not to be read.
fn drop_held(node: &NodeService, request: &v1::Request) {
    if let Some(served) = node.groups.now().get(&request.group) {
        served.group.drop_stand_in(&request.key);
    }
}

/// Waits until a member has taken the hint, or can't answer anybody any more.
async fn told(op: &Deferred, kept: Kept) {
    let node = &op.node;
    let Kept { owner, name, taken } = kept;
    let written = Instant::now();
    let telling = async {
        loop {
            let Some(member) = op.router.member(&owner) else { return };
            if node.absences.is_absent(member.record(), node.clock.monotonic()) {
                return;
            }
            node.deliver_hint(&member, &name).await;
            sleep(TELL_AGAIN).await;
        }
    };
    tokio::select! {
        biased;
        // Not if it is no member any more.
        taken = taken => if taken.is_ok() {
            return;
        },
        () = telling => {}
    }
    // It may have lent the old value until a moment ago.
    sleep_until(written + LEASE).await;
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

/// The claims of a write, one for everybody who was passed by; reads need none.
fn claim(
    node: &NodeService,
    passed: &Passed,
    request: &v1::Request,
) -> Result<Vec<Claim>, Crowded> {
    // What is held here for a former life of a member is older than what the present one has.
    for member in passed.all().filter(|member| node.away.knew_another(member)) {
        node.give_back(&member.id);
    }
    if request.verb() == Verb::Get {
        return Ok(Vec::new());
    }
    let of = |member| node.away.claim(member, &request.group, &request.key);
    passed.all().map(of).collect()
}

/// Does the operation here, if the group allows that. Whether the others have to hear of it. `Err`: its
/// key is being loaded.
fn stand_in(
    node: &Arc<NodeService>,
    passed: &Passed,
    request: &v1::Request,
    sender: &Sender<'_>,
) -> Result<(Kind, bool), Waiting> {
    if is_strict(node, request) {
        let text = format!("node {} can't be reached, and its group is strict", passed.owner().id);
        let error = Error::new(Code::NodeUnavailable, text).retry_after(COME_AGAIN);
        return Ok((Kind::Reply(error.to_reply()), false));
    }
    let alone = Sender { stands_in_for: Some(passed), holder: None, ..*sender };
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
    Ok((kind, was_written))
}

/// What an answer is worth after a relay that may have been applied: nothing may deny that.
fn settled(is_unknown: bool, request: &v1::Request, kind: Kind) -> Kind {
    match &kind {
        _ if !is_unknown => kind,
        Kind::Reply(reply) if reply.code() == v1::Code::Ok => kind,
        // It has done what was asked.
        Kind::Reply(reply)
            if reply.code() == v1::Code::NotFound && request.verb() == Verb::Delete =>
        {
            Kind::Reply(v1::Reply::default())
        }
        _ => outcome_unknown(),
    }
}

/// A refusal that is final: the next node may stand in as well, and would have to wait for this one.
fn crowded() -> Kind {
    let text = "too many writes wait for nodes that can't be reached";
    Kind::Reply(Error::new(Code::Overloaded, text).retry_after(COME_AGAIN).to_reply())
}

/// The request's time is over.
fn late(request: &v1::Request) -> Kind {
    if request.verb() != Verb::Get {
        return outcome_unknown();
    }
    Kind::Reply(Error::new(Code::Timeout, NO_ANSWER).to_reply())
}

fn outcome_unknown() -> Kind {
    let text = format!("{NO_ANSWER}; whether the write was applied is unknown");
    Kind::Reply(Error::new(Code::Timeout, text).to_reply())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_relay_that_may_have_been_applied_nothing_denies_that() {
        let failed = |code| Kind::Reply(Error::new(code, "no").to_reply());
        let of = |verb: Verb| v1::Request { verb: verb.into(), ..Default::default() };
        let code = |kind: Kind| match kind {
            Kind::Reply(reply) => Some(reply.code()),
            _ => None,
        };
        for refusal in [
            not_started(Reason::CatchingUp),
            Kind::Moved(v1::Moved::default()),
            failed(Code::NodeUnavailable),
            crowded(),
        ] {
            assert_eq!(settled(false, &of(Verb::Set), refusal.clone()), refusal);
            let known = settled(true, &of(Verb::Set), refusal);
            assert_eq!(code(known), Some(v1::Code::Timeout));
        }
        let gone = || failed(Code::NotFound);
        assert_eq!(code(settled(true, &of(Verb::Delete), gone())), Some(v1::Code::Ok));
        assert_eq!(code(settled(false, &of(Verb::Delete), gone())), Some(v1::Code::NotFound));
    }

    #[tokio::test]
    async fn a_try_is_never_longer_than_what_is_left() {
        let deadline = Instant::now() + Duration::from_secs(1);
        let long = (0..100).fold(RELAY_TRY, |time, _| longer(time, deadline));
        assert!(long <= Duration::from_secs(1), "{long:?}");
    }
}
