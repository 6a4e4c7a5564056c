//! `POST /api/cache/batch`: what many keys at once come to, compared with what each comes to by
//! itself.

mod clients;
mod killed;

use bytes::Bytes;
use fleet::http::Response;
use serde_json::{Value, json};

use crate::api::{Api, assert_error, plan, query};

const KIB: usize = 1 << 10;
pub(crate) const BATCH: &str = "/api/cache/batch";
/// The most operations in a batch.
const MAX_OPERATIONS: usize = 1000;
/// The largest batch, in bytes.
const MAX_BODY: usize = 16 << 20;

impl Api {
    /// Sends a batch that must be taken.
    async fn batch(&self, batch: &Value) -> Value {
        let answer = self.send("POST", BATCH, &[], batch.to_string()).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.header("content-type"), Some("application/json"));
        outcomes(&answer)
    }
}

/// An answer as JSON, of the one shape that answers have.
fn outcomes(answer: &Response) -> Value {
    let json: Value = serde_json::from_slice(&answer.body).unwrap();
    let lists: Vec<_> = json.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(lists, ["delete", "get", "set"]);
    json
}

/// So many gets of keys that begin with `prefix`.
fn gets(prefix: &str, count: usize) -> Value {
    (0..count).map(|i| json!({"key": format!("{prefix}{i}")})).collect()
}

fn statuses(list: &Value) -> Vec<u64> {
    list.as_array().unwrap().iter().map(|outcome| outcome["status"].as_u64().unwrap()).collect()
}

/// The bytes that an outcome brings.
fn value_of(outcome: &Value) -> Vec<u8> {
    let value = outcome["value"].as_str().unwrap_or_else(|| panic!("{outcome}"));
    match outcome.get("encoding").and_then(Value::as_str) {
        None => value.as_bytes().to_vec(),
        Some("base64") => unbase64(value),
        Some(other) => panic!("{other}"),
    }
}

/// Base64 as RFC 4648 has it, read here once more so that nothing is taken for granted.
fn unbase64(text: &str) -> Vec<u8> {
    let digit = |byte: u8| match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        other => panic!("{other}"),
    };
    let (mut bits, mut held, mut out) = (0_u32, 0, Vec::new());
    for byte in text.trim_end_matches('=').bytes() {
        (bits, held) = ((bits << 6) | u32::from(digit(byte)), held + 6);
        if held >= 8 {
            held -= 8;
            out.push((bits >> held) as u8);
        }
    }
    out
}

/// That an outcome of a get is what a single get answers.
async fn assert_like_single(api: &Api, outcome: &Value) {
    let (group, key) = (outcome["group"].as_str().unwrap(), outcome["key"].as_str().unwrap());
    let single = api.get(&query(group, key)).await;
    assert_eq!(outcome["status"], single.status, "{outcome}");
    if single.status != 200 {
        let error = single.json();
        assert_eq!((&outcome["error"], &outcome["message"]), (&error["error"], &error["message"]));
        return;
    }
    assert_eq!(outcome["etag"].as_str(), single.header("etag"));
    assert_eq!(outcome["content_type"].as_str(), single.header("content-type"));
    match &outcome["value"] {
        Value::String(_) => assert!(value_of(outcome) == single.body, "{key}"),
        json => assert_eq!(json, &single.json(), "{key}"),
    }
}

