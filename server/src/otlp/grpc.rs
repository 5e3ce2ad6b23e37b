//! `opentelemetry.proto.collector.logs.v1.LogsService`.
//!
//! The one rpc is spoken here and not by tonic, which would decode the message, however large it is,
//! on the thread that serves other requests.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::{BufMut, Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::{
    HeaderMap, Request, Response,
    header::{CONTENT_TYPE, HeaderValue},
};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceResponse;
use prost::Message;
use prost_types::FileDescriptorSet;
use tonic::{Status, body::Body, server::NamedService};
use tower::Service;

use super::format::{HEADER_BYTES, Otlp, response};
use crate::{
    auth::{
        Access,
        layer::{
            ACCEPT_ENCODING_HEADER, ACCEPTED_ENCODINGS, ENCODING_HEADER, count_refusal, encoding,
        },
    },
    receiver::{self, Receiver},
    status::Refusal,
};

const EXPORT: &str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";
const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
const STATUS_HEADER: &str = "grpc-status";
const STATUS_OK: HeaderValue = HeaderValue::from_static("0");

/// The service.
#[derive(Clone)]
pub(crate) struct LogsService(pub(crate) Arc<Receiver>);

/// What describes the service to clients, of what describes all of OpenTelemetry's.
pub(crate) fn description() -> FileDescriptorSet {
    let all = FileDescriptorSet::decode(opentelemetry_proto::DESCRIPTORS);
    let mut description = all.expect("the descriptors are compiled in");
    let parts = ["/common/", "/resource/", "/logs/"];
    description.file.retain(|file| parts.iter().any(|part| file.name().contains(part)));
    description
}

impl NamedService for LogsService {
    const NAME: &'static str = "opentelemetry.proto.collector.logs.v1.LogsService";
}

impl Service<Request<Body>> for LogsService {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let receiver = Arc::clone(&self.0);
        Box::pin(async move {
            let mut response = match export(&receiver, request).await {
                Ok(answer) => ok(&answer),
                Err(refusal) => Status::from(refusal).into_http(),
            };
            count_refusal(&response);
            response.headers_mut().insert(ACCEPT_ENCODING_HEADER, ACCEPTED_ENCODINGS);
            Ok(response)
        })
    }
}

async fn export(
    receiver: &Receiver,
    request: Request<Body>,
) -> Result<ExportLogsServiceResponse, Refusal> {
    let (head, body) = request.into_parts();
    let caller = receiver.auth.identify(&head.headers, &head.extensions, Access::Ingest)?;
    if head.uri.path() != EXPORT {
        let message = format!("there is no {}: the one rpc is Export", head.uri.path());
        return Err(Refusal::Unsupported { reason: "RPC_UNKNOWN", message });
    }
    let encoding = encoding(head.headers.get(ENCODING_HEADER))?;
    let request = receiver::Request::unnamed(Otlp::Grpc, encoding, body);
    let received = receiver.take(&caller, request, rand::random()).await?;
    Ok(response(received))
}

fn ok(answer: &ExportLogsServiceResponse) -> Response<Body> {
    let mut framed = BytesMut::with_capacity(HEADER_BYTES + answer.encoded_len());
    framed.put_u8(0);
    framed.put_u32(answer.encoded_len() as u32);
    answer.encode(&mut framed).expect("a buffer in memory grows");
    let mut trailers = HeaderMap::new();
    trailers.insert(STATUS_HEADER, STATUS_OK);
    let body = Full::<Bytes>::from(framed.freeze()).with_trailers(async { Some(Ok(trailers)) });
    let mut response = Response::new(Body::new(body));
    response.headers_mut().insert(CONTENT_TYPE, GRPC);
    response
}
