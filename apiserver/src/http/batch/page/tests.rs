//! Outcomes, read back from the JSON that they were written as.

use common::{
    entry::Version,
    error::{Code, Error},
    route::Ask,
};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const VERSION: Version = Version { as_of: 7, clock: 0xabc };
const ETAG: &str = "\"00000000000000070000000000000abc\"";

fn done(ask: Ask, result: common::error::Result<v1::Reply>) -> Done {
    Done { result, ..Done::refused(ask, Error::new(Code::Internal, "")) }
}

fn get(key: &str) -> Ask {
    Ask::get("g".parse().expect("a group"), key.parse().expect("a key"))
}

fn reply(value: impl Into<Bytes>, content_type: &str) -> v1::Reply {
    let (version_hi, version_lo) = (VERSION.as_of, VERSION.clock);
    let content_type = content_type.to_owned();
    v1::Reply { value: value.into(), content_type, version_hi, version_lo, ..Default::default() }
}

fn written(done: Done) -> Vec<u8> {
    let mut page = Page::default();
    page.outcome(done);
    while page.is_within_value() {
        page.go_on();
    }
    page.take().to_vec()
}

fn outcome(done: Done) -> Value {
    let json = written(done);
    serde_json::from_slice(&json).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&json)))
}

#[test]
fn a_value_comes_with_what_a_single_get_says_of_it() {
    let plain = done(get("k\"\\é"), Ok(reply("630", "text/plain")));
    assert_eq!(
        outcome(plain),
        json!({"group": "g", "key": "k\"\\é", "status": 200, "content_type": "text/plain",
               "etag": ETAG, "age": 0, "value": "630"})
    );
    let mut expiring = reply("", "");
    (expiring.age_ms, expiring.ttl_ms) = (61_999, 1999);
    assert_eq!(
        outcome(done(get("k"), Ok(expiring))),
        json!({"group": "g", "key": "k", "status": 200, "etag": ETAG, "age": 61, "ttl": 1,
               "content_type": "application/octet-stream", "value": ""})
    );
}

#[test]
fn json_stays_json_text_text_and_the_rest_is_base64() {
    let of = |value: &'static [u8], content_type: &str| {
        let outcome = outcome(done(get("k"), Ok(reply(value, content_type))));
        (outcome["value"].clone(), outcome.get("encoding").cloned())
    };
    assert_eq!(of(b"{\"a\": [1]}", "application/json"), (json!({"a": [1]}), None));
    assert_eq!(of(b"null", "application/vnd.x+json; v=1"), (Value::Null, None));
    assert_eq!(of(b"{\"a\": [1]}", "text/plain"), (json!("{\"a\": [1]}"), None));
    assert_eq!(of(b"{broken", "application/json"), (json!("{broken"), None));
    assert_eq!(of(b"\x00\x01", ""), (json!("\u{0}\u{1}"), None));
    assert_eq!(of(b"\x00\xff", ""), (json!("AP8="), Some(json!("base64"))));
    assert_eq!(of(b"\xff", "application/json"), (json!("/w=="), Some(json!("base64"))));
}

#[test]
fn writes_and_failures_are_told_as_their_status() {
    let (group, key) = ("g".parse().expect("a group"), "k".parse().expect("a key"));
    let set = || Ask::set(group_name(), "k".parse().expect("a key"), Default::default());
    let created = v1::Reply { created: true, ..reply("", "") };
    let names = |rest: Value| {
        let mut all = json!({"group": "g", "key": "k"});
        all.as_object_mut().expect("a map").extend(rest.as_object().expect("a map").clone());
        all
    };
    assert_eq!(outcome(done(set(), Ok(created))), names(json!({"status": 201, "etag": ETAG})));
    assert_eq!(
        outcome(done(set(), Ok(reply("", "")))),
        names(json!({"status": 204, "etag": ETAG}))
    );
    let delete = Ask::delete(group, key, None);
    assert_eq!(outcome(done(delete, Ok(reply("", "")))), names(json!({"status": 204})));
    let failed = Err(Error::new(Code::NodeUnavailable, "it's \"gone\"\n"));
    assert_eq!(
        outcome(done(get("k"), failed)),
        names(json!({"status": 503, "error": "node_unavailable", "message": "it's \"gone\"\n"}))
    );
}

fn group_name() -> common::key::GroupName {
    "g".parse().expect("a group")
}

#[test]
fn large_values_are_written_piece_by_piece() {
    for value in [vec![1; 4 * PIECE + 5], vec![0xff; 4 * PIECE + 5], b"\"x\"".repeat(PIECE)] {
        let mut page = Page::default();
        page.outcome(done(get("k"), Ok(reply(value.clone(), ""))));
        let mut json = page.take().to_vec();
        while page.is_within_value() {
            page.go_on();
            assert!(page.len() <= 6 * PIECE + 2, "{}", page.len());
            json.extend(page.take());
        }
        let outcome: Value = serde_json::from_slice(&json).expect("JSON");
        let text = outcome["value"].as_str().expect("a text");
        let back = match outcome.get("encoding") {
            Some(_) => STANDARD.decode(text).expect("base64"),
            None => text.as_bytes().to_vec(),
        };
        assert!(back == value);
    }
}

proptest! {
    #[test]
    fn what_is_written_is_always_json_and_brings_the_value_back(
        key in "[^\\p{Cc}]{1,20}",
        message in ".*",
        value in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..100),
            ".{0,100}".prop_map(String::into_bytes),
            r#"[\[\]{}",:0-9a\\ ]{0,12}"#.prop_map(String::into_bytes),
        ],
        content_type in prop_oneof![
            Just("application/json".to_owned()), Just(String::new()), "[ -~]{0,20}",
        ],
    ) {
        let failure = outcome(done(get(&key), Err(Error::new(Code::Internal, message.clone()))));
        prop_assert_eq!((&failure["key"], &failure["message"]), (&json!(key), &json!(message)));
        let found = outcome(done(get(&key), Ok(reply(value.clone(), &content_type))));
        match (&found["value"], found.get("encoding")) {
            (Value::String(text), Some(_)) => {
                prop_assert_eq!(STANDARD.decode(text).expect("base64"), value);
            }
            (Value::String(text), None) if text.as_bytes() == value => {}
            (other, None) => {
                prop_assert!(is_json_type(&content_type));
                prop_assert_eq!(other, &serde_json::from_slice::<Value>(&value).expect("JSON"));
            }
            other => prop_assert!(false, "{other:?}"),
        }
    }
}
