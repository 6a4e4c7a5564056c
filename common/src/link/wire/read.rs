//! From a frame's bytes to a batch. Values and ids are parts of the frame, not copies.

use std::ops::Range;

use bytes::Bytes;
use prost::{DecodeError, Message};
use proto::v1::{self, op::Kind};

use super::{
    bounds::{self, MAX_HINTED, MAX_VERSIONS},
    field::{batch, op, reply, request},
};
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

/// Wire types, the low three bits of a field's key.
const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const LENGTH: u64 = 2;

/// Operations for which there is room from the start.
const USUAL_OPS: usize = 16;

/// Reads a batch as prost would.
///
/// # Errors
/// [`ReadError`]; nothing of the batch may be used then.
pub fn read_batch(frame: &Bytes) -> Result<v1::Batch, ReadError> {
    bounds::check_large(frame)?;
    match Reader::new(frame, 0..frame.len()).batch() {
        Some(batch) if batch.ops.len() > MAX_BATCH_OPS => Err(ReadError::TooManyOps),
        Some(batch) => Ok(batch),
        // Unusual: prost is to say what it is.
        None => by_prost(frame),
    }
}

fn by_prost(frame: &Bytes) -> Result<v1::Batch, ReadError> {
    bounds::check_ops(frame)?;
    Ok(v1::Batch::decode(frame.clone())?)
}

/// Reads one message. Every step is `None` when it meets anything that is not plainly as it is
/// written by [`write`](super::write) or by prost.
struct Reader<'a> {
    frame: &'a Bytes,
    at: usize,
    end: usize,
}

impl<'a> Reader<'a> {
    fn new(frame: &'a Bytes, range: Range<usize>) -> Self {
        Self { frame, at: range.start, end: range.end }
    }

    fn batch(mut self) -> Option<v1::Batch> {
        let mut read = v1::Batch { ops: Vec::with_capacity(USUAL_OPS), ..v1::Batch::default() };
        while let Some(key) = self.key()? {
            match (key >> 3) as u32 {
                batch::OPS if key & 7 == LENGTH => {
                    let op = self.message()?.op()?;
                    read.ops.push(op);
                    if read.ops.len() > MAX_BATCH_OPS {
                        return Some(read);
                    }
                }
                batch::STAMP_US if key & 7 == VARINT => read.stamp_us = self.varint()?,
                batch::EPOCH if key & 7 == LENGTH && read.epoch.is_none() => {
                    read.epoch = Some(v1::Epoch::decode(self.bytes()?).ok()?);
                }
                batch::HELLO if key & 7 == LENGTH && read.hello.is_none() => {
                    read.hello = Some(v1::Hello::decode(self.bytes()?).ok()?);
                }
                _ => return None,
            }
        }
        Some(read)
    }

    fn op(mut self) -> Option<v1::Op> {
        let (start, mut read) = (self.at, v1::Op::default());
        while let Some(key) = self.key()? {
            match (key >> 3) as u32 {
                op::ID if key & 7 == VARINT => read.id = self.varint()?,
                op::REQUEST if key & 7 == LENGTH && read.kind.is_none() => {
                    read.kind = Some(Kind::Request(self.message()?.request()?));
                }
                op::REPLY if key & 7 == LENGTH && read.kind.is_none() => {
                    read.kind = Some(Kind::Reply(self.message()?.reply()?));
                }
                _ => return v1::Op::decode(self.frame.slice(start..self.end)).ok(),
            }
        }
        Some(read)
    }

