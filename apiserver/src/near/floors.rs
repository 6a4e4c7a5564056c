//! What must not be held any more, though a reply with it may be on its way within this process.
//!
//! An invalidation is acted on as soon as it is read, but a reply that came before it may still be on
//! its way to the request that waits for it. So the version is remembered for as long as such a reply
//! could be believed. Whatever was asked for after the invalidation is newer by itself: the owner had
//! written before it invalidated.

use std::{collections::HashMap, time::Duration};

use common::{entry::Version, near::LEASE};

/// Keys whose floors are remembered. One more, and nothing that was asked for before is installed.
const MAX_FLOORS: usize = 4096;

#[derive(Debug, Clone, Copy)]
struct Floor {
    version: Version,
    /// When the invalidation came.
    at: Duration,
}

/// The floors of one worker, by the hash of their key: two keys of one hash share the higher one,
/// which costs at most an install.
#[derive(Debug, Default)]
pub(super) struct Floors {
    by_hash: HashMap<u64, Floor, foldhash::fast::RandomState>,
    /// Stands for those that found no room.
    general: Option<Duration>,
}

impl Floors {
    /// Nothing older than that version may be held from now on.
    pub(super) fn raise(&mut self, hash: u64, version: Version, now: Duration) {
        if self.by_hash.len() >= MAX_FLOORS && !self.by_hash.contains_key(&hash) {
            self.by_hash.retain(|_, floor| floor.at + LEASE > now);
            if self.by_hash.len() >= MAX_FLOORS {
                self.by_hash.clear();
                self.general = Some(now);
            }
        }
        let floor = self.by_hash.entry(hash).or_insert(Floor { version, at: now });
        floor.version = floor.version.max(version);
        floor.at = now;
    }

    /// Whether a value of that version may be held that was asked for at `sent`.
    pub(super) fn admit(&self, hash: u64, version: Version, sent: Duration) -> bool {
        let is_newer = |floor: &Floor| version >= floor.version || sent > floor.at;
        self.by_hash.get(&hash).is_none_or(is_newer) && self.general.is_none_or(|at| sent > at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(5);
    const MS: Duration = Duration::from_millis(1);

    fn version(clock: u64) -> Version {
        Version { as_of: 1, clock }
    }

    #[test]
    fn what_was_asked_for_before_and_is_older_is_refused() {
        let mut floors = Floors::default();
        floors.raise(1, version(7), NOW);
        assert!(!floors.admit(1, version(6), NOW - MS));
        assert!(!floors.admit(1, version(6), NOW));
        assert!(floors.admit(1, version(7), NOW - MS), "the written value itself");
        assert!(floors.admit(1, version(6), NOW + MS), "asked for after the write");
        assert!(floors.admit(2, version(6), NOW - MS), "another key");
        floors.raise(1, version(5), NOW + MS);
        assert!(!floors.admit(1, version(6), NOW + MS), "a floor never sinks");
    }

    #[test]
    fn floors_that_find_no_room_stand_for_everything_asked_for_so_far() {
        let mut floors = Floors::default();
        for hash in 0..=MAX_FLOORS as u64 {
            floors.raise(hash, version(7), NOW);
        }
        assert!(floors.by_hash.len() <= MAX_FLOORS);
        assert!((0..9999).all(|hash| !floors.admit(hash, version(6), NOW)));
        assert!(floors.admit(MAX_FLOORS as u64 + 1, version(6), NOW + MS));
    }

    #[test]
    fn old_floors_make_room() {
        let mut floors = Floors::default();
        (0..MAX_FLOORS as u64).for_each(|hash| floors.raise(hash, version(7), NOW));
        floors.raise(u64::MAX, version(7), NOW + LEASE);
        assert_eq!((floors.by_hash.len(), floors.general), (1, None));
    }
}
