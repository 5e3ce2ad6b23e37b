//! Who waits for a flush or the shutdown.

use std::time::Instant;

use crate::delivery::shared::Reply;

/// A call of flush or shutdown.
pub(super) struct Waiter {
    /// It waits for the logs before this position of the queue.
    pub(super) position: u64,
    /// It waits for the batches with tags below this; none while one of its logs is still in the
    /// queue.
    pub(super) mark: Option<u64>,
    /// The account was sent after its logs, or the server knew it.
    pub(super) account_told: bool,
    /// It is a shutdown.
    pub(super) closes: bool,
    pub(super) deadline: Instant,
    pub(super) reply: Reply,
}
