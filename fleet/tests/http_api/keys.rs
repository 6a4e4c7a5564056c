//! Any key that is allowed works in both forms, and means the same in both.

use crate::api::{Api, path, query};

/// Keys that have met their match in other software.
fn keys() -> Vec<String> {
    let mut keys: Vec<String> = [
        "plain",
        "a/b",
        "/",
        "//",
        "a//b",
        "/a",
        "a/",
        "+",
        "a+b",
        "%",
        "100%",
        "%2F",
        "%zz",
        "a b",
        " ",
        " a ",
        "😀",
        "👩‍👩‍👧",
        "é",
        "e\u{301}",
        "..",
        ".",
        "../..",
        "a/../b",
        "./a",
        "?",
        "a?b=c",
        "#",
        "a&b",
        "a=b",
        "&",
        "=",
        "\"",
        "'",
        "<a>",
        "{}",
        "[x]",
        "\\",
        "|",
        "^",
        "`",
        "~",
        ";",
        ":",
        "@",
        "key=x&group=y",
        "ttl=1s",
        "\u{a0}",
        "\u{200b}",
        "\u{feff}",
        "\u{202e}x",
        "\u{10ffff}",
    ]
    .map(str::to_owned)
    .into();
    keys.extend(["k".repeat(1024), "😀".repeat(256), "/".repeat(1024), "..".repeat(512)]);
    keys
}

#[tokio::test]
async fn what_is_written_through_one_form_is_read_through_the_other() {
    let api = Api::start().await;
    let keys = keys();
    for (number, key) in keys.iter().enumerate() {
        let forms = [query("default", key), path("default", key)];
        let (write, read) = (&forms[number % 2], &forms[1 - number % 2]);
        assert_eq!(api.put(write, key.clone()).await.status, 201, "{key:?}: it is another key's");
        assert_eq!(api.put(read, key.clone()).await.status, 204, "{key:?}: not the same key");
    }
    for key in &keys {
        for form in [query("default", key), path("default", key)] {
            let answer = api.get(&form).await;
            assert_eq!((answer.status, answer.text()), (200, key.clone()), "{form}");
        }
        let place = api.get(&query("default", key).replace("/api/cache", "/api/ring")).await;
        assert_eq!(place.json()["key"], key.as_str());
    }
    for (number, key) in keys.iter().enumerate() {
        let forms = [query("default", key), path("default", key)];
        assert_eq!(api.delete(&forms[number % 2]).await.status, 204, "{key:?}");
        assert_eq!(api.delete(&forms[1 - number % 2]).await.status, 404, "{key:?}");
    }
}

#[tokio::test]
async fn characters_that_need_no_encoding_need_none() {
    let api = Api::start().await;
    for (form, key) in [
        ("/api/cache/default/a/b", "a/b"),
        ("/api/cache/default/a+b", "a+b"),
        ("/api/cache/default/..", ".."),
        ("/api/cache/default/../default/x", "../default/x"),
        ("/api/cache/default//", "/"),
        ("/api/cache/default/a%2fb", "a/b"),
        ("/api/cache/d%65fault/a", "a"),
        ("/api/cache/default/a;b:c@d,e=f&g!$'()*~-_.", "a;b:c@d,e=f&g!$'()*~-_."),
        ("/api/cache?group=default&key=a+b", "a b"),
        ("/api/cache?group=default&key=a/b", "a/b"),
        ("/api/cache?group=default&key=..", ".."),
        ("/api/cache?key=a=b&group=default", "a=b"),
        ("/api/cache?key=a?b&x=y&group=default", "a?b"),
        ("/api/cache?&key=a%2Bb&&group=default&", "a+b"),
    ] {
        api.stored(form, form.to_owned()).await;
        assert_eq!(api.get(&path("default", key)).await.text(), form, "{key:?}");
    }
}
