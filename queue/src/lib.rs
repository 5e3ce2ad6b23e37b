//! Between server and processor: the queue port, the live feed and their implementations.
//!
//! # Contract of the queue
//!
//! - **Durability.** [`Publisher::publish`] returns `Ok` only once the batch can no longer be lost:
//!   in process, after storage has committed it. An `Err` says nothing about the batch: it may be
//!   stored or not, and the sender repeats it under the same id.
//! - **Delivery.** At least once. Storage makes it once by the batch's id.
//! - **Order.** None is promised.
//! - **Bounds.** Batches and bytes that wait are bounded, and of them what one tenant may have. A
//!   queue refuses at once, with [`PublishError::OverShare`] or [`PublishError::Full`]; nothing waits
//!   without bound. What one tenant alone may use leaves room for the next one.
//! - **Settlement.** Every [`Delivery`] is acknowledged, or requeued, exactly once; one that is
//!   dropped unsettled is requeued. A requeued batch is delivered again by a queue that keeps
//!   batches itself, though not before the time asked for; the in-process queue hands it back to the
//!   publisher, whose sender repeats it.
//! - **Cancelling.** Dropping a future of [`Consumer::receive`] loses no batch: the next call has it.
//!   Dropping one of [`Publisher::publish`] leaves open whether the batch is stored, as an error does.
//! - **Shutdown.** After [`Publisher::close`] publishing is refused. Where the consumer is in the same
//!   process, [`Consumer::receive`] hands out what waits and then returns none; one that consumes what
//!   other processes publish returns none once its own process is to stop.

mod conformance;
mod in_process;
mod live_feed;
mod partition;
mod rabbitmq;
mod room;

use std::time::Duration;

use async_trait::async_trait;
use logweir_core::{
    fairness::resource::{HeldShare, OverShare},
    identity::Tenant,
    record::Batch,
};

pub use self::{
    conformance::{KeepingQueue, check_keeping_queue, check_queue, check_waiting_queue},
    in_process::{InProcessQueue, QueueLimits},
    live_feed::{LiveFeed, LiveFeedEvent, LiveFeedReader},
    partition::{owned, partition_of},
    rabbitmq::{
        Committed, Partitions, RabbitConfig, RabbitError, consumer, follow_live_feed, publisher,
        relay_live_feed,
    },
};

/// Why a batch was not taken. All of them are transient: repeat the batch under the same id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The queue is at its bound of batches or bytes.
    #[error("the queue is full ({what}); send again later")]
    Full {
        /// Which bound, with its value.
        what: String,
        /// When to try again.
        retry_after: Duration,
    },
    /// The tenant has its share of the queue.
    #[error(transparent)]
    OverShare(#[from] OverShare),
    /// The batch was taken but could not be made durable.
    #[error("{cause}")]
    NotDurable {
        /// What stands in the way, for a person.
        cause: String,
        /// When to try again.
        retry_after: Duration,
    },
    /// The process is shutting down.
    #[error("the server is shutting down; send again to another, or to this one once it is back")]
    Closed,
}

impl PublishError {
    /// When to try again.
    pub fn retry_after(&self) -> Duration {
        match self {
            Self::Full { retry_after, .. }
            | Self::OverShare(OverShare { retry_after, .. })
            | Self::NotDurable { retry_after, .. } => *retry_after,
            // Another server may take it at once; this one needs longer to come back.
            Self::Closed => Duration::from_secs(1),
        }
    }
}

/// The end that the server holds. See the module's contract.
#[async_trait]
pub trait Publisher: Send + Sync {
    /// Resolves once the batch is durable, or cannot be taken now.
    async fn publish(&self, batch: Batch) -> Result<(), PublishError>;

    /// Whether a batch of a tenant that has nothing here would be taken now; what readiness reports.
    fn check_ready(&self) -> Result<(), PublishError>;

    /// Whether an ordinary batch of the tenant would be taken now; asked before it is read, for
    /// reading costs more than refusing.
    fn check_room(&self, tenant: &Tenant) -> Result<(), PublishError>;

    /// What the tenant has under way here.
    fn held_shares(&self, tenant: &Tenant) -> [HeldShare; 2];

    /// Whether the queue keeps batches itself, so that it takes them while storage is away.
    fn keeps_batches(&self) -> bool;

    /// Refuses batches from now on.
    fn close(&self);
}

/// The end that the processor holds. See the module's contract.
#[async_trait]
pub trait Consumer: Send {
    /// The next batch, waiting for one; none once no more will come. May be cancelled at any
    /// moment.
    async fn receive(&mut self) -> Option<Delivery>;

    /// The next batch if one waits now.
    fn try_receive(&mut self) -> Option<Delivery>;
}

/// A batch to be processed, and the duty to settle it.
pub struct Delivery {
    batch: Batch,
    delivery_count: u32,
    settlement: Settlement,
}

/// How an implementation learns what became of a delivery. Neither call may block.
pub trait Receipt: Send {
    /// It is stored.
    fn acknowledge(self: Box<Self>);
    /// It could not be stored now, and should not be tried again before `retry_after`.
    fn requeue(self: Box<Self>, cause: String, retry_after: Duration);
}

/// The duty to settle a delivery whose batch was taken out.
// None once it is settled: dropping it afterwards must not requeue a batch that is stored.
pub struct Settlement(Option<Box<dyn Receipt>>);

impl Delivery {
    /// A batch with its receipt.
    pub fn new(batch: Batch, receipt: Box<dyn Receipt>) -> Self {
        Self { batch, delivery_count: 0, settlement: Settlement(Some(receipt)) }
    }

    /// The same, handed out so many times before.
    pub fn with_delivery_count(self, delivery_count: u32) -> Self {
        Self { delivery_count, ..self }
    }

    /// How often the batch was handed out before and not settled, because whoever had it died or
    /// lost the queue, as far as this process does not know better. A requeue does not count: what
    /// stood in the way then was not the batch.
    pub fn delivery_count(&self) -> u32 {
        self.delivery_count
    }

    /// The batch.
    pub fn batch(&self) -> &Batch {
        &self.batch
    }

    /// Takes the batch out, leaving the duty to settle it.
    pub fn into_parts(self) -> (Batch, Settlement) {
        (self.batch, self.settlement)
    }
}

impl Settlement {
    /// Says that the batch is stored.
    pub fn acknowledge(mut self) {
        if let Some(receipt) = self.0.take() {
            receipt.acknowledge();
        }
    }

    /// Says that the batch could not be stored now, and why.
    pub fn requeue(mut self, cause: &str, retry_after: Duration) {
        if let Some(receipt) = self.0.take() {
            receipt.requeue(cause.to_owned(), retry_after);
        }
    }
}

impl Drop for Settlement {
    fn drop(&mut self) {
        // A processor that panics, or returns early, drops what it had in hand: without this the
        // batch would count against the bounds for ever and its sender would wait for nothing.
        if let Some(receipt) = self.0.take() {
            receipt.requeue("the processor gave the batch up".to_owned(), Duration::from_secs(1));
        }
    }
}
