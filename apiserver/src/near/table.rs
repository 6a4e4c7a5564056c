//! The values that a worker holds, within its bytes.
//!
//! The table does not judge what may be held; it finds, keeps, and when it is full gives up what is
//! read least.

use std::{collections::HashMap, time::Duration};

use bytes::Bytes;
use common::{entry::Version, near::LEASE, route::Lender};
use foldhash::fast::RandomState;

/// Bytes that a held value takes besides its texts and itself: the record, its place in the index,
/// and what the allocator adds to four allocations.
pub(super) const HELD_OVERHEAD: usize = 384;
/// How many are looked at for the one that is read least.
const SAMPLE: usize = 8;
/// How soon a renewal that got no answer is tried again.
const RENEW_AGAIN: Duration = Duration::from_millis(30);

/// A held value.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) hash: u64,
    pub(super) group: Box<str>,
    pub(super) key: Box<str>,
    pub(super) value: Bytes,
    pub(super) content_type: Bytes,
    pub(super) version: Version,
    /// When it was asked for, and how old it was then.
    pub(super) asked: Duration,
    pub(super) age: Duration,
    /// When it expires; `None`: never.
    pub(super) expires: Option<Duration>,
    pub(super) lender: Lender,
    pub(super) term: Term,
    pub(super) rate: Rate,
}

/// From when to when a value may be held.
#[derive(Debug, Clone, Copy)]
pub(super) struct Term {
    /// From then on it is not believed any more.
    pub(super) until: Duration,
    /// From then on it is asked for again.
    renew_at: Duration,
}

impl Term {
    pub(super) fn new(sent: Duration, until: Duration) -> Self {
        // In the last third of its life.
        Self { until, renew_at: sent + until.saturating_sub(sent) * 2 / 3 }
    }

    /// Whether it is time to ask again; only for one, and the next a while later.
    pub(super) fn claim_renewal(&mut self, now: Duration) -> bool {
        let is_due = now >= self.renew_at;
        if is_due {
            self.renew_at = now + RENEW_AGAIN;
        }
        is_due
    }
}

/// How often a key is read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rate {
    per_second: f64,
    reads: u32,
    since: Duration,
}

impl Rate {
    pub(super) fn new(reads: u32, now: Duration) -> Self {
        // What the sketch counts is half as much again as the reads of a lease, on average.
        Self { per_second: f64::from(reads) / (1.5 * LEASE.as_secs_f64()), reads: 0, since: now }
    }

    pub(super) fn count(&mut self) {
        self.reads = self.reads.saturating_add(1);
    }

    /// Reads a second, of late.
    pub(super) fn per_second(&self, now: Duration) -> f64 {
        let span = now.saturating_sub(self.since);
        if span < LEASE / 4 {
            return self.per_second;
        }
        f64::midpoint(self.per_second, f64::from(self.reads) / span.as_secs_f64())
    }

    fn turn(&mut self, now: Duration) {
        *self = Self { per_second: self.per_second(now), reads: 0, since: now };
    }
}

impl Held {
    pub(super) fn weight(&self) -> usize {
        let texts = self.group.len() + self.key.len() + self.content_type.len();
        HELD_OVERHEAD + texts + self.value.len()
    }

    pub(super) fn is_of(&self, group: &str, key: &str) -> bool {
        *self.key == *key && *self.group == *group
    }
}

/// Whether a value is held now.
#[derive(Debug, PartialEq)]
pub(super) enum Kept {
    /// It is, and so many had to go for it.
    Yes { evicted: usize },
    /// It would have been the first to go.
    NoRoom,
    /// It is larger than all there is.
    TooLarge,
}

/// All of them.
pub(super) struct Table {
    held: Vec<Held>,
    index: HashMap<u64, u32, RandomState>,
    bytes: usize,
    capacity: usize,
    /// Where the next sample begins.
    hand: usize,
}

