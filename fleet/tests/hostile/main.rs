//! Bad clients against a real process: rows 18 and 19 of the fault matrix.
//!
//! Whatever is thrown at it, the process answers with an error or closes the connection, keeps its
//! memory within bounds, does not panic, and goes on serving honest clients. The long forms take
//! a minute each and print their seed.

#![allow(clippy::unwrap_used)]

mod frames;
#[path = "../support/h2.rs"]
mod h2;
mod mutations;
mod oversize;
mod server;
mod streams;
