//! Batches, honest and other.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use logweir_proto::v1::{
    Attribute, Batch, IngestRequest, Level, LogRecord, Resource, attribute::Value,
};
use uuid::Uuid;

/// Nanoseconds since 1970-01-01 UTC.
#[allow(clippy::disallowed_methods, reason = "this is the edge: nothing here is replayed")]
pub(super) fn now_unix_nano() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    u64::try_from(since.expect("it is after 1970").as_nanos()).expect("it is before 2554")
}

/// A time in the past.
pub(super) fn before_now(age: Duration) -> u64 {
    now_unix_nano() - age.as_nanos() as u64
}

/// A request with a new id.
pub(super) fn request(service: &str, records: Vec<LogRecord>) -> IngestRequest {
    IngestRequest { batch: Some(batch(service, records)) }
}

pub(super) fn batch(service: &str, records: Vec<LogRecord>) -> Batch {
    let batch_id = Uuid::now_v7().as_bytes().to_vec();
    let resource = Resource { service: service.to_owned(), ..Resource::default() };
    Batch { batch_id, producer: None, resource: Some(resource), records }
}

/// A log of the moment at which it is received.
pub(super) fn log(message: String) -> LogRecord {
    LogRecord { level: Level::Info.into(), message, ..LogRecord::default() }
}

pub(super) fn attribute(key: &str, value: i64) -> Attribute {
    Attribute { key: key.to_owned(), value: Some(Value::IntValue(value)) }
}
