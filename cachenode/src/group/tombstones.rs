//! What is remembered of deleted keys, so that an older copy can't bring them back.
//!
//! By slot, not by key: a key that shares a slot with a deleted one has its old copies refused
//! too, which is a miss. The same goes for the whole stripe while its floor holds, after more
//! deletes than the table takes.

use std::time::Duration;

use common::entry::Version;
use foldhash::fast::RandomState;

use super::generations::Generations;

/// How long a deletion is remembered. Whatever could still bring an older copy (a request, a
/// replica's copy, a handoff that lags) has to arrive, or be given up by its sender, within this.
pub const TOMBSTONE_LIFE: Duration = Duration::from_secs(60);

/// Most tombstones of a stripe. Two tables of 256 places of 41 bytes: at most 5.4 MB a group.
const TOMBSTONES_PER_STRIPE: usize = 448;

#[derive(Debug, Clone, Copy)]
struct Tombstone {
    version: Version,
    until: Duration,
}

#[derive(Debug)]
pub(super) struct Tombstones {
    by_slot: Generations<u64, Tombstone, RandomState>,
    /// Stands for every tombstone that found no room, and ends when the last of them would have.
    floor: Option<Tombstone>,
}

impl Tombstones {
    pub(super) fn new() -> Self {
        Self { by_slot: Generations::new(TOMBSTONES_PER_STRIPE), floor: None }
    }

    /// Remembers that the slot's key was deleted.
    pub(super) fn bury(&mut self, slot: u64, version: Version, now: Duration) {
        let forgotten = self.by_slot.put(slot, Tombstone { version, until: now + TOMBSTONE_LIFE });
        for tombstone in forgotten.filter(|tombstone| tombstone.until > now) {
            let floor = self.floor.get_or_insert(tombstone);
            floor.version = floor.version.max(tombstone.version);
            floor.until = floor.until.max(tombstone.until);
        }
    }

    /// The version that an entry of this slot has to be newer than.
    pub(super) fn newest(&self, slot: u64, now: Duration) -> Option<Version> {
        let tombstone = self.by_slot.get(&slot).into_iter().chain(&self.floor);
        tombstone.filter(|it| it.until > now).map(|it| it.version).max()
    }

    /// Drops what has had its time.
    pub(super) fn tidy(&mut self, now: Duration) {
        self.by_slot.retain(|_, tombstone| tombstone.until > now);
        self.floor = self.floor.filter(|floor| floor.until > now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Duration = Duration::from_secs(100);

    fn version(clock: u64) -> Version {
        Version { as_of: 1, clock }
    }

    #[test]
    fn a_deletion_is_remembered_for_its_time() {
        let mut tombstones = Tombstones::new();
        tombstones.bury(1, version(5), START);
        assert_eq!(tombstones.newest(1, START), Some(version(5)));
        assert_eq!(tombstones.newest(2, START), None);
        let last = START + TOMBSTONE_LIFE - Duration::from_millis(1);
        tombstones.tidy(last);
        assert_eq!(tombstones.newest(1, last), Some(version(5)));
        assert_eq!(tombstones.newest(1, START + TOMBSTONE_LIFE), None);
    }

    #[test]
    fn what_finds_no_room_raises_the_floor() {
        let mut tombstones = Tombstones::new();
        let many = TOMBSTONES_PER_STRIPE as u64;
        for n in 0..=many {
            tombstones.bury(n, version(n), START);
        }
        let floor = tombstones.newest(u64::MAX, START).expect("a floor for every slot");
        assert_eq!(floor, version(many / 2 - 1));
        for n in 0..=many {
            assert!(tombstones.newest(n, START) >= Some(version(n)), "{n} is not forgotten");
        }
        assert_eq!(tombstones.newest(u64::MAX, START + TOMBSTONE_LIFE), None);
        tombstones.tidy(START + TOMBSTONE_LIFE);
        assert!(tombstones.floor.is_none());
    }
}
