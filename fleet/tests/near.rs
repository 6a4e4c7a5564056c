//! Near leases: who reads from a gateway's memory reads nothing older than what was acknowledged.
#![allow(clippy::unwrap_used)]

#[path = "relay/bench.rs"]
mod bench;
#[path = "../../common/tests/support/fake_node.rs"]
mod fake_node;
#[path = "near/gateways.rs"]
mod gateways;
#[path = "near/model.rs"]
mod model;
#[path = "near/owner.rs"]
mod owner;
#[path = "near/raw.rs"]
mod raw;
#[path = "near/standing_in.rs"]
mod standing_in;
