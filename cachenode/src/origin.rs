//! Where a missing value is loaded from.
//!
//! So far only origins that answer at once, so that a load can happen inside the key's critical
//! section. Origins that have to wait belong to the loader, which runs them outside of it.

pub mod fixed;

use std::collections::BTreeMap;

use self::fixed::Fixed;

/// The origin of a group, as configured.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum OriginDefinition {
    /// What is missing stays missing.
    #[default]
    None,
    /// Kind `static`: a table of key → text.
    Static(BTreeMap<String, String>),
}

impl OriginDefinition {
    /// The kind as it is written in a configuration; empty for none.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::None => "",
            Self::Static(_) => "static",
        }
    }
}

/// The origin of a group, at work.
#[derive(Debug)]
pub(crate) enum Origin {
    None,
    Fixed(Fixed),
}

/// What an origin answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Loaded<'a> {
    pub(crate) value: &'a [u8],
    pub(crate) content_type: &'a str,
}

impl Origin {
    pub(crate) fn new(definition: &OriginDefinition) -> Self {
        match definition {
            OriginDefinition::None => Self::None,
            OriginDefinition::Static(values) => Self::Fixed(Fixed::new(values)),
        }
    }

    /// Whether there is anything to ask at all.
    pub(crate) fn is_none(&self) -> bool {
        matches!(self, Self::None)
    }

    /// The origin's value of `key`; `None` when it has none.
    pub(crate) fn load(&self, key: &str) -> Option<Loaded<'_>> {
        match self {
            Self::None => None,
            Self::Fixed(fixed) => fixed.load(key),
        }
    }
}
