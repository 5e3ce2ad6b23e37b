//! The queue of the standalone process: bounded, in memory, and durable because publishing
//! resolves only when storage has committed.
//!
//! A batch counts against both bounds from its publication until it is settled, so the bounds hold
//! for everything that waits for a commit, wherever in the processor it is. Nothing is kept over a
//! restart: a batch that was not answered is its sender's to repeat.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use logweir_core::{
    fairness::{queue::FairQueue, resource::HeldShare},
    identity::Tenant,
    record::Batch,
};
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use crate::{
    Consumer, Delivery, PublishError, Publisher, Receipt,
    room::{Place, Room},
};

/// What a turn of a tenant earns, bytes: a few hundred ordinary logs. Scoring them takes a few
/// milliseconds, and so long another tenant's next batch waits for its turn.
const TURN_BYTES: u64 = 256 << 10;
const GAUGES: [&str; 2] = ["logweir_queue_batches", "logweir_queue_bytes"];

/// What one tenant alone may have waiting for its commit. A fifth of all room is for others.
#[derive(Debug, Clone, Copy)]
pub struct QueueLimits {
    /// Batches that were published and not settled.
    pub batches_max: usize,
    /// Memory of the batches, bytes.
    pub bytes_max: usize,
}

impl Default for QueueLimits {
    fn default() -> Self {
        // Bytes are what usually fills it; the number bounds how many callers wait with tiny ones.
        Self { batches_max: 8_192, bytes_max: 64 << 20 }
    }
}

/// Makes the two ends of an in-process queue.
pub struct InProcessQueue;

impl InProcessQueue {
    /// The publisher's and the consumer's end.
    pub fn open(limits: QueueLimits) -> (Arc<dyn Publisher>, Box<dyn Consumer>) {
        let shared = Arc::new(Shared {
            room: Room::new(limits.batches_max, limits.bytes_max, GAUGES),
            state: Mutex::new(State::default()),
            arrived: Notify::new(),
        });
        (Arc::new(InProcessPublisher(Arc::clone(&shared))), Box::new(InProcessConsumer(shared)))
    }
}

struct Shared {
    room: Room,
    state: Mutex<State>,
    arrived: Notify,
}

struct State {
    waiting: FairQueue<Delivery>,
    closed: bool,
    consumer_gone: bool,
}

impl Default for State {
    fn default() -> Self {
        Self { waiting: FairQueue::new(TURN_BYTES), closed: false, consumer_gone: false }
    }
}

impl State {
    fn check_open(&self) -> Result<(), PublishError> {
        if self.closed || self.consumer_gone { Err(PublishError::Closed) } else { Ok(()) }
    }
}

struct InProcessPublisher(Arc<Shared>);

#[async_trait]
impl Publisher for InProcessPublisher {
    async fn publish(&self, batch: Batch) -> Result<(), PublishError> {
        let (tenant, bytes) = (batch.tenant.clone(), batch.heap_bytes());
        let (answer, answered) = oneshot::channel();
        {
            // Under one lock with the push: a batch put behind a consumer that has gone would wait
            // for nobody. It is let go before the answer is awaited.
            let mut state = self.0.state.lock();
            state.check_open()?;
            let place = self.0.room.take(&tenant, bytes)?;
            let receipt = InProcessReceipt { place, answer };
            state.waiting.push(tenant, bytes as u64, Delivery::new(batch, Box::new(receipt)));
        }
        self.0.arrived.notify_one();
        answered.await.unwrap_or(Err(PublishError::Closed))
    }

    fn check_ready(&self) -> Result<(), PublishError> {
        self.0.state.lock().check_open()?;
        self.0.room.check_newcomer()
    }

    fn check_room(&self, tenant: &Tenant) -> Result<(), PublishError> {
        self.0.state.lock().check_open()?;
        self.0.room.check(tenant)
    }

    fn held_shares(&self, tenant: &Tenant) -> [HeldShare; 2] {
        self.0.room.held_shares(tenant)
    }

    fn keeps_batches(&self) -> bool {
        false
    }

    fn close(&self) {
        self.0.state.lock().closed = true;
        self.0.arrived.notify_one();
    }
}

struct InProcessReceipt {
    place: Place,
    answer: oneshot::Sender<Result<(), PublishError>>,
}

impl InProcessReceipt {
    fn settle(self, result: Result<(), PublishError>) {
        // Before the answer: whoever has it finds the room.
        drop(self.place);
        // A publisher that gave up waiting hears nothing; its sender repeats the batch.
        drop(self.answer.send(result));
    }
}

impl Receipt for InProcessReceipt {
    fn acknowledge(self: Box<Self>) {
        self.settle(Ok(()));
    }

    fn requeue(self: Box<Self>, cause: String, retry_after: Duration) {
        self.settle(Err(PublishError::NotDurable { cause, retry_after }));
    }
}

struct InProcessConsumer(Arc<Shared>);

#[async_trait]
impl Consumer for InProcessConsumer {
    async fn receive(&mut self) -> Option<Delivery> {
        loop {
            // What arrives after the look leaves its notification behind and ends the wait below.
            let arrived = self.0.arrived.notified();
            {
                let mut state = self.0.state.lock();
                if let Some(delivery) = state.waiting.pop() {
                    return Some(delivery);
                }
                if state.closed {
                    return None;
                }
            }
            arrived.await;
        }
    }

    fn try_receive(&mut self) -> Option<Delivery> {
        self.0.state.lock().waiting.pop()
    }
}

impl Drop for InProcessConsumer {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        // Under the same lock as the emptying: a batch published in between would wait for nobody.
        state.consumer_gone = true;
        let waiting = std::mem::replace(&mut state.waiting, FairQueue::new(TURN_BYTES));
        drop(state);
        // Dropping a delivery requeues it, which takes the lock.
        drop(waiting);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{check_queue, check_waiting_queue};

    #[tokio::test]
    async fn keeps_the_contract() {
        let open = async |batches_max, bytes_max| {
            InProcessQueue::open(QueueLimits { batches_max, bytes_max })
        };
        check_queue(open).await;
        check_waiting_queue(open).await;
    }
}
