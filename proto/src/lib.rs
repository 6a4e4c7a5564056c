//! The wire of Ringway: generated messages and services, and nothing else.
//!
//! What the fields mean is said in the `.proto` files; the rules that go with them are in
//! `docs/protocol.md`. Conversions into the types the programs work with live in `common`.

/// Package `ringway.v1`: batches, operations, and the unary calls of a cache node.
#[allow(missing_docs, clippy::all, clippy::pedantic, unreachable_pub)]
pub mod v1 {
    tonic::include_proto!("ringway.v1");
}

/// The encoded `FileDescriptorSet` of everything here, for gRPC reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