    fn request(mut self) -> Option<v1::Request> {
        let (start, mut read) = (self.at, v1::Request::default());
        while let Some(key) = self.key()? {
            match ((key >> 3) as u32, key & 7) {
                (request::VERB, VARINT) => read.verb = self.varint()? as i32,
                (request::GROUP, LENGTH) => read.group = self.string()?,
                (request::KEY, LENGTH) => read.key = self.string()?,
                (request::TRY_MS, VARINT) => read.try_ms = self.varint()? as u32,
                (request::BUDGET_MS, VARINT) => read.budget_ms = self.varint()? as u32,
                (request::STAND_IN, VARINT) => read.stand_in = self.varint()? != 0,
                (request::OP_LINK, LENGTH) => read.op_link = self.bytes()?,
                (request::OP_SEQ, VARINT) => read.op_seq = self.varint()?,
                (request::VALUE, LENGTH) => read.value = self.bytes()?,
                (request::CONTENT_TYPE, LENGTH) => read.content_type = self.string()?,
                (request::TTL_MS, VARINT) => read.ttl_ms = self.varint()?,
                (request::LOAN_MS, VARINT) => read.loan_ms = self.varint()? as u32,
                _ => return v1::Request::decode(self.frame.slice(start..self.end)).ok(),
            }
        }
        Some(read)
    }

    fn reply(mut self) -> Option<v1::Reply> {
        let (start, mut read) = (self.at, v1::Reply::default());
        while let Some(key) = self.key()? {
            match ((key >> 3) as u32, key & 7) {
                (reply::CODE, VARINT) => read.code = self.varint()? as i32,
                (reply::MESSAGE, LENGTH) => read.message = self.string()?,
                (reply::VALUE, LENGTH) => read.value = self.bytes()?,
                (reply::CONTENT_TYPE, LENGTH) => read.content_type = self.string()?,
                (reply::VERSION_HI, FIXED64) => read.version_hi = self.fixed64()?,
                (reply::VERSION_LO, FIXED64) => read.version_lo = self.fixed64()?,
                (reply::AGE_MS, VARINT) => read.age_ms = self.varint()?,
                (reply::TTL_MS, VARINT) => read.ttl_ms = self.varint()?,
                (reply::SOURCE, VARINT) => read.source = self.varint()? as i32,
                (reply::CREATED, VARINT) => read.created = self.varint()? != 0,
                (reply::USE_BULK, VARINT) => read.use_bulk = self.varint()? != 0,
                (reply::LOAN_MS, VARINT) => read.loan_ms = self.varint()? as u32,
                _ => return v1::Reply::decode(self.frame.slice(start..self.end)).ok(),
            }
        }
        Some(read)
    }

    /// The next field's key; `Some(None)` at the end.
    fn key(&mut self) -> Option<Option<u64>> {
        if self.at == self.end {
            return Some(None);
        }
        let key = self.varint()?;
        // prost refuses field 0 and keys over 32 bits.
        (key >= 8 && key <= u64::from(u32::MAX)).then_some(Some(key))
    }

    fn varint(&mut self) -> Option<u64> {
        let rest = &self.frame[self.at..self.end];
        let first = *rest.first()?;
        if first < 0x80 {
            self.at += 1;
            return Some(u64::from(first));
        }
        let mut left = rest;
        let value = prost::encoding::decode_varint(&mut left).ok()?;
        self.at += rest.len() - left.len();
        Some(value)
    }

    fn fixed64(&mut self) -> Option<u64> {
        let bytes = self.frame[self.at..self.end].first_chunk()?;
        self.at += bytes.len();
        Some(u64::from_le_bytes(*bytes))
    }

    /// Where the content of a field lies that says its length.
    fn range(&mut self) -> Option<Range<usize>> {
        let length = usize::try_from(self.varint()?).ok()?;
        let end = self.at.checked_add(length).filter(|end| *end <= self.end)?;
        let range = self.at..end;
        self.at = end;
        Some(range)
    }

    fn message(&mut self) -> Option<Reader<'a>> {
        let range = self.range()?;
        Some(Reader::new(self.frame, range))
    }

    fn bytes(&mut self) -> Option<Bytes> {
        let range = self.range()?;
        Some(self.frame.slice(range))
    }

    fn string(&mut self) -> Option<String> {
        let range = self.range()?;
        std::str::from_utf8(&self.frame[range]).ok().map(str::to_owned)
    }
}
