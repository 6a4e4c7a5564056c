//! What a group leaves to chance: shared by all threads without a lock, and the same again for whoever
//! knows the seed.

use std::sync::atomic::{AtomicU64, Ordering};

use fastrand::Rng;

/// From seed to seed: an odd number with bits of both kinds everywhere (2⁶⁴ over the golden ratio), since what
/// is drawn with seeds that are close to each other is not independent.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// Draws random numbers.
#[derive(Debug)]
pub(super) struct Chance(AtomicU64);

impl Chance {
    pub(super) fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    /// The next one, over 0 and at most 1.
    pub(super) fn draw(&self) -> f64 {
        1.0 - Rng::with_seed(self.0.fetch_add(STEP, Ordering::Relaxed)).f64()
    }

    /// The next one, from -1 to 1.
    pub(super) fn swing(&self) -> f64 {
        self.draw().mul_add(2.0, -1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_are_spread_evenly_and_repeat_with_their_seed() {
        let draws = |seed| {
            let chance = Chance::new(seed);
            (0..10_000).map(|_| chance.swing()).collect::<Vec<_>>()
        };
        let of_seven = draws(7);
        assert_eq!(of_seven, draws(7));
        assert_ne!(of_seven, draws(99_999));
        let mut tenths = [0; 10];
        for swing in &of_seven {
            assert!((-1.0..=1.0).contains(swing), "{swing}");
            tenths[(((swing + 1.0) * 5.0) as usize).min(9)] += 1;
        }
        assert!(tenths.iter().all(|count| (850..1150).contains(count)), "{tenths:?}");
    }
}
