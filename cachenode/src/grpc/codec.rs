//! Reading batches off a stream, within bounds, and writing the answers.

use bytes::Buf;
use common::{
    error::{Code, Error},
    link::wire::{ReadError, read_batch, write_batch},
};
use proto::v1::Batch;
use tonic::{
    Status,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
};

/// The codec of a node's end of a stream.
#[derive(Debug)]
pub(super) struct BatchCodec;

impl Codec for BatchCodec {
    type Encode = Batch;
    type Decode = Batch;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for BatchCodec {
    type Item = Batch;
    type Error = Status;

    fn encode(&mut self, batch: Batch, frame: &mut EncodeBuf<'_>) -> Result<(), Status> {
        write_batch(&batch, frame);
        Ok(())
    }
}

impl Decoder for BatchCodec {
    type Item = Batch;
    type Error = Status;

    fn decode(&mut self, message: &mut DecodeBuf<'_>) -> Result<Option<Batch>, Status> {
        let frame = message.copy_to_bytes(message.remaining());
        match read_batch(&frame) {
            Ok(batch) => Ok(Some(batch)),
            Err(ReadError::Malformed(error)) => Err(Status::internal(error.to_string())),
            Err(too_many) => Err(Error::new(Code::InvalidRequest, too_many.to_string()).into()),
        }
    }
}
