//! `POST /_bulk` and what senders ask before it.
//!
//! What passes is answered for the whole request, by 429 and 503: all senders repeat it whole then, so
//! that the repeat is known by its content. Items of their own with 429 would come again in another
//! request, and Vector, for one, gives them up.

use std::{sync::Arc, time::Instant};

use axum::{
    Router,
    body::Body,
    extract::{Path, State},
    middleware::{Next, from_fn_with_state},
    response::IntoResponse,
    routing::{any, get, post},
};
use hyper::{
    Request, Response,
    header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderName, HeaderValue},
};
use logweir_core::runtime::clock::Clock;
use metrics::counter;
use serde_json::Value;

use super::{
    answer::{answer, error},
    bulk::Bulk,
    probes,
};
use crate::{
    auth::{Access, layer::encoding},
    listener::unknown_path,
    receiver::{self, Receiver},
    status::{self, BodyFormat, Refusal},
};

/// Clients refuse to talk to what does not say it ("product check", since 7.14).
const PRODUCT: (HeaderName, HeaderValue) =
    (HeaderName::from_static("x-elastic-product"), HeaderValue::from_static("Elasticsearch"));
/// What clients of version 8 call JSON; they are answered in it.
const COMPATIBLE: &str = "application/vnd.elasticsearch+";
/// Where templates, policies and pipelines are asked for and put.
const SET_UP: [&str; 8] = [
    "/_template/{*name}",
    "/_index_template/{*name}",
    "/_component_template/{*name}",
    "/_ilm/{*name}",
    "/_data_stream/{*name}",
    "/_ingest/{*name}",
    "/_alias/{*name}",
    "/_nodes/{*name}",
];

#[derive(Clone)]
struct BulkReceiver {
    receiver: Arc<Receiver>,
    clock: Clock,
}

/// Serves the paths.
pub(crate) fn router(receiver: Arc<Receiver>, clock: Clock) -> Router {
    let receiver = BulkReceiver { receiver, clock };
    let identify = || from_fn_with_state(receiver.clone(), identified);
    let probes = Router::new()
        .route("/_license", get(|| async { axum::Json(probes::license()) }))
        .route("/_xpack", get(|| async { axum::Json(probes::license()) }))
        .route("/_cluster/health", get(|| async { axum::Json(probes::cluster_health()) }));
    let set_up = SET_UP.into_iter();
    let probes = set_up.fold(probes, |router, path| router.route(path, any(probes::set_up)));
    let root = get(|| async { axum::Json(probes::root()) }).layer(identify());
    let bulk = || post(bulk).put(bulk);
    Router::new()
        .route("/_bulk", bulk())
        .route("/{index}/_bulk", bulk())
        .with_state(receiver.clone())
        .merge(probes.layer(identify()))
        // What is sent there was not meant for Elasticsearch.
        .route("/", root.fallback(unknown_path::refuse))
}

/// A probe is answered to who may send: a token that is not valid is told before anything waits.
async fn identified(
    State(BulkReceiver { receiver, .. }): State<BulkReceiver>,
    request: Request<Body>,
    next: Next,
) -> Response<Body> {
    match receiver.auth.identify(request.headers(), request.extensions(), Access::Ingest) {
        Ok(_) => as_elasticsearch(next.run(request).await),
        Err(refusal) => refused(refusal),
    }
}

async fn bulk(
    State(receiver): State<BulkReceiver>,
    index: Option<Path<String>>,
    request: Request<Body>,
) -> Response<Body> {
    match take(&receiver, index.map(|Path(index)| index), request).await {
        Ok(response) => response,
        Err(refusal) => refused(refusal),
    }
}

async fn take(
    to: &BulkReceiver,
    index: Option<String>,
    request: Request<Body>,
) -> Result<Response<Body>, Refusal> {
    let (BulkReceiver { receiver, clock }, began) = (to, Instant::now());
    let (head, body) = request.into_parts();
    let caller = receiver.auth.identify(&head.headers, &head.extensions, Access::Ingest)?;
    let encoding = encoding(head.headers.get(CONTENT_ENCODING))?;
    let bulk = Bulk::new(index, clock())?;
    let request = receiver::Request::unnamed(bulk, encoding, body);
    let received = receiver.take(&caller, request, rand::random()).await?;
    let took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    let said = answer(received.kept, &received.outcome, took_ms);
    drop(received.charge);
    let body = tonic::body::Body::new(Body::from(said.to_string()));
    let body = receiver.auth.unsent.charged(&caller.tenant, body);
    let mut response = Response::new(Body::new(body));
    let is_compatible = is_compatible(head.headers.get(CONTENT_TYPE));
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(media_type(is_compatible)));
    Ok(as_elasticsearch(response))
}

fn is_compatible(content_type: Option<&HeaderValue>) -> bool {
    content_type.is_some_and(|sent| sent.as_bytes().starts_with(COMPATIBLE.as_bytes()))
}

const fn media_type(is_compatible: bool) -> &'static str {
    if is_compatible {
        "application/vnd.elasticsearch+json;compatible-with=8"
    } else {
        "application/json"
    }
}

fn refused(refusal: Refusal) -> Response<Body> {
    let code = status::name(refusal.code());
    counter!("logweir_requests_refused_total", "code" => code).increment(1);
    let said: Value = error(&refusal);
    // With the headers that every refusal has, such as the time to wait.
    let mut response = refusal.into_http(BodyFormat::Json);
    *response.body_mut() = Body::from(said.to_string());
    as_elasticsearch(response.into_response())
}

fn as_elasticsearch(mut response: Response<Body>) -> Response<Body> {
    let (name, value) = PRODUCT;
    response.headers_mut().insert(name, value);
    response
}
