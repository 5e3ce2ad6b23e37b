//! What senders ask before they send: whether this is Elasticsearch, of which version and licence, and
//! whether it has their templates. There is nothing to set up here, so that all of it is there already.

use axum::{Json, http::Method, response::IntoResponse, response::Response};
use serde_json::{Value, json};

/// The version whose bulk requests these are. Logstash and the client libraries send to the major version
/// that they have or the one before.
const VERSION: &str = "8.19.0";

/// `GET /`.
pub(super) fn root() -> Value {
    json!({
        "name": "logweir",
        "cluster_name": "logweir",
        "cluster_uuid": "logweir",
        "version": {
            "number": VERSION,
            // Asked for by Logstash and Beats: without it they take it for a fork.
            "build_flavor": "default",
            "build_type": "tar",
            "lucene_version": "9.12.0",
            "minimum_wire_compatibility_version": "7.17.0",
            "minimum_index_compatibility_version": "7.0.0",
        },
        "tagline": "You Know, for Search",
    })
}

/// `GET /_license`, and `GET /_xpack` of older senders.
pub(super) fn license() -> Value {
    json!({ "license": { "status": "active", "uid": "logweir", "type": "basic", "mode": "basic" } })
}

/// `GET /_cluster/health`, by which Vector tells whether to begin.
pub(super) fn cluster_health() -> Value {
    json!({ "cluster_name": "logweir", "status": "green", "timed_out": false, "number_of_nodes": 1 })
}

/// Templates, policies and pipelines: whatever is asked for is there, and whatever is put needs nothing.
pub(super) async fn set_up(method: Method) -> Response {
    match method {
        Method::GET | Method::HEAD => Json(json!({})).into_response(),
        _ => Json(json!({ "acknowledged": true })).into_response(),
    }
}
