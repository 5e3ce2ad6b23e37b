//! What of a log tells a repeat of a request from new logs with the same content. Pure.

use opentelemetry_proto::tonic::{
    collector::logs::v1::ExportLogsServiceRequest as Request, logs::v1::LogRecord,
};
use prost::Message;

use crate::receiver::repeat::Evidence;

/// When a log happened as far as it says: the event's own time, else that of its observation; 0 for
/// neither.
pub(super) fn time_unix_nano(log: &LogRecord) -> u64 {
    if log.time_unix_nano == 0 { log.observed_time_unix_nano } else { log.time_unix_nano }
}

/// Whether the same request again can only be the same logs again.
pub(super) fn can_be_told(request: &Request) -> bool {
    let mut evidence = Evidence::default();
    let scopes = request.resource_logs.iter().flat_map(|resource| &resource.scope_logs);
    for log in scopes.flat_map(|scope| &scope.log_records) {
        evidence.add(&[log.time_unix_nano, log.observed_time_unix_nano], |out| log.encode_raw(out));
    }
    evidence.is_enough()
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::{
        common::v1::{AnyValue, any_value},
        logs::v1::{ResourceLogs, ScopeLogs},
    };

    use super::*;

    #[test]
    fn what_the_logs_say_of_their_times_and_content_is_looked_at() {
        const TIME: u64 = 1_700_000_000_000_000_000;
        let nan = AnyValue { value: Some(any_value::Value::DoubleValue(f64::NAN)) };
        let log = LogRecord { time_unix_nano: TIME, body: Some(nan), ..LogRecord::default() };
        let fine = LogRecord { observed_time_unix_nano: TIME + 1, ..log.clone() };
        for (logs, expected) in [
            (vec![log.clone()], false),
            (vec![log.clone(), log.clone()], false),
            (vec![log.clone(), LogRecord { flags: 1, ..log.clone() }], true),
            (vec![log, fine], true),
        ] {
            let scope = |log| ScopeLogs { log_records: vec![log], ..ScopeLogs::default() };
            let scope_logs = logs.into_iter().map(scope).collect();
            let resource = ResourceLogs { scope_logs, ..ResourceLogs::default() };
            assert_eq!(can_be_told(&Request { resource_logs: vec![resource] }), expected);
        }
    }
}
