//! What is a batch, and what is said of what is none.

use proptest::prelude::*;
use proto::v1::{self, Condition};

use super::*;

/// No group takes larger values in these tests.
const MAX_VALUE: usize = 64;

fn parsed(json: &str) -> Result<Batch> {
    parse(&Bytes::copy_from_slice(json.as_bytes()), |_| MAX_VALUE)
}

/// What is wrong with a batch.
fn refusal(json: &str) -> String {
    let error = parsed(json).expect_err(json);
    assert_eq!(error.code(), Code::InvalidRequest, "{json}");
    error.message().to_owned()
}

/// The requests of one of a batch's lists of writes.
fn asked(operations: &[Operation]) -> Vec<&v1::Request> {
    let mut requests = Vec::new();
    for operation in operations {
        match operation {
            Ok(ask) => requests.push(ask.request()),
            Err(done) => panic!("{done:?}"),
        }
    }
    requests
}

fn set(fields: &str) -> v1::Request {
    let json = format!(r#"{{"set":[{{"group":"g","key":"k",{fields}}}]}}"#);
    let batch = parsed(&json).unwrap_or_else(|error| panic!("{json}: {error}"));
    asked(&batch.sets)[0].clone()
}

#[test]
fn lists_become_operations_in_their_order() {
    let batch = parsed(
        r#" {"get": [{"group": "a", "key": "1"}, {"key": "2"}],
             "group": "b",
             "delete": [{"key": "3"}, {"key": "4", "if_match": "*"}],
             "set": [{"key": "5", "value": "v"}]} "#,
    )
    .expect("a batch");
    let named = |request: &v1::Request| format!("{}/{}", request.group, request.key);
    let gets: Vec<_> = batch.gets.iter().map(|ask| named(ask.request())).collect();
    assert_eq!(gets, ["a/1", "b/2"]);
    let deletes = asked(&batch.deletes);
    assert_eq!(deletes.iter().map(|request| named(request)).collect::<Vec<_>>(), ["b/3", "b/4"]);
    assert_eq!(deletes[0].condition, None);
    let present = Condition { if_present: true, ..Default::default() };
    assert_eq!(deletes[1].condition.as_deref(), Some(&present));
    assert_eq!(asked(&batch.sets).iter().map(|r| named(r)).collect::<Vec<_>>(), ["b/5"]);
    for empty in ["{}", r#"{"get":[],"group":null}"#] {
        let batch = parsed(empty).expect("a batch of nothing");
        assert_eq!((batch.gets.len(), batch.sets.len(), batch.deletes.len()), (0, 0, 0));
    }
}

