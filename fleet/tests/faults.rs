//! The fault matrix: what the fleet promises while something breaks, under an open-loop load.
//!
//! Short forms run with every `make test` and assert no times, only what must never happen. Long
//! forms (`make faults`) load the fleet with half of what it can do and assert the promised times.
#![allow(clippy::unwrap_used)]

mod faults {
    mod capacity;
    mod killed_node;
    mod values;
}
