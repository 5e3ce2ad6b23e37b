//! The receiver of Loki's push protocol, which Promtail, Alloy, Fluent Bit and Vector speak.
//!
//! `push` is the message in protobuf, `json` the same in JSON, `labels` reads the text that protobuf has
//! labels in; both give a `stream`. `translate` says what becomes of a stream: its entries are logs, with the labels for
//! attributes. `http` is the way in. Everything else is what every receiver has in common.

pub(crate) mod http;
mod json;
mod labels;
mod push;
mod stream;
mod translate;
