//! Routing, tried against nodes that do what the test says.
#![allow(clippy::unwrap_used)]

#[path = "route/failover.rs"]
mod failover;
#[path = "support/fake_discovery.rs"]
mod fake_discovery;
#[path = "support/fake_node.rs"]
mod fake_node;
#[path = "route/fleet.rs"]
mod fleet;
#[path = "route/lanes.rs"]
mod lanes;
#[path = "route/many.rs"]
mod many;
#[path = "route/rings.rs"]
mod rings;
#[path = "route/writes.rs"]
mod writes;

/// How long one node may take in these tests.
const TRY: std::time::Duration = std::time::Duration::from_millis(100);
