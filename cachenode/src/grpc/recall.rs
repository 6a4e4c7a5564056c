//! When a write is acknowledged: once nobody can read what it replaced from a near cache.
//!
//! That is when every holder of an older value has confirmed or its loan has run out; for what a
//! former life of this node lent, when that is certainly over; and for keys that were another node's
//! a moment ago, when that one lends nothing any more (`grpc::takeovers`). The write is applied
//! already: whoever reads here sees it.

use common::near::LEASE;
use proto::v1::{self, Code, Verb, op::Kind};

use super::NodeService;
use crate::loans::Recall;

impl NodeService {
    /// What the answer to a request has to wait for; `None`: nothing.
    pub(super) fn recall(&self, request: &v1::Request, answer: &Kind) -> Option<Recall> {
        let (Verb::Set | Verb::Delete, Kind::Reply(reply)) = (request.verb(), answer) else {
            return None;
        };
        // Another answer to a write says that it was not looked at.
        let (Code::Ok | Code::NotFound | Code::PreconditionFailed | Code::LeaseLost) = reply.code()
        else {
            return None;
        };
        let groups = self.groups.now();
        let served = groups.get(&request.group)?;
        let mut recall = served.group.recall(&request.key);
        recall.not_before((self.started + LEASE).max(served.not_before));
        self.takeovers.delay(self, &request.group, &request.key, &mut recall);
        (!recall.is_over(self.clock.monotonic())).then_some(recall)
    }

    /// Waits until the answer may be given.
    pub(super) async fn recalled(&self, request: &v1::Request, answer: &Kind) {
        if let Some(recall) = self.recall(request, answer) {
            self.wait_for(&recall).await;
        }
    }

    /// Waits until that is over.
    pub(crate) async fn wait_for(&self, recall: &Recall) {
        recall.over(self.clock.as_ref(), self.groups.loans()).await;
    }
}
