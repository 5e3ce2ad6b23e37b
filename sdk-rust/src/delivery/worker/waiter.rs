//! Who waits for a flush or the shutdown.

use std::time::Instant;

use crate::delivery::shared::Reply;

/// A call of flush or shutdown.
pub(super) struct Waiter {
    /// Logs before this position of the queue are meant.
    pub(super) position: u64,
    /// Batches below this mark are meant; none until the last log meant is in a batch.
    pub(super) mark: Option<u64>,
    /// The server knows, or was told, the account.
    pub(super) account_told: bool,
    pub(super) closes: bool,
    pub(super) deadline: Instant,
    pub(super) reply: Reply,
}
