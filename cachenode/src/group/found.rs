//! What a read finds.

use std::time::Duration;

use common::error::Error;

use super::Waiting;
use crate::store::{Stored, Times};

/// What a read found.
#[derive(Debug)]
pub enum Found {
    /// An entry that was there.
    Hit(Item),
    /// An entry that the origin had.
    Loaded(Item),
    /// Nothing, here or at the origin.
    Absent,
    /// An entry whose time is over; the origin has just failed.
    Stale(Item),
    /// Nothing here, or what is [stale](Waiting::stale); the origin is being asked.
    Waiting(Waiting),
    /// Nothing here, and the origin can't be asked or has just failed.
    Failed(Error),
}

impl Found {
    /// What there is, wherever it came from.
    pub fn item(self) -> Option<Item> {
        match self {
            Self::Hit(item) | Self::Loaded(item) | Self::Stale(item) => Some(item),
            Self::Absent | Self::Waiting(_) | Self::Failed(_) => None,
        }
    }
}

/// An entry as it was at one moment.
#[derive(Debug, Clone)]
pub struct Item {
    /// Value, content type and version.
    pub entry: Stored,
    /// Its times then.
    pub times: Times,
    /// How it came.
    pub way: Way,
}

/// How an item came to whoever reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// It was there.
    Kept,
    /// The origin had it.
    Loaded {
        /// What there was before.
        before: Before,
        /// Whether it was stored.
        is_stored: bool,
    },
}

/// What there was of a key when its origin was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Before {
    /// Nothing.
    Nothing,
    /// A value, which has another in its place now.
    Replaced,
    /// The value that the origin says is still true.
    Renewed,
}

impl Item {
    pub(super) fn new(entry: Stored, now: Duration) -> Self {
        Self { times: entry.times(now), way: Way::Kept, entry }
    }
}
