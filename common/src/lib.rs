//! What every process of a Ringway cluster must agree on.
//!
//! Gateways, nodes and clients find each other, compute the same ring, speak the same frames and
//! answer with the same errors because they all use this crate. It knows nothing of HTTP dialects
//! (that is `apiserver`) and nothing of how values are kept (that is `cachenode`).

pub mod clock;
pub mod condition;
pub mod config;
pub mod discovery;
pub mod entry;
pub mod error;
pub mod health;
pub mod key;
pub mod lifecycle;
pub mod link;
pub mod near;
pub mod ring;
pub mod route;
pub mod security;
pub mod serve;
pub mod startup;
pub mod tags;
pub mod telemetry;
pub mod topology;
pub mod worker;
