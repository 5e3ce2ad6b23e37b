//! From the queue to the server: logs are put into batches, kept on disk if there is a spool, sent,
//! and sent again until the server has them or has refused them for good.

pub(crate) mod batch;
pub(crate) mod queue;
pub(crate) mod retry;
pub(crate) mod shared;
pub(crate) mod spool;
pub(crate) mod transport;
pub(crate) mod worker;
