//! Whether the values that were read are right: a wrong one counts as failed.
//!
//! Every value names its key and a number of which each write of a key has a higher one. So a read
//! shows whether its value was written at all, to that key, before the read had ended (else it is
//! wrong, whatever happens to the fleet), and whether a later write or delete had been acknowledged
//! before the read began (then it is older; the README's table says when that may be). A miss is
//! never either.

use std::{collections::HashMap, time::Duration};

use bytes::Bytes;
use fleet::recorder::{Op, Operation, Outcome};

/// How many complaints a message shows.
const SHOWN: usize = 10;

/// The value with that number of a key.
pub(super) fn value(key: &str, number: u64) -> String {
    format!("{key}:{number}")
}

/// What is wrong with the values of some operations, in words.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    /// Values of other keys, or that nobody had written.
    pub(super) wrong: Vec<String>,
    /// Values that a later write or delete had replaced before.
    pub(super) older: Vec<String>,
    /// How many values were looked at.
    pub(super) values: usize,
}

/// A change of a key: a write of that value, or a delete.
struct Change<'a> {
    value: Option<&'a Bytes>,
    sent: Duration,
    /// None if it was not acknowledged: it may take effect at any time after, or never.
    done: Option<Duration>,
}

/// Judges all reads among the operations. Value 0 of the `preloaded` keys was there before.
pub(super) fn judge<'a>(
    operations: impl Iterator<Item = &'a Operation> + Clone,
    preloaded: &[String],
) -> Verdict {
    let first: HashMap<&str, Bytes> =
        preloaded.iter().map(|key| (key.as_str(), value(key, 0).into())).collect();
    let mut changes: HashMap<&str, Vec<Change<'_>>> = HashMap::new();
    for (&key, value) in &first {
        let (sent, done) = (Duration::ZERO, Some(Duration::ZERO));
        changes.entry(key).or_default().push(Change { value: Some(value), sent, done });
    }
    for operation in operations.clone().filter(|operation| operation.op != Op::Get) {
        let Operation { sent, answered, .. } = *operation;
        let value = (operation.op == Op::Set).then_some(&operation.value);
        // A refusal (a delete of nothing is one) changes nothing that could be relied on.
        let done = answered.filter(|_| operation.outcome == Outcome::Stored);
        changes.entry(&operation.key).or_default().push(Change { value, sent, done });
    }
    let mut verdict = Verdict::default();
    for read in operations {
        if let (Outcome::Value(value), Some(answered)) = (&read.outcome, read.answered) {
            let changes = changes.get(read.key.as_str()).map_or(&[][..], Vec::as_slice);
            verdict.add(read, value, answered, changes);
        }
    }
    verdict
}

impl Verdict {
    fn add(&mut self, read: &Operation, value: &Bytes, answered: Duration, changes: &[Change<'_>]) {
        self.values += 1;
        let told = || format!("{} read as {value:?} at {:.3?}", read.key, read.sent);
        let source = changes.iter().find(|change| change.value == Some(value));
        let Some(source) = source.filter(|source| source.sent <= answered) else {
            self.wrong.push(told());
            return;
        };
        let Some(done) = source.done else { return };
        // Two that overlap may have taken effect in either order.
        let replaced = |change: &&Change<'_>| {
            change.sent > done && change.done.is_some_and(|done| done < read.sent)
        };
        if let Some(by) = changes.iter().find(replaced) {
            let by = by.value.map_or("a delete".to_owned(), |value| format!("{value:?}"));
            self.older.push(format!("{}, replaced by {by}", told()));
        }
    }

    /// Makes sure that values were read and none was wrong.
    pub(super) fn assert_none_wrong(&self) {
        assert!(self.values > 0, "no value was read");
        assert_none("wrong", &self.wrong);
    }

    /// Makes sure that none was older than what had been written.
    pub(super) fn assert_none_older(&self) {
        assert_none("older", &self.older);
    }
}

fn assert_none(what: &str, found: &[String]) {
    let shown = &found[..found.len().min(SHOWN)];
    assert!(found.is_empty(), "{} {what} values:\n  {}", found.len(), shown.join("\n  "));
}

#[test]
fn wrong_and_older_values_are_told_from_right_ones() {
    let at = Duration::from_millis;
    let operation = |op, value: &str, outcome, sent, answered: Option<u64>| Operation {
        op,
        group: "default".into(),
        key: "k".into(),
        value: value.to_owned().into(),
        version: None,
        due: at(sent),
        sent: at(sent),
        answered: answered.map(at),
        outcome,
        gateway: None,
    };
    let set = |n, sent, answered| {
        operation(Op::Set, &value("k", n), Outcome::Stored, sent, Some(answered))
    };
    let history = [
        set(1, 10, 20),
        set(2, 30, 40),
        set(3, 35, 45),
        operation(Op::Set, "k:4", Outcome::NoAnswer, 50, None),
        operation(Op::Delete, "", Outcome::Stored, 60, Some(70)),
    ];
    let judged = |found: &str, sent, answered| {
        let found = Outcome::Value(found.to_owned().into());
        let read = operation(Op::Get, "", found, sent, Some(answered));
        let verdict = judge(history.iter().chain([&read]), &["k".to_owned()]);
        assert_eq!(verdict.values, 1);
        (verdict.wrong.len(), verdict.older.len())
    };
    let (right, wrong, older) = ((0, 0), (1, 0), (0, 1));
    assert_eq!(judged("k:0", 5, 6), right, "preloaded");
    assert_eq!(judged("k:1", 12, 15), right, "seen before it is acknowledged");
    assert_eq!(judged("k:1", 5, 6), wrong, "from the future");
    assert_eq!(judged("j:1", 25, 26), wrong, "another key's");
    assert_eq!(judged("k:9", 25, 26), wrong, "never written");
    assert_eq!(judged("k:1", 36, 38), right, "its replacement is under way");
    assert_eq!(judged("k:1", 41, 42), older, "replaced");
    assert_eq!(judged("k:0", 21, 22), older, "the preloaded one was replaced");
    assert_eq!(judged("k:2", 46, 47), right, "3 overlapped it");
    assert_eq!(judged("k:3", 65, 75), right, "the delete was under way");
    assert_eq!(judged("k:3", 71, 75), older, "deleted");
    assert_eq!(judged("k:4", 71, 75), right, "unanswered: may take effect at any time");
}
