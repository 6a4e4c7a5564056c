//! A cache node: groups of entries behind a gRPC service, registered with the cluster.
//!
//! Data flows one way, `grpc → groups → group → {store, origin}`. Several nodes can run in one
//! process: there is no process-wide state.

pub mod group;
pub mod groups;
mod grpc;
mod http;
pub mod loans;
mod metrics;
mod node;
pub mod origin;
pub mod store;

pub use node::{Node, StartError};
