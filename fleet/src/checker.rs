//! Whether a history keeps what the table at the end of docs/protocol.md promises.
//!
//! Every value names its key and a number of which each write of the key has another. So a read
//! shows whether its value was written at all, to that key, before the read had ended: otherwise it
//! is **wrong**, whatever happened. And it shows whether a write or a delete that began after the
//! value's own was acknowledged had been acknowledged itself before the read began: then it is
//! **older**. Writes that overlap may have taken effect in either order, and one that was not
//! acknowledged at any time after it was sent, or never. A miss is neither: a cache may forget.
//! **Failed** is: a 5xx or a 429 that the fault does not
//! name, a reset, no answer within the client's deadline. Two reads are not compared with each
//! other, because what was not acknowledged may appear and be lost again.
//!
//! A history is read twice: first the changes, which stay in memory (48 bytes each), then the
//! reads, one after the other. Five million operations, a third of them writes, took 9 s of one
//! core and 95 MB (`fleet/tests/checker.rs` holds them to a minute and 512 MiB).

mod changes;
mod promise;
mod verdict;
mod windows;

use std::{
    collections::{HashMap, HashSet},
    path::Path,
    time::Duration,
};

use crate::{
    history::{Ended, Entry, GroupKind, HistoryError, Line, Reader, value},
    recorder::{Op, Operation},
};
use changes::{Changes, Found};
use promise::{Promise, promise};
pub use verdict::{Complaints, Tally, Verdict};
use windows::Windows;

/// Why a history can't be judged.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// It can't be read.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// A group of a kind whose promise nothing keeps yet.
    #[error("group {group} is of the kind {kind}: not built, so its promise can't be judged")]
    NotBuilt {
        /// The group.
        group: String,
        /// Its kind.
        kind: GroupKind,
    },
    /// The history does not say of which kind a group is.
    #[error("the history does not say of which kind group {0} is before using it")]
    UnknownGroup(String),
    /// A fault is taken back that was never made.
    #[error("fault {0} is healed but was never made")]
    UnknownFault(u32),
}

/// Judges the history in a file.
///
/// # Errors
/// [`CheckError`]
pub fn check_file(file: &Path) -> Result<Verdict, CheckError> {
    let mut checker = Checker::default();
    for line in Reader::open(file)? {
        checker.learn(&line?)?;
    }
    let lines = Reader::open(file)?;
    let mut judge = checker.judge(lines.what().to_owned());
    for line in lines {
        judge.see(&line?);
    }
    Ok(judge.verdict)
}

/// Judges a history in memory; `what` says of what it is.
///
/// # Errors
/// [`CheckError`]
pub fn check_lines(what: &str, lines: &[Line]) -> Result<Verdict, CheckError> {
    let mut checker = Checker::default();
    for line in lines {
        checker.learn(line)?;
    }
    let mut judge = checker.judge(what.to_owned());
    lines.iter().for_each(|line| judge.see(line));
    Ok(judge.verdict)
}

/// Judges recorded operations of cache groups without replicas, as if there had been no fault.
/// Value 0 of the `preloaded` keys was there before, in every group.
pub fn judge<'a>(
    operations: impl Iterator<Item = &'a Operation> + Clone,
    preloaded: &[String],
) -> Verdict {
    let groups: HashSet<&str> = operations.clone().map(|operation| &*operation.group).collect();
    let mut checker = Checker::default();
    for group in groups {
        let mut keys: HashMap<Box<str>, Changes> = HashMap::new();
        for key in preloaded {
            let first = crate::history::Value::of(key, value(key, 0).as_bytes());
            keys.entry(key.as_str().into()).or_default().preloaded(first);
        }
        let promise = promise::CACHE_AVAILABLE;
        checker.groups.insert(group.to_owned(), Group { promise, keys });
    }
    let entries = operations.map(|operation| Entry::of(operation, Duration::ZERO));
    entries.clone().for_each(|entry| {
        // Every group was put in above.
        let _ = checker.learn_operation(&entry);
    });
    let mut judge = checker.judge(String::new());
    entries.for_each(|entry| judge.see_operation(&entry));
    judge.verdict
}

/// What the groups promise and what changed in them, while it is learned.
#[derive(Debug, Default)]
struct Checker {
    groups: HashMap<String, Group>,
    windows: Windows,
}

#[derive(Debug)]
struct Group {
    promise: Promise,
    keys: HashMap<Box<str>, Changes>,
}

impl Checker {
    fn learn(&mut self, line: &Line) -> Result<(), CheckError> {
        match line {
            Line::Group(name, kind) => {
                let not_built = || CheckError::NotBuilt { group: name.clone(), kind: *kind };
                let promise = promise(*kind).ok_or_else(not_built)?;
                self.groups.insert(name.clone(), Group { promise, keys: HashMap::new() });
            }
            Line::Operation(entry) => self.learn_operation(entry)?,
            Line::Fault(fault) => self.windows.open(fault),
            Line::Healed(id, at) => {
                if !self.windows.close(*id, *at) {
                    return Err(CheckError::UnknownFault(*id));
                }
            }
        }
        Ok(())
    }

    fn learn_operation(&mut self, entry: &Entry) -> Result<(), CheckError> {
        let Some(group) = self.groups.get_mut(&entry.group) else {
            return Err(CheckError::UnknownGroup(entry.group.clone()));
        };
        if entry.op == Op::Get {
            return Ok(());
        }
        // A refusal (a delete of nothing is one) changes nothing that could be relied on.
        let done = entry.answered.filter(|_| entry.ended == Ended::Stored);
        if !group.keys.contains_key(entry.key.as_str()) {
            group.keys.insert(entry.key.as_str().into(), Changes::default());
        }
        if let Some(changes) = group.keys.get_mut(entry.key.as_str()) {
            changes.add(entry.value, entry.sent, done);
        }
        Ok(())
    }

    /// Everything is learned.
    fn judge(mut self, what: String) -> Judge {
        let keys = self.groups.values_mut().flat_map(|group| group.keys.values_mut());
        keys.for_each(Changes::sort);
        let verdict = Verdict::new(what, self.windows.tallies());
        Judge { groups: self.groups, windows: self.windows, verdict }
    }
}

/// Judges one operation after the other.
struct Judge {
    groups: HashMap<String, Group>,
    windows: Windows,
    verdict: Verdict,
}

impl Judge {
    fn see(&mut self, line: &Line) {
        if let Line::Operation(entry) = line {
            self.see_operation(entry);
        }
    }

    fn see_operation(&mut self, entry: &Entry) {
        let Some(group) = self.groups.get(&entry.group) else { return };
        let during = self.windows.during(entry);
        let verdict = &mut self.verdict;
        verdict.count(entry, &during);
        if let Some(refusal) = promise::refusal(&entry.ended) {
            if self.windows.names(&refusal, &during, group.promise) {
                verdict.named += 1;
            } else {
                verdict.fails(entry, &during);
            }
        }
        let (Ended::Value(found), Some(answered)) = (&entry.ended, entry.answered) else { return };
        if entry.op != Op::Get {
            return;
        }
        verdict.values += 1;
        let found_in = group.keys.get(entry.key.as_str());
        match found_in.map_or(Found::Wrong, |all| all.find(*found, entry.sent, answered)) {
            Found::Right => {}
            Found::Wrong => verdict.wrong(entry, &during),
            Found::Older(_) if during.permits_older(group.promise) => {
                verdict.permits_older(&during);
            }
            Found::Older(by) => verdict.older(entry, by, &during),
        }
    }
}

#[cfg(test)]
mod tests;
