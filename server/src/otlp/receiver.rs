//! Takes a request of OTLP, whichever way it came in.

use std::{sync::Arc, thread::available_parallelism, time::Duration};

use bytes::{Buf, Bytes};
use hyper::body::Body as HttpBody;
use logweir_core::{fairness::permits::TenantPermits, identity::ServiceScope};
use opentelemetry_proto::tonic::collector::logs::v1::{
    ExportLogsPartialSuccess, ExportLogsServiceRequest, ExportLogsServiceResponse,
};
use prost::Message as _;
use tokio::task::spawn_blocking;

use super::{
    json,
    repeat::{can_be_told, content_hash},
    translate::{Translation, translate, unnamed},
};
use crate::{
    auth::{Caller, layer::AuthLayer},
    ingest::{Ingest, split::Rejected},
    listener::{
        decoded_size::otlp_structure_bytes,
        inflate::{Encoding, Inflater},
        message_body::{Charge, MessageRules, TenantBudget, malformed},
        whole_body::WholeBody,
    },
    status::Refusal,
};

/// A message's flag and length ("Length-Prefixed-Message" in gRPC over HTTP/2).
pub(super) const HEADER_BYTES: usize = 5;
/// A request of more than this, and what is compressed, is decoded on a thread of its own: it takes
/// longer than others should wait.
const INLINE_BYTES_MAX: usize = 256 << 10;
/// One tenant may decode on so many times the threads that it leaves.
const DECODING_ALPHA: u64 = 4;

/// The form of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// In protobuf, within a message of gRPC.
    Grpc,
    Protobuf,
    Json,
}

/// Takes requests.
pub(crate) struct Receiver {
    pub(super) auth: Arc<AuthLayer>,
    ingest: Arc<Ingest>,
    bytes_max: usize,
    read_timeout: Duration,
    /// Threads that decode large requests; tenants have them by turns.
    decoding: TenantPermits,
}

/// A request that was read.
struct ReadRequest {
    translation: Translation,
    /// What identifies it, if a repeat of it can be told.
    hash: Option<[u8; 16]>,
    /// What it occupies until it is answered.
    charge: Charge,
}

impl Receiver {
    pub(crate) fn new(auth: Arc<AuthLayer>, ingest: Arc<Ingest>) -> Arc<Self> {
        let limits = &ingest.limits;
        // One larger than all that may be in flight would be told to come back later, for ever.
        let bytes_max = limits.otlp_request_bytes_max.min(limits.in_flight_bytes_max);
        let threads = available_parallelism().map_or(1, |threads| threads.get() as u64);
        let decoding = TenantPermits::for_one(threads, DECODING_ALPHA);
        let read_timeout = auth.read_timeout;
        Arc::new(Self { auth, ingest, bytes_max, read_timeout, decoding })
    }

    /// Takes what a caller sends; what identifies a request whose repeat cannot be told is `random`.
    pub(super) async fn take(
        &self,
        caller: &Caller,
        form: Form,
        encoding: Encoding,
        body: impl HttpBody<Data = Bytes>,
        random: [u8; 16],
    ) -> Result<ExportLogsServiceResponse, Refusal> {
        // Before the body is read, as for every other request that brings logs.
        self.ingest.publisher.check_room(&caller.tenant)?;
        let tenant = caller.tenant.clone();
        let budget = TenantBudget { budget: self.auth.budget.clone(), tenant };
        let body = WholeBody::read(body, self.rules(form), budget).await?;
        let read = self.decode(caller, form, encoding, body).await?;
        let Translation { groups, rejected } = read.translation;
        let request = read.hash.unwrap_or(random);
        let rejected = self.ingest.ingest_split(caller, groups, request, rejected).await?;
        drop(read.charge);
        Ok(response(rejected))
    }

    fn rules(&self, form: Form) -> MessageRules {
        let framing = if form == Form::Grpc { HEADER_BYTES } else { 0 };
        MessageRules {
            bytes_max: self.bytes_max + framing,
            read_timeout: self.read_timeout,
            weigh: Some(match form {
                Form::Grpc | Form::Protobuf => otlp_structure_bytes,
                Form::Json => json::structure_bytes,
            }),
            stream: false,
        }
    }

    async fn decode(
        &self,
        caller: &Caller,
        form: Form,
        encoding: Encoding,
        body: WholeBody,
    ) -> Result<ReadRequest, Refusal> {
        let is_compressed = encoding != Encoding::Identity;
        let expected = self.rules(form).expected_bytes(body.sent.len(), is_compressed);
        let unnamed = unnamed(caller.scope == ServiceScope::Any);
        let inflater = Arc::clone(&self.auth.inflater);
        // What comes out of a compressed one is not known: a few kilobytes may become as much as any.
        if !is_compressed && expected <= INLINE_BYTES_MAX {
            return read(body, form, encoding, &inflater, unnamed);
        }
        let thread = self.decoding.take(&caller.tenant, 1).await;
        let reading = spawn_blocking(move || {
            let read = read(body, form, encoding, &inflater, unnamed);
            drop(thread);
            read
        });
        // It ends without a result only where the process ends.
        reading.await.unwrap_or_else(|_| Err(Refusal::stopping()))
    }
}

fn read(
    body: WholeBody,
    form: Form,
    encoding: Encoding,
    inflater: &Inflater,
    unnamed: &str,
) -> Result<ReadRequest, Refusal> {
    let (payload, encoding) = match form {
        Form::Grpc => unframed(body.sent.clone(), encoding)?,
        Form::Protobuf | Form::Json => (body.sent.clone(), encoding),
    };
    let mut message = body.inflate(payload, encoding, inflater)?;
    let bytes = &message.bytes;
    let request = match form {
        Form::Json => json::request(bytes)?,
        Form::Grpc | Form::Protobuf => ExportLogsServiceRequest::decode(&bytes[..])
            .map_err(|error| malformed(&format!("it is no OTLP in protobuf: {error}")))?,
    };
    let hash = can_be_told(&request).then(|| content_hash(bytes));
    let translation = translate(request, unnamed)?;
    // What each log gets from its scope was not in the message as often.
    message.charge_to(translation.bytes())?;
    Ok(ReadRequest { translation, hash, charge: message.charge })
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
fn response(Rejected { logs, first }: Rejected) -> ExportLogsServiceResponse {
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
        assert_eq!(response(Rejected::default()), ExportLogsServiceResponse::default());
        let some =
            response(Rejected { logs: 2, first: "too long".into() }).partial_success.unwrap();
        assert_eq!(some.rejected_log_records, 2);
        assert!(some.error_message.ends_with("the first: too long"), "{some:?}");
    }
}
