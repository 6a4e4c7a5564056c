//! A gateway's stream to a node, operation by operation: it confirms nothing by itself.

use std::collections::VecDeque;

use cachenode::Node;
use common::{
    clock::{Clock, SystemClock},
    link::frame,
    near::LEASE,
    topology::Epoch,
};
use proto::v1::{self, cache_client::CacheClient, op::Kind};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use crate::{
    bench::get,
    fake_node::{gateway, soon},
};

pub(crate) struct Raw {
    outbound: mpsc::Sender<v1::Batch>,
    inbound: Streaming<v1::Batch>,
    arrived: VecDeque<v1::Op>,
    epoch: Epoch,
}

impl Raw {
    pub(crate) async fn open(node: &Node, epoch: Epoch, features: u64, lane: v1::Lane) -> Self {
        let address = format!("http://{}", node.grpc_address());
        let mut client = CacheClient::connect(address).await.unwrap();
        let (outbound, batches) = mpsc::channel(8);
        let hello = frame::hello(&gateway(), uuid::Uuid::nil(), lane, None);
        let hello = v1::Hello { features, ..hello };
        let stamp_us = SystemClock.monotonic().as_micros() as u64;
        let opening = v1::Batch { hello: Some(hello), stamp_us, ..Default::default() };
        outbound.send(opening).await.unwrap();
        let mut inbound = client.exchange(ReceiverStream::new(batches)).await.unwrap().into_inner();
        soon("a Hello", inbound.message()).await.unwrap();
        Self { outbound, inbound, arrived: VecDeque::new(), epoch }
    }

    pub(crate) async fn send(&self, id: u64, kind: Kind) {
        let stamp_us = SystemClock.monotonic().as_micros() as u64;
        let ops = vec![v1::Op { id, kind: Some(kind) }];
        let epoch = Some(self.epoch.to_wire());
        self.outbound.send(v1::Batch { hello: None, epoch, stamp_us, ops }).await.unwrap();
    }

    /// The next operation of the node.
    pub(crate) async fn op(&mut self) -> (u64, Kind) {
        while self.arrived.is_empty() {
            let batch = soon("a batch", self.inbound.message()).await.unwrap().unwrap();
            self.arrived.extend(batch.ops);
        }
        let v1::Op { id, kind } = self.arrived.pop_front().unwrap();
        (id, kind.unwrap())
    }

    /// Reads a key and asks for a loan; the reply.
    pub(crate) async fn borrow(&mut self, key: &str) -> v1::Reply {
        let request = v1::Request {
            loan_ms: 10 * LEASE.as_millis() as u32,
            try_ms: 10_000,
            budget_ms: 10_000,
            ..get(key)
        };
        self.send(1, Kind::Request(request)).await;
        match self.op().await {
            (1, Kind::Reply(reply)) => reply,
            other => panic!("not the reply: {other:?}"),
        }
    }

    /// The next operation, which has to call that key back; its id.
    pub(crate) async fn called_back(&mut self, key: &str) -> (u64, v1::Invalidate) {
        match self.op().await {
            (id, Kind::Invalidate(invalidate)) if invalidate.key == key => (id, invalidate),
            other => panic!("not an invalidation of {key}: {other:?}"),
        }
    }

    pub(crate) async fn confirm(&self, id: u64) {
        self.send(id, Kind::InvalidateAck(v1::InvalidateAck {})).await;
    }
}
