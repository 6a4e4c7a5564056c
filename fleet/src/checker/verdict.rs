//! What was found, in numbers and in plain words.

use std::{collections::BTreeMap, fmt, time::Duration};

use super::windows::During;
use crate::{
    history::{Ended, Entry, Value},
    recorder::Op,
};

/// How many complaints of a kind are kept and shown.
const SHOWN: usize = 10;

/// Complaints of one kind: how many, and the first of them in words.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Complaints {
    count: usize,
    first: Vec<String>,
}

impl Complaints {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The first ones, in words.
    pub fn first(&self) -> &[String] {
        &self.first
    }

    fn add(&mut self, complaint: impl FnOnce() -> String) {
        self.count += 1;
        if self.first.len() < SHOWN {
            self.first.push(complaint());
        }
    }

    fn assert_none(&self, what: &str) {
        assert!(self.is_empty(), "{} {what}:\n  {}", self.count, self.first.join("\n  "));
    }
}

/// What happened while a fault was on, or while none was.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// The fault.
    pub what: String,
    /// When it was made.
    pub from: Duration,
    /// When it was taken back; the largest duration there is if it never was.
    pub to: Duration,
    /// Operations that ran at some time of it.
    pub operations: u64,
    /// Of these, those that failed.
    pub failed: u64,
    /// Wrong values.
    pub wrong: u64,
    /// Older values where none are permitted.
    pub older: u64,
    /// Older values that the table permits.
    pub permitted: u64,
}

/// What a checker found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// What the history is of.
    pub what: String,
    /// How many operations there were.
    pub operations: u64,
    /// How many values were read, and judged.
    pub values: usize,
    /// How many reads found nothing: never wrong.
    pub misses: u64,
    /// Values of other keys, from the future, or that nobody had written.
    pub wrong: Complaints,
    /// Values that a later write or delete had replaced, where that is not permitted.
    pub older: Complaints,
    /// The same, where the table permits it.
    pub permitted: u64,
    /// Operations that failed, and that no fault names.
    pub failed: Complaints,
    /// How many would have failed if their fault did not name them.
    pub named: u64,
    /// How many of each outcome failed.
    pub failures: BTreeMap<String, u64>,
    /// While each of the faults, in their order.
    pub faults: Vec<Tally>,
    /// While there was no fault.
    pub calm: Tally,
}

impl Verdict {
    pub(super) fn new(what: String, faults: Vec<Tally>) -> Self {
        Self { what, faults, ..Self::default() }
    }

    /// Whether everything was as promised, and there was something to judge.
    pub fn is_right(&self) -> bool {
        let found = [&self.wrong, &self.older, &self.failed];
        self.operations > 0 && found.iter().all(|complaints| complaints.is_empty())
    }

    /// Makes sure that values were read and none was wrong.
    ///
    /// # Panics
    /// Otherwise, with the first of them.
    pub fn assert_none_wrong(&self) {
        assert!(self.values > 0, "no value was read");
        self.wrong.assert_none("wrong values");
    }

    /// Makes sure that none was older than what had been written.
    ///
    /// # Panics
    /// Otherwise, with the first of them.
    pub fn assert_none_older(&self) {
        self.older.assert_none("older values");
    }

    /// Makes sure that everything was as promised.
    ///
    /// # Panics
    /// Otherwise, with everything that was found.
    pub fn assert_right(&self) {
        assert!(self.is_right(), "{self}");
    }

    pub(super) fn count(&mut self, entry: &Entry, during: &During) {
        self.operations += 1;
        self.misses += u64::from(entry.op == Op::Get && entry.ended == Ended::Missing);
        self.tally(during, |tally| tally.operations += 1);
    }

    pub(super) fn fails(&mut self, entry: &Entry, during: &During) {
        let ended = ended(&entry.ended);
        self.failed.add(|| format!("{}: {ended}", told(entry)));
        *self.failures.entry(ended).or_default() += 1;
        self.tally(during, |tally| tally.failed += 1);
    }

    pub(super) fn wrong(&mut self, entry: &Entry, during: &During) {
        self.wrong.add(|| format!("{} found {}, never written", told(entry), ended(&entry.ended)));
        self.tally(during, |tally| tally.wrong += 1);
    }

    pub(super) fn older(&mut self, entry: &Entry, by: Option<Value>, during: &During) {
        self.older.add(|| {
            let by = by.map_or("a delete".to_owned(), |value| value.to_string());
            format!("{} found {}, replaced by {by}", told(entry), ended(&entry.ended))
        });
        self.tally(during, |tally| tally.older += 1);
    }

    pub(super) fn permits_older(&mut self, during: &During) {
        self.permitted += 1;
        self.tally(during, |tally| tally.permitted += 1);
    }

    fn tally(&mut self, during: &During, count: impl Fn(&mut Tally)) {
        if during.faults.is_empty() {
            count(&mut self.calm);
        }
        during.faults.iter().for_each(|&n| count(&mut self.faults[n]));
    }
}

fn told(entry: &Entry) -> String {
    let op = match entry.op {
        Op::Get => "read",
        Op::Set => "write",
        Op::Delete => "delete",
    };
    let by = entry.gateway.map(|gateway| format!(" through {gateway}")).unwrap_or_default();
    format!("{op} of {}/{} at {:.6?}{by}", entry.group, entry.key, entry.sent)
}

fn ended(ended: &Ended) -> String {
    match ended {
        Ended::Value(value) => value.to_string(),
        Ended::Stored => "stored".to_owned(),
        Ended::Missing => "missing".to_owned(),
        Ended::Refused(status, code) => format!("refused {status} {code}"),
        Ended::Reset => "reset".to_owned(),
        Ended::NoAnswer => "no answer".to_owned(),
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { operations, failed, wrong, older, permitted, .. } = self;
        write!(
            f,
            "{operations} operations, {failed} failed, {wrong} wrong, {older} older, \
             {permitted} older as permitted"
        )
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let right = if self.is_right() { "as promised" } else { "NOT as promised" };
        let Self { what, operations, values, misses, permitted, named, .. } = self;
        writeln!(f, "{what}: {right}")?;
        if *operations == 0 {
            return writeln!(f, "  there is nothing to judge");
        }
        writeln!(f, "  {operations} operations; {values} values read, {misses} misses")?;
        writeln!(f, "  {} wrong values, {} older ones", self.wrong.len(), self.older.len())?;
        writeln!(f, "  {permitted} older values where the table of promises permits them")?;
        writeln!(f, "  {} failed, and {named} refused as the faults name it", self.failed.len())?;
        for (outcome, count) in &self.failures {
            writeln!(f, "    {outcome}: {count}")?;
        }
        for complaints in [&self.wrong, &self.older, &self.failed] {
            for complaint in &complaints.first {
                writeln!(f, "  - {complaint}")?;
            }
            let more = complaints.count - complaints.first.len();
            if more > 0 {
                writeln!(f, "  - and {more} more")?;
            }
        }
        for tally in &self.faults {
            let to = match tally.to {
                Duration::MAX => "the end".to_owned(),
                healed => format!("{healed:.1?}"),
            };
            writeln!(f, "  {} ({:.1?} to {to}): {tally}", tally.what, tally.from)?;
        }
        if !self.faults.is_empty() {
            writeln!(f, "  without a fault: {}", self.calm)?;
        }
        Ok(())
    }
}
