//! Every kind of planted fault is found, and none is invented.

use proptest::{collection::vec, prelude::*};

use super::*;
use crate::history::{Fault, FaultKind, History, Value};

const GROUP: &str = "g";

fn at(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn entry(op: Op, key: &str, value: Option<Value>, ended: Ended, times: (u64, u64)) -> Line {
    let (sent, answered) = (at(times.0), at(times.1));
    let answered = (!matches!(ended, Ended::Reset | Ended::NoAnswer)).then_some(answered);
    let (group, key) = (GROUP.to_owned(), key.to_owned());
    Line::Operation(Entry {
        op,
        group,
        key,
        value,
        due: sent,
        sent,
        answered,
        ended,
        gateway: None,
    })
}

/// A write of a number to the key "k", acknowledged.
fn set(number: u64, sent: u64, answered: u64) -> Line {
    entry(Op::Set, "k", Some(Value::Number(number)), Ended::Stored, (sent, answered))
}

/// A write that ends otherwise.
fn lost(number: u64, ended: Ended, sent: u64, answered: u64) -> Line {
    entry(Op::Set, "k", Some(Value::Number(number)), ended, (sent, answered))
}

fn delete(sent: u64, answered: u64) -> Line {
    entry(Op::Delete, "k", None, Ended::Stored, (sent, answered))
}

fn get(ended: Ended, sent: u64, answered: u64) -> Line {
    entry(Op::Get, "k", None, ended, (sent, answered))
}

fn found(number: u64, sent: u64, answered: u64) -> Line {
    get(Ended::Value(Value::Number(number)), sent, answered)
}

fn fault(id: u32, kind: FaultKind, named: &[&str], millis: u64) -> Line {
    let named = named.iter().map(|&name| name.to_owned()).collect();
    Line::Fault(Fault { id, at: at(millis), kind, named, what: format!("fault {id}") })
}

fn check(kind: GroupKind, lines: &[Line]) -> Verdict {
    let group = Line::Group(GROUP.to_owned(), kind);
    check_lines("a test", &[&[group], lines].concat()).unwrap()
}

/// Wrong, older, older as permitted, failed, named.
fn counts(verdict: &Verdict) -> (usize, usize, u64, usize, u64) {
    let Verdict { wrong, older, permitted, failed, named, .. } = verdict;
    (wrong.len(), older.len(), *permitted, failed.len(), *named)
}

const RIGHT: (usize, usize, u64, usize, u64) = (0, 0, 0, 0, 0);
const WRONG: (usize, usize, u64, usize, u64) = (1, 0, 0, 0, 0);
const OLDER: (usize, usize, u64, usize, u64) = (0, 1, 0, 0, 0);
const PERMITTED: (usize, usize, u64, usize, u64) = (0, 0, 1, 0, 0);
const FAILED: (usize, usize, u64, usize, u64) = (0, 0, 0, 1, 0);
const NAMED: (usize, usize, u64, usize, u64) = (0, 0, 0, 0, 1);

#[test]
fn wrong_and_older_values_are_told_from_right_ones() {
    let other = Value::of("k", b"j:1");
    let history = [
        set(0, 0, 0),
        set(1, 10, 20),
        set(2, 30, 40),
        set(3, 35, 45),
        // One that the client gave up, with an outcome that the test is not about.
        lost(4, Ended::Refused(412, String::new()), 50, 52),
        delete(60, 70),
        set(5, 80, 90),
    ];
    let with = |read: Line| {
        let verdict = check(GroupKind::CacheAvailable, &[&history[..], &[read]].concat());
        assert_eq!(verdict.values, 1);
        assert_eq!(verdict.is_right(), counts(&verdict) == RIGHT);
        counts(&verdict)
    };
    assert_eq!(with(found(0, 5, 6)), RIGHT, "preloaded");
    assert_eq!(with(found(1, 12, 15)), RIGHT, "seen before it is acknowledged");
    assert_eq!(with(found(1, 5, 6)), WRONG, "from the future");
    assert_eq!(with(get(Ended::Value(other), 25, 26)), WRONG, "another key's");
    assert_eq!(with(found(9, 25, 26)), WRONG, "never written");
    assert_eq!(with(found(1, 36, 38)), RIGHT, "its replacement is under way");
    assert_eq!(with(found(1, 41, 42)), OLDER, "replaced");
    assert_eq!(with(found(0, 21, 22)), OLDER, "the preloaded one was replaced");
    assert_eq!(with(found(2, 46, 47)), RIGHT, "3 overlapped it");
    assert_eq!(with(found(3, 65, 75)), RIGHT, "the delete was under way");
    assert_eq!(with(found(3, 71, 75)), OLDER, "deleted");
    assert_eq!(with(found(4, 71, 75)), RIGHT, "not acknowledged: at any time after");
    assert_eq!(with(found(4, 91, 95)), RIGHT, "even so late");
    assert_eq!(with(found(2, 91, 95)), OLDER, "replaced more than once");
}

#[test]
fn a_value_written_twice_counts_by_its_last_write() {
    let history = [set(1, 10, 20), delete(30, 40), set(1, 50, 60), found(1, 70, 75)];
    assert_eq!(counts(&check(GroupKind::CacheStrict, &history)), RIGHT);
    let between = [&history[..], &[found(1, 41, 45)]].concat();
    assert_eq!(counts(&check(GroupKind::CacheStrict, &between)), OLDER);
}

#[test]
fn a_miss_is_never_wrong() {
    let verdict = check(
        GroupKind::CacheAvailable,
        &[set(1, 10, 20), get(Ended::Missing, 30, 40), get(Ended::Missing, 50, 60)],
    );
    assert_eq!((counts(&verdict), verdict.misses), (RIGHT, 2));
}

#[test]
fn keys_and_groups_are_told_apart() {
    let other_key = entry(Op::Set, "j", Some(Value::Number(2)), Ended::Stored, (30, 40));
    let Line::Operation(mut other_group) = set(3, 50, 60) else { unreachable!() };
    other_group.group = "other".to_owned();
    let verdict = check(
        GroupKind::CacheAvailable,
        &[
            Line::Group("other".to_owned(), GroupKind::CacheStrict),
            set(1, 10, 20),
            other_key,
            Line::Operation(other_group),
            found(1, 70, 80),
            found(2, 70, 80),
        ],
    );
    assert_eq!(counts(&verdict), WRONG);
}

#[test]
fn what_fails_is_counted_unless_its_fault_names_it() {
    let refused = |status| Ended::Refused(status, "x".to_owned());
    for ended in [refused(500), refused(503), refused(429), Ended::Reset, Ended::NoAnswer] {
        let verdict = check(GroupKind::CacheAvailable, &[get(ended.clone(), 10, 20)]);
        assert_eq!(counts(&verdict), FAILED, "{ended:?}");
        assert!(!verdict.is_right() && verdict.calm.failed == 1);
    }
    for ended in [refused(404), refused(412), Ended::Missing] {
        let verdict = check(GroupKind::CacheAvailable, &[get(ended.clone(), 10, 20)]);
        assert_eq!(counts(&verdict), RIGHT, "{ended:?}");
    }
    let during = |read| {
        let named = fault(0, FaultKind::Disturbance, &["503", "reset"], 100);
        counts(&check(GroupKind::CacheAvailable, &[named, Line::Healed(0, at(200)), read]))
    };
    assert_eq!(during(get(refused(503), 110, 120)), NAMED);
    assert_eq!(during(get(refused(503), 90, 101)), NAMED, "it ran into it");
    assert_eq!(during(get(Ended::Reset, 110, 0)), NAMED);
    assert_eq!(during(get(refused(500), 110, 120)), FAILED, "not named");
    assert_eq!(during(get(refused(503), 90, 99)), FAILED, "before");
    assert_eq!(during(get(refused(503), 201, 210)), FAILED, "after");
}

/// A read of a value that was replaced long before, `millis` after the fault, which takes a second.
fn read_older(group: GroupKind, kind: FaultKind, millis: u64) -> (usize, usize, u64, usize, u64) {
    const FAULT: u64 = 100_000;
    let lines = [
        set(1, 10, 20),
        set(2, 30, 40),
        fault(0, kind, &[], FAULT),
        Line::Healed(0, at(FAULT + 1_000)),
        found(1, FAULT + millis, FAULT + millis + 1),
    ];
    counts(&check(group, &lines))
}

#[test]
fn older_values_are_permitted_only_where_the_table_says_so() {
    use FaultKind::{Disturbance, OwnerCutOff};
    use GroupKind::{CacheAvailable, CacheStrict};
    assert_eq!(read_older(CacheAvailable, OwnerCutOff, 500), PERMITTED);
    assert_eq!(read_older(CacheAvailable, OwnerCutOff, 10_999), PERMITTED, "10 s after healing");
    assert_eq!(read_older(CacheAvailable, OwnerCutOff, 11_001), OLDER, "and no longer");
    assert_eq!(read_older(CacheAvailable, Disturbance, 500), OLDER);
    assert_eq!(read_older(CacheStrict, OwnerCutOff, 500), OLDER);
    let early = [set(1, 10, 20), set(2, 30, 40), found(1, 50, 60)];
    let then = fault(0, OwnerCutOff, &[], 100);
    assert_eq!(counts(&check(CacheAvailable, &[&early[..], &[then]].concat())), OLDER, "before");
    // A value that nobody wrote is wrong whatever happens.
    let lines = [fault(0, OwnerCutOff, &[], 5), found(1, 10, 20)];
    assert_eq!(counts(&check(CacheAvailable, &lines)), WRONG);
}

#[test]
fn only_strict_groups_may_refuse_while_an_owner_is_cut_off() {
    let lines = |kind| {
        let refused = get(Ended::Refused(503, "node_unavailable".into()), 110, 120);
        [fault(0, kind, &[], 100), refused]
    };
    let cut_off = lines(FaultKind::OwnerCutOff);
    assert_eq!(counts(&check(GroupKind::CacheStrict, &cut_off)), NAMED);
    assert_eq!(counts(&check(GroupKind::CacheAvailable, &cut_off)), FAILED);
    let disturbed = lines(FaultKind::Disturbance);
    assert_eq!(counts(&check(GroupKind::CacheStrict, &disturbed)), FAILED);
}

#[test]
fn each_fault_has_its_own_counts() {
    let lines = [
        set(1, 10, 20),
        fault(0, FaultKind::Disturbance, &[], 100),
        get(Ended::Reset, 110, 0),
        fault(1, FaultKind::Disturbance, &[], 150),
        found(9, 160, 170),
        Line::Healed(0, at(200)),
        Line::Healed(1, at(300)),
        found(1, 2_500, 2_510),
    ];
    let verdict = check(GroupKind::CacheAvailable, &lines);
    let tallies = [&verdict.calm, &verdict.faults[0], &verdict.faults[1]];
    // The one without an answer may have been on its way for as long as a client waits.
    assert_eq!(tallies.map(|tally| tally.operations), [2, 2, 2]);
    assert_eq!(tallies.map(|tally| tally.failed), [0, 1, 1]);
    assert_eq!(tallies.map(|tally| tally.wrong), [0, 1, 1]);
    let told = verdict.to_string();
    assert!(told.starts_with("a test: NOT as promised"), "{told}");
    assert!(told.contains("fault 1 (150.0ms to 300.0ms): 2 operations, 1 failed"), "{told}");
    assert!(told.contains("read of g/k at 160.000000ms found 9, never written"), "{told}");
}

#[test]
fn what_can_not_be_judged_is_an_error() {
    for kind in [
        GroupKind::CacheReplicasOne,
        GroupKind::CacheReplicasAll,
        GroupKind::Durable,
        GroupKind::DurableReplicas,
    ] {
        let error = check_lines("", &[Line::Group("g".into(), kind)]).unwrap_err().to_string();
        assert!(error.contains(&format!("{kind}: not built")), "{error}");
    }
    assert!(matches!(check_lines("", &[set(1, 1, 2)]), Err(CheckError::UnknownGroup(_))));
    assert!(matches!(check_lines("", &[Line::Healed(3, at(1))]), Err(CheckError::UnknownFault(3))));
    assert!(!check(GroupKind::CacheStrict, &[]).is_right(), "nothing proves nothing");
}

#[test]
fn a_file_and_recorded_operations_are_judged_alike() {
    let operation = |op, value: &str, outcome, from, to| Operation {
        op,
        group: GROUP.into(),
        key: "k".into(),
        value: value.to_owned().into(),
        version: None,
        due: from,
        sent: from,
        answered: Some(to),
        outcome,
        gateway: None,
    };
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("history");
    let history = History::create(&path, "planted").unwrap();
    history.group(GROUP, GroupKind::CacheAvailable);
    history.preloaded(GROUP, "k", "k:0");
    let time = |millis| history.started() + at(millis);
    let read = |value: &str| crate::recorder::Outcome::Value(value.to_owned().into());
    let stored = crate::recorder::Outcome::Stored;
    let operations = [
        operation(Op::Get, "", read("k:0"), time(1), time(2)),
        operation(Op::Set, "k:1", stored, time(10), time(20)),
        operation(Op::Get, "", read("k:0"), time(30), time(40)),
        operation(Op::Get, "", read("j:1"), time(50), time(60)),
    ];
    operations.iter().for_each(|operation| history.operation(operation));
    history.finish().unwrap();
    let of_file = check_file(&path).unwrap();
    let of_memory = judge(operations.iter(), &["k".to_owned()]);
    for verdict in [&of_file, &of_memory] {
        assert_eq!((verdict.values, verdict.wrong.len(), verdict.older.len()), (3, 1, 1));
    }
    assert_eq!(of_file.what, "planted");
    assert!(std::panic::catch_unwind(|| of_memory.assert_none_wrong()).is_err());
    assert!(std::panic::catch_unwind(|| of_memory.assert_none_older()).is_err());
}

/// An operation to come: what, when it is sent, when it takes effect after that, when it ends after
/// that, and whether the client hears of it.
type Drawn = (u8, u64, u64, u64, bool);

/// A history that a single perfect register could have: every operation takes effect at one moment
/// between its sending and its answer, and one that was not acknowledged at any moment after.
fn linearizable(drawn: &[Drawn]) -> Vec<Line> {
    let mut by_effect: Vec<(u64, usize)> =
        drawn.iter().enumerate().map(|(n, d)| (d.1 + d.2, n)).collect();
    by_effect.sort_unstable();
    let (mut present, mut lines) = (None, vec![]);
    for (effect, n) in by_effect {
        let (what, sent, _, rest, heard) = drawn[n];
        let (answered, number) = (effect + rest, n as u64);
        lines.push(match what {
            0..4 => {
                present = Some(number);
                // Unheard of it may be as late as it likes.
                let ended = if heard { Ended::Stored } else { Ended::NoAnswer };
                lost(number, ended, sent, answered)
            }
            4 => {
                present = None;
                delete(sent, answered)
            }
            // A cache may forget.
            5 => get(Ended::Missing, sent, answered),
            _ => get(
                present.map_or(Ended::Missing, |number| Ended::Value(Value::Number(number))),
                sent,
                answered,
            ),
        });
    }
    lines
}

fn drawn() -> impl Strategy<Value = Vec<Drawn>> {
    vec((0_u8..12, 0_u64..300, 0_u64..40, 0_u64..40, prop::bool::weighted(0.8)), 1..120)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn what_a_perfect_register_does_is_right(drawn in drawn()) {
        let verdict = check(GroupKind::CacheStrict, &linearizable(&drawn));
        prop_assert!(verdict.wrong.is_empty() && verdict.older.is_empty(), "{}", verdict);
    }

    #[test]
    fn a_planted_read_is_found(drawn in drawn(), reader in 0_u64..100, delete_it in any::<bool>()) {
        let mut lines = linearizable(&drawn);
        // After everything: two acknowledged changes, and a read of the first.
        let number = 1_000_000;
        lines.push(set(number, 1_000, 1_010));
        lines.push(if delete_it { delete(1_020, 1_030) } else { set(number + 1, 1_020, 1_030) });
        lines.push(found(number, 1_031 + reader, 1_032 + reader));
        lines.push(found(number + 2, 1_031 + reader, 1_032 + reader));
        let verdict = check(GroupKind::CacheStrict, &lines);
        prop_assert_eq!((verdict.wrong.len(), verdict.older.len()), (1, 1), "{}", verdict);
    }

    #[test]
    fn the_sorted_judge_agrees_with_a_naive_one(drawn in drawn(), reads in vec((0_u64..120, 0_u64..400, 0_u64..30), 1..40)) {
        // Reads of anything at any time, most of them impossible.
        let mut lines = linearizable(&drawn);
        lines.extend(reads.iter().map(|&(number, sent, took)| found(number, sent, sent + took)));
        let verdict = check(GroupKind::CacheStrict, &lines);
        prop_assert_eq!((verdict.wrong.len(), verdict.older.len()), naive(&lines));
    }
}

/// Wrong and older values, by looking at every change for every read.
fn naive(lines: &[Line]) -> (usize, usize) {
    let entries = || {
        lines.iter().filter_map(|line| match line {
            Line::Operation(entry) => Some(entry),
            _ => None,
        })
    };
    let changes: Vec<_> = entries().filter(|entry| entry.op != Op::Get).collect();
    let done = |change: &Entry| change.answered.filter(|_| change.ended == Ended::Stored);
    let (mut wrong, mut older) = (0, 0);
    for read in entries().filter(|entry| entry.op == Op::Get) {
        let Ended::Value(value) = read.ended else { continue };
        let visible =
            |source: &&&Entry| source.value == Some(value) && Some(source.sent) <= read.answered;
        let sources: Vec<_> = changes.iter().filter(visible).collect();
        let replaced = |source: &&&Entry| {
            done(source).is_some_and(|source| {
                changes
                    .iter()
                    .any(|c| c.sent > source && done(c).is_some_and(|done| done < read.sent))
            })
        };
        wrong += usize::from(sources.is_empty());
        older += usize::from(!sources.is_empty() && sources.iter().all(replaced));
    }
    (wrong, older)
}
