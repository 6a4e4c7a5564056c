//! Everything that was written to one key, sorted so that a read is judged in two binary searches.

use std::time::Duration;

use crate::history::Value;

/// When a change was done that was never acknowledged.
const NEVER: u64 = u64::MAX;

/// A write of that value, or a delete.
#[derive(Debug, Clone, Copy)]
struct Change {
    value: Option<Value>,
    /// In microseconds.
    sent: u64,
    /// When it was acknowledged. If it was not, it may take effect at any time after, or never.
    done: u64,
}

/// Of all changes that were acknowledged by some time, the one that was sent last.
#[derive(Debug, Clone, Copy)]
struct Newest {
    by: u64,
    sent: u64,
}

/// What was written to one key.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// By value, once sorted.
    all: Vec<Change>,
    /// By time, once sorted.
    newest: Vec<Newest>,
}

/// What a value that was read turns out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// It may be seen.
    Right,
    /// Nobody had written it to that key.
    Wrong,
    /// It had been replaced: by that value, or by a delete.
    Older(Option<Value>),
}

impl Changes {
    /// A write of a value, or a delete. `done` is when it was acknowledged, if it was.
    pub(super) fn add(&mut self, value: Option<Value>, sent: Duration, done: Option<Duration>) {
        let done = done.map_or(NEVER, micros);
        self.all.push(Change { value, sent: micros(sent), done });
    }

    /// The value that was there before everything.
    pub(super) fn preloaded(&mut self, value: Value) {
        self.add(Some(value), Duration::ZERO, Some(Duration::ZERO));
    }

    /// All changes are known.
    pub(super) fn sort(&mut self) {
        let acknowledged = self.all.iter().filter(|change| change.done != NEVER);
        self.newest = acknowledged.map(|c| Newest { by: c.done, sent: c.sent }).collect();
        self.newest.sort_unstable_by_key(|newest| newest.by);
        let mut latest = 0;
        for newest in &mut self.newest {
            latest = latest.max(newest.sent);
            newest.sent = latest;
        }
        self.all.sort_unstable_by_key(|change| (change.value, change.sent));
        self.all.shrink_to_fit();
    }

    /// Judges a value that was read between two times.
    pub(super) fn find(&self, value: Value, sent: Duration, answered: Duration) -> Found {
        let (sent, answered) = (micros(sent), micros(answered));
        let from = self.all.partition_point(|change| change.value < Some(value));
        let same = self.all[from..].iter().take_while(|change| change.value == Some(value));
        let replaced_before = self.sent_before(sent);
        let mut written = false;
        for source in same.take_while(|source| source.sent <= answered) {
            written = true;
            // Two that overlap may have taken effect in either order.
            if replaced_before.is_none_or(|newest| newest <= source.done) {
                return Found::Right;
            }
        }
        if !written {
            return Found::Wrong;
        }
        let replaced_by =
            |change: &&Change| Some(change.sent) == replaced_before && change.done < sent;
        Found::Older(self.all.iter().find(replaced_by).and_then(|change| change.value))
    }

    /// The latest time of sending of a change that was acknowledged before that time.
    fn sent_before(&self, time: u64) -> Option<u64> {
        let count = self.newest.partition_point(|newest| newest.by < time);
        Some(self.newest[count.checked_sub(1)?].sent)
    }
}

fn micros(at: Duration) -> u64 {
    at.as_micros().try_into().unwrap_or(NEVER - 1)
}
