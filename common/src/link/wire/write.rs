//! From a batch to a frame's bytes.
//!
//! Requests are shared with whoever may have to send them elsewhere next. What differs from one
//! sending to the next (how long it may take, whether to stand in) is written behind the rest,
//! where the last word counts.

use std::sync::Arc;

use bytes::BufMut;
use prost::{
    Message,
    encoding::{self, encoded_len_varint},
};
use proto::v1::{self, op::Kind};

use super::field::{batch, op, reply, request};
use crate::{link::frame, topology::Epoch};

/// Wire types, the low three bits of a field's key.
const VARINT: u32 = 0;
const FIXED64: u32 = 1;
const LENGTH: u32 = 2;

/// A batch on its way out of a link.
#[derive(Debug)]
pub struct Outgoing {
    /// On a stream's first batch.
    pub hello: Option<v1::Hello>,
    /// On which topology the requester goes by.
    pub epoch: Option<Epoch>,
    /// The requester's clock when it leaves, in microseconds.
    pub stamp_us: u64,
    /// What is asked.
    pub ops: Vec<OutgoingOp>,
}

/// One operation of it.
#[derive(Debug)]
pub enum OutgoingOp {
    /// A request.
    Request {
        /// Which answers belong to it.
        id: u64,
        /// What it says whoever is asked.
        request: Arc<v1::Request>,
        /// How long the one who is asked may take.
        try_ms: u32,
        /// How much time there is in all.
        budget_ms: u32,
        /// Whether the owner was passed over.
        stand_in: bool,
    },
    /// Anything else.
    Whole(Box<v1::Op>),
}

/// What differs from one sending of a request to the next.
#[derive(Clone, Copy)]
struct Sending {
    try_ms: u32,
    budget_ms: u32,
    stand_in: bool,
}

impl Sending {
    fn add_to<const N: usize>(self, small: &mut Small<N>) {
        small.varint(request::TRY_MS, self.try_ms.into());
        small.varint(request::BUDGET_MS, self.budget_ms.into());
        small.varint(request::STAND_IN, self.stand_in.into());
    }
}

/// Where a frame is written.
pub trait Frame: BufMut {
    /// Makes room for so many bytes: a frame of values that grew as they come would be copied over
    /// and over.
    fn make_room(&mut self, bytes: usize);
}

impl Frame for tonic::codec::EncodeBuf<'_> {
    fn make_room(&mut self, bytes: usize) {
        self.reserve(bytes);
    }
}

impl Frame for Vec<u8> {
    fn make_room(&mut self, bytes: usize) {
        self.reserve(bytes);
    }
}

/// What a frame is written from.
pub trait Written: Send + 'static {
    /// Writes a batch: the bytes say to prost what it says.
    fn write(&self, frame: &mut impl Frame);
}

impl Written for Outgoing {
    fn write(&self, frame: &mut impl Frame) {
        let weight = |op: &OutgoingOp| match op {
            OutgoingOp::Request { request, .. } => frame::request_weight(request),
            OutgoingOp::Whole(op) => op.kind.as_ref().map_or(0, frame::weight),
        };
        frame.make_room(self.ops.iter().map(weight).sum());
        write_head(self.hello.as_ref(), self.epoch.map(|epoch| epoch.to_wire()), frame);
        write_stamp(self.stamp_us, frame);
        for op in &self.ops {
            match op {
                OutgoingOp::Whole(op) => write_op(op, frame),
                OutgoingOp::Request { id, request, try_ms, budget_ms, stand_in } => {
                    let (try_ms, budget_ms, stand_in) = (*try_ms, *budget_ms, *stand_in);
                    write_request(*id, request, Sending { try_ms, budget_ms, stand_in }, frame);
                }
            }
        }
    }
}

impl Written for v1::Batch {
    fn write(&self, frame: &mut impl Frame) {
        let weight = |op: &v1::Op| op.kind.as_ref().map_or(0, frame::weight);
        frame.make_room(self.ops.iter().map(weight).sum());
        write_head(self.hello.as_ref(), self.epoch.clone(), frame);
        write_stamp(self.stamp_us, frame);
        for op in &self.ops {
            write_op(op, frame);
        }
    }
}

