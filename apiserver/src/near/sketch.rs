//! Which keys are hot: a count-min sketch of reads that forgets.
//!
//! Four rows of counters; a key adds to one in each, and the least of its four is an estimate that is
//! never too low. Only the least ones are raised, which keeps the many cold keys from making each
//! other look hot. Once a lease all counters are halved, so that what is counted is the reads of about
//! one lease and, ever less, those before.

use std::time::Duration;

use common::near::LEASE;

/// Rows of counters.
const ROWS: usize = 4;
/// Counters in a row, a power of two. 64 KiB for all rows, and enough to tell some 10,000 keys
/// apart.
const WIDTH: usize = 8192;
/// What a read counts, so that halving leaves fractions.
const READ: u16 = 4;
/// After so many halvings nothing is left of any count.
const FORGOTTEN: u32 = u16::BITS;

/// Counts reads by the hash of their key.
pub(super) struct Sketch {
    counters: Box<[[u16; WIDTH]; ROWS]>,
    /// When the counters are halved next.
    turns_at: Duration,
}

impl Sketch {
    pub(super) fn new(now: Duration) -> Self {
        Self { counters: Box::new([[0; WIDTH]; ROWS]), turns_at: now + LEASE }
    }

    /// Halves the counters if it is time to; whether it was.
    pub(super) fn turn(&mut self, now: Duration) -> bool {
        let Some(late) = now.checked_sub(self.turns_at) else { return false };
        let missed = (late.as_nanos() / LEASE.as_nanos()) as u32;
        let halvings = missed.saturating_add(1).min(FORGOTTEN - 1);
        for counter in self.counters.iter_mut().flatten() {
            *counter >>= halvings;
        }
        self.turns_at = now + LEASE;
        true
    }

    /// Counts a read; about how many there were lately, with this one.
    pub(super) fn count(&mut self, hash: u64) -> u32 {
        let least = self.least(hash);
        let raised = least.saturating_add(READ);
        for (row, counters) in self.counters.iter_mut().enumerate() {
            let counter = &mut counters[column(hash, row)];
            *counter = (*counter).max(raised);
        }
        u32::from(raised / READ)
    }

    /// About how many reads there were lately.
    pub(super) fn estimate(&self, hash: u64) -> u32 {
        u32::from(self.least(hash) / READ)
    }

    fn least(&self, hash: u64) -> u16 {
        let in_row = |(row, counters): (usize, &[u16; WIDTH])| counters[column(hash, row)];
        self.counters.iter().enumerate().map(in_row).min().unwrap_or(0)
    }
}

/// Each row goes by bits of its own.
fn column(hash: u64, row: usize) -> usize {
    (hash >> (row * (u64::BITS as usize / ROWS))) as usize % WIDTH
}

#[cfg(test)]
mod tests {
    use std::hash::BuildHasher;

    use super::*;

    fn hash(key: u64) -> u64 {
        foldhash::fast::FixedState::default().hash_one(key)
    }

    #[test]
    fn reads_are_counted_and_forgotten() {
        let start = Duration::from_secs(1);
        let mut sketch = Sketch::new(start);
        for read in 1..=8 {
            assert_eq!(sketch.count(hash(1)), read);
        }
        assert_eq!(sketch.estimate(hash(2)), 0);
        assert!(!sketch.turn(start + LEASE / 2));
        assert!(sketch.turn(start + LEASE));
        assert_eq!(sketch.estimate(hash(1)), 4);
        sketch.turn(start + LEASE * 4);
        assert_eq!(sketch.estimate(hash(1)), 0, "half a read is none");
        for _ in 0..1000 {
            sketch.count(hash(1));
        }
        sketch.turn(start + LEASE * 1000);
        assert_eq!(sketch.estimate(hash(1)), 0);
    }

    #[test]
    fn a_count_never_overflows() {
        let mut sketch = Sketch::new(Duration::ZERO);
        let counts = (0..100_000).map(|_| sketch.count(hash(1)));
        assert_eq!(counts.max(), Some(u32::from(u16::MAX / READ)));
    }

    #[test]
    fn ten_thousand_cold_keys_do_not_look_hot() {
        let mut sketch = Sketch::new(Duration::ZERO);
        for key in 0..10_000 {
            sketch.count(hash(key));
        }
        let mistaken = (0..10_000).filter(|&key| sketch.estimate(hash(key)) > 1).count();
        assert!(mistaken < 500, "{mistaken} keys read once seem to have been read again");
        assert!((0..10_000).all(|key| sketch.estimate(hash(key)) >= 1), "never too low");
    }
}
