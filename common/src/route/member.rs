//! Asking one member itself, for who knows whom it wants to ask: a node that relays an operation to
//! its owner, or has something to tell another node. Nothing is tried elsewhere.

use std::{fmt, sync::Arc, time::Duration};

use proto::v1::{self, op::Kind};
use tokio::time::Instant;

use super::{Router, attempt::judge_health, wired::Wired};
use crate::{
    discovery::{NodeId, NodeRecord},
    link::{Answer, Call, Unsent},
    topology::Epoch,
};

/// What became of an operation that was handed to one member.
#[derive(Debug)]
pub enum Handed {
    /// The member's answer.
    Reply(v1::Reply),
    /// The key belongs to another node, by a newer ring.
    Moved(v1::Moved),
    /// The member lives, and refused before doing anything.
    Refused,
    /// Certainly not done: the member could not be reached.
    NotReached,
    /// It may have been done. `lasting`: or may be at any time yet, not only until the try is over.
    Unknown {
        /// Whether the member had said that it takes longer.
        lasting: bool,
    },
    /// Certainly not done: too much is queued for the member already.
    Full,
}

/// One member of a router's topology.
pub struct Member<'a> {
    router: &'a Router,
    wired: Arc<Wired>,
    node: usize,
}

impl fmt::Debug for Member<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Member").field(&self.record().id).finish()
    }
}

impl Router {
    /// The owner of a key, by the topology of now.
    pub fn owner_of(&self, group: &str, key: &str) -> Option<Member<'_>> {
        let wired = self.wired();
        let (node, _) = wired.topology.owner(group, key)?;
        Some(Member { router: self, wired, node })
    }

    /// The member of that id.
    pub fn member(&self, id: &NodeId) -> Option<Member<'_>> {
        let wired = self.wired();
        let node = wired.topology.index_of(id)?;
        Some(Member { router: self, wired, node })
    }

    /// All members.
    pub fn members(&self) -> Vec<Member<'_>> {
        let wired = self.wired();
        let of = |node| Member { router: self, wired: Arc::clone(&wired), node };
        (0..wired.wires.len()).map(of).collect()
    }
}

impl Member<'_> {
    /// Who it is.
    pub fn record(&self) -> &NodeRecord {
        self.wired.topology.member(self.node)
    }

    /// The epoch in which it is a member.
    pub fn epoch(&self) -> Epoch {
        self.wired.topology.epoch
    }

    /// Whether this process calls it at present.
    pub fn is_callable(&self) -> bool {
        self.wired.wires[self.node].health.callable()
    }

    /// For how long this process has not called it; `None`: it does.
    pub fn ejected_for(&self) -> Option<Duration> {
        self.router.shared.health.ejected_for(&self.wired.wires[self.node].health)
    }

    /// The member has made itself heard.
    pub fn is_heard_of(&self) {
        let health = &self.wired.wires[self.node].health;
        if let Some(away) = self.router.shared.health.heard_of(health) {
            super::tell_back(&self.record().id, away);
        }
    }

    /// Hands it a request as its sender meant it, over the lane that it came on.
    pub async fn hand(
        &self,
        request: v1::Request,
        lane: v1::Lane,
        try_timeout: Duration,
        deadline: Instant,
    ) -> Handed {
        let started = Instant::now();
        let call = Call {
            position: self.wired.topology.ring.position(&request.group, &request.key),
            request: Arc::new(request),
            stand_in: false,
            other: None,
            epoch: self.epoch(),
            try_deadline: (started + try_timeout).min(deadline),
            deadline,
        };
        let wire = &self.wired.wires[self.node];
        let link = if lane == v1::Lane::Bulk { wire.bulk() } else { wire.small() };
        let answer = link.call(call).await;
        judge_health(&self.router.shared, &self.wired, self.node, &answer, lane, started);
        match answer {
            Answer::Reply(reply) => Handed::Reply(reply),
            Answer::Moved(moved) => Handed::Moved(moved),
            Answer::NotStarted(_) | Answer::Unsent(Unsent::Leaving) => Handed::Refused,
            Answer::Unsent(Unsent::Full) => Handed::Full,
            Answer::Unsent(_) => Handed::NotReached,
            Answer::Lost { pending } => Handed::Unknown { lasting: pending },
            Answer::TimedOut { .. } | Answer::Hints(_) => Handed::Unknown { lasting: false },
        }
    }

    /// Tells or asks it something that is no request. Its health is not judged by that.
    pub async fn tell(&self, kind: Kind, within: Duration) -> Answer {
        let call = Call::other(kind, self.epoch(), Instant::now() + within);
        self.wired.wires[self.node].small().call(call).await
    }
}
