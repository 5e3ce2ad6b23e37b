//! The queue of the standalone process: bounded, in memory, and durable because publishing
//! resolves only when storage has committed.
//!
//! A batch counts against both bounds from its publication until it is settled, so the bounds hold
//! for everything that waits for a commit, wherever in the processor it is. Nothing is kept over a
//! restart: a batch that was not answered is its sender's to repeat.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use async_trait::async_trait;
use logweir_core::record::Batch;
use metrics::gauge;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use crate::{Consumer, Delivery, PublishError, Publisher, Receipt};

/// How long a refused publisher is asked to wait: about the time of a few commits.
const FULL_RETRY_AFTER: Duration = Duration::from_millis(200);

/// What may wait for its commit.
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
            limits,
            state: Mutex::new(State::default()),
            arrived: Notify::new(),
        });
        (Arc::new(InProcessPublisher(Arc::clone(&shared))), Box::new(InProcessConsumer(shared)))
    }
}

struct Shared {
    limits: QueueLimits,
    state: Mutex<State>,
    arrived: Notify,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Delivery>,
    batches: usize,
    bytes: usize,
    closed: bool,
    consumer_gone: bool,
}

impl State {
    /// A batch larger than the whole bound is taken when nothing else waits, so that it is not
    /// refused for ever.
    fn check(&self, limits: QueueLimits, bytes: usize) -> Result<(), PublishError> {
        if self.closed || self.consumer_gone {
            return Err(PublishError::Closed);
        }
        let what = if self.batches >= limits.batches_max {
            format!("{} batches wait, the limit", self.batches)
        } else if self.batches > 0 && self.bytes + bytes > limits.bytes_max {
            format!("{} of {} bytes are taken", self.bytes, limits.bytes_max)
        } else {
            return Ok(());
        };
        Err(PublishError::Full { what, retry_after: FULL_RETRY_AFTER })
    }

    fn report(&self) {
        gauge!("logweir_queue_batches").set(self.batches as f64);
        gauge!("logweir_queue_bytes").set(self.bytes as f64);
    }
}

struct InProcessPublisher(Arc<Shared>);

#[async_trait]
impl Publisher for InProcessPublisher {
    async fn publish(&self, batch: Batch) -> Result<(), PublishError> {
        let bytes = batch.heap_bytes();
        let (answer, answered) = oneshot::channel();
        {
            let mut state = self.0.state.lock();
            // Checked and counted under one lock, which is let go before the answer is awaited.
            state.check(self.0.limits, bytes)?;
            state.batches += 1;
            state.bytes += bytes;
            state.report();
            let receipt = InProcessReceipt { shared: Arc::clone(&self.0), bytes, answer };
            state.waiting.push_back(Delivery::new(batch, Box::new(receipt)));
        }
        self.0.arrived.notify_one();
        answered.await.unwrap_or(Err(PublishError::Closed))
    }

    fn check_ready(&self) -> Result<(), PublishError> {
        self.0.state.lock().check(self.0.limits, 0)
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
    shared: Arc<Shared>,
    bytes: usize,
    answer: oneshot::Sender<Result<(), PublishError>>,
}

impl InProcessReceipt {
    fn settle(self, result: Result<(), PublishError>) {
        let mut state = self.shared.state.lock();
        state.batches -= 1;
        state.bytes -= self.bytes;
        state.report();
        drop(state);
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
                if let Some(delivery) = state.waiting.pop_front() {
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
        self.0.state.lock().waiting.pop_front()
    }
}

impl Drop for InProcessConsumer {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        // Under the same lock as the emptying: a batch published in between would wait for nobody.
        state.consumer_gone = true;
        let waiting = std::mem::take(&mut state.waiting);
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
