//! What a client saw: every operation with its times and its outcome, and what that adds up to.
//!
//! The times are those of [`common::clock::SystemClock`], so that several recordings and the
//! moments at which faults were made compare directly. Whether a value was the right one is not
//! judged here; that is the checker's business, which reads the operations.

mod summary;

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::{
    history::History,
    http::{HttpError, Response},
};

pub(crate) use summary::Totals;
pub use summary::{Latency, Summary};

/// How many failures a message shows.
const SHOWN_FAILURES: usize = 10;

/// How many failed operations stay in memory when the others do not.
pub const MAX_KEPT_FAILURES: usize = 1_000;

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Op {
    /// Read a key.
    Get,
    /// Write a key.
    Set,
    /// Remove a key.
    Delete,
}

/// An operation to be sent.
#[derive(Debug, Clone)]
pub struct Planned {
    /// What to do.
    pub op: Op,
    /// In which group.
    pub group: String,
    /// With which key.
    pub key: String,
    /// The value of a set; empty otherwise.
    pub value: Bytes,
}

impl Planned {
    /// Read a key.
    pub fn get(group: impl Into<String>, key: impl Into<String>) -> Self {
        Self { op: Op::Get, group: group.into(), key: key.into(), value: Bytes::new() }
    }

    /// Write a key.
    pub fn set(group: impl Into<String>, key: impl Into<String>, value: impl Into<Bytes>) -> Self {
        Self { op: Op::Set, group: group.into(), key: key.into(), value: value.into() }
    }

    /// Remove a key.
    pub fn delete(group: impl Into<String>, key: impl Into<String>) -> Self {
        Self { op: Op::Delete, ..Self::get(group, key) }
    }

    pub(crate) fn method(&self) -> &'static str {
        match self.op {
            Op::Get => "GET",
            Op::Set => "PUT",
            Op::Delete => "DELETE",
        }
    }

    /// The operation in the canonical dialect.
    pub(crate) fn target(&self) -> String {
        let group = utf8_percent_encode(&self.group, NON_ALPHANUMERIC);
        let key = utf8_percent_encode(&self.key, NON_ALPHANUMERIC);
        format!("/api/cache?group={group}&key={key}")
    }
}

/// What came of an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// A get found this.
    Value(Bytes),
    /// A set or a delete was acknowledged.
    Stored,
    /// There was no such entry.
    Missing,
    /// The server said no.
    Refused {
        /// The HTTP status.
        status: u16,
        /// The error code of the body; empty if it has none.
        code: String,
    },
    /// No connection, or it broke. Whether a write was applied is unknown.
    Reset(String),
    /// Nothing within the client's deadline. Whether a write was applied is unknown.
    NoAnswer,
}

/// Whether an answer with that status counts as failed.
pub(crate) fn status_fails(status: u16) -> bool {
    status >= 500 || status == 429
}

impl Outcome {
    /// Does this count as failed: a 5xx or 429, a reset, no answer? A miss does not.
    pub fn failed(&self) -> bool {
        match self {
            Self::Value(_) | Self::Stored | Self::Missing => false,
            Self::Refused { status, .. } => status_fails(*status),
            Self::Reset(_) | Self::NoAnswer => true,
        }
    }

    /// A name to count it under.
    pub fn label(&self) -> String {
        match self {
            Self::Value(_) => "value".into(),
            Self::Stored => "stored".into(),
            Self::Missing => "missing".into(),
            Self::Refused { status, code } if code.is_empty() => format!("refused {status}"),
            Self::Refused { status, code } => format!("refused {status} {code}"),
            Self::Reset(_) => "reset".into(),
            Self::NoAnswer => "no answer".into(),
        }
    }

    /// What an answer, an error, or neither in time means to an operation.
    pub(crate) fn of(op: Op, answer: Option<&Result<Response, HttpError>>) -> Self {
        let answer = match answer {
            Some(Ok(answer)) => answer,
            Some(Err(error)) => return Self::Reset(error.to_string()),
            None => return Self::NoAnswer,
        };
        if (200..300).contains(&answer.status) {
            return match op {
                Op::Get => Self::Value(answer.body.clone()),
                Op::Set | Op::Delete => Self::Stored,
            };
        }
        let code = answer.json()["error"].as_str().unwrap_or_default().to_owned();
        // A group that is gone is not a miss.
        if answer.status == 404 && matches!(code.as_str(), "" | "not_found") {
            return Self::Missing;
        }
        Self::Refused { status: answer.status, code }
    }
}

