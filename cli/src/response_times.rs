//! The times of responses, which are nanoseconds since 1970, as text. Pure.

use logweir_core::timestamp::Timestamp;

/// For programs: `2026-01-02T03:04:05.678901234Z`.
pub(crate) fn rfc3339(unix_nano: i64) -> String {
    Timestamp::from_unix_nanos(unix_nano).to_rfc3339()
}

/// For people, to the millisecond; a dash for 0, which means none.
pub(crate) fn shown(unix_nano: i64) -> String {
    Timestamp::from_unix_nanos(unix_nano).shown()
}

/// For people, to the hour; a dash for 0, which means none.
pub(crate) fn shown_hour(unix_nano: i64) -> String {
    Timestamp::from_unix_nanos(unix_nano).shown_hour()
}
