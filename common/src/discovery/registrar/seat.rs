//! A node's place in a backend, and what can come between a node and its place.

use std::future::Future;

use uuid::Uuid;

use crate::discovery::{
    flaps::{Damped, FLAP_WINDOW},
    status::moment,
};

/// Why a record is not (or no longer) in the cluster state.
#[derive(Debug)]
pub(crate) enum Setback {
    /// The backend can't be reached; in plain words.
    Unreachable(String),
    /// A live node holds the id.
    Held { instance: Uuid, address: String },
    /// The lease has run out or was revoked.
    LeaseLost,
    /// The record vanished or was replaced.
    Vanished,
    /// Somebody wrote the key between our look and our write.
    Raced,
    /// The record itself is not fit to be read by others; in plain words.
    Unfit(String),
    /// The node joined and left too often lately.
    Damped(Damped, UnixMs),
}

/// Wall-clock milliseconds.
pub(super) type UnixMs = u64;

impl Setback {
    pub(super) fn in_words(&self) -> String {
        match self {
            Self::Unreachable(why) | Self::Unfit(why) => why.clone(),
            Self::Held { instance, address } => {
                format!("instance {instance} at {address} holds the id and answers")
            }
            Self::LeaseLost => "the lease has run out or was revoked".into(),
            Self::Vanished => "the record vanished or was replaced".into(),
            Self::Raced => "the record was written by somebody else at the same time".into(),
            Self::Damped(Damped { times, wait }, now) => {
                let until = moment(now + wait.as_millis() as u64);
                format!("joined or left {times} times within {FLAP_WINDOW:?}: waits until {until}")
            }
        }
    }
}

/// What an attempt comes to.
pub(crate) type Try<T> = std::result::Result<T, Setback>;

/// What stands under a node's key.
pub(crate) struct Holder {
    pub(crate) value: Vec<u8>,
    pub(crate) revision: u64,
    /// Whether it is bound to the seat's own lease.
    pub(crate) on_our_lease: bool,
}

/// What a node finds at its place.
#[derive(Default)]
pub(crate) struct Found {
    pub(crate) holder: Option<Holder>,
    /// The node's recent joins and leaves as they were written; empty if nothing is known.
    pub(crate) history: Vec<u8>,
}

/// What is to be written at a node's place.
#[derive(Debug, Clone)]
pub(crate) struct Writing {
    pub(crate) record: Vec<u8>,
    /// The revision that the record there must still be of; 0: there must be none.
    pub(crate) seen: u64,
    /// News of the node's joins and leaves, to be written with it.
    pub(crate) history: Option<Vec<u8>>,
    /// Whether members must still be carried.
    pub(crate) while_carried: bool,
}

/// One node's keys and lease in a backend. Every call is bounded in time.
pub(crate) trait Seat: Send + 'static {
    /// What stands there now.
    fn found(&mut self) -> impl Future<Output = Try<Found>> + Send;

    /// Writes the record under a lease, if all is still as it says; the revision of the write.
    fn put(&mut self, writing: Writing) -> impl Future<Output = Try<u64>> + Send;

    /// Writes the history alone.
    fn note(&mut self, history: Vec<u8>) -> impl Future<Output = Try<()>> + Send;

    /// Keeps the lease alive until it can't.
    fn renew(&mut self) -> impl Future<Output = Setback> + Send;

    /// Removes the record if it is on our lease, noting the history with it, and the lease.
    fn leave(&mut self, history: Vec<u8>) -> impl Future<Output = Try<()>> + Send;
}
