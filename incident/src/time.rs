//! Durations and moments, which are nanoseconds since 1970-01-01 UTC.

use std::time::Duration;

/// A duration as a difference of moments; one of over 292 years is as long as can be told.
pub fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}