#[tokio::test]
async fn keys_are_made_read_replaced_and_deleted_together() {
    let api = Api::start().await;
    let values = json!([
        {"key": "text", "value": "é\"\\\n"},
        {"key": "json", "value": {"a": [1, null, 1.5]}, "ttl": "1h"},
        {"key": "null", "value": null},
        {"key": "bytes", "value_base64": "AP8=", "content_type": "image/png", "ttl": 60},
    ]);
    let batch = json!({"group": "default", "set": values});
    for status in [201, 204] {
        let made = api.batch(&batch).await;
        assert_eq!(statuses(&made["set"]), [status; 4]);
        assert!(made["set"][0]["etag"].as_str().unwrap().starts_with('"'));
        assert_eq!((&made["get"], &made["delete"]), (&json!([]), &json!([])));
    }
    let keys = ["bytes", "none", "null", "json", "text"].map(|key| json!({"key": key}));
    let tom = json!({"group": "scores", "key": "Tom"});
    let gets: Value = keys.into_iter().chain([tom]).collect();
    let read = api.batch(&json!({"group": "default", "get": gets})).await;
    assert_eq!(statuses(&read["get"]), [200, 404, 200, 200, 200, 200]);
    for outcome in read["get"].as_array().unwrap() {
        assert_like_single(&api, outcome).await;
    }
    let of = |index: usize, field: &str| read["get"][index][field].clone();
    assert_eq!((of(0, "value"), of(0, "encoding")), (json!("AP8="), json!("base64")));
    assert_eq!((of(0, "content_type"), of(2, "value")), (json!("image/png"), Value::Null));
    assert_eq!(
        (of(3, "value"), of(3, "content_type")),
        (values[1]["value"].clone(), json!("application/json"))
    );
    assert_eq!((of(4, "value"), of(4, "content_type")), (json!("é\"\\\n"), json!("text/plain")));
    assert_eq!((of(5, "value"), of(5, "group")), (json!("630"), json!("scores")));
    assert!((3590..=3600).contains(&of(3, "ttl").as_u64().unwrap()));
    assert!(read["get"][4].get("ttl").is_none(), "it never expires");
    assert_eq!(of(1, "error"), "not_found");

    let deletes = json!([{"key": "text"}, {"key": "none"}, {"key": "json"}]);
    let gone = api.batch(&json!({"group": "default", "delete": deletes})).await;
    assert_eq!(statuses(&gone["delete"]), [204, 404, 204]);
    assert_eq!(api.get(&query("default", "text")).await.status, 404);
    assert_eq!(api.batch(&json!({})).await, json!({"get": [], "set": [], "delete": []}));
    api.fleet.stop().await;
}

#[tokio::test]
async fn conditions_hold_for_each_key_by_itself() {
    let api = Api::start().await;
    let (known, other) = (query("default", "known"), query("default", "other"));
    let (known, other) = (api.stored(&known, "1").await, api.stored(&other, "1").await);
    let batch = json!({"group": "default",
        "set": [
            {"key": "known", "value": "2", "if_match": known},
            {"key": "other", "value": "2", "if_match": known},
            {"key": "new", "value": "2", "if_absent": true},
            {"key": "other", "value": "2", "if_absent": true},
            {"key": "none", "value": "2", "if_match": "*"},
            {"key": "none", "value": "2", "if_match": "\"of another cache\""},
        ],
        "delete": [{"key": "other", "if_match": format!("\"x\", {other}")}, {"key": "new", "if_match": known}],
    });
    let done = api.batch(&batch).await;
    // Whether the delete of "other" came before or after the sets of it is not said.
    assert_eq!(statuses(&done["delete"])[0], 204);
    let [set, matched, absent, ..] = statuses(&done["set"])[..] else { panic!() };
    assert_eq!((set, matched, absent), (204, 412, 201));
    assert_eq!(statuses(&done["set"])[4..], [412, 412]);
    assert_eq!(done["set"][5]["error"], "precondition_failed");
    assert_eq!(api.get(&query("default", "known")).await.text(), "2");
}

#[tokio::test]
async fn a_thousand_keys_of_all_sizes_come_back_in_order() {
    let api = Api::start().await;
    // Beyond 64 KiB by another lane; not all are UTF-8.
    let size = |i: usize| match i % 100 {
        0 => 200 * KIB,
        1 => 64 * KIB + 1,
        2 => 64 * KIB,
        3 => 0,
        other => other * 10,
    };
    let value = |i: usize| -> Vec<u8> {
        let first = if i.is_multiple_of(2) { 0xff } else { b'\\' };
        std::iter::once(first)
            .chain((0..).map(|at: usize| (at * i) as u8 & 0x7f))
            .take(size(i))
            .collect()
    };
    for at in (0..MAX_OPERATIONS).step_by(50) {
        let target = |i: usize| query("default", &format!("k{i}"));
        futures_util::future::join_all(
            (at..at + 50).map(async |i| api.stored(&target(i), value(i)).await),
        )
        .await;
    }
    let all = api.batch(&json!({"group": "default", "get": gets("k", MAX_OPERATIONS)})).await;
    let outcomes = all["get"].as_array().unwrap();
    assert_eq!(outcomes.len(), MAX_OPERATIONS);
    for (i, outcome) in outcomes.iter().enumerate() {
        assert_eq!((&outcome["key"], &outcome["status"]), (&json!(format!("k{i}")), &json!(200)));
        assert!(value_of(outcome) == value(i), "k{i}");
    }
    for outcome in outcomes.iter().step_by(37) {
        assert_like_single(&api, outcome).await;
    }
    let sets: Value =
        (0..MAX_OPERATIONS).map(|i| json!({"key": format!("k{i}"), "value": i})).collect();
    let set = api.batch(&json!({"group": "default", "set": sets})).await;
    assert_eq!(statuses(&set["set"]), [204; MAX_OPERATIONS]);
    assert_eq!(api.get(&query("default", "k999")).await.text(), "999");
    let gone = api.batch(&json!({"group": "default", "delete": gets("k", MAX_OPERATIONS)})).await;
    assert_eq!(statuses(&gone["delete"]), [204; MAX_OPERATIONS]);
}

