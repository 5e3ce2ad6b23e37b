//! The forms that OTLP's requests have, and its answer.

use bytes::{Buf, Bytes};
use opentelemetry_proto::tonic::collector::logs::v1::{
    ExportLogsPartialSuccess, ExportLogsServiceRequest, ExportLogsServiceResponse,
};
use prost::Message as _;

use super::{json, translate::translate};
use crate::{
    ingest::split::Rejected,
    listener::{decoded_size::otlp_structure_bytes, inflate::Encoding, message_body::malformed},
    receiver::{Format, Translation, request::Received},
    status::Refusal,
};

/// A message's flag and length ("Length-Prefixed-Message" in gRPC over HTTP/2).
pub(super) const HEADER_BYTES: usize = 5;

/// The form of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Otlp {
    /// In protobuf, within a message of gRPC.
    Grpc,
    Protobuf,
    Json,
}

impl Format for Otlp {
    type Kept = ();

    fn read_as(&self) -> Vec<&str> {
        // A sender may change from one way to another for a repeat.
        vec![match self {
            Self::Grpc | Self::Protobuf => "otlp in protobuf",
            Self::Json => "otlp in json",
        }]
    }

    fn framing_bytes(&self) -> usize {
        if *self == Self::Grpc { HEADER_BYTES } else { 0 }
    }

    fn weigh(&self) -> fn(&[u8]) -> usize {
        match self {
            Self::Grpc | Self::Protobuf => otlp_structure_bytes,
            Self::Json => json::structure_bytes,
        }
    }

    fn unframed(&self, sent: Bytes, encoding: Encoding) -> Result<(Bytes, Encoding), Refusal> {
        if *self == Self::Grpc { unframed(sent, encoding) } else { Ok((sent, encoding)) }
    }

    fn translate(self, message: &[u8], unnamed: &str) -> Result<(Translation, ()), Refusal> {
        let request = match self {
            Self::Json => json::request(message)?,
            Self::Grpc | Self::Protobuf => ExportLogsServiceRequest::decode(message)
                .map_err(|error| malformed(&format!("it is no OTLP in protobuf: {error}")))?,
        };
        Ok((translate(request, unnamed)?, ()))
    }
}

/// The one message of a call, and how it is compressed.
fn unframed(mut sent: Bytes, encoding: Encoding) -> Result<(Bytes, Encoding), Refusal> {
    if sent.len() < HEADER_BYTES {
        return Err(malformed("the request ends within a message"));
    }
    let (flag, length) = (sent.get_u8(), sent.get_u32() as usize);
    if sent.len() != length {
        return Err(malformed("the request is not one whole message"));
    }
    match flag {
        0 => Ok((sent, Encoding::Identity)),
        1 if encoding != Encoding::Identity => Ok((sent, encoding)),
        1 => Err(malformed("a message is compressed, but no grpc-encoding says how")),
        _ => Err(malformed("a message has an unknown flag")),
    }
}

/// Says what was rejected, and nothing if nothing was.
pub(super) fn response(received: Received<()>) -> ExportLogsServiceResponse {
    let Received { outcome, kept: (), charge } = received;
    drop(charge);
    of_rejected(&outcome.rejected)
}

fn of_rejected(rejected: &Rejected) -> ExportLogsServiceResponse {
    let logs = rejected.logs();
    let first = rejected.told.first().map_or("", |log| &log.detail);
    let partial_success = (logs > 0).then(|| ExportLogsPartialSuccess {
        rejected_log_records: i64::try_from(logs).unwrap_or(i64::MAX),
        error_message: format!(
            "{logs} logs were rejected, never to be sent again; the first: {first}"
        ),
    });
    ExportLogsServiceResponse { partial_success }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(flag: u8, length: u32, payload: &[u8]) -> Bytes {
        [&[flag][..], &length.to_be_bytes(), payload].concat().into()
    }

    #[test]
    fn a_call_is_one_whole_message() {
        let (zstd, none) = (Encoding::Zstd, Encoding::Identity);
        let (payload, encoding) = unframed(framed(0, 3, b"abc"), zstd).unwrap();
        assert_eq!((&payload[..], encoding), (&b"abc"[..], none));
        assert_eq!(unframed(framed(1, 3, b"abc"), zstd).unwrap().1, zstd);
        for bad in [
            framed(0, 4, b"abc"),
            framed(0, 2, b"abc"),
            framed(1, 3, b"abc"),
            framed(2, 3, b"abc"),
            Bytes::from_static(b"abc"),
        ] {
            assert_eq!(unframed(bad, none).unwrap_err().reason(), "MALFORMED");
        }
    }

    #[test]
    fn full_success_says_nothing() {
        assert_eq!(of_rejected(&Rejected::default()), ExportLogsServiceResponse::default());
        let mut rejected = Rejected::default();
        rejected.add(3..5, "any", || "too long".into());
        let some = of_rejected(&rejected).partial_success.unwrap();
        assert_eq!(some.rejected_log_records, 2);
        assert!(some.error_message.ends_with("the first: too long"), "{some:?}");
    }
}
