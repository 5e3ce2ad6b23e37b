//! The JSON API: each path is a translation onto what gRPC serves too, with the same checks, limits and
//! figures. Whatever is refused is answered by problem details (RFC 9457).
//!
//! `api` is what the paths work with, `parameters` reads what is asked, `read` has the paths that read, `websocket` is the tail, `openapi`
//! the description of it all. A path is one line of [`routes`]; what all have in common is here.

mod api;
mod openapi;
mod parameters;
mod read;
mod websocket;

use std::sync::Arc;

use axum::{
    Json, Router,
    body::Body,
    extract::State,
    middleware::map_response,
    response::Response,
    routing::{MethodRouter, get},
};
use hyper::{
    Method, Request, Uri,
    header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, X_CONTENT_TYPE_OPTIONS},
};
use metrics::counter;
use serde_json::json;

pub(crate) use self::api::Api;
use self::{
    api::JSON,
    parameters::Parameters,
    read::{READS, Read},
};
use crate::{
    auth::Access,
    status::{self, Refusal},
};

/// A method that no path takes may be as long as its sender likes.
const METHOD_CHARACTERS_MAX: usize = 16;
/// Logs are neither kept by a cache nor guessed to be anything but JSON.
const PROTECTION: [(HeaderName, HeaderValue); 2] = [
    (CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
];

/// Serves the paths.
pub(crate) fn router(api: Arc<Api>) -> Router {
    let routes = routes().into_iter();
    let router = routes.fold(Router::new(), |router, (path, methods)| router.route(path, methods));
    let router = router.method_not_allowed_fallback(refuse_method);
    router.layer(map_response(protected)).with_state(api)
}

/// Every path with what serves it.
fn routes() -> Vec<(&'static str, MethodRouter<Arc<Api>>)> {
    let serve = |read: &'static Read| {
        get(move |State(api): State<Arc<Api>>, request: Request<Body>| async move {
            self::read(&api, read, request).await.unwrap_or_else(refuse)
        })
    };
    let reads = READS.iter().map(|read| (read.path, serve(read)));
    let others = [
        ("/health", get(|| async { Json(json!({ "status": "ok" })) })),
        (openapi::PATH, get(|| async { ([(CONTENT_TYPE, JSON)], openapi::DOCUMENT) })),
        (websocket::PATH, get(tail)),
    ];
    reads.chain(others).collect()
}

async fn read(api: &Api, read: &Read, request: Request<Body>) -> Result<Response, Refusal> {
    let (head, _) = request.into_parts();
    let caller = api.auth.identify(&head.headers, &head.extensions, Access::Query)?;
    let parameters = Parameters::read(head.uri.query(), read.parameters)?;
    let answer = (read.answer)(api, &caller, &parameters).await;
    api.ok(&caller.tenant, answer.map_err(parameters::named_here)?)
}

async fn tail(State(api): State<Arc<Api>>, request: Request<Body>) -> Response {
    websocket::open(&api, request).await.unwrap_or_else(refuse)
}

fn refuse(refusal: Refusal) -> Response {
    let code = status::name(refusal.code());
    counter!("logweir_requests_refused_total", "code" => code).increment(1);
    refusal.into_problem()
}

/// Which methods the path takes stands in the header `Allow`, which the router adds.
async fn refuse_method(method: Method, uri: Uri) -> Response {
    let method: String = method.as_str().chars().take(METHOD_CHARACTERS_MAX).collect();
    refuse(Refusal::MethodNotAllowed(format!("{} is not served for {method}", uri.path())))
}

async fn protected(mut response: Response) -> Response {
    response.headers_mut().extend(PROTECTION);
    response
}
