//! The canonical HTTP API, against a fleet on real sockets: what a client of the documentation
//! may rely on. How the parts come to their answers is tested in their own crates.

#![allow(clippy::unwrap_used)]

#[path = "../support/api.rs"]
mod api;
mod batch;
mod cluster;
mod concurrency;
mod conditions;
mod errors;
mod keys;
mod metrics;
mod unreachable;
mod unwanted;
mod values;
