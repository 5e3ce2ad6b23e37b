//! Sends generated logs over one or several connections, and measures the answers.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use futures::StreamExt;
use logweir_core::runtime::clock::now;
use logweir_sdk::Sender;
use logweir_ship::{
    Error,
    deliver::{
        batch::{BatchLimits, Batcher, Ids, Producers, ServiceBatch},
        counts::{Counts, Delivered},
        send::send_batch,
    },
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::{quantiles::Quantiles, span::Spans};

/// Logs of a service wait for so many spans at most before their batch is sent: a second, where a
/// span takes a tenth of one, so that a quiet service is seen in time.
const SPANS_WAITING_MAX: u32 = 10;
/// Batches between the generator and the connections.
const BATCHES_WAITING_MAX: usize = 16;
/// Batches in flight on each connection.
pub const IN_FLIGHT_PER_CONNECTION: usize = 8;
/// How long a batch is tried when no server answers.
const PATIENCE: Duration = Duration::from_secs(60);

/// What sending came to.
#[derive(Debug)]
pub struct Sent {
    /// What the server answered.
    pub delivered: Delivered,
    /// From the first batch to the last answer.
    pub elapsed: Duration,
    /// Milliseconds from sending a batch to its answer, the median.
    pub ack_p50_ms: f64,
    /// The same, which one batch in a hundred is above.
    pub ack_p99_ms: f64,
}

/// Sends spans, in batches of so many logs, until they end, or until `stop` is set and what is in
/// flight is answered. Ends at the first batch that cannot be delivered.
pub async fn send(
    spans: &mut Spans,
    batch_records_max: usize,
    senders: &[Sender],
    stop: &AtomicBool,
) -> Result<Sent, Error> {
    let (counts, latencies) = (Arc::new(Counts::default()), Mutex::new(Quantiles::default()));
    let (batches, receiver) = mpsc::channel(BATCHES_WAITING_MAX);
    let limits = BatchLimits::with_batch_records(batch_records_max);
    let started = Instant::now();
    let generating = generate(spans, limits, counts.clone(), batches, stop);
    let sending = send_all(receiver, senders, &counts, &latencies);
    // Each ends the other: no more batches end the sending, and a sending that fails drops its end
    // of the channel, at which the making of batches stops.
    let ((), sent) = tokio::join!(generating, sending);
    sent?;
    let elapsed = started.elapsed();
    let latencies = latencies.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(Sent {
        delivered: counts.delivered(),
        elapsed,
        ack_p50_ms: latencies.milliseconds(0.50),
        ack_p99_ms: latencies.milliseconds(0.99),
    })
}

/// Makes batches until the end, until asked to stop, or until nobody takes them.
async fn generate(
    spans: &mut Spans,
    limits: BatchLimits,
    counts: Arc<Counts>,
    batches: mpsc::Sender<ServiceBatch>,
    stop: &AtomicBool,
) {
    let mut producers = Producers::default();
    let mut batcher = Batcher::new(limits);
    let mut waiting = 0;
    let mut due = tokio::time::Instant::now();
    loop {
        let logs = if stop.load(Ordering::Relaxed) { None } else { spans.next() };
        let is_end = logs.is_none();
        for (service, records) in logs.into_iter().flatten() {
            for record in records {
                batcher.add(spans.generator.service_name(service), &record);
            }
        }
        waiting += 1;
        if is_end || batcher.is_full() || waiting >= SPANS_WAITING_MAX {
            waiting = 0;
            counts.settle(&mut producers);
            for (service, records) in batcher.take() {
                let batch = producers.batch(service, &records, Ids::mint(), now());
                if batches.send(batch).await.is_err() {
                    return;
                }
            }
        }
        if is_end {
            return;
        }
        // Counted from the start: after a slow answer the spans that were missed follow at once,
        // and event time keeps its pace.
        due += spans.pace.span_wall;
        tokio::time::sleep_until(due).await;
    }
}

async fn send_all(
    batches: mpsc::Receiver<ServiceBatch>,
    senders: &[Sender],
    counts: &Counts,
    latencies: &Mutex<Quantiles>,
) -> Result<(), Error> {
    let in_flight = senders.len() * IN_FLIGHT_PER_CONNECTION;
    let answers = ReceiverStream::new(batches).enumerate().map(|(number, batch)| {
        let sender = senders[number % senders.len()].clone();
        let (service, records) = (batch.service.clone(), batch.records());
        async move {
            let started = Instant::now();
            let answer = send_batch(sender, batch, Some(PATIENCE)).await?;
            latencies.lock().unwrap_or_else(PoisonError::into_inner).add(started.elapsed());
            counts.answered(&service, records, &answer);
            Ok::<_, Error>(())
        }
    });
    let mut answers = std::pin::pin!(answers.buffer_unordered(in_flight));
    while let Some(answer) = answers.next().await {
        answer?;
    }
    Ok(())
}
