//! The receiver of OpenTelemetry's protocol: logs over gRPC, and over HTTP in protobuf and JSON.
//!
//! `format` says what forms a request has; `translate` and `value` say what becomes of each field, as
//! pure functions; `json` reads what OTLP writes in JSON; `repeat` says by what of a log a repeat can be
//! told. `grpc` and `http` are the two ways in. Everything else is what every receiver has in common.

mod format;
pub(crate) mod grpc;
pub(crate) mod http;
mod json;
mod repeat;
mod translate;
mod value;
