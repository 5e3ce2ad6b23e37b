//! Loki's push request in protobuf (`pkg/push/push.proto`), as far as it is read. Texts are bytes here:
//! senders in Go do not look whether they are UTF-8, and one that is none would take the whole push along.

use prost::Message;

#[derive(Clone, PartialEq, Message)]
pub(super) struct PushRequest {
    #[prost(message, repeated, tag = "1")]
    pub(super) streams: Vec<Stream>,
}

/// Entries with the same labels.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Stream {
    /// `{name="value", …}`.
    #[prost(bytes = "vec", tag = "1")]
    pub(super) labels: Vec<u8>,
    #[prost(message, repeated, tag = "2")]
    pub(super) entries: Vec<Entry>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Entry {
    #[prost(message, optional, tag = "1")]
    pub(super) timestamp: Option<prost_types::Timestamp>,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) line: Vec<u8>,
    #[prost(message, repeated, tag = "3")]
    pub(super) structured_metadata: Vec<LabelPair>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct LabelPair {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) name: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) value: Vec<u8>,
}
