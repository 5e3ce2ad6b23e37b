//! `POST /v1/logs`: OTLP over HTTP, answered in the form that it came in.

use std::sync::Arc;

use axum::{Router, body::Body, extract::State, routing::post};
use hyper::{
    HeaderMap, Request, Response, StatusCode,
    header::{ALLOW, CONTENT_ENCODING, CONTENT_TYPE, HeaderValue},
};
use metrics::counter;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceResponse;
use prost::Message;
use serde_json::json;

use super::format::{Otlp, response};
use crate::{
    auth::{Access, layer::encoding},
    receiver::{self, Receiver},
    status::{self, BodyFormat, Refusal},
};

/// The path.
pub(crate) fn router(receiver: Arc<Receiver>) -> Router {
    Router::new().route("/v1/logs", post(export).fallback(refuse_method).with_state(receiver))
}

async fn export(State(receiver): State<Arc<Receiver>>, request: Request<Body>) -> Response<Body> {
    let format = format(request.headers());
    let answered_in = format.as_ref().copied().unwrap_or_default();
    match take(&receiver, format, request).await {
        Ok(answer) => ok(&answer, answered_in),
        Err(refusal) => {
            let code = status::name(refusal.code());
            counter!("logweir_requests_refused_total", "code" => code).increment(1);
            refusal.into_http(answered_in)
        }
    }
}

async fn take(
    receiver: &Receiver,
    format: Result<BodyFormat, Refusal>,
    request: Request<Body>,
) -> Result<ExportLogsServiceResponse, Refusal> {
    let (head, body) = request.into_parts();
    let caller = receiver.auth.identify(&head.headers, &head.extensions, Access::Ingest)?;
    let format = match format? {
        BodyFormat::Protobuf => Otlp::Protobuf,
        BodyFormat::Json => Otlp::Json,
    };
    let encoding = encoding(head.headers.get(CONTENT_ENCODING))?;
    let request = receiver::Request::unnamed(format, encoding, body);
    let received = receiver.take(&caller, request, rand::random()).await?;
    Ok(response(received))
}

fn format(headers: &HeaderMap) -> Result<BodyFormat, Refusal> {
    BodyFormat::of(headers).ok_or_else(|| {
        let sent = headers.get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
        let sent: String = String::from_utf8_lossy(sent).chars().take(64).collect();
        let message = format!(
            "the content type {sent:?} is not supported: use application/x-protobuf or \
             application/json"
        );
        Refusal::Unsupported { reason: "CONTENT_TYPE_UNSUPPORTED", message }
    })
}

async fn refuse_method(request: Request<Body>) -> Response<Body> {
    let message = "logs are sent here by POST".to_owned();
    let refusal = Refusal::Unsupported { reason: "METHOD_NOT_ALLOWED", message };
    let mut response = refusal.into_http(BodyFormat::of(request.headers()).unwrap_or_default());
    *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
    response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
    response
}

fn ok(answer: &ExportLogsServiceResponse, format: BodyFormat) -> Response<Body> {
    let body = match format {
        BodyFormat::Protobuf => answer.encode_to_vec(),
        BodyFormat::Json => json_text(answer).into_bytes(),
    };
    let mut response = Response::new(Body::from(body));
    let media_type = HeaderValue::from_static(format.media_type());
    response.headers_mut().insert(CONTENT_TYPE, media_type);
    response
}

fn json_text(answer: &ExportLogsServiceResponse) -> String {
    let Some(partial) = &answer.partial_success else { return "{}".to_owned() };
    // As a string, for so protobuf's mapping writes 64 bits.
    let (rejected, message) = (partial.rejected_log_records.to_string(), &partial.error_message);
    let partial = json!({ "rejectedLogRecords": rejected, "errorMessage": message });
    json!({ "partialSuccess": partial }).to_string()
}
