//! Versions: which of two writes of a key is the newer one.
//!
//! A version is 16 bytes that compare as a whole: first the `as_of` of the owner's epoch, then its
//! hybrid logical clock. A new owner has seen a later epoch than the old one, so what it writes is
//! newer whatever the clocks say. To everyone but the owner a version is opaque.

use std::{
    fmt,
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::clock::Clock;

/// The version of an entry. Ordered: greater is newer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Version {
    /// The `as_of` of the epoch in which the owner wrote it.
    pub as_of: u64,
    /// The owner's hybrid clock at that write.
    pub clock: u64,
}

impl Version {
    /// The version on the wire: 16 bytes, big-endian, so that bytes compare as versions do.
    pub fn to_bytes(self) -> [u8; 16] {
        ((u128::from(self.as_of) << 64) | u128::from(self.clock)).to_be_bytes()
    }

    /// Reads 16 bytes; `None` for any other length.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let whole = u128::from_be_bytes(bytes.try_into().ok()?);
        Some(Self { as_of: (whole >> 64) as u64, clock: whole as u64 })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}{:016x}", self.as_of, self.clock)
    }
}

impl FromStr for Version {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        if text.len() != 32 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(());
        }
        let whole = u128::from_str_radix(text, 16).map_err(|_| ())?;
        Ok(Self { as_of: (whole >> 64) as u64, clock: whole as u64 })
    }
}

/// Bits of a hybrid clock that count events within one millisecond.
const COUNTER_BITS: u32 = 16;

/// A hybrid logical clock: milliseconds of wall time and a counter, never going backwards even
/// when the wall clock does, and never behind anything it has heard of.
#[derive(Clone)]
pub struct HybridClock {
    last: Arc<AtomicU64>,
    clock: Arc<dyn Clock>,
}

impl HybridClock {
    /// A clock that starts at the wall time of `clock`.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { last: Arc::new(AtomicU64::new(0)), clock }
    }

    /// The next tick: greater than every earlier tick and everything observed.
    pub fn tick(&self) -> u64 {
        let wall = (self.clock.unix().as_millis() as u64) << COUNTER_BITS;
        let step = |last: u64| Some(wall.max(last + 1));
        let before = self.last.fetch_update(Ordering::AcqRel, Ordering::Acquire, step);
        wall.max(before.unwrap_or_else(|same| same) + 1)
    }

    /// Hears of a tick made elsewhere, so that later ticks here are greater.
    pub fn observe(&self, tick: u64) {
        self.last.fetch_max(tick, Ordering::AcqRel);
    }
}

impl fmt::Debug for HybridClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("HybridClock").field(&self.last).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::ManualClock;

    #[test]
    fn versions_order_by_epoch_then_clock() {
        let old = Version { as_of: 7, clock: u64::MAX };
        let new = Version { as_of: 8, clock: 0 };
        assert!(new > old);
        assert!(new.to_bytes() > old.to_bytes());
    }

    #[test]
    fn versions_survive_the_wire_and_text() {
        let version = Version { as_of: 0x0102, clock: 0xfffe };
        assert_eq!(Version::from_bytes(&version.to_bytes()), Some(version));
        assert_eq!(version.to_string().parse(), Ok(version));
        assert_eq!(Version::from_bytes(&[1, 2, 3]), None);
        assert_eq!("+0000000000000000000000000000001".parse::<Version>(), Err(()));
    }

    #[test]
    fn ticks_rise_while_the_wall_clock_stands_still() {
        let clock = ManualClock::new();
        let hybrid = HybridClock::new(Arc::new(clock.clone()));
        let first = hybrid.tick();
        let second = hybrid.tick();
        assert!(second > first);
        hybrid.observe(second + 1000);
        assert!(hybrid.tick() > second + 1000);
        clock.advance(Duration::from_secs(1));
        assert!(hybrid.tick() > second + 1001);
    }
}
