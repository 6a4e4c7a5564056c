//! What is written is read back, and what is no history is told as such.

use std::fs;

use proptest::{collection::vec, option, prelude::*};

use super::*;

fn entry(op: Op, key: &str, ended: Ended) -> Entry {
    Entry {
        op,
        group: "g 1".into(),
        key: key.into(),
        value: (op == Op::Set).then_some(Value::Number(7)),
        due: Duration::from_micros(1_000),
        sent: Duration::from_micros(1_020),
        answered: Some(Duration::from_micros(2_000)),
        ended,
        gateway: Some("127.0.0.1:80".parse().unwrap()),
    }
}

#[test]
fn values_are_told_apart_by_number_or_by_content() {
    assert_eq!(Value::of("k", b"k:12"), Value::Number(12));
    for other in [&b"j:12"[..], b"k:012", b"k:+12", b"k:12 ", b"k:", b"", b"k:99999999999999999999"]
    {
        assert!(matches!(Value::of("k", other), Value::Other(_)), "{other:?}");
    }
    assert_ne!(Value::of("k", b"j:1"), Value::of("k", b"j:2"));
}

#[test]
fn lines_look_as_documented() {
    let text = |entry: Entry| Line::Operation(entry).to_string();
    assert_eq!(
        text(entry(Op::Set, "a b", Ended::Stored)),
        "s g%201 a%20b 7 1000 +20 +980 ok 127.0.0.1:80"
    );
    let lost = Entry { answered: None, gateway: None, ..entry(Op::Get, "k-1", Ended::NoAnswer) };
    assert_eq!(text(lost), "g g%201 k-1 - 1000 +20 - none -");
    // An answer is never made earlier, nor a sending later.
    let nanos = Duration::from_nanos;
    let exact = Entry {
        sent: nanos(1_020_900),
        answered: Some(nanos(2_000_001)),
        ..entry(Op::Get, "k", Ended::Missing)
    };
    assert_eq!(text(exact), "g g%201 k - 1000 +20 +981 miss 127.0.0.1:80");
}

#[test]
fn a_file_is_written_and_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("history");
    let history = History::create(&path, "row 5,\nseed 7").unwrap();
    history.group("g 1", GroupKind::CacheStrict);
    history.preloaded("g 1", "k", "k:0");
    let fault = history.fault(FaultKind::OwnerCutOff, &["503", "reset"], "cut  it");
    let operation = Operation {
        op: Op::Get,
        group: "g 1".into(),
        key: "k".into(),
        value: bytes::Bytes::new(),
        version: None,
        due: history.started() + Duration::from_millis(5),
        sent: history.started() + Duration::from_millis(6),
        answered: Some(history.started() + Duration::from_millis(8)),
        outcome: Outcome::Refused { status: 503, code: "no_nodes".into() },
        gateway: None,
    };
    history.operation(&operation);
    history.healed(fault);
    history.finish().unwrap();

    let reader = Reader::open(&path).unwrap();
    assert_eq!(reader.what(), "row 5, seed 7");
    let lines: Vec<Line> = reader.map(Result::unwrap).collect();
    let [
        Line::Group(name, kind),
        Line::Operation(first),
        Line::Fault(cut),
        Line::Operation(read),
        Line::Healed(healed, at),
    ] = lines.as_slice()
    else {
        panic!("{lines:?}")
    };
    assert_eq!((name.as_str(), *kind), ("g 1", GroupKind::CacheStrict));
    assert_eq!((first.value, first.answered), (Some(Value::Number(0)), Some(Duration::ZERO)));
    assert_eq!((cut.named.join(" "), cut.what.as_str()), ("503 reset".into(), "cut  it"));
    assert_eq!(cut.kind, FaultKind::OwnerCutOff);
    assert_eq!(read.ended, Ended::Refused(503, "no_nodes".into()));
    assert_eq!(read.sent, Duration::from_millis(6));
    assert_eq!(*healed, cut.id);
    assert!(*at >= cut.at);
}

#[test]
fn what_is_no_history_is_told_with_its_line() {
    let read =
        |text: &str| -> Result<Vec<Line>, HistoryError> { Reader::new(text.as_bytes())?.collect() };
    let told = |text: &str| read(text).unwrap_err().to_string();
    assert!(told("").contains("no history"));
    assert!(told("ringway-history 2 unix=1 x\n").contains("no history of version 1"));
    let begin = "ringway-history 1 unix=1 x\n";
    assert!(read(begin).unwrap().is_empty());
    for (line, why) in [
        ("x", "'x' is no kind of line"),
        ("g g k - 1 +1 +1 what -", "'what' is no outcome"),
        ("g g k - 1 +1", "no time of the answer"),
        ("g g k - 1 - - none -", "never sent"),
        ("g g k - 1 +1 +1 miss - more", "'more' is too much"),
        ("G g cache,3,some", "'cache,3,some' is no kind of group"),
    ] {
        let error = told(&format!("{begin}H 1 0\n{line}\n"));
        assert!(error == format!("line 3: {why}"), "{error}");
    }
    assert!(told(&format!("{begin}g g k - 1 +1 +1 mi")).contains("line 2: it has no end"));
    let endless = "x".repeat(100_000);
    assert!(told(&format!("{begin}{endless}\n")).contains("no end"));
}

#[test]
fn a_full_disk_is_told_at_the_end() {
    let Ok(history) = History::create(std::path::Path::new("/dev/full"), "x") else {
        panic!("it is told at the end: {:?}", fs::metadata("/dev/full"))
    };
    for _ in 0..10_000 {
        history.preloaded("g", "k", "k:0");
    }
    assert!(history.finish().is_err());
}

fn any_ended() -> impl Strategy<Value = Ended> {
    prop_oneof![
        any::<u64>().prop_map(|n| Ended::Value(Value::Number(n))),
        any::<u64>().prop_map(|n| Ended::Value(Value::Other(n))),
        Just(Ended::Stored),
        Just(Ended::Missing),
        (any::<u16>(), ".*").prop_map(|(status, code)| Ended::Refused(status, code)),
        Just(Ended::Reset),
        Just(Ended::NoAnswer),
    ]
}

proptest! {
    #[test]
    fn any_operation_survives_its_line(
        (group, key) in (".{1,9}", ".{1,9}"),
        value in option::of(any::<u64>().prop_map(Value::Other)),
        times in vec(0_u32.., 3),
        (answered, ended) in (any::<bool>(), any_ended()),
    ) {
        let micros = |n: usize| Duration::from_micros(times[..=n].iter().map(|&t| u64::from(t)).sum());
        let entry = Entry {
            op: if value.is_some() { Op::Set } else { Op::Delete },
            group, key, value,
            due: micros(0), sent: micros(1), answered: answered.then(|| micros(2)),
            ended, gateway: Some("[::1]:9".parse().unwrap()),
        };
        let line = Line::Operation(entry);
        let text = line.to_string();
        prop_assert!(!text.contains('\n'));
        prop_assert_eq!(text.parse::<Line>(), Ok(line));
    }
}
