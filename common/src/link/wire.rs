//! How batches are written to and read off a stream.
//!
//! The bytes are those of `cache.proto`, and prost reads them. It also writes what is rare. Requests and
//! replies, of which there are a hundred thousand a second, are written here by hand, with about half
//! of prost's instructions, which measures every message once for each message around it.
//! (A reader by hand took as many instructions as prost's: `make bench-instructions`.)

mod bounds;
mod codec;
mod read;
mod write;

pub use self::{
    codec::BatchCodec,
    read::{ReadError, read_batch},
    write::{Frame, Outgoing, OutgoingOp, Written},
};

/// Field numbers of `cache.proto`.
mod field {
    pub(super) mod batch {
        pub(crate) const HELLO: u32 = 1;
        pub(crate) const EPOCH: u32 = 2;
        pub(crate) const STAMP_US: u32 = 3;
        pub(crate) const OPS: u32 = 4;
    }
    pub(super) mod op {
        pub(crate) const ID: u32 = 1;
        pub(crate) const REQUEST: u32 = 2;
        pub(crate) const REPLY: u32 = 3;
    }
    pub(super) mod request {
        pub(crate) const VERB: u32 = 1;
        pub(crate) const GROUP: u32 = 2;
        pub(crate) const KEY: u32 = 3;
        pub(crate) const TRY_MS: u32 = 4;
        pub(crate) const BUDGET_MS: u32 = 5;
        pub(crate) const STAND_IN: u32 = 6;
        pub(crate) const GROUP_REVISION: u32 = 8;
        pub(crate) const OP_LINK: u32 = 9;
        pub(crate) const OP_SEQ: u32 = 10;
        pub(crate) const VALUE: u32 = 12;
        pub(crate) const CONTENT_TYPE: u32 = 13;
        pub(crate) const TTL_MS: u32 = 14;
        pub(crate) const LOAN_MS: u32 = 15;
        pub(crate) const GROUP_ID_HI: u32 = 19;
        pub(crate) const GROUP_ID_LO: u32 = 20;
    }
    pub(super) mod reply {
        pub(crate) const CODE: u32 = 1;
        pub(crate) const MESSAGE: u32 = 2;
        pub(crate) const VALUE: u32 = 3;
        pub(crate) const CONTENT_TYPE: u32 = 4;
        pub(crate) const VERSION_HI: u32 = 5;
        pub(crate) const VERSION_LO: u32 = 6;
        pub(crate) const AGE_MS: u32 = 7;
        pub(crate) const TTL_MS: u32 = 8;
        pub(crate) const SOURCE: u32 = 9;
        pub(crate) const CREATED: u32 = 10;
        pub(crate) const USE_BULK: u32 = 11;
        pub(crate) const LOAN_MS: u32 = 12;
        pub(crate) const COLLAPSED: u32 = 13;
        pub(crate) const NOT_STORED: u32 = 14;
        pub(crate) const STALE_MS: u32 = 15;
    }
}

#[cfg(test)]
mod tests;
