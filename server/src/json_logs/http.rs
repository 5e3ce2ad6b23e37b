//! `POST /api/logs`: logs as JSON, answered by what became of them.

use std::sync::Arc;

use axum::{Router, body::Body, extract::State, routing::post};
use hyper::{
    HeaderMap, Request, Response, StatusCode,
    header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderValue},
};
use logweir_core::runtime::clock::Clock;
use metrics::counter;
use serde_json::json;

use super::{idempotency_key::idempotency_key, translate::Records};
use crate::{
    auth::{Access, layer::encoding},
    ingest::split::Outcome,
    receiver::{self, Receiver},
    status::{self, Refusal},
};

/// The paths: ours, and those of earlier systems.
const PATHS: [&str; 5] = ["/api/logs", "/logs", "/ingest", "/api/ingest", "/api/ingest/"];
/// Media types whose lines are records.
const BY_LINES: [&str; 4] =
    ["application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines"];
/// Rejected logs that an answer names.
const NAMED_MAX: usize = 10;

#[derive(Clone)]
struct JsonReceiver {
    receiver: Arc<Receiver>,
    clock: Clock,
}

/// Serves the paths.
pub(crate) fn router(receiver: Arc<Receiver>, clock: Clock) -> Router {
    let take = || post(answer);
    let router = PATHS.into_iter().fold(Router::new(), |router, path| router.route(path, take()));
    router.with_state(JsonReceiver { receiver, clock })
}

async fn answer(State(receiver): State<JsonReceiver>, request: Request<Body>) -> Response<Body> {
    match take(&receiver, request).await {
        Ok(outcome) => said(&outcome),
        Err(refusal) => {
            let code = status::name(refusal.code());
            counter!("logweir_requests_refused_total", "code" => code).increment(1);
            refusal.into_problem()
        }
    }
}

async fn take(to: &JsonReceiver, request: Request<Body>) -> Result<Outcome, Refusal> {
    let JsonReceiver { receiver, clock } = to;
    let (head, body) = request.into_parts();
    let caller = receiver.auth.identify(&head.headers, &head.extensions, Access::Ingest)?;
    let key = idempotency_key(&head.headers)?;
    let encoding = encoding(head.headers.get(CONTENT_ENCODING))?;
    // Any other content type is taken too: `curl -d` calls it a form, and what it is can be seen.
    let format = Records { is_by_lines: is_by_lines(&head.headers), now: clock() };
    let counts_repeats = true;
    let request = receiver::Request { format, encoding, body, key, counts_repeats };
    Ok(receiver.take(&caller, request, rand::random()).await?.outcome)
}

fn is_by_lines(headers: &HeaderMap) -> bool {
    let sent = headers.get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    let media_type = sent.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    BY_LINES.iter().any(|by_lines| media_type.eq_ignore_ascii_case(by_lines.as_bytes()))
}

/// What became of the logs. Where all of them were rejected the status says so, for many look at nothing
/// else.
fn said(outcome: &Outcome) -> Response<Body> {
    let Outcome { accepted, repeated, rejected } = outcome;
    let nothing_taken = *accepted == 0 && rejected.logs() > 0;
    let named = rejected
        .told
        .iter()
        .take(NAMED_MAX)
        .map(|log| json!({ "index": log.place, "reason": log.reason, "message": log.detail }));
    let body = json!({
        "status": if nothing_taken { "rejected" } else { "queued" },
        "accepted": accepted,
        "repeated": repeated,
        "rejected": rejected.logs(),
        "rejections": named.collect::<Vec<_>>(),
    });
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() =
        if nothing_taken { StatusCode::BAD_REQUEST } else { StatusCode::ACCEPTED };
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
