//! Writes a group's record, on a connection of its own: that happens seldom, and must not wait for
//! what the watch waits for.

use etcd_client::{Compare, CompareOp, Txn, TxnOp};

use super::{
    connection::{Endpoints, Fault},
    list::revision,
};

/// Writes `value` under `key` if that is still as of revision `seen` (0: absent); the revision that
/// did, or `None` if it is not any more.
pub(super) async fn write(
    mut endpoints: Endpoints,
    key: String,
    seen: u64,
    value: Vec<u8>,
) -> Result<Option<u64>, Fault> {
    let mut connected = endpoints.connect().await;
    for _ in 1..endpoints.count() {
        if connected.is_ok() {
            break;
        }
        connected = endpoints.connect().await;
    }
    let connection = connected?;
    let unchanged = Compare::mod_revision(key.clone(), CompareOp::Equal, seen as i64);
    let txn = Txn::new().when([unchanged]).and_then([TxnOp::put(key, value, None)]);
    let answer = connection.answer(connection.client.kv_client().txn(txn)).await?;
    Ok(answer.succeeded().then(|| revision(answer.header())))
}
