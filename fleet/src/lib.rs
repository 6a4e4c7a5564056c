//! A whole Ringway cluster on one machine, and what it takes to test one.
//!
//! This is the only crate that sees both servers. The harness parts know processes, HTTP and etcd,
//! but nothing of how a gateway or a node works inside.

pub mod bench;
pub mod checker;
pub mod cluster;
pub mod coherence;
pub mod demo;
pub mod descriptors;
pub mod etcd;
pub mod eventually;
pub mod history;
pub mod http;
pub mod instructions;
pub mod load;
pub mod local;
pub mod memory;
pub mod metrics;
pub mod netns;
pub mod postgres;
pub mod process;
pub mod proxy;
pub mod recorder;
pub mod redis;
pub mod report;
pub mod share;
pub mod slowdb;
pub mod soak;
pub mod timers;
pub mod tools;
pub mod trial;

pub use eventually::eventually;
