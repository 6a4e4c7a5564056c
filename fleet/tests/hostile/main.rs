//! Bad clients against real processes: rows 18 to 22 of the fault matrix.
//!
//! Whatever is thrown at it, the process answers with an error or closes the connection, keeps its
//! memory within bounds, does not panic, and goes on serving honest clients. The long forms take
//! a minute each; those with random input print their seed.

#![allow(clippy::unwrap_used)]

mod bothered;
#[path = "../faults/capacity.rs"]
mod capacity;
mod crowds;
mod floods;
mod frames;
#[path = "../support/h2.rs"]
mod h2;
mod mutations;
mod oversize;
mod raw;
mod server;
mod slow;
mod sockets;
mod streams;
