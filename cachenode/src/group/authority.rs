//! By what right a node changes a key.

use std::time::Duration;

/// What is written while standing in for an unreachable owner lives no longer than this.
pub const STAND_IN_TTL: Duration = Duration::from_secs(10);

/// By what right this node changes a key. Asked for inside the key's critical section, when the
/// change applies: by then the key may have another owner than when the request came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Authority {
    /// The `as_of` of the epoch in which it does.
    pub as_of: u64,
    /// The longest an entry made this way may live.
    pub ttl_cap: Option<Duration>,
}

impl Authority {
    /// The node owns the key.
    pub fn owner(as_of: u64) -> Self {
        Self { as_of, ttl_cap: None }
    }

    /// The node stands in for an owner that can't be reached.
    pub fn stand_in(as_of: u64) -> Self {
        Self { as_of, ttl_cap: Some(STAND_IN_TTL) }
    }

    /// Whether it is that of a stand-in.
    pub fn is_stand_in(self) -> bool {
        self.ttl_cap.is_some()
    }
}
