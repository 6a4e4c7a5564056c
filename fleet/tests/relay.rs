//! Owners that can't be reached: relays, hints, and nodes that stood still.
#![allow(clippy::unwrap_used)]

#[path = "relay/bench.rs"]
mod bench;
#[path = "relay/between.rs"]
mod between;
#[path = "relay/changing.rs"]
mod changing;
#[path = "../../common/tests/support/fake_node.rs"]
mod fake_node;
#[path = "relay/relaying.rs"]
mod relaying;
#[path = "relay/standing_in.rs"]
mod standing_in;
#[path = "relay/standing_still.rs"]
mod standing_still;
#[path = "relay/stopped.rs"]
mod stopped;
