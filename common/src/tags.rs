//! Tags: words that entries carry, so that all entries of one word can be purged at once.
//!
//! A list of them is one text, as it comes in a header and as it is kept with an entry: the tags in the
//! order in which they were given, each once, with a comma between them and nothing else.

use std::fmt;

use crate::error::{Code, Error};

/// Tags of one entry, at most.
pub const MAX_TAGS: usize = 16;
/// The longest tag, in bytes.
pub const MAX_TAG_BYTES: usize = 64;

/// Why a list of tags was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TagError {
    /// A tag of no characters.
    #[error("a tag is empty")]
    Empty,
    /// A tag over [`MAX_TAG_BYTES`].
    #[error("a tag is {0} bytes long, the most is {MAX_TAG_BYTES}")]
    TooLong(usize),
    /// A character that no tag may hold.
    #[error("a tag holds {0:?}; visible ASCII characters without a comma are allowed")]
    Character(char),
    /// More than [`MAX_TAGS`].
    #[error("there are more than {MAX_TAGS} tags")]
    TooMany,
}

impl From<TagError> for Error {
    fn from(error: TagError) -> Self {
        Self::new(Code::InvalidRequest, format!("tags: {error}"))
    }
}

/// The tags of an entry.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tags(String);

impl Tags {
    /// Reads lists as people write them: tags with commas between them, blanks around them, some
    /// twice.
    ///
    /// # Errors
    /// [`TagError`] for what can't be kept.
    pub fn parse<'a>(lists: impl IntoIterator<Item = &'a str>) -> Result<Self, TagError> {
        let mut tags: Vec<&str> = Vec::new();
        let given = lists.into_iter().flat_map(|list| list.split(',')).map(str::trim_ascii);
        for tag in given.filter(|tag| !tag.is_empty()) {
            check_tag(tag)?;
            if !tags.contains(&tag) {
                tags.push(tag);
            }
            // At once: what comes in a body may be long.
            if tags.len() > MAX_TAGS {
                return Err(TagError::TooMany);
            }
        }
        Ok(Self(tags.join(",")))
    }

    /// Looks whether a text is a list as it is kept.
    ///
    /// # Errors
    /// [`TagError`] when it is not.
    pub fn check(list: &str) -> Result<(), TagError> {
        if list.is_empty() {
            return Ok(());
        }
        if list.split(',').count() > MAX_TAGS {
            return Err(TagError::TooMany);
        }
        list.split(',').try_for_each(check_tag)
    }

    /// The list as it is kept.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The list as it is kept, given up.
    pub fn into_string(self) -> String {
        self.0
    }
}

impl fmt::Display for Tags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Looks whether a text is one tag.
///
/// # Errors
/// [`TagError`] when it is none.
pub fn check_tag(tag: &str) -> Result<(), TagError> {
    if tag.is_empty() {
        return Err(TagError::Empty);
    }
    if tag.len() > MAX_TAG_BYTES {
        return Err(TagError::TooLong(tag.len()));
    }
    let allowed = |c: &char| c.is_ascii_graphic() && *c != ',';
    tag.chars().find(|c| !allowed(c)).map_or(Ok(()), |c| Err(TagError::Character(c)))
}

/// Whether a list as it is kept names a tag.
pub fn has_tag(list: &str, tag: &str) -> bool {
    !list.is_empty() && list.split(',').any(|other| other == tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(list: &str) -> Result<String, TagError> {
        Tags::parse([list]).map(Tags::into_string)
    }

    #[test]
    fn a_list_is_kept_in_one_form() {
        assert_eq!(parsed(" a, b ,,a,c ").as_deref(), Ok("a,b,c"));
        assert_eq!(Tags::parse(["a", "b, a"]).map(Tags::into_string).as_deref(), Ok("a,b"));
        assert_eq!(parsed("").as_deref(), Ok(""));
        assert_eq!(parsed("user:7").as_deref(), Ok("user:7"));
    }

    #[test]
    fn what_is_too_long_too_much_or_unprintable_is_refused() {
        let long = "x".repeat(MAX_TAG_BYTES + 1);
        assert_eq!(parsed(&long), Err(TagError::TooLong(65)));
        assert!(parsed(&long[1..]).is_ok());
        assert_eq!(parsed("a b"), Err(TagError::Character(' ')));
        assert_eq!(parsed("\u{e9}"), Err(TagError::Character('\u{e9}')));
        let many: Vec<String> = (0..=MAX_TAGS).map(|n| n.to_string()).collect();
        assert_eq!(parsed(&many.join(",")), Err(TagError::TooMany));
        assert!(parsed(&many[1..].join(",")).is_ok());
    }

    #[test]
    fn what_was_parsed_passes_the_check_and_other_texts_do_not() {
        let kept = parsed("a, b").unwrap();
        assert_eq!(Tags::check(&kept), Ok(()));
        assert_eq!(Tags::check(""), Ok(()));
        assert_eq!(Tags::check("a,,b"), Err(TagError::Empty));
        assert_eq!(Tags::check("a, b"), Err(TagError::Character(' ')));
    }

    #[test]
    fn a_tag_is_found_whole() {
        assert!(has_tag("a,bc,d", "bc") && has_tag("a", "a"));
        assert!(!has_tag("a,bc,d", "b") && !has_tag("", "") && !has_tag("abc", "bc"));
    }
}
