//! A codec of gRPC for requests that are encoded already.

use bytes::{BufMut, Bytes};
use logweir_proto::v1;
use prost::Message;
use tonic::{
    Status,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
};

/// Sends bytes that are encoded already.
pub(super) struct IngestCodec;

impl Codec for IngestCodec {
    type Encode = Bytes;
    type Decode = v1::IngestResponse;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for IngestCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for IngestCodec {
    type Item = v1::IngestResponse;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Self::Item>, Status> {
        let decoded = v1::IngestResponse::decode(buffer);
        decoded.map(Some).map_err(|error| Status::internal(error.to_string()))
    }
}