/// One operation, from its planned moment to its outcome.
#[derive(Debug, Clone)]
pub struct Operation {
    /// What was asked for.
    pub op: Op,
    /// In which group.
    pub group: String,
    /// With which key.
    pub key: String,
    /// The value of a set; empty otherwise.
    pub value: Bytes,
    /// The version (ETag) that the answer told.
    pub version: Option<String>,
    /// When the schedule wanted it sent. Latencies count from here, so that a client that is held
    /// up by slow answers does not hide how slow they were.
    pub due: Duration,
    /// Just before it was sent; equal to `due` if it never was.
    pub sent: Duration,
    /// Just after the whole answer was read. None for [`Outcome::Reset`] and [`Outcome::NoAnswer`].
    pub answered: Option<Duration>,
    /// What came of it.
    pub outcome: Outcome,
    /// Which gateway it was sent to; none if it never was.
    pub gateway: Option<SocketAddr>,
}

impl Operation {
    /// From the planned moment to the whole answer.
    pub fn latency(&self) -> Option<Duration> {
        self.answered.map(|answered| answered.saturating_sub(self.due))
    }
}

/// Where a client's operations go.
#[derive(Debug, Clone, Default)]
pub enum Record {
    /// To memory: for runs of minutes, whose operations are looked at one by one.
    #[default]
    Memory,
    /// To a history file; in memory remain what they add up to, and the first failed ones.
    History(History),
    /// To both.
    Both(History),
}

/// Everything one client did, in the order in which it ended.
#[derive(Debug, Clone, Default)]
pub struct Recording {
    /// When the client started.
    pub started: Duration,
    /// The operations. Of a client that wrote them to a [`Record::History`] only the first
    /// [`MAX_KEPT_FAILURES`] failed ones.
    pub operations: Vec<Operation>,
    /// What all operations add up to, if they are not all kept.
    totals: Option<Totals>,
}

impl Recording {
    /// Nothing yet, of a client that started then and keeps its operations.
    pub fn new(started: Duration) -> Self {
        Self { started, operations: Vec::new(), totals: None }
    }

    /// Nothing yet, of a client whose operations are kept elsewhere.
    pub(crate) fn of_totals(started: Duration) -> Self {
        Self { totals: Some(Totals::new(started)), ..Self::new(started) }
    }

    /// One more operation has ended.
    pub(crate) fn add(&mut self, operation: Operation) {
        if let Some(totals) = &mut self.totals {
            totals.add(&operation);
            if !operation.outcome.failed() || self.operations.len() >= MAX_KEPT_FAILURES {
                return;
            }
        }
        self.operations.push(operation);
    }

    /// The kept operations that were due in `[from, to)`: before, during, after a fault.
    #[must_use]
    pub fn between(&self, from: Duration, to: Duration) -> Self {
        let due = |operation: &&Operation| (from..to).contains(&operation.due);
        Self {
            started: self.started.max(from),
            operations: self.operations.iter().filter(due).cloned().collect(),
            totals: None,
        }
    }

    /// The kept operations that failed.
    pub fn failures(&self) -> impl Iterator<Item = &Operation> {
        self.operations.iter().filter(|operation| operation.outcome.failed())
    }

    /// How many operations failed.
    pub fn failed(&self) -> usize {
        match &self.totals {
            Some(totals) => totals.failed() as usize,
            None => self.failures().count(),
        }
    }

    /// Makes sure that there were operations and none failed; `what` is for the message.
    ///
    /// # Panics
    ///
    /// Otherwise, with the summary and the first failures.
    pub fn assert_none_failed(&self, what: &str) {
        let summary = self.summary();
        assert!(summary.total > 0, "{what}: nothing was sent");
        if summary.failed > 0 {
            let mut first: Vec<_> = self.failures().collect();
            first.sort_by_key(|operation| operation.due);
            let told: Vec<String> = first
                .iter()
                .take(SHOWN_FAILURES)
                .map(|o| {
                    let due = o.due.saturating_sub(self.started);
                    format!("  due {due:.3?}: {:?} {}: {:?}", o.op, o.key, o.outcome)
                })
                .collect();
            panic!("{what}: {summary}the first failures:\n{}", told.join("\n"));
        }
    }

    /// What it adds up to.
    pub fn summary(&self) -> Summary {
        if let Some(totals) = &self.totals {
            return totals.summary();
        }
        let mut totals = Totals::new(self.started);
        self.operations.iter().for_each(|operation| totals.add(operation));
        totals.summary()
    }
}

#[cfg(test)]
mod tests;
