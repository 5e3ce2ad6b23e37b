//! The one place that reads the wall clock. Everything else takes the time, or a [`Clock`], as an
//! argument.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

/// Tells the time in nanoseconds since 1970-01-01 UTC.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// The machine's clock.
#[allow(clippy::disallowed_methods, reason = "the one place that reads the clock")]
pub fn now_unix_nano() -> i64 {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_nanos()).unwrap_or(i64::MAX),
        Err(_) => 0,
    }
}

/// The machine's clock as an argument.
pub fn system_clock() -> Clock {
    Arc::new(now_unix_nano)
}
