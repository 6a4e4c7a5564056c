//! Conditional requests: readers that have it already, and writers that look before they write.

use crate::api::{Api, assert_error, query};

#[tokio::test]
async fn a_reader_that_has_it_is_told_so() {
    let api = Api::start().await;
    let target = query("default", "known");
    let old = api.stored(&format!("{target}&ttl=1h"), "old").await;
    let etag = api.stored(&format!("{target}&ttl=1h"), "new").await;
    let list = format!("\"x\", {old}, {etag}");
    let weak = format!("W/{etag}");
    for tags in [etag.as_str(), &list, &weak, "*"] {
        for method in ["GET", "HEAD"] {
            let answer = api.send(method, &target, &[("if-none-match", tags)], "").await;
            assert_eq!((answer.status, answer.body.len()), (304, 0), "{method} {tags}");
            assert_eq!(answer.header("etag"), Some(etag.as_str()));
            assert!(answer.header("cache-control").is_some() && answer.header("age").is_some());
            // RFC 9110, 8.6: that of the value, or none. Caches take it for the value's.
            assert!(matches!(answer.header("content-length"), None | Some("3")), "{method}");
        }
    }
    for tags in [old.as_str(), "\"x\"", "x"] {
        let answer = api.send("GET", &target, &[("if-none-match", tags)], "").await;
        assert_eq!((answer.status, answer.text().as_str()), (200, "new"), "{tags}");
    }
    let two = [("if-none-match", old.as_str()), ("if-none-match", etag.as_str())];
    assert_eq!(api.send("GET", &target, &two, "").await.status, 304, "two lines are one list");
    let missing = api.send("GET", &query("default", "none"), &[("if-none-match", "*")], "").await;
    assert_error("nothing to compare with", &missing, 404, "not_found");
}

#[tokio::test]
async fn a_reader_can_insist_on_a_version() {
    let api = Api::start().await;
    let target = query("default", "insisted");
    let old = api.stored(&target, "old").await;
    let etag = api.stored(&target, "new").await;
    let list = format!("{old}, {etag}");
    for tags in [etag.as_str(), &list, "*"] {
        let answer = api.send("GET", &target, &[("if-match", tags)], "").await;
        assert_eq!((answer.status, answer.text().as_str()), (200, "new"), "{tags}");
    }
    let weak = format!("W/{etag}");
    for tags in [old.as_str(), &weak, "\"x\"", "\u{e9}", ""] {
        let refused = api.send("GET", &target, &[("if-match", tags)], "").await;
        assert_error(tags, &refused, 412, "precondition_failed");
        let head = api.send("HEAD", &target, &[("if-match", tags)], "").await;
        assert_eq!((head.status, head.body.len()), (412, 0), "{tags}");
    }
    // RFC 9110, 13.2.2: If-Match comes first.
    let both = [("if-match", old.as_str()), ("if-none-match", etag.as_str())];
    assert_eq!(api.send("GET", &target, &both, "").await.status, 412);
    let both = [("if-match", etag.as_str()), ("if-none-match", etag.as_str())];
    assert_eq!(api.send("GET", &target, &both, "").await.status, 304);
    let missing = api.send("GET", &query("default", "none"), &[("if-match", "*")], "").await;
    assert_error("RFC 9110, 13.2.1", &missing, 404, "not_found");
}

#[tokio::test]
async fn add_takes_only_what_is_absent() {
    let api = Api::start().await;
    let target = query("default", "added");
    let add = [("if-none-match", "*")];
    assert_eq!(api.send("PUT", &target, &add, "first").await.status, 201);
    let refused = api.send("PUT", &target, &add, "second").await;
    assert_error("it is there", &refused, 412, "precondition_failed");
    assert_eq!(api.get(&target).await.text(), "first");
    assert_eq!(api.delete(&target).await.status, 204);
    assert_eq!(api.send("POST", &target, &add, "third").await.status, 201);
    // Absent from the cache, whatever the origin has.
    let scores = query("scores", "Sam");
    assert_eq!(api.send("PUT", &scores, &add, "568").await.status, 201);
}

#[tokio::test]
async fn compare_and_set_takes_only_the_version_named() {
    let api = Api::start().await;
    let target = query("default", "compared");
    let absent = api.send("PUT", &target, &[("if-match", "*")], "x").await;
    assert_error("nothing there", &absent, 412, "precondition_failed");
    let first = api.stored(&target, "first").await;
    let answer = api.send("PUT", &target, &[("if-match", &first)], "second").await;
    assert_eq!(answer.status, 204);
    let second = answer.header("etag").unwrap().to_owned();
    let weak = format!("W/{second}");
    for tags in [first.as_str(), &weak, "\"x\"", ""] {
        let refused = api.send("PUT", &target, &[("if-match", tags)], "third").await;
        assert_error(tags, &refused, 412, "precondition_failed");
    }
    let list = format!("{first}, {second}");
    assert_eq!(api.send("PUT", &target, &[("if-match", &list)], "third").await.status, 204);
    assert_eq!(api.send("PUT", &target, &[("if-match", "*")], "fourth").await.status, 204);
    assert_eq!(api.get(&target).await.text(), "fourth");
}

#[tokio::test]
async fn a_delete_can_name_a_version_too() {
    let api = Api::start().await;
    let target = query("default", "deleted");
    let first = api.stored(&target, "first").await;
    let second = api.stored(&target, "second").await;
    let refused = api.send("DELETE", &target, &[("if-match", &first)], "").await;
    assert_error("an old version", &refused, 412, "precondition_failed");
    assert_eq!(api.get(&target).await.text(), "second");
    assert_eq!(api.send("DELETE", &target, &[("if-match", &second)], "").await.status, 204);
    let gone = api.send("DELETE", &target, &[("if-match", &second)], "").await;
    assert_error("nothing there", &gone, 412, "precondition_failed");
}

#[tokio::test]
async fn a_condition_that_cannot_be_read_never_becomes_none() {
    let api = Api::start().await;
    let target = query("default", "guarded");
    api.stored(&target, "kept").await;
    for tags in ["\"x\"", "", ",", "\u{e9}", "*, \"x\""] {
        let refused = api.send("PUT", &target, &[("if-none-match", tags)], "lost").await;
        assert_error(tags, &refused, 400, "invalid_request");
    }
    let refused = api.send("PUT", &target, &[("if-match", "\u{e9}")], "lost").await;
    assert_error("not ASCII", &refused, 412, "precondition_failed");
    assert_eq!(api.get(&target).await.text(), "kept");
}
