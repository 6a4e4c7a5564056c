//! Outcomes are told apart, and add up.

use std::collections::BTreeMap;

use http::HeaderMap;

use super::*;

fn answer(status: u16, body: &'static str) -> Response {
    Response { status, headers: HeaderMap::new(), body: Bytes::from_static(body.as_bytes()) }
}

fn refused(status: u16, code: &str) -> Outcome {
    Outcome::Refused { status, code: code.into() }
}

fn operation(due_ms: u64, answered_ms: Option<u64>, outcome: Outcome) -> Operation {
    Operation {
        op: Op::Get,
        group: "g".into(),
        key: "k".into(),
        value: Bytes::new(),
        version: None,
        due: Duration::from_millis(due_ms),
        sent: Duration::from_millis(due_ms),
        answered: answered_ms.map(Duration::from_millis),
        outcome,
        gateway: None,
    }
}

#[test]
fn answers_become_outcomes() {
    let of = |op, status, body| Outcome::of(op, Some(&Ok(answer(status, body))));
    assert_eq!(of(Op::Get, 200, "v"), Outcome::Value("v".into()));
    assert_eq!(of(Op::Set, 201, ""), Outcome::Stored);
    assert_eq!(of(Op::Delete, 204, ""), Outcome::Stored);
    assert_eq!(of(Op::Get, 404, r#"{"error":"not_found"}"#), Outcome::Missing);
    let no_group = of(Op::Get, 404, r#"{"error":"group_not_found"}"#);
    assert_eq!(no_group, refused(404, "group_not_found"));
    assert_eq!(of(Op::Get, 503, r#"{"error":"no_nodes"}"#), refused(503, "no_nodes"));
    assert_eq!(of(Op::Get, 431, ""), refused(431, ""));
    let lost = Outcome::of(Op::Set, Some(&Err(HttpError::Lost("by peer".into()))));
    assert_eq!(lost, Outcome::Reset("connection lost: by peer".into()));
    assert_eq!(Outcome::of(Op::Set, None), Outcome::NoAnswer);
}

#[test]
fn only_what_the_fault_matrix_names_is_a_failure() {
    for outcome in
        [Outcome::Missing, Outcome::Stored, refused(404, "group_not_found"), refused(412, "")]
    {
        assert!(!outcome.failed(), "{outcome:?}");
    }
    for outcome in
        [refused(500, ""), refused(429, ""), Outcome::Reset(String::new()), Outcome::NoAnswer]
    {
        assert!(outcome.failed(), "{outcome:?}");
    }
}

#[test]
fn keys_are_encoded_into_the_query() {
    let planned = Planned::set("g-1", "a b+&=/%ü", "v");
    assert_eq!(planned.target(), "/api/cache?group=g%2D1&key=a%20b%2B%26%3D%2F%25%C3%BC");
    assert_eq!(planned.method(), "PUT");
    assert_eq!(Planned::delete("g", "k").method(), "DELETE");
}

#[test]
fn a_recording_adds_up() {
    let mut operations: Vec<Operation> = (0..99)
        .map(|n| operation(1_000 + n * 20, Some(1_010 + n * 20), Outcome::Missing))
        .collect();
    operations.push(operation(3_000, Some(3_100), Outcome::Stored));
    operations.push(operation(2_999, None, Outcome::NoAnswer));
    operations.push(operation(3_001, None, Outcome::Reset("x".into())));
    operations.push(operation(3_000, Some(3_010), refused(503, "no_nodes")));
    let recording = Recording { operations, ..Recording::new(Duration::from_secs(1)) };

    let summary = recording.summary();
    assert_eq!((summary.total, summary.failed, recording.failed()), (103, 3, 3));
    assert_eq!((summary.counts["missing"], summary.counts["refused 503 no_nodes"]), (99, 1));
    assert_eq!(summary.failures, BTreeMap::from([(1, 1), (2, 2)]));
    let millis = |latency: Duration| (latency.as_secs_f64() * 1_000.0).round() as u64;
    assert_eq!((millis(summary.latency.p90), millis(summary.latency.max)), (10, 100));
    assert_eq!(summary.answered_per_second.round() as u64, 50);
    let text = summary.to_string();
    assert!(text.contains("103 operations, 3 failed") && text.contains("second 2: 2"), "{text}");

    let before = recording.between(Duration::ZERO, Duration::from_millis(2_999));
    assert_eq!((before.operations.len(), before.failed()), (99, 0));
}

#[test]
fn nothing_adds_up_to_nothing() {
    let summary = Recording::default().summary();
    assert_eq!((summary.total, summary.latency), (0, Latency::default()));
}
