//! A node's key and lease in etcd.

use std::{convert::Infallible, time::Duration};

use etcd_client::{Compare, CompareOp, PutOptions, Txn, TxnOp, TxnOpResponse, TxnResponse};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::{
    connection::{Connection, Endpoints, Fault},
    list::revision,
};
use crate::discovery::{
    NodeId,
    flaps::HISTORY_LIFE,
    layout::Layout,
    registrar::{Found, Holder, Seat, Setback, Try, Writing},
};

/// A key, the lease it is bound to, and the connection that keeps them.
pub(super) struct EtcdSeat {
    endpoints: Endpoints,
    /// Given up at the first fault: the next call goes to the next endpoint.
    connection: Option<Connection>,
    key: String,
    /// Where the node's recent joins and leaves stand.
    history_key: String,
    /// Where carried members stand.
    carried_key: String,
    lease_ttl: Duration,
    lease: Option<Lease>,
}

#[derive(Clone, Copy)]
struct Lease {
    id: i64,
    /// As granted, which may be more than was asked for.
    ttl: Duration,
}

impl EtcdSeat {
    /// The place of the node with that id.
    pub(super) fn new(
        endpoints: Endpoints,
        layout: &Layout,
        id: &NodeId,
        lease_ttl: Duration,
    ) -> Self {
        // Whatever takes longer could cost the lease.
        let endpoints = endpoints.shuffled().answering_within(lease_ttl / 3);
        Self {
            endpoints,
            connection: None,
            key: layout.node(id),
            history_key: layout.flaps(id),
            carried_key: layout.carried(),
            lease_ttl,
            lease: None,
        }
    }

    async fn connection(&mut self) -> Try<Connection> {
        if let Some(connection) = &self.connection {
            return Ok(connection.clone());
        }
        let connected = self.endpoints.connect().await;
        let connection = self.or_give_up(connected)?;
        Ok(self.connection.insert(connection).clone())
    }

    /// Draws the consequences of a fault.
    fn or_give_up<T>(&mut self, answer: Result<T, Fault>) -> Try<T> {
        answer.map_err(|fault| match fault {
            Fault::NoLease => {
                self.lease = None;
                Setback::LeaseLost
            }
            Fault::Unreachable(why) => {
                self.connection = None;
                Setback::Unreachable(why)
            }
        })
    }

    async fn granted(&mut self) -> Try<Lease> {
        if let Some(lease) = self.lease {
            return Ok(lease);
        }
        let lease = self.grant(self.lease_ttl).await?;
        Ok(*self.lease.insert(lease))
    }

    async fn grant(&mut self, ttl: Duration) -> Try<Lease> {
        let connection = self.connection().await?;
        let seconds = ttl.as_millis().div_ceil(1000) as i64;
        let granted =
            connection.answer(connection.client.lease_client().grant(seconds, None)).await;
        let granted = self.or_give_up(granted)?;
        let ttl = Duration::from_secs(granted.ttl().max(1).unsigned_abs());
        Ok(Lease { id: granted.id(), ttl })
    }

    /// Writing the history, under a lease of its own, because it outlives the record.
    async fn put_history(&mut self, history: Vec<u8>) -> Try<TxnOp> {
        let lease = self.grant(HISTORY_LIFE).await?;
        let bound = PutOptions::new().with_lease(lease.id);
        Ok(TxnOp::put(self.history_key.clone(), history, Some(bound)))
    }

    async fn transact(&mut self, txn: Txn) -> Try<TxnResponse> {
        let connection = self.connection().await?;
        let answer = connection.answer(connection.client.kv_client().txn(txn)).await;
        self.or_give_up(answer)
    }

    /// Asks for a renewal every third of the lease's time. Only an answer within another third
    /// says that the lease lives; queueing the question says nothing.
    async fn renew_until_lost(&mut self) -> Try<Infallible> {
        let Some(lease) = self.lease else { return Err(Setback::LeaseLost) };
        let connection = self.connection().await?;
        let mut sent = Instant::now();
        let late = || connection.fault("a renewal of the lease was not answered in time");
        // Opening the stream sends the first question and awaits its answer.
        let mut leases = connection.client.lease_client();
        let opened = timeout_at(sent + lease.ttl / 3, leases.keep_alive(lease.id)).await;
        let opened = opened.map_or_else(
            |_| Err(late()),
            |opened| opened.map_err(|error| connection.fault_of(&error)),
        );
        let (mut questions, mut answers) = self.or_give_up(opened)?;
        loop {
            sleep_until(sent + lease.ttl / 3).await;
            sent = Instant::now();
            let asked = async {
                questions.keep_alive().await?;
                answers.message().await
            };
            let answer = match timeout_at(sent + lease.ttl / 3, asked).await {
                Err(_) => Err(late()),
                Ok(Err(error)) => Err(connection.fault_of(&error)),
                Ok(Ok(None)) => Err(connection.fault("the stream of renewals has ended")),
                Ok(Ok(Some(answer))) if answer.ttl() <= 0 => Err(Fault::NoLease),
                Ok(Ok(Some(_))) => Ok(()),
            };
            self.or_give_up(answer)?;
        }
    }