fn write_head(hello: Option<&v1::Hello>, epoch: Option<v1::Epoch>, frame: &mut impl BufMut) {
    if let Some(hello) = hello {
        encoding::message::encode(batch::HELLO, hello, frame);
    }
    if let Some(epoch) = epoch {
        encoding::message::encode(batch::EPOCH, &epoch, frame);
    }
}

fn write_stamp(stamp_us: u64, frame: &mut impl BufMut) {
    let mut small = Small::<HEAD_BYTES>::new();
    small.varint(batch::STAMP_US, stamp_us);
    frame.put_slice(small.bytes());
}

fn write_op(op: &v1::Op, frame: &mut impl BufMut) {
    match &op.kind {
        Some(Kind::Reply(reply)) => write_reply(op.id, reply, frame),
        _ => encoding::message::encode(batch::OPS, op, frame),
    }
}

fn write_request(id: u64, asked: &v1::Request, sending: Sending, frame: &mut impl BufMut) {
    // All fields by name: one that is new in `cache.proto` must not be forgotten here.
    let v1::Request {
        verb,
        group,
        key,
        try_ms,
        budget_ms,
        stand_in,
        group_revision,
        op_link,
        op_seq,
        condition,
        value,
        content_type,
        ttl_ms,
        loan_ms,
        tags,
        lease,
        lease_token,
        group_id_hi,
        group_id_lo,
    } = asked;
    let says_times = *try_ms != 0 || *budget_ms != 0 || *stand_in;
    let is_rare = !tags.is_empty() || *lease || *lease_token != 0;
    if condition.is_some() || says_times || is_rare {
        let mut added = Small::<HEAD_BYTES>::new();
        sending.add_to(&mut added);
        write_op_head(id, op::REQUEST, asked.encoded_len() + added.len(), frame);
        asked.encode_raw(frame);
        return frame.put_slice(added.bytes());
    }
    let mut numbers = Small::<NUMBERS_BYTES>::new();
    numbers.varint(request::VERB, i64::from(*verb) as u64);
    numbers.varint(request::OP_SEQ, *op_seq);
    numbers.varint(request::TTL_MS, *ttl_ms);
    numbers.varint(request::LOAN_MS, (*loan_ms).into());
    numbers.varint(request::GROUP_REVISION, *group_revision);
    numbers.fixed64(request::GROUP_ID_HI, *group_id_hi);
    numbers.fixed64(request::GROUP_ID_LO, *group_id_lo);
    sending.add_to(&mut numbers);
    let texts: [(u32, &[u8]); 5] = [
        (request::GROUP, group.as_bytes()),
        (request::KEY, key.as_bytes()),
        (request::OP_LINK, op_link),
        (request::VALUE, value),
        (request::CONTENT_TYPE, content_type.as_bytes()),
    ];
    write_op_head(id, op::REQUEST, numbers.len() + lengths(&texts), frame);
    frame.put_slice(numbers.bytes());
    write_texts(&texts, frame);
}

