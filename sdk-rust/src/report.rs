//! What became of a program's logs: [`Stats`] since the start, [`FlushReport`] of one flush.

use crate::error::DropCounts;

/// Counts since the start. When idle, `emitted = sent + rejected + dropped + spooled`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Logs handed over.
    pub emitted: u64,
    /// Logs that the server has for good.
    pub sent: u64,
    /// Logs that the server rejected.
    pub rejected: u64,
    /// Logs given up, by reason.
    pub dropped: DropCounts,
    /// Logs waiting in memory for a batch.
    pub queued: u64,
    /// Logs in batches that are under way.
    pub in_flight: u64,
    /// Logs in batches in the spool that the server has not responded to.
    pub spooled: u64,
    /// Logs of dead processes, taken over and still to be sent.
    pub adopted_waiting: u64,
    /// Logs of dead processes that the server has for good.
    pub adopted_sent: u64,
    /// Logs of dead processes that were refused or too old.
    pub adopted_dropped: u64,
    /// Times that the spool could not be written or read.
    pub spool_failures: u64,
    /// Damaged places found in the spool.
    pub spool_damaged: u64,
    /// Logs handed over after `shutdown`; they are in no other count.
    pub emitted_after_shutdown: u64,
}

/// What became of logs, by a flush.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct FlushReport {
    /// Logs that the server has for good, since the start.
    pub sent: u64,
    /// Logs that the server rejected, since the start.
    pub rejected: u64,
    /// Logs given up, by reason, since the start.
    pub dropped: DropCounts,
    /// Logs handed over before the call that are in the spool, without a response so far.
    pub spooled: u64,
    /// Logs handed over before the call whose fate is open.
    pub pending: u64,
}

impl FlushReport {
    /// Whether the fate of every log handed over before the call is known.
    pub fn is_complete(&self) -> bool {
        // What is in the spool survives, but the server does not have it.
        self.spooled == 0 && self.pending == 0
    }
}
