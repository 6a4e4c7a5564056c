//! Names that come from outside, validated once: groups and keys.
//!
//! Whoever holds a [`GroupName`] or a [`Key`] needs no further checks. What a name may be is
//! decided here alone, for gateways, nodes and clients alike.

use std::{fmt, str::FromStr};

/// Longest group name, in bytes.
pub const MAX_GROUP_BYTES: usize = 64;
/// Longest key, in bytes of UTF-8.
pub const MAX_KEY_BYTES: usize = 1024;

/// Why a name was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// A group of no characters.
    #[error("the group is empty")]
    GroupEmpty,
    /// A group over [`MAX_GROUP_BYTES`].
    #[error("the group is {0} bytes long, the most is {MAX_GROUP_BYTES}")]
    GroupTooLong(usize),
    /// A character outside `[A-Za-z0-9._-]`.
    #[error("the group holds {0:?}; letters, digits, '.', '_' and '-' are allowed")]
    GroupCharacter(char),
    /// A key of no characters.
    #[error("the key is empty")]
    KeyEmpty,
    /// A key over [`MAX_KEY_BYTES`].
    #[error("the key is {0} bytes long, the most is {MAX_KEY_BYTES}")]
    KeyTooLong(usize),
    /// A control character in a key.
    #[error("the key holds the control character {0:?}")]
    KeyControl(char),
}

/// The name of a group: 1 to 64 of `[A-Za-z0-9._-]`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupName(String);

impl GroupName {
    /// Validates and keeps a name.
    ///
    /// # Errors
    /// [`NameError`] when it is empty, too long or holds another character.
    pub fn new(name: impl Into<String>) -> Result<Self, NameError> {
        let name = name.into();
        Self::check(&name)?;
        Ok(Self(name))
    }

    /// Validates a name without keeping it.
    ///
    /// # Errors
    /// As [`GroupName::new`].
    pub fn check(name: &str) -> Result<(), NameError> {
        if name.is_empty() {
            return Err(NameError::GroupEmpty);
        }
        if name.len() > MAX_GROUP_BYTES {
            return Err(NameError::GroupTooLong(name.len()));
        }
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        match name.bytes().position(|byte| !allowed(byte)) {
            // All before it are of one byte, so that it is the beginning of a character.
            Some(at) => {
                Err(NameError::GroupCharacter(name[at..].chars().next().unwrap_or_default()))
            }
            None => Ok(()),
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name, given up.
    pub fn into_string(self) -> String {
        self.0
    }
}

impl FromStr for GroupName {
    type Err = NameError;

    fn from_str(name: &str) -> Result<Self, NameError> {
        Self::new(name)
    }
}

impl fmt::Display for GroupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::borrow::Borrow<str> for GroupName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// A key: 1 to 1,024 bytes of UTF-8 without control characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(String);

impl Key {
    /// Validates and keeps a key.
    ///
    /// # Errors
    /// [`NameError`] when it is empty, too long or holds a control character.
    pub fn new(key: impl Into<String>) -> Result<Self, NameError> {
        let key = key.into();
        Self::check(&key)?;
        Ok(Self(key))
    }

    /// Validates a key without keeping it.
    ///
    /// # Errors
    /// As [`Key::new`].
    pub fn check(key: &str) -> Result<(), NameError> {
        if key.is_empty() {
            return Err(NameError::KeyEmpty);
        }
        if key.len() > MAX_KEY_BYTES {
            return Err(NameError::KeyTooLong(key.len()));
        }
        // All bytes at once, and only where that says nothing one character after the other.
        let is_odd = |odd, byte: u8| odd | !(b' '..=b'~').contains(&byte);
        if !key.bytes().fold(false, is_odd) {
            return Ok(());
        }
        match key.chars().find(|c| c.is_control()) {
            Some(c) => Err(NameError::KeyControl(c)),
            None => Ok(()),
        }
    }

    /// The key.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The key, given up.
    pub fn into_string(self) -> String {
        self.0
    }
}

impl FromStr for Key {
    type Err = NameError;

    fn from_str(key: &str) -> Result<Self, NameError> {
        Self::new(key)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_short_and_plain() {
        assert!(GroupName::new("users.v2_eu-1").is_ok());
        assert!(GroupName::new("g".repeat(64)).is_ok());
        assert_eq!(GroupName::new(""), Err(NameError::GroupEmpty));
        assert_eq!(GroupName::new("g".repeat(65)), Err(NameError::GroupTooLong(65)));
        assert_eq!(GroupName::new("a/b"), Err(NameError::GroupCharacter('/')));
        assert_eq!(GroupName::new("ü"), Err(NameError::GroupCharacter('ü')));
    }

    #[test]
    fn keys_are_any_text_without_controls() {
        for key in ["a", "a/b", "a+b %", "..", "😀", &"k".repeat(1024)] {
            assert!(Key::new(key).is_ok(), "{key:?}");
        }
        assert_eq!(Key::new(""), Err(NameError::KeyEmpty));
        assert_eq!(Key::new("k".repeat(1025)), Err(NameError::KeyTooLong(1025)));
        assert_eq!(Key::new("a\nb"), Err(NameError::KeyControl('\n')));
        assert_eq!(Key::new("a\u{85}b"), Err(NameError::KeyControl('\u{85}')));
    }
}
