//! `POST /loki/api/v1/push`, answered as Loki answers: 204, or a status with a line of text.
//!
//! What is sent again after 429 and 5xx, and dropped after every other error (Promtail's and Alloy's
//! `client.go`), is what passes here and what does not.

use std::sync::Arc;

use axum::{
    Router,
    body::Body,
    extract::State,
    routing::{get, post},
};
use hyper::{
    HeaderMap, Request, Response, StatusCode,
    header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderValue},
};
use metrics::counter;

use super::translate::Push;
use crate::{
    auth::{Access, layer::encoding},
    ingest::split::Rejected,
    listener::inflate::Encoding,
    receiver::{self, Receiver},
    status::{self, BodyFormat, Refusal},
};

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// The path, and the one that is asked whether Loki is there.
pub(crate) fn router(receiver: Arc<Receiver>) -> Router {
    Router::new()
        .route("/loki/api/v1/push", post(push).with_state(receiver))
        .route("/ready", get(|| async { "ready\n" }))
}

async fn push(State(receiver): State<Arc<Receiver>>, request: Request<Body>) -> Response<Body> {
    match take(&receiver, request).await {
        Ok(rejected) if rejected.logs() == 0 => text(StatusCode::NO_CONTENT, String::new()),
        Ok(rejected) => text(StatusCode::BAD_REQUEST, said(&rejected)),
        Err(refusal) => {
            let code = status::name(refusal.code());
            counter!("logweir_requests_refused_total", "code" => code).increment(1);
            // With the headers that every refusal has, such as the time to wait.
            let (text, mut response) =
                (format!("{refusal}\n"), refusal.into_http(BodyFormat::Json));
            *response.body_mut() = Body::from(text);
            response.headers_mut().insert(CONTENT_TYPE, TEXT);
            response
        }
    }
}

async fn take(receiver: &Receiver, request: Request<Body>) -> Result<Rejected, Refusal> {
    let (head, body) = request.into_parts();
    let caller = receiver.auth.identify(&head.headers, &head.extensions, Access::Ingest)?;
    let format = format(&head.headers)?;
    let encoding = match format {
        // Protobuf is always compressed so, whether a header says it or not.
        Push::Protobuf => Encoding::Snappy,
        Push::Json => encoding(head.headers.get(CONTENT_ENCODING))?,
    };
    let request = receiver::Request::unnamed(format, encoding, body);
    Ok(receiver.take(&caller, request, rand::random()).await?.outcome.rejected)
}

fn format(headers: &HeaderMap) -> Result<Push, Refusal> {
    match BodyFormat::of(headers) {
        Some(BodyFormat::Protobuf) => Ok(Push::Protobuf),
        Some(BodyFormat::Json) => Ok(Push::Json),
        None => {
            let message = "the content type is neither application/x-protobuf (with snappy) nor \
                           application/json";
            let reason = "CONTENT_TYPE_UNSUPPORTED";
            Err(Refusal::Unsupported { reason, message: message.into() })
        }
    }
}

/// As Loki says it of lines that it does not take: with a status after which nothing is sent again.
fn said(rejected: &Rejected) -> String {
    let first = rejected.told.first().map_or("", |log| &log.detail);
    format!("{} lines were rejected and all others stored; the first: {first}\n", rejected.logs())
}

fn text(status: StatusCode, text: String) -> Response<Body> {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    if status != StatusCode::NO_CONTENT {
        response.headers_mut().insert(CONTENT_TYPE, TEXT);
    }
    response
}