impl Table {
    pub(super) fn new(capacity: usize) -> Self {
        Self { held: Vec::new(), index: HashMap::default(), bytes: 0, capacity, hand: 0 }
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn len(&self) -> usize {
        self.held.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Held> {
        self.held.iter()
    }

    pub(super) fn find(&mut self, hash: u64, group: &str, key: &str) -> Option<&mut Held> {
        let at = *self.index.get(&hash)? as usize;
        self.held.get_mut(at).filter(|held| held.is_of(group, key))
    }

    pub(super) fn remove(&mut self, hash: u64) {
        if let Some(at) = self.index.get(&hash) {
            self.remove_at(*at as usize);
        }
    }

    fn remove_at(&mut self, at: usize) {
        let gone = self.held.swap_remove(at);
        self.bytes -= gone.weight();
        self.index.remove(&gone.hash);
        if let Some(moved) = self.held.get(at) {
            self.index.insert(moved.hash, at as u32);
        }
    }

    /// Keeps a value, in place of whatever its hash stood for. `reads` tells how often a hash is
    /// read: what is read less has to go when there is no room.
    pub(super) fn keep(&mut self, held: Held, reads: impl Fn(u64) -> u32) -> Kept {
        self.remove(held.hash);
        let weight = held.weight();
        if weight > self.capacity {
            return Kept::TooLarge;
        }
        let own = reads(held.hash);
        let mut evicted = 0;
        while self.bytes + weight > self.capacity {
            match self.least_read(&reads).filter(|&at| reads(self.held[at].hash) < own) {
                Some(at) => self.remove_at(at),
                None => return Kept::NoRoom,
            }
            evicted += 1;
        }
        self.bytes += weight;
        self.index.insert(held.hash, self.held.len() as u32);
        self.held.push(held);
        Kept::Yes { evicted }
    }

    /// Of a few the one that is read least.
    fn least_read(&mut self, reads: &impl Fn(u64) -> u32) -> Option<usize> {
        let length = self.held.len();
        let from = self.hand;
        self.hand = self.hand.wrapping_add(SAMPLE);
        let sample = (0..SAMPLE.min(length)).map(|step| from.wrapping_add(step) % length);
        sample.min_by_key(|&at| reads(self.held[at].hash))
    }

    /// Lets go of what is over, and begins to count reads anew.
    pub(super) fn turn(&mut self, now: Duration) {
        let mut at = 0;
        while let Some(held) = self.held.get_mut(at) {
            if held.term.until <= now {
                self.remove_at(at);
            } else {
                held.rate.turn(now);
                at += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use common::topology::Topology;

    use super::*;

    const NOW: Duration = Duration::from_secs(5);

    fn held(hash: u64, bytes: usize) -> Held {
        Held {
            hash,
            group: "g".into(),
            key: hash.to_string().into(),
            value: vec![0; bytes].into(),
            content_type: Bytes::new(),
            version: Version::default(),
            asked: NOW,
            age: Duration::ZERO,
            expires: None,
            lender: Lender::new(Arc::new(Topology::empty()), 0),
            term: Term::new(NOW, NOW + LEASE),
            rate: Rate::new(1, NOW),
        }
    }

    fn has(table: &mut Table, hash: u64) -> bool {
        table.find(hash, "g", &hash.to_string()).is_some()
    }

    #[test]
    fn what_is_read_least_makes_room_and_the_bytes_are_kept() {
        let one = held(1000, 100).weight();
        let mut table = Table::new(4 * one);
        let reads = |hash| hash as u32;
        for hash in 1001..=1004 {
            assert_eq!(table.keep(held(hash, 100), reads), Kept::Yes { evicted: 0 });
        }
        assert_eq!(table.keep(held(1000, 100), reads), Kept::NoRoom, "it would be the first to go");
        assert_eq!(table.keep(held(1009, 100), reads), Kept::Yes { evicted: 1 });
        assert!(!has(&mut table, 1001) && has(&mut table, 1009));
        assert_eq!((table.len(), table.bytes()), (4, 4 * one));
        assert_eq!(
            table.keep(held(5000, 10 * one), reads),
            Kept::TooLarge,
            "larger than all there is"
        );
        assert_eq!(table.keep(held(1002, 0), reads), Kept::Yes { evicted: 0 }, "in its own place");
        assert_eq!(table.bytes(), 4 * one - 100);
        table.turn(NOW + LEASE);
        assert_eq!((table.len(), table.bytes()), (0, 0));
        assert!(!has(&mut table, 1002));
    }

    #[test]
    fn two_keys_of_one_hash_are_told_apart() {
        let mut table = Table::new(1 << 20);
        table.keep(held(1, 1), |_| 1);
        assert!(table.find(1, "g", "other").is_none());
        assert!(table.find(1, "h", "1").is_none());
        assert!(has(&mut table, 1));
    }

    #[test]
    fn one_renews_in_the_last_third() {
        let mut term = Term::new(NOW, NOW + Duration::from_millis(225));
        assert!(!term.claim_renewal(NOW + Duration::from_millis(149)));
        assert!(term.claim_renewal(NOW + Duration::from_millis(150)));
        assert!(!term.claim_renewal(NOW + Duration::from_millis(151)), "not a herd");
        assert!(term.claim_renewal(NOW + Duration::from_millis(150) + RENEW_AGAIN));
    }

    #[test]
    fn a_rate_follows_the_reads() {
        let mut rate = Rate::new(6, NOW);
        assert!((rate.per_second(NOW) - 16.0).abs() < 0.1);
        for turn in 1..=10 {
            (0..100).for_each(|_| rate.count());
            rate.turn(NOW + LEASE * turn);
        }
        assert!((rate.per_second(NOW + LEASE * 10) - 400.0).abs() < 1.0);
    }
}
