//! The one place that reads the wall clock. Everything else takes the time, or a [`Clock`], as an
//! argument.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use crate::timestamp::Timestamp;

/// Tells the time.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// The machine's clock.
#[allow(clippy::disallowed_methods, reason = "the one place that reads the clock")]
pub fn now() -> Timestamp {
    // A clock before 1970 counts as 1970: a machine whose clock was never set still takes logs.
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::EPOCH + since
}

/// The machine's clock as an argument.
pub fn system_clock() -> Clock {
    Arc::new(now)
}
