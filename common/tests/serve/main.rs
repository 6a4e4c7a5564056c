//! The accept loop, tried over real sockets: what it serves, whom it closes, and how it stops.
#![allow(clippy::unwrap_used, unreachable_pub)]

mod serving;
mod stopping;
mod support;
mod watchdog;
