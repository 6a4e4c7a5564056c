//! Conditional requests: what `If-Match` and `If-None-Match` mean here.
//!
//! ETags are versions and always strong. `If-None-Match: *` means absent from the cache, whether
//! or not the origin has the key.

use common::{
    entry::Version,
    error::{Code, Error, Result},
};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use proto::v1::Condition;

/// The ETag of a version.
pub(crate) fn etag(version: Version) -> HeaderValue {
    let mut text = [b'"'; 34];
    text[1..33].copy_from_slice(&opaque(version));
    // Quotes and hexadecimal digits are always a valid header value.
    HeaderValue::from_bytes(&text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// What stands between the quotes of an ETag.
pub(crate) fn opaque(version: Version) -> [u8; 32] {
    let mut text = [0; 32];
    for (pair, byte) in text.chunks_exact_mut(2).zip(version.to_bytes()) {
        pair[0] = HEX[usize::from(byte >> 4)];
        pair[1] = HEX[usize::from(byte & 15)];
    }
    text
}

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Whether a reader already has this version.
pub(crate) fn not_modified(headers: &HeaderMap, version: Version) -> bool {
    if !headers.contains_key(header::IF_NONE_MATCH) {
        return false;
    }
    let same = |tag: &str| tag == "*" || parse(tag.trim_start_matches("W/")) == Some(version);
    tags(headers, &header::IF_NONE_MATCH).any(same)
}

/// Fails if a reader wants another version than this one (RFC 9110, 13.1.1).
pub(crate) fn must_match(headers: &HeaderMap, version: Version) -> Result<()> {
    let same = |tag: &str| tag == "*" || parse(tag) == Some(version);
    if headers.contains_key(header::IF_MATCH) && !tags(headers, &header::IF_MATCH).any(same) {
        let text = "If-Match does not name the version that is there";
        return Err(Error::new(Code::PreconditionFailed, text));
    }
    Ok(())
}

/// The condition a write carries, if any.
pub(crate) fn of_write(headers: &HeaderMap) -> Result<Option<Condition>> {
    let if_absent = headers.contains_key(header::IF_NONE_MATCH);
    if if_absent {
        let mut tags = tags(headers, &header::IF_NONE_MATCH).peekable();
        // A condition that can't be read is no reason to write without one.
        if tags.peek().is_none() || tags.any(|tag| tag != "*") {
            let text = "If-None-Match of a write takes only *, which means: absent from the cache";
            return Err(Error::new(Code::InvalidRequest, text));
        }
    }
    let if_match = headers.contains_key(header::IF_MATCH);
    condition(if_absent, if_match.then(|| tags(headers, &header::IF_MATCH).collect()))
}

/// The condition of a write that says in words of its own what the headers say: `if_match` is a
/// list of ETags, or `*`.
pub(crate) fn of_fields(if_absent: bool, if_match: Option<&str>) -> Result<Option<Condition>> {
    condition(if_absent, if_match.map(|list| tags_in(list).collect()))
}

fn condition(if_absent: bool, if_match: Option<Vec<&str>>) -> Result<Option<Condition>> {
    let mut condition = Condition { if_absent, ..Condition::default() };
    if let Some(tags) = if_match {
        condition.if_present = tags.contains(&"*");
        // Weak and foreign tags match nothing.
        let versions = tags.into_iter().filter_map(parse);
        condition.if_version = versions.map(|version| version.to_bytes().to_vec().into()).collect();
        if !condition.if_present && condition.if_version.is_empty() {
            let text = "If-Match names no ETag of this cache";
            return Err(Error::new(Code::PreconditionFailed, text));
        }
    }
    Ok((condition != Condition::default()).then_some(condition))
}

/// The tags that a header lists.
pub(crate) fn tags<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(tags_in)
}

fn tags_in(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim).filter(|tag| !tag.is_empty())
}

fn parse(tag: &str) -> Option<Version> {
    tag.strip_prefix('"')?.strip_suffix('"')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERSION: Version = Version { as_of: 7, clock: 0xabc };

    fn headers(name: HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, value.parse().expect("a header value"))])
    }

    #[test]
    fn an_etag_is_the_version_in_hexadecimal() {
        let tag = etag(VERSION);
        assert_eq!(tag.to_str().ok(), Some(format!("\"{VERSION}\"").as_str()));
        assert_eq!(parse(tag.to_str().expect("text")), Some(VERSION));
    }

    #[test]
    fn readers_match_any_of_their_tags() {
        let same = format!("\"x\", W/\"{VERSION}\"");
        assert!(not_modified(&headers(header::IF_NONE_MATCH, &same), VERSION));
        assert!(not_modified(&headers(header::IF_NONE_MATCH, "*"), VERSION));
        assert!(!not_modified(&headers(header::IF_NONE_MATCH, "\"x\""), VERSION));
        assert!(!not_modified(&HeaderMap::new(), VERSION));
    }

    #[test]
    fn readers_that_name_versions_get_only_those() {
        let code = |value: &str| {
            must_match(&headers(header::IF_MATCH, value), VERSION).map_err(|error| error.code())
        };
        assert_eq!(must_match(&HeaderMap::new(), VERSION).ok(), Some(()));
        for same in ["*".to_owned(), format!("\"{VERSION}\""), format!("\"x\", \"{VERSION}\"")] {
            assert_eq!(code(&same), Ok(()), "{same}");
        }
        // Weak tags never match here (RFC 9110, 8.8.3.2).
        for other in ["\"x\"".to_owned(), format!("W/\"{VERSION}\""), String::new()] {
            assert_eq!(code(&other), Err(Code::PreconditionFailed), "{other}");
        }
    }

    #[test]
    fn writers_say_absent_present_or_which_version() {
        let condition = |name, value: &str| of_write(&headers(name, value));
        let absent = condition(header::IF_NONE_MATCH, "*").expect("valid").expect("one");
        assert!(absent.if_absent);
        let present = condition(header::IF_MATCH, "*").expect("valid").expect("one");
        assert!(present.if_present);
        let exact = condition(header::IF_MATCH, &format!("\"{VERSION}\""));
        let exact = exact.expect("valid").expect("one");
        assert_eq!(exact.if_version, [VERSION.to_bytes().to_vec()]);
        assert_eq!(of_write(&HeaderMap::new()).expect("valid"), None);
    }

    #[test]
    fn what_can_never_match_fails_and_what_is_not_offered_is_refused() {
        let code = |name, value: &str| of_write(&headers(name, value)).map_err(|e| e.code());
        assert_eq!(code(header::IF_MATCH, "\"x\""), Err(Code::PreconditionFailed));
        assert_eq!(code(header::IF_MATCH, ""), Err(Code::PreconditionFailed));
        assert_eq!(code(header::IF_NONE_MATCH, "\"x\""), Err(Code::InvalidRequest));
        assert_eq!(code(header::IF_NONE_MATCH, ""), Err(Code::InvalidRequest));
        assert_eq!(code(header::IF_NONE_MATCH, "\u{e9}"), Err(Code::InvalidRequest));
    }
}
