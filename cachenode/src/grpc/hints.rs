//! Hints: telling an owner of the keys that were written in its stead, and hearing of one's own.

use std::time::Duration;

use common::{
    discovery::NodeId,
    link::Answer,
    near::LEASE,
    route::{Member, Router},
};
use proto::v1::{self, op::Kind};
use uuid::Uuid;

use super::{NodeService, away::Held};
use crate::loans::Recall;

/// How long an owner may take to answer a ping before its hints, and to take them.
const HINT_TRY: Duration = Duration::from_millis(150);

impl NodeService {
    /// Another node wrote keys in this node's stead: drops what is here of them. With what has to be
    /// waited for before that is confirmed.
    pub(crate) fn take_hints(&self, hint: &v1::Hint) -> (v1::Reply, Recall) {
        let as_of = self.topology().epoch.as_of;
        let mut recall = Recall::default();
        if hint.everything {
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
        let hint = self.away.wanted(id, instance);
        self.away.wake.notify_one();
        v1::Hint { epoch: Some(self.topology().epoch.to_wire()), ..hint }
    }

    /// An owner is back: what was stored here in its stead is not to be read any more.
    pub(crate) fn heard_of(&self, owner: &Member<'_>) {
        owner.is_heard_of();
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

    /// Tells an owner its hints. False: there are some left.
    pub(crate) async fn deliver_hints(&self, owner: &Member<'_>) -> bool {
        while let Some(due) = self.away.due(owner.record()) {
            // What is held here goes first, and that only when the owner answers: it would be an
            // older value by the time that somebody has written to the owner again.
            if !matches!(owner.tell(Kind::Ping(v1::Ping {}), HINT_TRY).await, Answer::Reply(_)) {
                return false;
            }
            self.heard_of(owner);
            let answer = owner.tell(Kind::Hint(due.to_wire()), HINT_TRY).await;
            if !matches!(&answer, Answer::Reply(reply) if reply.code() == v1::Code::Ok) {
                return false;
            }
            self.away.delivered(&owner.record().id, &due);
        }
        true
    }

    /// Drops all entries.
    pub(crate) fn drop_everything(&self) {
        let dropped = self.groups.now().iter().map(|group| group.drop_everything()).sum();
        self.metrics.entries_dropped.inc_by(dropped);
    }
}