#[test]
fn values_are_stored_as_what_they_are() {
    for (fields, value, content_type) in [
        (r#""value":"text""#, &b"text"[..], "text/plain"),
        (r#""value":"""#, b"", "text/plain"),
        (r#""value":"a\"\u00e9\n""#, "a\"é\n".as_bytes(), "text/plain"),
        (r#""value": {"a" : [1.50, null]} "#, br#"{"a" : [1.50, null]}"#, "application/json"),
        (r#""value":null"#, b"null", "application/json"),
        (r#""value":12345678901234567890123"#, b"12345678901234567890123", "application/json"),
        (r#""value_base64":"AP8=""#, b"\0\xff", ""),
        (r#""value":"AP8=","encoding":"base64""#, b"\0\xff", ""),
        (r#""value":"x","content_type":"image/png""#, b"x", "image/png"),
        (r#""value":"x","content_type":"application/octet-stream""#, b"x", ""),
        (r#""value":"x","content_type":null,"value_base64":null"#, b"x", "text/plain"),
    ] {
        let request = set(fields);
        assert_eq!((&request.value[..], request.content_type.as_str()), (value, content_type));
    }
}

#[test]
fn plain_values_are_not_copied() {
    let body = Bytes::from_static(br#"{"set":[{"group":"g","key":"k","value":"as it is"}]}"#);
    let batch = parse(&body, |_| MAX_VALUE).expect("a batch");
    let value = &asked(&batch.sets)[0].value;
    assert!(body.as_ptr_range().contains(&value.as_ptr()));
}

#[test]
fn times_to_live_are_seconds_or_words() {
    for (ttl, ms) in [("\"1h\"", 3_600_000), ("90", 90_000), ("0.5", 500), ("null", 0)] {
        assert_eq!(set(&format!(r#""value":1,"ttl":{ttl}"#)).ttl_ms, ms, "{ttl}");
    }
    for ttl in ["0", "-1", "1e300", "\"0s\"", "\"soon\"", "\"\"", "[]", "true"] {
        let text =
            refusal(&format!(r#"{{"set":[{{"group":"g","key":"k","value":1,"ttl":{ttl}}}]}}"#));
        assert!(text.starts_with("set[0]") && text.contains("ttl"), "{ttl}: {text}");
    }
}

#[test]
fn conditions_are_those_of_the_headers() {
    let tag = "00000000000000070000000000000abc";
    let condition = set(&format!(r#""value":1,"if_match":"\"{tag}\", \"x\"""#)).condition;
    assert_eq!(condition.map(|c| c.if_version.len()), Some(1));
    let absent = set(r#""value":1,"if_absent":true"#).condition.expect("one");
    assert!(absent.if_absent);
    assert_eq!(set(r#""value":1,"if_absent":false"#).condition, None);
}

#[test]
fn what_only_its_cache_refuses_is_an_outcome() {
    let long = "v".repeat(MAX_VALUE + 1);
    let json = format!(
        r#"{{"group":"g","set":[{{"key":"a","value":"{long}"}},{{"key":"b","value":1,"if_match":"x"}}],
            "delete":[{{"key":"c","if_match":""}}]}}"#
    );
    let batch = parsed(&json).expect("a batch");
    let codes = batch.sets.iter().chain(&batch.deletes).map(|operation| match operation {
        Ok(ask) => panic!("{ask:?}"),
        Err(done) => {
            assert!(done.request.value.is_empty(), "nobody needs it any more");
            (done.request.key.as_str(), done.result.as_ref().expect_err("refused").code())
        }
    });
    let (large, never) = (Code::TooLarge, Code::PreconditionFailed);
    assert_eq!(codes.collect::<Vec<_>>(), [("a", large), ("b", never), ("c", never)]);
    let exact = format!(r#""value":"{}""#, "v".repeat(MAX_VALUE));
    assert_eq!(set(&exact).value.len(), MAX_VALUE);
}

#[test]
fn what_is_wrong_is_named_with_its_place() {
    for (json, text) in [
        (r#"{"get":[{"group":"g","key":"k"},{"group":"g"}]}"#, "get[1].key is missing"),
        (r#"{"get":[{"key":"k"}]}"#, "get[0].group is missing"),
        (r#"{"get":[{"group":"g","key":null}]}"#, "get[0].key is missing"),
        (r#"{"get":[{"group":"g","key":""}]}"#, "get[0]: the key is empty"),
        (r#"{"get":[{"group":"g/","key":"k"}]}"#, "get[0]: the group holds '/'"),
        (r#"{"group":"","get":[]}"#, "group: the group is empty"),
        (r#"{"group":5}"#, "group: invalid type: integer `5`, expected a string"),
        (r#"{"get":[{"group":"g","key":5}]}"#, "get[0].key: invalid type: integer `5`"),
        (r#"{"get":[{"group":"g","key":"k","key":"l"}]}"#, "get[0].key is given twice"),
        (r#"{"get":[],"get":[]}"#, "get is given twice"),
        (r#"{"get":{}}"#, "get: invalid type: map, expected a list"),
        (r#"{"get":["k"]}"#, "get[0]: invalid type: string \"k\", expected an object"),
        (r#"{"get":[{"kee":"k"}]}"#, "get[0] has no \"kee\"; it takes group, key"),
        (r#"{"get":[{"value":1}]}"#, "get[0] has no \"value\"; it takes group, key"),
        (r#"{"put":[]}"#, "a batch has no \"put\"; it takes group, get, set, delete"),
        (r#"{"set":[{"group":"g","key":"k"}]}"#, "set[0].value is missing"),
        (
            r#"{"set":[{"group":"g","key":"k","value":1,"value_base64":""}]}"#,
            "set[0].value is given twice, once as value_base64",
        ),
        (
            r#"{"set":[{"group":"g","key":"k","value_base64":"?"}]}"#,
            "set[0].value_base64 is not base64",
        ),
        (
            r#"{"set":[{"group":"g","key":"k","value":1,"encoding":"base64"}]}"#,
            "set[0].value is no text, so it can't be base64",
        ),
        (
            r#"{"set":[{"group":"g","key":"k","value":"","encoding":"hex"}]}"#,
            "set[0].encoding is \"hex\", not base64",
        ),
        (r#"{"set":[{"group":"g","key":"k","value":"\ud800"}]}"#, "set[0].value is no text: "),
        (
            r#"{"set":[{"group":"g","key":"k","value":"","content_type":"a\nb"}]}"#,
            "set[0].content_type is no content type",
        ),
        (
            r#"{"set":[{"group":"g","key":"k","value":"","if_absent":1}]}"#,
            "set[0].if_absent: invalid type: integer `1`, expected a boolean",
        ),
        ("[]", "the batch is not as it should be: invalid type: sequence, expected an object"),
        ("", "the body is not JSON: EOF while parsing"),
        ("{", "the body is not JSON: EOF while parsing"),
        ("{} {}", "the body is not JSON: trailing characters"),
        (r#"{"get":[{"group":"g","key":"k"},]}"#, "the body is not JSON: trailing comma"),
    ] {
        let refusal = refusal(json);
        assert!(refusal.starts_with(text), "{json}: {refusal}");
    }
}

#[test]
fn so_many_operations_and_no_more() {
    let batch = |gets: usize, deletes: usize| {
        let list = |count| vec![r#"{"group":"g","key":"k"}"#; count].join(",");
        parsed(&format!(r#"{{"get":[{}],"delete":[{}]}}"#, list(gets), list(deletes)))
    };
    assert_eq!(batch(MAX_OPERATIONS - 1, 1).map(|batch| batch.gets.len()).ok(), Some(999));
    for (gets, deletes) in [(MAX_OPERATIONS + 1, 0), (MAX_OPERATIONS, 1)] {
        let error = batch(gets, deletes).expect_err("too many");
        assert_eq!(error.code(), Code::TooLarge);
        assert!(error.message().contains("1000"), "{error}");
    }
}

#[test]
fn no_depth_of_nesting_is_too_much() {
    let deep = format!("{}{}", "[".repeat(1 << 16), "]".repeat(1 << 16));
    let within = format!(r#"{{"set":[{{"group":"g","key":"k","value":{deep}}}]}}"#);
    let batch = parse(&within.clone().into(), |_| usize::MAX).expect("a value like any other");
    assert_eq!(asked(&batch.sets)[0].value.len(), deep.len());
    refusal(&format!(r#"{{"get":{deep}}}"#));
    refusal(&deep);
}

proptest! {
    #[test]
    fn rubbish_is_refused_and_nothing_worse(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(&bytes.into(), |_| MAX_VALUE);
    }

    #[test]
    fn json_of_any_kind_is_refused_or_understood(
        json in r#"\{("(get|set|delete|group)":(\[(\{("(group|key|value|ttl|if_match)":("[a-z*]{0,3}"|[0-9]{1,2}|null|\[\]),?){0,3}\},?){0,2}\]|"g"|null),?){0,3}\}"#
    ) {
        if let Err(error) = parsed(&json) {
            prop_assert!(error.code() == Code::InvalidRequest && error.message().len() > 5);
        }
    }

    #[test]
    fn any_text_is_stored_as_its_utf8(text in ".{0,20}") {
        let value = serde_json::to_string(&text).expect("JSON");
        let request = set(&format!(r#""value":{value}"#));
        prop_assert_eq!(&request.value[..], text.as_bytes());
    }
}