#[tokio::test]
async fn keys_and_groups_may_be_anything_that_they_may_be_by_themselves() {
    let api = Api::start().await;
    let keys = ["a/b", "%", "😀", "..", "a\"b\\c", " ", "\u{2028}"].map(str::to_owned);
    let keys: Vec<_> = keys.into_iter().chain(["k".repeat(1024)]).collect();
    let item = |key: &String| json!({"group": "default", "key": key, "value": key});
    let set = api.batch(&json!({"set": keys.iter().map(item).collect::<Value>()})).await;
    assert_eq!(statuses(&set["set"]), vec![201; keys.len()]);
    for (outcome, key) in set["set"].as_array().unwrap().iter().zip(&keys) {
        assert_eq!(
            (outcome["group"].as_str(), outcome["key"].as_str()),
            (Some("default"), Some(&**key))
        );
        assert_eq!(api.get(&query("default", key)).await.text(), *key);
    }
    let unknown = api
        .batch(&json!({"group": "nowhere", "get": [{"key": "k"}], "delete": [{"key": "k"}]}))
        .await;
    for list in ["get", "delete"] {
        assert_eq!(
            (statuses(&unknown[list]), &unknown[list][0]["error"]),
            (vec![404], &json!("group_not_found"))
        );
    }
    // The path is that of a group of this name, too, if a key follows.
    assert_error("a key", &api.get("/api/cache/batch/k").await, 404, "group_not_found");
}

#[tokio::test]
async fn one_key_in_several_places_is_as_many_operations() {
    let api = Api::start().await;
    api.stored(&query("default", "k"), "old").await;
    let item = || json!({"key": "k", "value": "new"});
    let batch = json!({"group": "default", "set": [item(), item()]});
    assert_eq!(statuses(&api.batch(&batch).await["set"]), [204, 204]);
    let mut twice = json!({"group": "default", "set": [item()], "delete": [{"key": "none"}]});
    twice["get"] = json!([{"key": "k"}, {"key": "k"}]);
    let done = api.batch(&twice).await;
    assert_eq!(statuses(&done["get"]), [200, 200]);
    assert_eq!((statuses(&done["set"]), statuses(&done["delete"])), (vec![204], vec![404]));
}

