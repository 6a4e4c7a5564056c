//! How a link writes its batches.
//!
//! The same bytes as prost would write of a [`v1::Batch`], but of requests that are shared with
//! whoever may have to send them elsewhere next: what differs from one sending to the next (how
//! long it may take, whether to stand in) is written behind the rest, where the last word counts.

use std::sync::Arc;

use bytes::BufMut;
use prost::{
    Message,
    encoding::{self, WireType, encode_key, encode_varint, encoded_len_varint, key_len},
};
use proto::v1;
use tonic::{
    Status,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
};

use crate::topology::Epoch;

/// Field numbers of `cache.proto`.
mod field {
    /// Of a batch.
    pub(super) const HELLO: u32 = 1;
    pub(super) const EPOCH: u32 = 2;
    pub(super) const STAMP_US: u32 = 3;
    pub(super) const OPS: u32 = 4;
    /// Of an operation.
    pub(super) const ID: u32 = 1;
    pub(super) const REQUEST: u32 = 2;
    /// Of a request.
    pub(super) const TRY_MS: u32 = 4;
    pub(super) const BUDGET_MS: u32 = 5;
    pub(super) const STAND_IN: u32 = 6;
}

/// A batch on its way out.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) hello: Option<v1::Hello>,
    pub(super) epoch: Option<Epoch>,
    pub(super) stamp_us: u64,
    pub(super) ops: Vec<OutgoingOp>,
}

/// One operation of it.
#[derive(Debug)]
pub(super) enum OutgoingOp {
    /// A request.
    Request { id: u64, request: Arc<v1::Request>, try_ms: u32, budget_ms: u32, stand_in: bool },
    /// Anything else.
    Whole(v1::Op),
}

impl Outgoing {
    fn encode(&self, buf: &mut impl BufMut) {
        if let Some(hello) = &self.hello {
            encoding::message::encode(field::HELLO, hello, buf);
        }
        if let Some(epoch) = &self.epoch {
            encoding::message::encode(field::EPOCH, &epoch.to_wire(), buf);
        }
        encoding::uint64::encode(field::STAMP_US, &self.stamp_us, buf);
        for op in &self.ops {
            op.encode(buf);
        }
    }
}

impl OutgoingOp {
    fn encode(&self, buf: &mut impl BufMut) {
        let (id, request, try_ms, budget_ms, stand_in) = match self {
            Self::Whole(op) => return encoding::message::encode(field::OPS, op, buf),
            Self::Request { id, request, try_ms, budget_ms, stand_in } => {
                (id, request, try_ms, budget_ms, stand_in)
            }
        };
        let mut asked = request.encoded_len()
            + encoding::uint32::encoded_len(field::TRY_MS, try_ms)
            + encoding::uint32::encoded_len(field::BUDGET_MS, budget_ms);
        if *stand_in {
            asked += encoding::bool::encoded_len(field::STAND_IN, stand_in);
        }
        let id_len = encoding::uint64::encoded_len(field::ID, id);
        let whole = id_len + key_len(field::REQUEST) + encoded_len_varint(asked as u64) + asked;
        encode_key(field::OPS, WireType::LengthDelimited, buf);
        encode_varint(whole as u64, buf);
        encoding::uint64::encode(field::ID, id, buf);
        encode_key(field::REQUEST, WireType::LengthDelimited, buf);
        encode_varint(asked as u64, buf);
        request.encode_raw(buf);
        encoding::uint32::encode(field::TRY_MS, try_ms, buf);
        encoding::uint32::encode(field::BUDGET_MS, budget_ms, buf);
        if *stand_in {
            encoding::bool::encode(field::STAND_IN, stand_in, buf);
        }
    }
}

/// Operations for which there is room from the start when a batch is read.
const USUAL_OPS: usize = 16;

/// The codec of a link's stream: batches out as above, batches in as prost reads them.
#[derive(Debug)]
pub(super) struct LinkCodec;

impl Codec for LinkCodec {
    type Encode = Outgoing;
    type Decode = v1::Batch;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Decoder for LinkCodec {
    type Item = v1::Batch;
    type Error = Status;

    fn decode(&mut self, message: &mut DecodeBuf<'_>) -> Result<Option<v1::Batch>, Status> {
        let mut batch = v1::Batch { ops: Vec::with_capacity(USUAL_OPS), ..Default::default() };
        batch.merge(message).map_err(|error| Status::internal(error.to_string()))?;
        Ok(Some(batch))
    }
}

impl Encoder for LinkCodec {
    type Item = Outgoing;
    type Error = Status;

    fn encode(&mut self, batch: Outgoing, buf: &mut EncodeBuf<'_>) -> Result<(), Status> {
        batch.encode(buf);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn request(value: &'static [u8]) -> v1::Request {
        v1::Request {
            verb: v1::Verb::Set.into(),
            group: "g".repeat(64),
            key: "k".repeat(300),
            op_link: Bytes::from_static(&[7; 16]),
            op_seq: u64::MAX,
            condition: Some(v1::Condition { if_absent: true, ..Default::default() }),
            value: Bytes::from_static(value),
            content_type: "text/plain".to_owned(),
            ttl_ms: 1 << 40,
            ..Default::default()
        }
    }

    fn read(batch: &Outgoing) -> v1::Batch {
        let mut bytes = Vec::new();
        batch.encode(&mut bytes);
        v1::Batch::decode(&bytes[..]).expect("prost reads it")
    }

    #[test]
    fn prost_reads_what_was_meant() {
        let epoch = Epoch { as_of: 5, digest: 9, ..Epoch::default() };
        let ping = v1::Op { id: 3, kind: Some(v1::op::Kind::Ping(v1::Ping {})) };
        for (value, try_ms, budget_ms, stand_in) in
            [(&b""[..], 1, 1, false), (&[0; 70_000], 250, 2000, true), (b"v", u32::MAX, 300, false)]
        {
            let request = Arc::new(request(value));
            let asked = OutgoingOp::Request {
                id: u64::MAX,
                request: Arc::clone(&request),
                try_ms,
                budget_ms,
                stand_in,
            };
            let batch = Outgoing {
                hello: Some(v1::Hello { id: "gw".to_owned(), ..Default::default() }),
                epoch: Some(epoch),
                stamp_us: 77,
                ops: vec![asked, OutgoingOp::Whole(ping.clone())],
            };
            let kind = v1::op::Kind::Request(v1::Request {
                try_ms,
                budget_ms,
                stand_in,
                ..(*request).clone()
            });
            let meant = v1::Batch {
                hello: batch.hello.clone(),
                epoch: Some(epoch.to_wire()),
                stamp_us: 77,
                ops: vec![v1::Op { id: u64::MAX, kind: Some(kind) }, ping.clone()],
            };
            assert_eq!(read(&batch), meant);
        }
    }

    #[test]
    fn a_request_that_says_itself_to_stand_in_is_left_so() {
        let request = Arc::new(v1::Request { stand_in: true, ..request(b"v") });
        let (try_ms, budget_ms, stand_in) = (1, 2, false);
        let op = OutgoingOp::Request { id: 1, request, try_ms, budget_ms, stand_in };
        let batch = Outgoing { hello: None, epoch: None, stamp_us: 1, ops: vec![op] };
        let read = read(&batch);
        assert!(matches!(
            &read.ops[0].kind,
            Some(v1::op::Kind::Request(request)) if request.stand_in && request.try_ms == 1
        ));
    }
}