    async fn remove(&mut self, lease: Lease, history: &[u8]) -> Try<()> {
        // Somebody may have replaced the record: delete only what is bound to our lease.
        let ours = || Compare::lease(self.key.clone(), CompareOp::Equal, lease.id);
        let (ours, ours_still) = (ours(), ours());
        let delete = TxnOp::delete(self.key.clone(), None);
        // Where nothing more can be stored it is still possible to go, if not to say so.
        let noted = match self.put_history(history.to_vec()).await {
            Ok(note) => {
                self.transact(Txn::new().when([ours]).and_then([delete.clone(), note])).await
            }
            Err(setback) => Err(setback),
        };
        if noted.is_err() {
            self.transact(Txn::new().when([ours_still]).and_then([delete])).await?;
        }
        let connection = self.connection().await?;
        let revoked = connection.answer(connection.client.lease_client().revoke(lease.id)).await;
        match self.or_give_up(revoked) {
            Err(Setback::LeaseLost) => Ok(()),
            other => other.map(drop),
        }
    }
}

impl Seat for EtcdSeat {
    async fn found(&mut self) -> Try<Found> {
        let gets = [&self.key, &self.history_key].map(|key| TxnOp::get(key.clone(), None));
        let answer = self.transact(Txn::new().and_then(gets)).await?;
        let mut found = answer.op_responses().into_iter().map(|response| match response {
            TxnOpResponse::Get(mut found) => found.take_kvs().pop(),
            _ => None,
        });
        let (record, history) = (found.next().flatten(), found.next().flatten());
        let lease = self.lease.map(|lease| lease.id);
        let holder = record.map(|kv| Holder {
            value: kv.value().to_vec(),
            revision: kv.mod_revision().unsigned_abs(),
            on_our_lease: lease == Some(kv.lease()),
        });
        Ok(Found { holder, history: history.map(|kv| kv.value().to_vec()).unwrap_or_default() })
    }

    async fn put(&mut self, writing: Writing) -> Try<u64> {
        let Writing { record, seen, history, while_carried } = writing;
        let lease = self.granted().await?;
        let bound = PutOptions::new().with_lease(lease.id);
        let mut puts = vec![TxnOp::put(self.key.clone(), record, Some(bound))];
        if let Some(history) = history {
            puts.push(self.put_history(history).await?);
        }
        let unchanged = Compare::mod_revision(self.key.clone(), CompareOp::Equal, seen as i64);
        let carrying = Compare::version(self.carried_key.clone(), CompareOp::Greater, 0);
        let when = [unchanged].into_iter().chain(while_carried.then_some(carrying));
        let put = self.transact(Txn::new().when(when.collect::<Vec<_>>()).and_then(puts)).await?;
        if put.succeeded() { Ok(revision(put.header())) } else { Err(Setback::Raced) }
    }

    async fn note(&mut self, history: Vec<u8>) -> Try<()> {
        let note = self.put_history(history).await?;
        self.transact(Txn::new().and_then([note])).await.map(drop)
    }

    async fn renew(&mut self) -> Setback {
        match self.renew_until_lost().await {
            Ok(never) => match never {},
            Err(setback) => setback,
        }
    }

    async fn leave(&mut self, history: Vec<u8>) -> Try<()> {
        let Some(lease) = self.lease else { return Ok(()) };
        let mut outcome = self.remove(lease, &history).await;
        for _ in 1..self.endpoints.count().max(2) {
            if !matches!(outcome, Err(Setback::Unreachable(_))) {
                break;
            }
            outcome = self.remove(lease, &history).await;
        }
        if outcome.is_ok() {
            self.lease = None;
        }
        outcome
    }
}
