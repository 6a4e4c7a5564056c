//! A history file: what clients did and saw, and which faults there were meanwhile.
//!
//! One line of text per operation, short enough for an hour under load, written while it happens
//! and read back by an iterator: neither side holds the file in memory. Times are microseconds
//! since the history began, rounded so that an operation never looks shorter than it was. Values
//! are kept as the number that [`value`] put into them, or as a hash. What a history means is the
//! business of [`crate::checker`].
//!
//! ```text
//! ringway-history 1 unix=1795262400 row 5, seed 7
//! G default cache,1,available
//! F 1000000 0 owner-cut-off 503 gateway-0 and node-2 cut from node-1
//! s default written-3 312 1200300 +45 +812 ok 127.0.0.1:18231
//! g default written-3 - 1210300 +39 +460 =312 127.0.0.1:18231
//! g default written-3 - 1220300 +39 - none -
//! H 3000000 0
//! ```
//!
//! An operation: what, group, key, the value written, when it was due, how much later it was sent,
//! how much after that it was answered, the outcome, by which gateway.

mod line;
mod read;
mod write;

use std::{net::SocketAddr, time::Duration};

use crate::recorder::{Op, Operation, Outcome};

pub use read::{HistoryError, Reader};
pub use write::History;

/// The first word of a history file, and the version of its format.
const MAGIC: &str = "ringway-history";
const VERSION: &str = "1";

/// The value with that number of a key. Each write of a key should have a number of its own.
pub fn value(key: &str, number: u64) -> String {
    format!("{key}:{number}")
}

/// What kind a group is of, as far as promises go: the rows of the table in docs/protocol.md.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GroupKind {
    /// A cache without replicas; with owner and next node out of reach it may serve older values.
    CacheAvailable,
    /// A cache without replicas that answers 503 then.
    CacheStrict,
    /// A cache with replicas that are written after the answer.
    CacheReplicasOne,
    /// A cache with replicas that are written before the answer.
    CacheReplicasAll,
    /// On disk, on one node.
    Durable,
    /// On disk, on several.
    DurableReplicas,
}

/// Whether a fault permits anything by the table of promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// It permits nothing.
    Disturbance,
    /// A gateway and the next node are cut from an owner: the one case of bounded staleness.
    OwnerCutOff,
}

/// A value, as a history keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Value {
    /// That of the key it was found under with this number (see [`value`]).
    Number(u64),
    /// Any other: a hash of its bytes.
    Other(u64),
}

/// What came of an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// A get found this.
    Value(Value),
    /// A set or a delete was acknowledged.
    Stored,
    /// There was no such entry.
    Missing,
    /// The server said no: the HTTP status, and the error code of the body.
    Refused(u16, String),
    /// No connection, or it broke.
    Reset,
    /// Nothing within the client's deadline.
    NoAnswer,
}

/// One operation. Times count from the beginning of the history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What was asked for.
    pub op: Op,
    /// In which group.
    pub group: String,
    /// With which key.
    pub key: String,
    /// What a set wrote.
    pub value: Option<Value>,
    /// When the schedule wanted it sent.
    pub due: Duration,
    /// Just before it was sent.
    pub sent: Duration,
    /// Just after the whole answer was read.
    pub answered: Option<Duration>,
    /// What came of it.
    pub ended: Ended,
    /// Which gateway it was sent to.
    pub gateway: Option<SocketAddr>,
}

/// A fault that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Which one it is, in this history.
    pub id: u32,
    /// When it was made.
    pub at: Duration,
    /// What it permits.
    pub kind: FaultKind,
    /// Refusals that do not count as failed while it lasts: statuses, or "reset", "none".
    pub named: Vec<String>,
    /// What was done, for people.
    pub what: String,
}

/// A line of a history, after the first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// Of which kind a group is.
    Group(String, GroupKind),
    /// An operation.
    Operation(Entry),
    /// A fault begins.
    Fault(Fault),
    /// The fault of that id was taken back at that time.
    Healed(u32, Duration),
}

impl Value {
    /// That value of that key.
    pub fn of(key: &str, bytes: &[u8]) -> Self {
        let number = || {
            let text = std::str::from_utf8(bytes).ok()?;
            let number = text.strip_prefix(key)?.strip_prefix(':')?.parse().ok()?;
            // Not for "k:007", which is another value.
            (value(key, number) == text).then_some(number)
        };
        number().map_or_else(|| Self::Other(hash(bytes)), Self::Number)
    }
}

/// FNV-1a: the same in every build, and two values of one test that collide are not to be feared.
fn hash(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

impl Entry {
    /// An operation, with times since `started`.
    pub fn of(operation: &Operation, started: Duration) -> Self {
        let Operation { op, group, key, due, sent, answered, gateway, .. } = operation;
        let since = |at: Duration| at.saturating_sub(started);
        let ended = match &operation.outcome {
            Outcome::Value(bytes) => Ended::Value(Value::of(key, bytes)),
            Outcome::Stored => Ended::Stored,
            Outcome::Missing => Ended::Missing,
            Outcome::Refused { status, code } => Ended::Refused(*status, code.clone()),
            Outcome::Reset(_) => Ended::Reset,
            Outcome::NoAnswer => Ended::NoAnswer,
        };
        Self {
            op: *op,
            group: group.clone(),
            key: key.clone(),
            value: (*op == Op::Set).then(|| Value::of(key, &operation.value)),
            due: since(*due),
            sent: since(*sent),
            answered: answered.map(since),
            ended,
            gateway: *gateway,
        }
    }
}

#[cfg(test)]
mod tests;
