//! Writes carried members: once, by whoever comes first, and for a time that nobody prolongs.

use std::time::Duration;

use etcd_client::{Compare, CompareOp, PutOptions, Txn, TxnOp};

use super::connection::{Connection, Fault};

/// How long the writing may take before it is given up and tried again.
const CARRY_WITHIN: Duration = Duration::from_secs(2);

/// Writes `value` under `key` for `time` if that is still as of revision `seen` (0: absent);
/// somebody else may have been first, which is as good.
pub(super) async fn carry(
    connection: &Connection,
    key: String,
    seen: u64,
    time: Duration,
    value: Vec<u8>,
) -> Result<(), Fault> {
    let writing = async {
        let seconds = time.as_millis().div_ceil(1000) as i64;
        let mut leases = connection.client.lease_client();
        let lease = connection.answer(leases.grant(seconds, None)).await?.id();
        let unchanged = Compare::mod_revision(key.clone(), CompareOp::Equal, seen as i64);
        let put = TxnOp::put(key, value, Some(PutOptions::new().with_lease(lease)));
        let txn = Txn::new().when([unchanged]).and_then([put]);
        let answer = connection.answer(connection.client.kv_client().txn(txn)).await?;
        if !answer.succeeded() {
            // If that fails it ends by itself: nothing is bound to it.
            let _ = connection.answer(leases.revoke(lease)).await;
        }
        Ok(())
    };
    let late = |_| Err(connection.fault(format!("did not answer in {CARRY_WITHIN:?}")));
    tokio::time::timeout(CARRY_WITHIN, writing).await.unwrap_or_else(late)
}
