//! What waits for channels: the port ([`Outbox`]) through which a worker sees it, and the port's
//! implementation in storage.

pub(crate) mod new_delivery;
mod port;
pub(crate) mod storage;

pub use self::port::{
    Change, DELIVERIES_MAX, Finished, GIVE_UP_AFTER, Outbox, OutboxError, Outcome, Queue, Started,
};
