//! Which group and key a request means, read off its URI.
//!
//! Two forms: `/api/cache?group=&key=`, where `+` is a space as in any HTML form, and
//! `/api/cache/{group}/{key}`, where `+` is a plus and the key may hold slashes.

use std::{borrow::Cow, iter};

use common::{
    error::{Code, Error, Result},
    key::{GroupName, Key},
};
use percent_encoding::percent_decode_str;

/// The query form's path; the path form's goes on with a slash, the group and the key.
const QUERY_PATH: &str = "/api/cache";
/// Where batches go: no group of that name without a key.
pub(crate) const BATCH_PATH: &str = "/api/cache/batch";
/// What comes before the group in the path form.
pub(crate) const CACHE_PATH: &str = "/api/cache/";

/// The longest request target that is looked at.
const MAX_URI_BYTES: usize = 8 << 10;

/// A group and a key, the time to live a write asked for, and whether a reader would load what is missing.
#[derive(Debug, PartialEq, Eq)]
pub struct Target {
    /// The group.
    pub group: GroupName,
    /// The key.
    pub key: Key,
    /// How long what is written is to live.
    pub ttl: Option<std::time::Duration>,
    /// Whether it is to be told, if there is no value, to bring it.
    pub lease: bool,
}

/// Whether a path is one of keys, in either form.
pub(crate) fn is_key(path: &str) -> bool {
    path == QUERY_PATH || (path.starts_with(CACHE_PATH) && path != BATCH_PATH)
}

/// Refuses a request target that is too long.
pub(crate) fn check_length(uri: &http::Uri) -> Result<()> {
    let length = uri.path_and_query().map_or(0, |target| target.as_str().len());
    if length > MAX_URI_BYTES {
        let text =
            format!("the request target is {length} bytes long, the most is {MAX_URI_BYTES}");
        return Err(Error::new(Code::UriTooLong, text));
    }
    Ok(())
}

/// Reads the target of either form.
///
/// # Errors
/// `uri_too_long`; `invalid_request` for what is missing, given twice or malformed.
pub fn of(uri: &http::Uri) -> Result<Target> {
    check_length(uri)?;
    let query = uri.query().unwrap_or_default();
    match uri.path().strip_prefix(CACHE_PATH) {
        Some(path) => from_path(path, query),
        None => from_query(query),
    }
}

fn from_query(query: &str) -> Result<Target> {
    let (mut group, mut key, mut ttl, mut lease) = (None, None, None, None);
    for (name, value) in pairs(query) {
        match name {
            "group" => once(&mut group, name, value)?,
            "key" => once(&mut key, name, value)?,
            "ttl" => once(&mut ttl, name, value)?,
            "lease" => once(&mut lease, name, value)?,
            _ => {}
        }
    }
    let group = form_decode(required(group, "group")?, "group")?;
    let key = form_decode(required(key, "key")?, "key")?;
    let (group, key) = (GroupName::new(group)?, Key::new(key)?);
    Ok(Target { group, key, ttl: parse_ttl(ttl)?, lease: parse_lease(lease)? })
}

fn from_path(path: &str, query: &str) -> Result<Target> {
    let (group, key) = path.split_once('/').unwrap_or((path, ""));
    let (mut ttl, mut lease) = (None, None);
    for (name, value) in pairs(query) {
        match name {
            "ttl" => once(&mut ttl, name, value)?,
            "lease" => once(&mut lease, name, value)?,
            _ => {}
        }
    }
    let group = GroupName::new(decode(group, "group")?)?;
    let key = Key::new(decode(key, "key")?)?;
    Ok(Target { group, key, ttl: parse_ttl(ttl)?, lease: parse_lease(lease)? })
}

pub(super) fn pairs(query: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut rest = Some(query).filter(|query| !query.is_empty());
    iter::from_fn(move || {
        let text = rest?;
        let (pair, after) = split_at(text, b'&');
        rest = after;
        let (name, value) = split_at(pair, b'=');
        Some((name, value.unwrap_or_default()))
    })
}

/// What is before the first such byte, and what is behind it. In texts as short as these, looking at
/// one byte after the other takes a fraction of what the library's search does to get started.
fn split_at(text: &str, byte: u8) -> (&str, Option<&str>) {
    match text.bytes().position(|other| other == byte) {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    }
}

fn once<'a>(slot: &mut Option<&'a str>, name: &str, value: &'a str) -> Result<()> {
    if slot.replace(value).is_some() {
        return Err(invalid(format!("{name} is given twice")));
    }
    Ok(())
}

fn required<'a>(value: Option<&'a str>, name: &str) -> Result<&'a str> {
    match value {
        None => Err(invalid(format!("{name} is missing: use ?group=GROUP&key=KEY"))),
        Some("") => Err(invalid(format!("{name} is empty"))),
        Some(value) => Ok(value),
    }
}

