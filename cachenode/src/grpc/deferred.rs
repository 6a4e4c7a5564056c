//! Operations that can't be answered at once: they have to wait for a newer ring, for this node to
//! be steady again, for their owner, or for their key's load. Each runs in a task of its own, for no longer than whoever
//! sent it waits.

use std::{sync::Arc, time::Duration};

use common::route::Router;
use proto::v1::{self, Lane, Verb, not_started::Reason, op::Kind};
use tokio::time::{Instant, timeout};

use super::{
    NodeService, loading,
    newer::READ_WITHIN,
    operation::{Later, Moment, NotYet, Sender, execute, not_started},
    relay,
    unknown::Looked,
};

/// An operation that waits.
pub(super) struct Deferred {
    pub(super) node: Arc<NodeService>,
    pub(super) router: Arc<Router>,
    pub(super) request: v1::Request,
    pub(super) epoch: v1::Epoch,
    pub(super) lane: Lane,
    /// How old its batch was when it arrived, and when that was.
    pub(super) age: Duration,
    pub(super) arrived: Instant,
    /// The sender has heard that it takes longer: only its whole budget counts.
    pub(super) pending: bool,
    /// The sender's generation has been met.
    met: bool,
    /// Its group has been looked for.
    looked: Looked,
}

impl Deferred {
    pub(super) fn new(
        node: &Arc<NodeService>,
        router: &Arc<Router>,
        request: v1::Request,
        sender: &Sender<'_>,
        why: &NotYet,
    ) -> Self {
        Self {
            node: Arc::clone(node),
            router: Arc::clone(router),
            epoch: sender.epoch.clone(),
            lane: sender.lane,
            age: sender.age,
            arrived: Instant::now(),
            // A write that has to wait for the cluster state goes elsewhere when its try is over.
            pending: request.verb() == Verb::Get
                || matches!(why, NotYet::Later(Later::PassedOver | Later::Unsteady | Later::Group)),
            met: false,
            looked: Looked::NotYet,
            request,
        }
    }

    /// When its sender gives it up.
    pub(super) fn deadline(&self) -> Instant {
        let patience = if self.pending { self.request.budget_ms } else { self.request.try_ms };
        let patience = Duration::from_millis(patience.into());
        self.arrived + patience.saturating_sub(self.age)
    }

    /// Who sent it, as of now.
    pub(super) fn sender<'a>(&'a self, moment: &'a Moment) -> Sender<'a> {
        Sender {
            epoch: &self.epoch,
            age: self.age + self.arrived.elapsed(),
            lane: self.lane,
            moment,
            pending: self.pending,
            met: self.met,
            looked: self.looked,
            stands_in_for: None,
            holder: None,
        }
    }

    /// Does it, sooner or later.
    pub(super) async fn run(mut self, why: NotYet) -> Kind {
        let mut why = why;
        let mut caught_up = false;
        loop {
            let patience = self.deadline().saturating_duration_since(Instant::now());
            let later = match why {
                NotYet::Later(later) => later,
                NotYet::Loading(waiting) => return loading::answer(&self, waiting).await,
            };
            let can_go_on = match later {
                Later::PassedOver if self.pending => return relay::relay(&self).await,
                // The requester was not told in time that it takes longer: it goes elsewhere.
                Later::PassedOver => false,
                Later::Behind if caught_up => false,
                Later::Behind => {
                    caught_up = true;
                    self.node.catch_up(patience).await
                }
                Later::Foreign => {
                    self.met = true;
                    // If it can't be read, this node goes by what it knows.
                    let _ = self.node.route.meet_generation(patience.min(READ_WITHIN)).await;
                    true
                }
                Later::Group => {
                    self.looked = self.node.look_for_group(&self.request, patience).await;
                    true
                }
                Later::Unsteady => timeout(patience, self.node.steady.steady()).await.is_ok(),
            };
            if !can_go_on {
                return not_started(Reason::CatchingUp);
            }
            let moment = Moment::of(&self.node);
            why = match execute(&self.node, &self.request, &self.sender(&moment)) {
                Ok(kind) => {
                    self.node.recalled(&self.request, &kind).await;
                    return kind;
                }
                Err(why) => why,
            };
        }
    }
}