fn write_reply(id: u64, said: &v1::Reply, frame: &mut impl BufMut) {
    let v1::Reply {
        code,
        message,
        value,
        content_type,
        version_hi,
        version_lo,
        age_ms,
        ttl_ms,
        source,
        created,
        use_bulk,
        loan_ms,
        collapsed,
        not_stored,
        stale_ms,
        to_bring,
    } = said;
    if *to_bring {
        write_op_head(id, op::REPLY, said.encoded_len(), frame);
        return said.encode_raw(frame);
    }
    let mut numbers = Small::<NUMBERS_BYTES>::new();
    numbers.varint(reply::CODE, i64::from(*code) as u64);
    numbers.fixed64(reply::VERSION_HI, *version_hi);
    numbers.fixed64(reply::VERSION_LO, *version_lo);
    numbers.varint(reply::AGE_MS, *age_ms);
    numbers.varint(reply::TTL_MS, *ttl_ms);
    numbers.varint(reply::SOURCE, i64::from(*source) as u64);
    numbers.varint(reply::CREATED, (*created).into());
    numbers.varint(reply::USE_BULK, (*use_bulk).into());
    numbers.varint(reply::LOAN_MS, (*loan_ms).into());
    numbers.varint(reply::COLLAPSED, (*collapsed).into());
    numbers.varint(reply::NOT_STORED, (*not_stored).into());
    numbers.varint(reply::STALE_MS, (*stale_ms).into());
    let texts: [(u32, &[u8]); 3] = [
        (reply::MESSAGE, message.as_bytes()),
        (reply::CONTENT_TYPE, content_type.as_bytes()),
        (reply::VALUE, value),
    ];
    write_op_head(id, op::REPLY, numbers.len() + lengths(&texts), frame);
    frame.put_slice(numbers.bytes());
    write_texts(&texts, frame);
}

/// What comes before the content of an operation's kind.
fn write_op_head(id: u64, kind: u32, length: usize, frame: &mut impl BufMut) {
    let id_bytes = if id == 0 { 0 } else { 1 + encoded_len_varint(id) };
    let inner = id_bytes + 1 + encoded_len_varint(length as u64) + length;
    let mut head = Small::<HEAD_BYTES>::new();
    head.key(batch::OPS, LENGTH);
    head.number(inner as u64);
    head.varint(op::ID, id);
    head.key(kind, LENGTH);
    head.number(length as u64);
    frame.put_slice(head.bytes());
}

fn lengths(texts: &[(u32, &[u8])]) -> usize {
    // All field numbers here are below 16, so that a key is one byte.
    let length = |text: &[u8]| 1 + encoded_len_varint(text.len() as u64) + text.len();
    texts.iter().filter(|(_, text)| !text.is_empty()).map(|(_, text)| length(text)).sum()
}

fn write_texts(texts: &[(u32, &[u8])], frame: &mut impl BufMut) {
    for (field, text) in texts.iter().filter(|(_, text)| !text.is_empty()) {
        let mut head = Small::<HEAD_BYTES>::new();
        head.key(*field, LENGTH);
        head.number(text.len() as u64);
        frame.put_slice(head.bytes());
        frame.put_slice(text);
    }
}

/// The most that [`write_op_head`] puts into one: three numbers with their keys.
const HEAD_BYTES: usize = 3 * 11;
/// The most that [`write_reply`] puts into one: ten varints and two fixed numbers with their keys. A
/// request's eight varints are no more.
const NUMBERS_BYTES: usize = 10 * 12 + 2 * 10;

/// A few numbers, put together before they are written: a frame's buffer looks whether it has room at
/// every call.
struct Small<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> Small<N> {
    fn new() -> Self {
        Self { bytes: [0; N], len: 0 }
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    fn len(&self) -> usize {
        self.len
    }

    #[inline]
    fn push(&mut self, byte: u8) {
        self.bytes[self.len] = byte;
        self.len += 1;
    }

    #[inline]
    fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.push(number as u8);
    }

    /// Always inlined: of a field's number, which is a constant, nothing is left to work out then.
    #[inline(always)]
    fn key(&mut self, field: u32, wire_type: u32) {
        let key = field << 3 | wire_type;
        if key >= 0x80 {
            self.push(key as u8 | 0x80);
            self.push((key >> 7) as u8);
        } else {
            self.push(key as u8);
        }
    }

    /// A field, unless it is zero, which is what an absent one says.
    #[inline]
    fn varint(&mut self, field: u32, number: u64) {
        if number != 0 {
            self.key(field, VARINT);
            self.number(number);
        }
    }

    #[inline]
    fn fixed64(&mut self, field: u32, number: u64) {
        if number != 0 {
            self.key(field, FIXED64);
            self.bytes[self.len..self.len + 8].copy_from_slice(&number.to_le_bytes());
            self.len += 8;
        }
    }
}