pub(super) fn form_decode(text: &str, name: &str) -> Result<String> {
    // One look for both: a key seldom has either.
    if text.bytes().all(|byte| byte != b'+' && byte != b'%') {
        return Ok(text.to_owned());
    }
    decode(&text.replace('+', " "), name)
}

fn decode(text: &str, name: &str) -> Result<String> {
    if text.bytes().all(|byte| byte != b'%') {
        return Ok(text.to_owned());
    }
    match percent_decode_str(text).decode_utf8() {
        Ok(Cow::Borrowed(plain)) => Ok(plain.to_owned()),
        Ok(Cow::Owned(decoded)) => Ok(decoded),
        Err(_) => Err(invalid(format!("{name} is not UTF-8 once its percent-encoding is undone"))),
    }
}

fn parse_ttl(ttl: Option<&str>) -> Result<Option<std::time::Duration>> {
    let Some(text) = ttl else { return Ok(None) };
    ttl_of(&form_decode(text, "ttl")?).map(Some)
}

fn parse_lease(lease: Option<&str>) -> Result<bool> {
    match lease {
        None => Ok(false),
        Some("1") => Ok(true),
        Some(other) => Err(invalid(format!("lease is {other:?}; give lease=1, or leave it out"))),
    }
}

/// A time to live in words.
pub(super) fn ttl_of(text: &str) -> Result<std::time::Duration> {
    match humantime::parse_duration(text) {
        Ok(ttl) if !ttl.is_zero() => Ok(ttl),
        _ => {
            let how = "give a time above zero with its unit, such as 30s or 1h";
            Err(invalid(format!("ttl is {text:?}; {how}")))
        }
    }
}

fn invalid(message: String) -> Error {
    Error::new(Code::InvalidRequest, message)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn target(uri: &str) -> std::result::Result<(String, String), String> {
        let uri: http::Uri = uri.parse().expect("a URI");
        let target = of(&uri).map_err(|error| error.message().to_owned())?;
        Ok((target.group.into_string(), target.key.into_string()))
    }

    fn ok(group: &str, key: &str) -> std::result::Result<(String, String), String> {
        Ok((group.to_owned(), key.to_owned()))
    }

    #[test]
    fn plus_is_a_space_in_the_query_and_a_plus_in_the_path() {
        assert_eq!(target("/api/cache?group=g&key=a+b%2Bc"), ok("g", "a b+c"));
        assert_eq!(target("/api/cache/g/a+b%2Bc"), ok("g", "a+b+c"));
    }

    #[test]
    fn odd_keys_work_in_both_forms() {
        for (encoded, key) in
            [("a%2Fb", "a/b"), ("%25", "%"), ("%F0%9F%98%80", "😀"), ("..", ".."), ("a%20b", "a b")]
        {
            assert_eq!(target(&format!("/api/cache?key={encoded}&group=g")), ok("g", key));
            assert_eq!(target(&format!("/api/cache/g/{encoded}")), ok("g", key));
        }
        assert_eq!(target("/api/cache/g/a/b"), ok("g", "a/b"));
    }

    #[test]
    fn what_is_missing_twice_or_malformed_is_named() {
        for (uri, text) in [
            ("/api/cache?group=g", "key is missing: use ?group=GROUP&key=KEY"),
            ("/api/cache?key=k", "group is missing: use ?group=GROUP&key=KEY"),
            ("/api/cache?group=&key=k", "group is empty"),
            ("/api/cache?group=g&key=k&key=l", "key is given twice"),
            ("/api/cache?group=g&key=%FF", "key is not UTF-8 once its percent-encoding is undone"),
            ("/api/cache/g/", "the key is empty"),
            ("/api/cache/g", "the key is empty"),
        ] {
            assert_eq!(target(uri), Err(text.to_owned()), "{uri}");
        }
    }

    #[test]
    fn a_lease_is_asked_for_by_one() {
        let lease = |uri: &str| of(&uri.parse().expect("a URI")).map(|target| target.lease);
        assert_eq!(lease("/api/cache?group=g&key=k&lease=1").ok(), Some(true));
        assert_eq!(lease("/api/cache/g/k?lease=1").ok(), Some(true));
        assert_eq!(lease("/api/cache/g/k").ok(), Some(false));
        for bad in ["0", "yes", "", "1&lease=1"] {
            assert!(lease(&format!("/api/cache?group=g&key=k&lease={bad}")).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_ttl_is_a_time_above_zero() {
        let ttl = |uri: &str| of(&uri.parse().expect("a URI")).map(|target| target.ttl);
        assert_eq!(
            ttl("/api/cache?group=g&key=k&ttl=1m30s").ok(),
            Some(Some(Duration::from_secs(90)))
        );
        assert_eq!(ttl("/api/cache/g/k?ttl=1h").ok(), Some(Some(Duration::from_secs(3600))));
        for bad in ["0s", "-1s", "soon", ""] {
            assert!(ttl(&format!("/api/cache?group=g&key=k&ttl={bad}")).is_err(), "{bad}");
        }
    }
}
