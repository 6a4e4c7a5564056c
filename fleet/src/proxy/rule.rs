//! What may be done to a connection, and to whose.
//!
//! Chance is drawn from a seed and the connection's number, not from a shared generator: which
//! connections are hit does not depend on who else is served at that moment.

use std::{collections::BTreeMap, time::Duration};

use tokio::net::TcpStream;

use super::owner::Owner;

/// How often existing connections are diced for.
pub(super) const DICE_EVERY: Duration = Duration::from_millis(100);

/// What is done to connections.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub enum Rule {
    /// Nothing.
    #[default]
    Pass,
    /// Every byte arrives that much later, its order kept.
    Delay {
        /// On the way to the target.
        to_target: Duration,
        /// On the way back.
        to_client: Duration,
    },
    /// Connections are reset at random.
    Drop(Drops),
    /// All are reset; new ones are refused, or reset at once where the rule is for one process.
    Cut,
    /// They stay open and nothing arrives; new ones open as well.
    Blackhole,
}

/// How many connections are reset.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Drops {
    /// The part of the new ones, from 0 to 1.
    pub new: f64,
    /// The part of the existing ones, each second.
    pub existing: f64,
    /// With the same one, the same connections are hit (by their order).
    pub seed: u64,
}

impl Drops {
    pub(super) fn hits_new(&self, connection: u64) -> bool {
        self.dice(connection, 0) < self.new
    }

    /// Whether the connection is reset when the dice are thrown for the `throw`th time, from 1.
    pub(super) fn hits_existing(&self, connection: u64, throw: u64) -> bool {
        self.dice(connection, throw) < self.existing * DICE_EVERY.as_secs_f64()
    }

    fn dice(&self, connection: u64, throw: u64) -> f64 {
        let mut of_seed = fastrand::Rng::with_seed(self.seed);
        let mut of_connection = fastrand::Rng::with_seed(of_seed.u64(..) ^ connection);
        fastrand::Rng::with_seed(of_connection.u64(..) ^ throw).f64()
    }
}

/// All rules of a proxy.
#[derive(Debug, Clone, Default)]
pub(super) struct Rules {
    pub(super) everyone: Rule,
    /// By process id.
    pub(super) processes: BTreeMap<u32, Rule>,
}

impl Rules {
    /// The rule for a connection of that owner.
    pub(super) fn of(&self, owner: &mut Owner) -> Rule {
        let own = self.processes.iter().find(|(pid, _)| owner.is(**pid));
        own.map_or(self.everyone, |(_, rule)| *rule)
    }

    /// Whether no process has a rule of its own.
    pub(super) fn are_for_everyone(&self) -> bool {
        self.processes.is_empty()
    }

    /// Whether nobody may connect.
    pub(super) fn refuse_everybody(&self) -> bool {
        self.everyone == Rule::Cut && self.processes.is_empty()
    }
}

/// Closes it with a reset.
pub(super) fn reset(stream: TcpStream) {
    // It can only fail on a socket that is broken already.
    let _ = stream.set_zero_linger();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chance_keeps_to_its_share_and_repeats_by_its_seed() {
        let drops = Drops { new: 0.3, existing: 1.0, seed: 7 };
        let hit: Vec<u64> = (1..=10_000).filter(|&number| drops.hits_new(number)).collect();
        assert!((2_800..3_200).contains(&hit.len()), "{}", hit.len());
        let again: Vec<u64> = (1..=10_000).filter(|&number| drops.hits_new(number)).collect();
        assert_eq!(hit, again);
        let other = Drops { seed: 8, ..drops };
        assert!(hit.iter().any(|&number| !other.hits_new(number)));
        // A tenth of "all of them each second" in each throw.
        let thrown = (1..=10_000).filter(|&throw| drops.hits_existing(1, throw)).count();
        assert!((800..1_200).contains(&thrown), "{thrown}");
    }
}
