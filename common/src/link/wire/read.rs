//! From a frame's bytes to a batch. Values and ids are parts of the frame, not copies.

use bytes::Bytes;
use prost::{DecodeError, Message};
use proto::v1;

use super::bounds::{self, MAX_HINTED, MAX_VERSIONS};
use crate::link::frame::MAX_BATCH_OPS;

/// A frame can't be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// In memory a small operation takes a hundred times the bytes that it can be written in.
    #[error("a batch holds at most {MAX_BATCH_OPS} operations")]
    TooManyOps,
    /// So do the versions of conditions.
    #[error("the conditions of a batch name at most {MAX_VERSIONS} versions")]
    TooManyVersions,
    /// So do the keys of hints.
    #[error("the hints of a batch name at most {MAX_HINTED} keys")]
    TooManyHinted,
    /// It is not what `cache.proto` says.
    #[error(transparent)]
    Malformed(#[from] DecodeError),
}

/// Reads a batch, if it holds no more than a batch may.
///
/// # Errors
/// [`ReadError`].
pub fn read_batch(frame: &Bytes) -> Result<v1::Batch, ReadError> {
    bounds::check(frame)?;
    Ok(v1::Batch::decode(frame.clone())?)
}
