//! The receiver of OpenTelemetry's protocol: logs over gRPC, and over HTTP in protobuf and JSON.
//!
//! `format` says what forms a request has; `translate` and `value` say what becomes of each field, as
//! pure functions; `json` reads what OTLP writes in JSON. `grpc` and `http` are the two ways in. Everything else is what every receiver has in common.

mod format;
pub(crate) mod grpc;
pub(crate) mod http;
mod json;
mod translate;
mod value;
