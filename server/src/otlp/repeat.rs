//! Whether a repeat of a request can be told from new logs with the same content. Pure.

use opentelemetry_proto::tonic::{
    collector::logs::v1::ExportLogsServiceRequest as Request, logs::v1::LogRecord,
};
use prost::Message;
use sha2::{Digest, Sha256};

const NANOS_PER_SECOND: u64 = 1_000_000_000;
const YEAR_2000_UNIX_NANO: u64 = 946_684_800 * NANOS_PER_SECOND;

/// When a log happened as far as it says: the event's own time, else that of its observation; 0 for
/// neither.
pub(super) fn time_unix_nano(log: &LogRecord) -> u64 {
    if log.time_unix_nano == 0 { log.observed_time_unix_nano } else { log.time_unix_nano }
}

/// Whether a time is finer than a second. One before 2000 is likely in another unit.
const fn is_fine_time(unix_nano: u64) -> bool {
    unix_nano >= YEAR_2000_UNIX_NANO && !unix_nano.is_multiple_of(NANOS_PER_SECOND)
}

/// Whether the same bytes again can only be the same logs again. Each log must have a time; and one of
/// them must be finer than a second, or two logs must differ: a program that says one thing twice a
/// second, with times in whole seconds, means two logs.
pub(super) fn can_be_told(request: &Request) -> bool {
    let mut logs = logs(request).peekable();
    let Some(first) = logs.peek().copied() else { return false };
    let (mut is_fine, mut differs) = (false, false);
    // As bytes, for a number that is none (NaN) equals nothing.
    let (first, mut other) = (first.encode_to_vec(), Vec::new());
    for log in logs {
        let time = time_unix_nano(log);
        if time == 0 {
            return false;
        }
        is_fine = is_fine
            || is_fine_time(log.time_unix_nano)
            || is_fine_time(log.observed_time_unix_nano);
        if !is_fine && !differs {
            other.clear();
            log.encode_raw(&mut other);
            differs = other != first;
        }
    }
    is_fine || differs
}

fn logs(request: &Request) -> impl Iterator<Item = &LogRecord> {
    let scopes = request.resource_logs.iter().flat_map(|resource| &resource.scope_logs);
    scopes.flat_map(|scope| &scope.log_records)
}

/// What names a request by its content.
pub(super) fn content_hash(message: &[u8]) -> [u8; 16] {
    let hash: [u8; 32] = Sha256::digest(message).into();
    let mut half = [0; 16];
    half.copy_from_slice(&hash[..16]);
    half
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::{
        common::v1::{AnyValue, any_value},
        logs::v1::{ResourceLogs, ScopeLogs},
    };

    use super::*;

    fn log(time_unix_nano: u64, observed_time_unix_nano: u64, text: &str) -> LogRecord {
        let event_name = text.to_owned();
        LogRecord { time_unix_nano, observed_time_unix_nano, event_name, ..LogRecord::default() }
    }

    fn request(logs: &[LogRecord]) -> Request {
        let scope =
            |log: &LogRecord| ScopeLogs { log_records: vec![log.clone()], ..ScopeLogs::default() };
        let scope_logs = logs.iter().map(scope).collect();
        Request { resource_logs: vec![ResourceLogs { scope_logs, ..ResourceLogs::default() }] }
    }

    #[test]
    fn only_what_can_be_no_other_log_is_a_repeat() {
        const SECOND: u64 = 1_700_000_000 * NANOS_PER_SECOND;
        let nan = AnyValue { value: Some(any_value::Value::DoubleValue(f64::NAN)) };
        for (logs, expected) in [
            (&[][..], false),
            (&[log(0, 0, "a")], false),
            (&[log(SECOND, 0, "a")], false),
            (&[log(0, SECOND, "a")], false),
            (&[log(SECOND + 1, 0, "a")], true),
            (&[log(0, SECOND + 1, "a")], true),
            (&[log(SECOND, SECOND + 1, "a")], true),
            // Seconds where nanoseconds belong.
            (&[log(1_700_000_001, 0, "a")], false),
            (&[log(SECOND, 0, "a"), log(SECOND, 0, "a")], false),
            (&[log(SECOND, 0, "a"), log(SECOND, 0, "b")], true),
            (&[log(SECOND, 0, "a"), log(SECOND + NANOS_PER_SECOND, 0, "a")], true),
            (&[log(SECOND, 0, "a"), log(SECOND + 1, 0, "a")], true),
            (&[log(SECOND + 1, 0, "a"), log(0, 0, "b")], false),
            (&[log(SECOND, 0, "a"), log(SECOND, 0, "b"), log(0, 0, "c")], false),
            (&[LogRecord { body: Some(nan.clone()), ..log(SECOND, 0, "a") }], false),
        ] {
            assert_eq!(can_be_told(&request(logs)), expected, "{logs:?}");
        }
    }

    #[test]
    fn another_byte_is_another_request() {
        assert_eq!(content_hash(b"a"), content_hash(b"a"));
        assert_ne!(content_hash(b"a"), content_hash(b"b"));
    }
}
