//! A node of a Ringway cluster.
//!
//! Modules call downward only: the gRPC service calls [`groups`], a [`group`] calls its
//! [`store`] and its [`origin`]. What nodes share with gateways is in `common`; a gateway's own
//! things are never here.

pub mod group;
pub mod groups;
pub mod origin;
pub mod store;
