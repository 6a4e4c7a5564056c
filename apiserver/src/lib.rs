//! The gateway: HTTP in front of a cluster of cache nodes.
//!
//! It is stateless: it follows the cluster's topology, finds the owner of each key on the ring and
//! asks it over its links. Data flows one way, `http → cache → near → common::{route → link}`.

mod admission;
mod budget;
mod cache;
mod gateway;
mod http;
mod members;
mod metrics;
pub mod near;
mod purge;

pub use gateway::{Gateway, StartError};
pub use http::target;
