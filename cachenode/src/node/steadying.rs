//! After a standstill: asking all others what they did meanwhile, before anything is answered.
//!
//! Whoever passed this node over has kept hints for it. A member that does not answer may have
//! kept some and be gone; if the standstill was long enough for anybody to have written elsewhere,
//! everything that is stored here may be old, and is dropped.

use std::{sync::Arc, time::Duration};

use common::{
    discovery::NodeRecord,
    link::Answer,
    route::{Member, Router},
    topology::Topology,
};
use proto::v1::{self, op::Kind};
use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::grpc::{NodeService, PULSE, Standstill};

/// How long members may take to answer.
const ASK: Duration = Duration::from_millis(500);
/// A standstill as long as this may have made somebody write elsewhere: shorter than any try.
const PASSED_OVER: Duration = Duration::from_millis(200);

/// Writes down that this process runs, until `stop`.
pub(super) async fn pulse(node: Arc<NodeService>, stop: CancellationToken) {
    let mut beat = interval(PULSE);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = beat.tick() => node.steady.beat(node.topology()),
        }
    }
}

/// Settles every standstill until `stop`.
pub(super) async fn settle(node: Arc<NodeService>, router: Arc<Router>, stop: CancellationToken) {
    loop {
        let standstill = tokio::select! {
            () = stop.cancelled() => return,
            standstill = node.steady.standstill() => standstill,
        };
        node.metrics.unsteady.inc();
        tokio::select! {
            () = stop.cancelled() => return,
            () = make_steady(&node, &router, &standstill) => {}
        }
        node.steady.settle(&standstill);
    }
}

async fn make_steady(node: &Arc<NodeService>, router: &Arc<Router>, standstill: &Standstill) {
    // Who was absent may have come back, and who did not answer may have.
    node.absences.start_again();
    let was_passed_over = standstill.length >= PASSED_OVER;
    if was_passed_over {
        // Owners this node stood in for may have come back, and gone again.
        node.groups.now().iter().for_each(|group| group.drop_stand_ins());
    }
    let mut complete = true;
    loop {
        let round = ask_everybody(node, router, &standstill.before).await;
        complete &= round.complete;
        if catch_up(node, &round.epochs).await {
            break;
        }
        // Somebody has seen more, and this node can't: it must not answer as an owner.
        sleep(ASK).await;
    }
    let length = standstill.length;
    if complete || !was_passed_over {
        tracing::debug!(node_id = %node.id, ?length, "stood still, and asked the others");
    } else {
        node.drop_everything();
        tracing::warn!(
            node_id = %node.id, ?length,
            "stood still, and not all others could be asked what they wrote meanwhile: entries dropped"
        );
    }
}

/// What the others said.
struct Round {
    /// All of them, and everybody who was a member before.
    complete: bool,
    epochs: Vec<v1::Epoch>,
}

async fn ask_everybody(node: &Arc<NodeService>, router: &Arc<Router>, before: &Topology) -> Round {
    let now = node.topology();
    let others = now.members().iter().filter(|member| member.id != node.id);
    let is_member_yet = |former: &NodeRecord| {
        now.members().iter().any(|it| it.id == former.id && it.instance == former.instance)
    };
    let nobody_left = before.members().iter().all(|it| it.id == node.id || is_member_yet(it));
    let mut questions = JoinSet::new();
    for id in others.map(|member| member.id.clone()) {
        let (node, router) = (Arc::clone(node), Arc::clone(router));
        questions.spawn(async move {
            // Who is not called at present would only make everybody wait.
            let member = router.member(&id).filter(Member::is_callable)?;
            ask(&node, &member).await
        });
    }
    let answers = questions.join_all().await;
    let complete = nobody_left && answers.iter().all(Option::is_some);
    Round { complete, epochs: answers.into_iter().flatten().flatten().collect() }
}

/// Asks one member, and acts by what it says before that is believed to be done. The epoch is the
/// member's; `None`: it does not answer.
async fn ask(node: &NodeService, member: &Member<'_>) -> Option<Option<v1::Epoch>> {
    let question = |taken| Kind::HintsWanted(v1::HintsWanted { taken });
    let Answer::Hints(hint) = member.tell(question(0), ASK).await else { return None };
    let (_, recall) = node.take_hints(&hint);
    // Whoever wrote in this node's stead may acknowledge that when it hears that it is taken.
    node.wait_for(&recall).await;
    if hint.everything || !hint.keys.is_empty() {
        // So that they do not come once more, when newer values are here. Unheard, that costs a
        // few of those; what has come in since the question counts like the first answer.
        if let Answer::Hints(more) = member.tell(question(hint.number), ASK).await {
            // These are not said to be taken: they come again.
            let _ = node.take_hints(&more);
        }
    }
    Some(hint.epoch)
}

/// Reads the cluster state if somebody goes by a newer ring. False: it could not be read.
async fn catch_up(node: &NodeService, epochs: &[v1::Epoch]) -> bool {
    let own = node.topology().epoch;
    let others = || epochs.iter().filter(|epoch| epoch.digest != own.digest);
    let is_comparable = |epoch: &&v1::Epoch| epoch.generation == own.generation.as_bytes()[..];
    if others().any(|epoch| !is_comparable(&epoch)) {
        // Whether it can be read or not: nobody can say who has seen more.
        let _ = node.route.meet_generation(ASK).await;
    }
    let comparable = others().filter(is_comparable);
    match comparable.map(|epoch| epoch.as_of).max() {
        Some(newest) if newest > own.as_of => {
            let reading = node.route.topologies.catch_up(newest);
            matches!(timeout(ASK, reading).await, Ok(Ok(_)))
        }
        _ => true,
    }
}
