//! Whatever is sent where nothing is served. It was not taken, and who goes by the status of HTTP alone,
//! as OTLP does, must see so: gRPC's answer to an unknown call has status 200. What is meant for
//! OTLP is answered in OTLP's form, everything else by a problem, as in the JSON API.

use axum::body::Body;
use hyper::{
    Request, Response,
    header::{CONTENT_TYPE, HeaderValue},
};
use tonic::Status;

use crate::status::{BodyFormat, Refusal};

/// What a path may have in an answer, which travels in a header over gRPC.
const PATH_CHARACTERS_MAX: usize = 64;
/// In every path of OTLP (OTLP/HTTP, "OTLP/HTTP Request").
const OTLP_PATHS: &str = "/v1/";
/// In paths of others that have it too: `/api/v1/query` of Prometheus, `/loki/api/v1/labels`.
const OTHER_PATHS: &str = "/api/";

/// Refuses a request, in the form that it came in.
pub(crate) async fn refuse(request: Request<Body>) -> Response<Body> {
    let content_type = request.headers().get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    let path: String = request.uri().path().chars().take(PATH_CHARACTERS_MAX).collect();
    if content_type.starts_with(b"application/grpc") {
        let message = format!("there is no call {path:?}");
        return Status::from(Refusal::Unsupported { reason: "CALL_UNKNOWN", message }).into_http();
    }
    let format = BodyFormat::of(request.headers());
    // Whoever gives an address of OTLP with too much or too little before it means OTLP.
    let is_otlp = path.contains(OTLP_PATHS) && !path.contains(OTHER_PATHS);
    if !is_otlp && format != Some(BodyFormat::Protobuf) {
        let message = format!("nothing is served at {path:?}: /api/openapi.json says what is");
        return Refusal::NotFound(message).into_problem();
    }
    let message = format!("nothing is served at {path:?}: OTLP takes logs alone, at /v1/logs");
    Refusal::NotFound(message).into_http(format.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_what_is_meant_for_otlp_is_answered_in_its_form() {
        for (path, content_type) in [
            ("/v1/traces", "application/json"),
            ("/otlp/v1/logs", "application/json"),
            ("/api/v1/query", "application/problem+json"),
            ("/loki/api/v1/labels", "application/problem+json"),
            ("/nothing", "application/problem+json"),
        ] {
            let request = Request::get(path).body(Body::empty()).unwrap();
            let response = refuse(request).await;
            assert_eq!(response.headers()[CONTENT_TYPE], content_type, "{path}");
        }
    }
}
