//! The ordinary way to ask: gRPC with a token, and what became of it in one word.

use std::time::Duration;

use tonic::{
    Code, Request, Status,
    metadata::{Ascii, MetadataValue},
    transport::{Channel, Endpoint},
};
use tonic_types::StatusExt as _;

/// Longer than anything may take; what takes longer has failed.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// Answers are bounded by the server.
pub(super) const ANSWER_BYTES_MAX: usize = 64 << 20;

/// A connection of its own, which is made when it is first used.
pub(super) fn channel(endpoint: &str) -> Channel {
    let endpoint = Endpoint::from_shared(endpoint.to_owned()).expect("it is an address");
    endpoint.timeout(PATIENCE).connect_timeout(PATIENCE).connect_lazy()
}

/// The same for streams, which go on for as long as they like.
pub(super) fn stream_channel(endpoint: &str) -> Channel {
    let endpoint = Endpoint::from_shared(endpoint.to_owned()).expect("it is an address");
    endpoint.connect_timeout(PATIENCE).connect_lazy()
}

/// A request that shows a token.
pub(super) fn request<T>(message: T, token: &str) -> Request<T> {
    let value: MetadataValue<Ascii> = format!("Bearer {token}").parse().expect("a token is ASCII");
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", value);
    request
}

/// Why a call failed: the server's own word if it has one, else the code.
pub(super) fn reason(status: &Status) -> String {
    match status.get_details_error_info() {
        Some(info) => info.reason,
        None => code_name(status.code()),
    }
}

/// Such as `ResourceExhausted`.
pub(super) fn code_name(code: Code) -> String {
    format!("{code:?}")
}
