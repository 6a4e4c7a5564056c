//! The codec of both ends of a stream: an end writes batches in the shape in which it has them, and
//! reads what the other end wrote.

use std::marker::PhantomData;

use bytes::Buf;
use proto::v1::Batch;
use tonic::{
    Status,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
};

use super::{ReadError, Written, read_batch};
use crate::error::{Code, Error};

/// The codec of an end that sends `T`.
#[derive(Debug)]
pub struct BatchCodec<T>(PhantomData<fn() -> T>);

impl<T> Default for BatchCodec<T> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T: Written> Codec for BatchCodec<T> {
    type Encode = T;
    type Decode = Batch;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self::default()
    }

    fn decoder(&mut self) -> Self {
        Self::default()
    }
}

impl<T: Written> Encoder for BatchCodec<T> {
    type Item = T;
    type Error = Status;

    fn encode(&mut self, batch: T, frame: &mut EncodeBuf<'_>) -> Result<(), Status> {
        batch.write(frame);
        Ok(())
    }
}

impl<T: Written> Decoder for BatchCodec<T> {
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
