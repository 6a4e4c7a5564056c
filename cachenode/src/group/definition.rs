//! What a group is.

use std::time::Duration;

use common::key::GroupName;

use crate::{origin::OriginDefinition, store::Eviction};

/// What a node does for a key whose owner neither the sender nor itself can reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Partition {
    /// It stands in: reads and writes go on, and the owner is told of the writes later.
    #[default]
    Available,
    /// It refuses.
    Strict,
}

/// What a group is. All but its name may change while it lives ([`Group::define`](super::Group::define)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Definition {
    /// Its name.
    pub name: GroupName,
    /// Resident bytes it may use on this node.
    pub capacity: u64,
    /// How long entries live that don't say otherwise; zero: for ever.
    pub ttl: Duration,
    /// By up to what part of it that differs from entry to entry, up and down, in thousandths.
    pub ttl_jitter: u32,
    /// How long entries live without being read; zero: this does not matter.
    pub idle: Duration,
    /// Who goes when it is full.
    pub eviction: Eviction,
    /// The largest value in bytes.
    pub max_value: u64,
    /// What to do for keys whose owner can't be reached.
    pub partition: Partition,
    /// Whether gateways may hold its hot values for a while.
    pub near: bool,
    /// Where missing values come from.
    pub origin: OriginDefinition,
    /// How long it is remembered that an origin which is asked has no value; zero: not at all.
    pub negative_ttl: Duration,
    /// For how long after its time an entry is answered, while its origin is asked for the next reader.
    pub stale_while_revalidate: Duration,
    /// For how long after its time an entry is answered if its origin fails, or is too late.
    pub stale_if_error: Duration,
    /// The longest wait for the origin where there is a value for that case; zero: the reader's own.
    pub soft_timeout: Duration,
    /// How early hot values are loaded anew, before their time is over, in thousandths of what is usual;
    /// zero: not at all.
    pub early_refresh: u32,
}

impl Definition {
    /// A group with 64 MiB, values of at most 1 MiB, LRU, no time to live and no origin.
    pub fn new(name: GroupName) -> Self {
        Self {
            name,
            capacity: 64 << 20,
            ttl: Duration::ZERO,
            ttl_jitter: 0,
            idle: Duration::ZERO,
            eviction: Eviction::default(),
            max_value: 1 << 20,
            partition: Partition::default(),
            near: true,
            origin: OriginDefinition::None,
            negative_ttl: Duration::from_secs(1),
            stale_while_revalidate: Duration::ZERO,
            stale_if_error: Duration::ZERO,
            soft_timeout: Duration::ZERO,
            early_refresh: 0,
        }
    }

    /// Whether its values are lent at all. Not where entries live by being read: who reads a lent
    /// value does not tell.
    pub fn lends(&self) -> bool {
        self.near && self.idle.is_zero()
    }
}
