//! The reference of all settings, as the table that `docs/configuration.md` holds.

use std::fmt::Write;

use super::keys::{Fallback, GROUP_KEYS, KEYS, Key, PREFIX, Takes};
use super::kind::Kind;

/// The table in Markdown, one row for each key.
pub fn reference() -> String {
    let mut out = String::from(
        "| key | type | default | flag | variable | meaning |\n|---|---|---|---|---|---|\n",
    );
    for key in KEYS {
        row(&mut out, key.path, key, &format!("`{}`", key.variable()));
    }
    for key in GROUP_KEYS {
        let variable = match key.kind {
            Kind::Origin => "only in the file".into(),
            _ => format!("`{PREFIX}GROUPS__NAME__{}`", key.path.to_uppercase()),
        };
        row(&mut out, &format!("groups.NAME.{}", key.path), key, &variable);
    }
    out
}

fn row(out: &mut String, path: &str, key: &Key, variable: &str) {
    let default = match (&key.kind, key.fallback) {
        (_, Fallback::Unset(means)) => format!("not set: {means}"),
        (Kind::List(..), Fallback::Value("")) => "`[]`".into(),
        (_, Fallback::Value("")) => "`\"\"`".into(),
        (_, Fallback::Value(text)) => format!("`{text}`"),
    };
    let flag = match key.flag {
        None => "–".into(),
        Some((flag, Takes::Both)) => format!("`--{flag}`"),
        Some((flag, Takes::Gateway)) => format!("`--{flag}` (apiserver)"),
        Some((flag, Takes::Node)) => format!("`--{flag}` (cachenode)"),
    };
    let (kind, meaning) = (key.kind.in_words(), key.meaning);
    let _ = writeln!(out, "| `{path}` | {kind} | {default} | {flag} | {variable} | {meaning} |");
}
