//! The receiver of OpenTelemetry's protocol: logs over gRPC, and over HTTP in protobuf and JSON.
//!
//! `receiver` takes a request whole and translates it where it holds no other request up; `translate` and
//! `value` say what becomes of each field, as pure functions; `json` reads what OTLP writes in JSON;
//! `repeat` says whether a repeat of a request can be told. `grpc` and `http` are the two ways in.
//! From `Ingest` on a log goes the way of every other.

pub(crate) mod grpc;
pub(crate) mod http;
mod json;
mod receiver;
mod repeat;
mod translate;
mod value;

pub(crate) use self::receiver::Receiver;
