//! What an answer of etcd answers, so that a missing one can be told by its name.

use etcd_client::{
    DeleteResponse, GetResponse, LeaseGrantResponse, LeaseKeepAliveStream, LeaseKeeper,
    LeaseRevokeResponse, PutResponse, TxnResponse, WatchResponse, WatchStream,
};

/// The answer to a call.
pub(super) trait Answer {
    /// What was asked for, so that "did not answer …" can go before it.
    const QUESTION: &'static str;
}

impl Answer for GetResponse {
    const QUESTION: &'static str = "a read";
}

impl Answer for PutResponse {
    const QUESTION: &'static str = "a write";
}

impl Answer for DeleteResponse {
    const QUESTION: &'static str = "a delete";
}

impl Answer for TxnResponse {
    const QUESTION: &'static str = "a transaction";
}

impl Answer for LeaseGrantResponse {
    const QUESTION: &'static str = "the request for a lease";
}

impl Answer for LeaseRevokeResponse {
    const QUESTION: &'static str = "the return of a lease";
}

impl Answer for (LeaseKeeper, LeaseKeepAliveStream) {
    const QUESTION: &'static str = "the renewal of a lease";
}

impl Answer for (WatchStream, Option<WatchResponse>) {
    const QUESTION: &'static str = "the request for a watch";
}
