//! Which file may name what, and what every file must have.

use super::{
    assert_none,
    size::{above_tests, is_test},
    sources,
    words::{code, words},
};

/// A name that only some files may use.
struct OnlyIn {
    name: &'static str,
    /// Path prefixes: `common/src/error` covers `error.rs` and `error/`.
    places: &'static [&'static str],
    why: &'static str,
}

const ONLY_IN: [OnlyIn; 3] = [
    OnlyIn {
        name: "etcd_client",
        // Tests look into the etcds that they start, and one is faked.
        places: &[
            "common/src/discovery/etcd",
            "common/tests/discovery_contract/etcd",
            "common/tests/discovery_contract/fake_",
            "fleet/",
        ],
        why: "everything else asks the Discovery trait",
    },
    OnlyIn {
        name: "StatusCode",
        places: &["common/src/error", "apiserver/src/http", "cachenode/src/http", "fleet/"],
        why: "elsewhere an error has a code; only the error module and http/ know statuses",
    },
    OnlyIn {
        name: "figment",
        places: &["common/src/config"],
        why: "how settings are layered is config's secret",
    },
];

/// What the pure modules may not name outside of their tests, and which they are.
const IMPURE: [&str; 3] = ["tokio", "fs", "net"];
const PURE: [&str; 2] = ["common/src/ring", "cachenode/src/handoff/plan"];

/// Modules whose name says nothing.
const VAGUE: [&str; 5] = ["util", "utils", "helper", "helpers", "misc"];

#[test]
fn files_name_only_what_they_may() {
    let sources = sources();
    assert_none(sources.iter().flat_map(|(path, text)| complaints(path, text)).collect());
}

fn complaints(path: &str, text: &str) -> Vec<String> {
    let code = code(text);
    let mut complaints = Vec::new();
    for rule in &ONLY_IN {
        let allowed = rule.places.iter().any(|place| path.starts_with(place));
        if !allowed && words(&code).any(|word| word == rule.name) {
            complaints.push(format!("{path}: names {}; {}", rule.name, rule.why));
        }
    }
    if PURE.iter().any(|pure| path.starts_with(pure)) && !is_test(path) {
        let named = |name: &&&str| words(above_tests(&code)).any(|word| word == **name);
        for name in IMPURE.iter().filter(named) {
            complaints.push(format!("{path}: names {name}; this module is pure"));
        }
    }
    complaints.extend(name_complaints(path, &code));
    if !starts_with_doc(text) {
        complaints.push(format!("{path}: does not start with `//!`"));
    }
    complaints
}

/// How modules are called.
fn name_complaints(path: &str, code: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    let file = path.rsplit('/').next().unwrap_or(path);
    if file == "mod.rs" {
        complaints.push(format!("{path}: modules are foo.rs and foo/, never mod.rs"));
    }
    let mut declared: Vec<&str> = vec![file.trim_end_matches(".rs")];
    let mut before = "";
    for word in words(code) {
        if before == "mod" {
            declared.push(word);
        }
        before = word;
    }
    for name in declared.into_iter().filter(|name| VAGUE.contains(name)) {
        complaints.push(format!("{path}: '{name}' says nothing; name the module for what it does"));
    }
    complaints
}

/// The first line that is not an attribute of the file is its documentation.
fn starts_with_doc(text: &str) -> bool {
    let first =
        text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with("#!["));
    first.is_some_and(|line| line.starts_with("//!"))
}

#[test]
fn a_name_in_the_wrong_place_is_seen() {
    let one = |path: &str, code: &str| complaints(path, &format!("//! Doc.\n{code}")).len();
    for (path, code, expected) in [
        ("common/src/discovery/etcd.rs", "use etcd_client::Client;", 0),
        ("common/src/discovery/etcd/watch.rs", "use etcd_client::Client;", 0),
        ("common/src/discovery/memory.rs", "use etcd_client::Client;", 1),
        ("fleet/tests/discovery.rs", "use etcd_client::Client;", 0),
        ("common/src/error/http.rs", "use http::StatusCode;", 0),
        ("apiserver/src/http/canonical.rs", "StatusCode::OK", 0),
        ("apiserver/src/cache.rs", "StatusCode::OK", 1),
        ("apiserver/src/cache.rs", "// StatusCode\nlet x = \"StatusCode\";", 0),
        ("cachenode/src/main.rs", "use figment::Figment;", 1),
        ("common/src/config/layers.rs", "use figment::Figment;", 0),
        ("common/src/ring.rs", "use tokio::sync::watch;", 1),
        ("common/src/ring/merge.rs", "use std::{fs, net};", 2),
        ("common/src/ring.rs", "#[cfg(test)]\nmod tests { use std::fs; }", 0),
        ("common/src/ring.rs", "/// No tokio here.\nfn nets() {}", 0),
        ("common/src/link/mod.rs", "", 1),
        ("common/src/link/helpers.rs", "", 1),
        ("common/src/link.rs", "mod utils;", 1),
        ("common/src/link.rs", "use hyper_util::rt;", 0),
    ] {
        assert_eq!(one(path, code), expected, "{path}: {code}");
    }
}

#[test]
fn a_file_without_documentation_is_seen() {
    for (text, expected) in [
        ("//! Doc.\n", true),
        ("#![allow(x)]\n\n//! Doc.\n", true),
        ("// Not a doc.\n//! Doc.\n", false),
        ("use std::io;\n", false),
        ("", false),
    ] {
        assert_eq!(starts_with_doc(text), expected, "{text}");
    }
}
