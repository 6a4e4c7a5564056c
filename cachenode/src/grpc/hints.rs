//! Hints: telling an owner of the keys that were written in its stead, and hearing of one's own.

use std::time::Duration;

use common::{
    discovery::NodeId,
    link::{Answer, Unreachable, Unsent},
    near::LEASE,
    route::{Member, Router},
};
use proto::v1::{self, op::Kind};
use tokio::time::{Instant, sleep_until};
use uuid::Uuid;

use super::{
    NodeService,
    absence::QUESTION,
    away::{Due, Held, Name},
};
use crate::loans::Recall;

/// How long an owner may take to take its hints: it waits for its holders, for a lease at most.
const HINT_TRY: Duration = Duration::from_millis(500);

impl NodeService {
    /// Another node wrote keys in this node's stead: drops what is here of them. With what has to be
    /// waited for before that is confirmed, as it is for a write of this node's own.
    pub(crate) fn take_hints(&self, hint: &v1::Hint) -> (v1::Reply, Recall) {
        let as_of = self.topology().epoch.as_of;
        let mut recall = Recall::default();
        if hint.everything || !hint.keys.is_empty() {
            recall.not_before(self.started + LEASE);
        }
        if hint.everything {
            self.takeovers.delay_all(self, &mut recall);
            self.drop_everything();
            // Whatever of that is lent runs out.
            recall.not_before(self.clock.monotonic() + LEASE);
        }
        for hinted in &hint.keys {
            // A group that is not known here has no entries.
            if let Some(served) = self.groups.now().get(&hinted.group) {
                let group = &served.group;
                if group.forget(&hinted.key, as_of) {
                    self.metrics.entries_dropped.inc();
                }
                recall.and(group.recall(&hinted.key));
                recall.not_before(served.not_before);
                self.takeovers.delay(self, &hinted.group, &hinted.key, &mut recall);
            }
        }
        (v1::Reply::default(), recall)
    }

    /// What a node that stood still has to know. It is heard of by asking.
    pub(super) fn hints_for(
        &self,
        router: &Router,
        (id, instance): (&NodeId, Uuid),
        wanted: &v1::HintsWanted,
    ) -> v1::Hint {
        self.away.taken(id, instance, wanted.taken);
        // In this order: whoever does not find it well after this has left a claim that is seen
        // below.
        if let Some(member) = router.member(id).filter(|it| it.record().instance == instance) {
            self.heard_of(&member);
        }
        let hint = self.away.wanted(id);
        self.away.wake.notify_one();
        v1::Hint { epoch: Some(self.topology().epoch.to_wire()), ..hint }
    }

    /// An owner is back: what was stored here in its stead is not to be read any more.
    pub(crate) fn heard_of(&self, owner: &Member<'_>) {
        owner.is_heard_of();
        self.absences.heard_of(&owner.record().id);
        self.give_back(&owner.record().id);
    }

    /// Drops what is held here for that owner.
    pub(super) fn give_back(&self, owner: &NodeId) {
        self.drop_held(&self.away.heard_of(owner));
    }

    /// Forgets what was done for owners that are gone, and drops what is held here for them.
    pub(crate) fn forget_the_gone(&self) {
        let gone = self.away.retain(self.topology().members());
        gone.iter().for_each(|held| self.drop_held(held));
    }

    fn drop_held(&self, held: &Held) {
        for (group, key) in &held.names {
            if let Some(served) = self.groups.now().get(group) {
                served.group.drop_stand_in(key);
            }
        }
        if held.overflows {
            self.groups.now().iter().for_each(|group| group.drop_stand_ins());
        }
    }

    /// Asks an owner whether it is back, and tells it its hints if it is.
    pub(crate) async fn ask_after(&self, owner: &Member<'_>) {
        let over = Instant::now() + QUESTION;
        let answer = owner.tell(Kind::Ping(v1::Ping {}), QUESTION).await;
        let is_absent = match answer {
            Answer::Reply(_) => {
                self.heard_of(owner);
                self.deliver_hints(owner).await;
                return;
            }
            Answer::Unsent(Unsent::Unreachable(Unreachable { is_refused: true, .. })) => {
                self.absences.refused(owner.record(), self.clock.monotonic())
            }
            _ => {
                sleep_until(over).await;
                if !self.steady.is_steady_now() {
                    self.absences.start_again();
                    return;
                }
                self.absences.unanswered(owner.record(), self.clock.monotonic())
            }
        };
        if is_absent {
            self.metrics.absences.inc();
        }
    }

    /// Whether there is a reason to ask after that owner.
    pub(crate) fn misses(&self, owner: &NodeId) -> bool {
        self.absences.is_awaited(owner) || self.away.missed().contains(owner)
    }

    /// Tells an owner the hints that there are by now. False: it has not taken them all.
    pub(crate) async fn deliver_hints(&self, owner: &Member<'_>) -> bool {
        // Not what is written meanwhile: that could go on for ever.
        let last = self.away.last_write();
        while let Some(due) = self.away.due(owner.record(), last) {
            if !self.deliver(owner, &due).await {
                return false;
            }
        }
        true
    }

    /// Tells a member the hint of one key, for whoever waits for just that.
    pub(super) async fn deliver_hint(&self, member: &Member<'_>, name: &Name) {
        if let Some(due) = self.away.due_of(member.record(), name) {
            self.deliver(member, &due).await;
        }
    }

    async fn deliver(&self, owner: &Member<'_>, due: &Due) -> bool {
        // What is held here goes first, and that only when the owner answers: it would be an
        // older value by the time that somebody has written to the owner again.
        if !matches!(owner.tell(Kind::Ping(v1::Ping {}), QUESTION).await, Answer::Reply(_)) {
            return false;
        }
        self.heard_of(owner);
        let answer = owner.tell(Kind::Hint(due.to_wire()), HINT_TRY).await;
        let is_taken = matches!(&answer, Answer::Reply(reply) if reply.code() == v1::Code::Ok);
        if is_taken {
            self.away.delivered(&owner.record().id, due);
        }
        is_taken
    }

    /// Drops all entries.
    pub(crate) fn drop_everything(&self) {
        let dropped = self.groups.now().iter().map(|group| group.drop_everything()).sum();
        self.metrics.entries_dropped.inc_by(dropped);
    }
}
