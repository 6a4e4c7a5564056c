//! A node's key and lease in etcd.

use std::{convert::Infallible, time::Duration};

use etcd_client::{Compare, CompareOp, PutOptions, Txn, TxnOp};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::{
    connection::{Connection, Endpoints, Fault},
    list::revision,
};
use crate::discovery::registrar::{Holder, Seat, Setback, Try};

/// A key, the lease it is bound to, and the connection that keeps them.
pub(super) struct EtcdSeat {
    endpoints: Endpoints,
    /// Given up at the first fault: the next call goes to the next endpoint.
    connection: Option<Connection>,
    key: String,
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
    pub(super) fn new(endpoints: Endpoints, key: String, lease_ttl: Duration) -> Self {
        // Whatever takes longer could cost the lease.
        let endpoints = endpoints.shuffled().answering_within(lease_ttl / 3);
        Self { endpoints, connection: None, key, lease_ttl, lease: None }
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
        let connection = self.connection().await?;
        let seconds = self.lease_ttl.as_millis().div_ceil(1000) as i64;
        let granted =
            connection.answer(connection.client.lease_client().grant(seconds, None)).await;
        let granted = self.or_give_up(granted)?;
        let ttl = Duration::from_secs(granted.ttl().max(1).unsigned_abs());
        Ok(*self.lease.insert(Lease { id: granted.id(), ttl }))
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

    async fn remove(&mut self, lease: Lease) -> Try<()> {
        let connection = self.connection().await?;
        // Somebody may have replaced the record: delete only what is bound to our lease.
        let ours = Compare::lease(self.key.clone(), CompareOp::Equal, lease.id);
        let delete = TxnOp::delete(self.key.clone(), None);
        let txn = Txn::new().when([ours]).and_then([delete]);
        let deleted = connection.answer(connection.client.kv_client().txn(txn)).await;
        self.or_give_up(deleted)?;
        let revoked = connection.answer(connection.client.lease_client().revoke(lease.id)).await;
        match self.or_give_up(revoked) {
            Err(Setback::LeaseLost) => Ok(()),
            other => other.map(drop),
        }
    }
}

impl Seat for EtcdSeat {
    async fn holder(&mut self) -> Try<Option<Holder>> {
        let connection = self.connection().await?;
        let key = self.key.clone();
        let found = connection.answer(connection.client.kv_client().get(key, None)).await;
        let found = self.or_give_up(found)?;
        let lease = self.lease.map(|lease| lease.id);
        Ok(found.kvs().first().map(|kv| Holder {
            value: kv.value().to_vec(),
            revision: kv.mod_revision().unsigned_abs(),
            on_our_lease: lease == Some(kv.lease()),
        }))
    }

    async fn put(&mut self, record: Vec<u8>, seen: u64) -> Try<u64> {
        let lease = self.granted().await?;
        let connection = self.connection().await?;
        let unchanged = Compare::mod_revision(self.key.clone(), CompareOp::Equal, seen as i64);
        let bound = PutOptions::new().with_lease(lease.id);
        let put = TxnOp::put(self.key.clone(), record, Some(bound));
        let txn = Txn::new().when([unchanged]).and_then([put]);
        let put = connection.answer(connection.client.kv_client().txn(txn)).await;
        let put = self.or_give_up(put)?;
        if put.succeeded() { Ok(revision(put.header())) } else { Err(Setback::Raced) }
    }

    async fn renew(&mut self) -> Setback {
        match self.renew_until_lost().await {
            Ok(never) => match never {},
            Err(setback) => setback,
        }
    }

    async fn leave(&mut self) -> Try<()> {
        let Some(lease) = self.lease else { return Ok(()) };
        let mut outcome = self.remove(lease).await;
        for _ in 1..self.endpoints.count().max(2) {
            if !matches!(outcome, Err(Setback::Unreachable(_))) {
                break;
            }
            outcome = self.remove(lease).await;
        }
        if outcome.is_ok() {
            self.lease = None;
        }
        outcome
    }
}
