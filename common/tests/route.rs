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

use std::time::Duration;

/// How long one node may take where that is what a test is about.
const TRY: Duration = Duration::from_millis(300);
/// The same elsewhere: far longer than any node takes that answers.
const PATIENT: Duration = Duration::from_secs(10);
