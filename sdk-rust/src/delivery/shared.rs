//! What the program's threads and the sending thread have in common: the queue, the account and the
//! calls of flush and shutdown.

use std::{
    sync::{Arc, atomic::AtomicBool},
    time::Instant,
};

use tokio::sync::Notify;

use super::queue::Queue;
use crate::{lock::Mutex, report::FlushReport};

/// What the program's threads and the sending thread share.
pub(crate) struct Shared {
    pub(crate) queue: Mutex<Queue>,
    pub(crate) progress: Mutex<Progress>,
    /// Wakes the sending thread, or ends its next sleep if it is awake.
    pub(crate) wake: Notify,
    /// Batches are held because the server refuses the token.
    pub(crate) token_refused: Arc<AtomicBool>,
    /// There is a spool, and the last write to it succeeded.
    pub(crate) spool_works: Arc<AtomicBool>,
    /// The report of the shutdown; none until that is over.
    pub(crate) last_report: Mutex<Option<FlushReport>>,
}

/// What the sending thread has done so far.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Progress {
    pub(crate) sent: u64,
    pub(crate) rejected: u64,
    /// Logs in batches without a response that are not in the spool.
    pub(crate) in_memory: u64,
    /// Logs in own batches in the spool, without a response so far.
    pub(crate) spooled: u64,
    pub(crate) adopted_waiting: u64,
    pub(crate) adopted_sent: u64,
    pub(crate) adopted_dropped: u64,
    pub(crate) spool_failures: u64,
    pub(crate) spool_damaged: u64,
}

/// Replies to a call of flush or shutdown.
pub(crate) type Reply = Box<dyn FnOnce(FlushReport) + Send>;

/// A call from the program.
pub(crate) enum Command {
    Flush { deadline: Instant, reply: Reply },
    Shutdown { deadline: Instant, reply: Reply },
}