#[tokio::test]
async fn what_is_not_a_batch_is_refused_whole() {
    let api = Api::start().await;
    let too_many = json!({"group": "default", "get": gets("k", MAX_OPERATIONS + 1)}).to_string();
    let good = r#"{"group":"default","key":"k","value":"x"}"#;
    for (body, status, code, text) in [
        (String::new(), 400, "invalid_request", "not JSON"),
        ("[]".to_owned(), 400, "invalid_request", "expected an object"),
        (format!(r#"{{"set":[{good}]"#), 400, "invalid_request", "not JSON"),
        (
            format!(r#"{{"set":[{good},{{"key":"k"}}]}}"#),
            400,
            "invalid_request",
            "set[1].group is missing",
        ),
        (
            format!(r#"{{"set":[{good}],"get":[5]}}"#),
            400,
            "invalid_request",
            "get[0]: invalid type",
        ),
        (
            format!(r#"{{"set":[{good}],"get":[{good}]}}"#),
            400,
            "invalid_request",
            "get[0] has no \"value\"",
        ),
        (too_many, 413, "too_large", "more than the 1000 operations"),
        ("x".repeat(MAX_BODY + 1), 413, "too_large", "send it in parts"),
    ] {
        let answer = api.send("POST", BATCH, &[], body).await;
        assert_error(text, &answer, status, code);
        assert!(answer.json()["message"].as_str().unwrap().contains(text), "{}", answer.text());
    }
    let not_utf8 =
        Bytes::from_static(b"{\"set\":[{\"group\":\"default\",\"key\":\"k\",\"value\":\"\xff\"}]}");
    assert_error("bytes", &api.send("POST", BATCH, &[], not_utf8).await, 400, "invalid_request");
    let gzip = [("content-encoding", "gzip")];
    assert_error("gzip", &api.send("POST", BATCH, &gzip, "{}").await, 415, "unsupported_media");
    for method in ["GET", "PUT", "DELETE", "HEAD"] {
        assert_eq!(api.send(method, BATCH, &[], "").await.status, 405, "{method}");
    }
    assert_eq!(api.get(&query("default", "k")).await.status, 404, "nothing was done");
}

#[tokio::test]
async fn a_value_too_large_for_its_group_is_that_keys_own_outcome() {
    let api = Api::start().await;
    let set = |key: &str, size: usize| json!({"key": key, "value": "v".repeat(size)});
    let sets = [set("most", 1024 * KIB), set("more", 1024 * KIB + 1), set("little", 1)];
    let done = api.batch(&json!({"group": "default", "set": sets})).await;
    assert_eq!(statuses(&done["set"]), [201, 413, 201]);
    let single = api.put(&query("default", "more"), vec![b'v'; 1024 * KIB + 1]).await.json();
    assert_eq!(
        (&done["set"][1]["error"], &done["set"][1]["message"]),
        (&single["error"], &single["message"])
    );
    assert_eq!(api.get(&query("default", "most")).await.body.len(), 1024 * KIB);
}

#[tokio::test]
async fn without_nodes_every_key_says_so() {
    let mut plan = plan();
    plan.nodes = 0;
    let api = Api::of(plan).await;
    let batch = json!({"group": "default", "get": gets("k", 3), "delete": gets("k", 2)});
    let done = api.batch(&batch).await;
    assert_eq!((statuses(&done["get"]), statuses(&done["delete"])), (vec![503; 3], vec![503; 2]));
    assert_eq!(done["get"][2]["error"], "no_nodes");
}

/// What a batch does, told by the letters of its operations, is what single requests do.
#[tokio::test]
async fn random_batches_come_to_what_single_requests_come_to() {
    let api = Api::start().await;
    for round in 0..20 {
        // Each key twice over: one for the batch, one for single requests.
        let ops: Vec<(u32, u32)> =
            (0..60).map(|_| (fastrand::u32(0..6), fastrand::u32(..))).collect();
        for twin in ["b", "s"] {
            for (i, _) in ops.iter().enumerate().filter(|(_, (_, seed))| seed.is_multiple_of(2)) {
                api.stored(&query("default", &format!("{round}/{twin}{i}")), "old").await;
            }
        }
        let name = |twin: &str, i: usize| format!("{round}/{twin}{i}");
        let mut batch = json!({"group": "default", "get": [], "set": [], "delete": []});
        let mut singles = json!({"get": [], "set": [], "delete": []});
        for (i, (kind, seed)) in ops.into_iter().enumerate() {
            let (list, item, method, headers): (_, _, _, &[_]) = match kind {
                0 | 1 => ("get", json!({}), "GET", &[]),
                2 => ("set", json!({"value": seed.to_string()}), "PUT", &[]),
                3 => (
                    "set",
                    json!({"value": seed.to_string(), "if_absent": true}),
                    "PUT",
                    &[("if-none-match", "*")],
                ),
                4 => ("delete", json!({}), "DELETE", &[]),
                _ => ("delete", json!({"if_match": "*"}), "DELETE", &[("if-match", "*")]),
            };
            let mut item = item;
            item["key"] = name("b", i).into();
            batch[list].as_array_mut().unwrap().push(item);
            let single =
                api.send(method, &query("default", &name("s", i)), headers, seed.to_string()).await;
            singles[list]
                .as_array_mut()
                .unwrap()
                .push(json!([single.status, single.json()["error"]]));
        }
        let done = api.batch(&batch).await;
        for list in ["get", "set", "delete"] {
            let outcomes = done[list].as_array().unwrap().iter();
            let told: Value = outcomes.map(|o| json!([o["status"], o["error"]])).collect();
            assert_eq!(told, singles[list], "round {round}, {list}");
        }
    }
}
