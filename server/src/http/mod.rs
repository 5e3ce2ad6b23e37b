//! The JSON API: each path is a translation onto what gRPC serves too, with the same checks, limits and
//! figures. Whatever is refused is answered by problem details (RFC 9457).
//!
//! A path is one line of [`routes`]; `router` adds what all of them have in common.

use axum::{
    Json, Router,
    body::Body,
    extract::State,
    response::{IntoResponse as _, Response},
    routing::{MethodRouter, get},
};
use hyper::{Method, Uri};
use serde_json::json;

use crate::{listener::health::Readiness, status::Refusal};

/// A method that no path takes may be as long as its sender likes.
const METHOD_CHARACTERS_MAX: usize = 16;

/// Serves the paths.
pub(crate) fn router(readiness: Readiness) -> Router {
    let routes = routes().into_iter();
    let router = routes.fold(Router::new(), |router, (path, methods)| router.route(path, methods));
    router.method_not_allowed_fallback(refuse_method).with_state(readiness)
}

/// Every path with what serves it.
fn routes() -> [(&'static str, MethodRouter<Readiness>); 1] {
    [("/health", get(health))]
}

/// Whether a log would be taken now.
async fn health(State(readiness): State<Readiness>) -> Response {
    match readiness.check().await {
        Ok(()) => Json(json!({ "status": "ok" })).into_response(),
        Err(refusal) => refusal.into_problem(),
    }
}

/// Which methods the path takes stands in the header `Allow`, which the router adds.
async fn refuse_method(method: Method, uri: Uri) -> Response<Body> {
    let method: String = method.as_str().chars().take(METHOD_CHARACTERS_MAX).collect();
    let message = format!("{} is not served for {method}", uri.path());
    Refusal::MethodNotAllowed(message).into_problem()
}
