//! Every bound of the contract, with its unit and its reason. Configuration may change those in
//! [`Limits`]; the constants are part of formats and names.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Longest name of a tenant or service, bytes: it is in every index key.
pub const SERVICE_BYTES_MAX: usize = 128;
/// Longest instance, environment, version, region, host or logger, bytes.
pub const RESOURCE_FIELD_BYTES_MAX: usize = 256;
/// Longest name of a client library or its version, bytes.
pub const SDK_NAME_BYTES_MAX: usize = 64;
/// Most reasons in one drop account.
pub const DROP_REASONS_MAX: usize = 64;
/// An event time this far ahead of the server's clock is impossible: clocks differ, but not more.
pub const FUTURE_MAX: Duration = Duration::from_secs(10 * 60);
/// A log this much older than its receipt is history: stored and counted, but it trains no live
/// baseline and opens no incident.
pub const HISTORY_AGE: Duration = Duration::from_secs(10 * 60);
/// How long a producer's account is kept after its last batch; an older batch is `expired`.
pub const PRODUCER_RETENTION_DAYS: u32 = 90;
/// [`PRODUCER_RETENTION_DAYS`] as a duration.
pub const PRODUCER_RETENTION: Duration =
    Duration::from_secs(PRODUCER_RETENTION_DAYS as u64 * 86_400);
/// The least time for which the ledger remembers a batch by its id; an older batch that names no
/// producer, and so is remembered by nothing else, is `expired`.
pub const LEDGER_HOURS_MIN: u32 = 48;

/// What `request_bytes_max` may be set to at most: half of what a message of the broker may unfold
/// to, since a batch takes more there than in its request. A larger one would be acknowledged and
/// then be unreadable.
pub const REQUEST_BYTES_CEILING: usize = 32 << 20;

/// What one request may carry.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// A native request, bytes after decompression.
    pub request_bytes_max: usize,
    /// A request of OTLP, or of another receiver over HTTP, bytes after decompression; at most
    /// `in_flight_bytes_max`.
    pub otlp_request_bytes_max: usize,
    /// Logs in a batch.
    pub batch_records_max: usize,
    /// A message, bytes.
    pub message_bytes_max: usize,
    /// Attributes of a log.
    pub attributes_max: usize,
    /// The name of an attribute, bytes.
    pub attribute_key_bytes_max: usize,
    /// The value of an attribute, bytes.
    pub attribute_value_bytes_max: usize,
    /// The requests of one tenant that are being read or wait for their answer, bytes after
    /// decompression. All tenants together have a quarter more, and each the less the more of them
    /// send.
    pub in_flight_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        // 4 MiB is what gRPC servers take unless told otherwise, so that no proxy on the way takes
        // less. OTLP recommends 64 MiB (OTLP 1.11, "OTLP/gRPC: Request size"), and 128 attributes are
        // OpenTelemetry's default. In flight fit 32 of the largest native ones.
        Self {
            request_bytes_max: 4 << 20,
            otlp_request_bytes_max: 64 << 20,
            batch_records_max: 10_000,
            message_bytes_max: 64 << 10,
            attributes_max: 128,
            attribute_key_bytes_max: 256,
            attribute_value_bytes_max: 16 << 10,
            in_flight_bytes_max: 128 << 20,
        }
    }
}
