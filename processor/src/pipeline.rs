//! The way of a log through the processor. The whole order stands in [`Pipeline::run`].
//!
//! Batches that arrive close together share a transaction. While one group commits, the next is
//! taken and scored; so two groups are in hand at most, and what is behind them waits in the queue,
//! which is bounded.

use std::{collections::HashMap, error::Error, sync::Arc, time::Duration};

use logweir_core::{
    identity::Tenant,
    record::{ScoredBatch, StoredLog},
};
use logweir_queue::{Consumer, Delivery, LiveFeed, Settlement};
use logweir_storage::{StorageError, WriteLogs, WriteOutcome};
use metrics::{counter, histogram};
use tokio::time::{Instant, timeout_at};
use tracing::{error, warn};

use crate::{config::ProcessorConfig, score::Scorer};

/// Moves batches from the queue to storage.
pub(crate) struct Pipeline {
    intake: Intake,
    writer: Writer,
    scorer: Option<Box<Scorer>>,
}

/// A group that is ready to be written.
struct Scored {
    batches: Vec<ScoredBatch>,
    settlements: Vec<Settlement>,
    taken: Instant,
}

impl Pipeline {
    pub(crate) fn new(
        config: &ProcessorConfig,
        consumer: Box<dyn Consumer>,
        scorer: Scorer,
        storage: Arc<dyn WriteLogs>,
        live_feed: LiveFeed,
    ) -> Self {
        let intake = Intake {
            consumer,
            rows_max: config.group_rows_max,
            bytes_max: config.group_bytes_max,
            age_max: config.group_age(),
        };
        let writer = Writer { storage, live_feed };
        Self { intake, writer, scorer: Some(Box::new(scorer)) }
    }

    /// Take → enrich → template → score → write → acknowledge, until the queue is closed and empty.
    pub(crate) async fn run(mut self) {
        let mut ready: Option<Scored> = None;
        loop {
            let Self { intake, writer, scorer } = &mut self;
            let take_and_score = async {
                let group = intake.take().await?;
                Some(score(scorer, group).await)
            };
            let write_and_acknowledge = async {
                if let Some(scored) = ready.take() {
                    writer.write(scored).await;
                }
            };
            let (next, ()) = tokio::join!(take_and_score, write_and_acknowledge);
            match next {
                Some(scored) => ready = Some(scored),
                None => return,
            }
        }
    }
}

/// Computes on a thread for blocking work: it would hold up the async pool.
async fn score(scorer: &mut Option<Box<Scorer>>, group: Group) -> Scored {
    let mut owned = scorer.take().expect("it was put back after the last group");
    let (batches, settlements) = group.deliveries.into_iter().map(Delivery::into_parts).unzip();
    let scoring = tokio::task::spawn_blocking(move || {
        let started = Instant::now();
        let batches = owned.score(batches);
        histogram!("logweir_processor_score_seconds").record(started.elapsed().as_secs_f64());
        (owned, batches)
    });
    // Panics on single logs are caught inside; any other is a defect that must stop the process.
    let (owned, batches) = scoring.await.expect("scoring does not panic and is not cancelled");
    *scorer = Some(owned);
    Scored { batches, settlements, taken: group.taken }
}

struct Intake {
    consumer: Box<dyn Consumer>,
    rows_max: usize,
    bytes_max: usize,
    age_max: Duration,
}

struct Group {
    deliveries: Vec<Delivery>,
    rows: usize,
    bytes: usize,
    taken: Instant,
}

impl Intake {
    /// The next group: the first batch that comes, and those that come soon after it.
    async fn take(&mut self) -> Option<Group> {
        let first = self.consumer.receive().await?;
        let taken = Instant::now();
        let mut group = Group { deliveries: Vec::new(), rows: 0, bytes: 0, taken };
        group.add(first);
        let deadline = taken + self.age_max;
        while group.rows < self.rows_max && group.bytes < self.bytes_max {
            let waiting = self.consumer.try_receive();
            let next = match waiting {
                Some(delivery) => Some(delivery),
                None => timeout_at(deadline, self.consumer.receive()).await.ok().flatten(),
            };
            match next {
                Some(delivery) => group.add(delivery),
                None => break,
            }
        }
        Some(group)
    }
}

impl Group {
    fn add(&mut self, delivery: Delivery) {
        let batch = delivery.batch();
        self.rows += batch.records.len() + batch.rejected.len();
        self.bytes += batch.heap_bytes();
        self.deliveries.push(delivery);
    }
}

struct Writer {
    storage: Arc<dyn WriteLogs>,
    live_feed: LiveFeed,
}

impl Writer {
    async fn write(&self, scored: Scored) {
        let Scored { batches, settlements, taken } = scored;
        let copies = self.live_feed.has_readers().then(|| copies(&batches));
        let tally = Tally::of(&batches);
        let started = Instant::now();
        match self.storage.write(batches.into()).await {
            Ok(outcomes) => {
                histogram!("logweir_processor_write_seconds")
                    .record(started.elapsed().as_secs_f64());
                settlements.into_iter().for_each(Settlement::acknowledge);
                tally.report(&outcomes);
                self.show(copies.unwrap_or_default(), &outcomes);
            }
            Err(error) => give_back(settlements, &error),
        }
        histogram!("logweir_processor_group_seconds").record(taken.elapsed().as_secs_f64());
    }

    /// Shows what is stored, what is of one tenant together: a reader that lags can be behind by so
    /// many groups, however small.
    fn show(&self, copies: Vec<(Tenant, Vec<StoredLog>)>, outcomes: &[WriteOutcome]) {
        let mut shown: HashMap<Tenant, Vec<StoredLog>> = HashMap::new();
        for ((tenant, mut logs), outcome) in copies.into_iter().zip(outcomes) {
            let WriteOutcome::Stored { put_aside, .. } = outcome else { continue };
            logs.retain(|log| put_aside.binary_search(&log.id.index).is_err());
            shown.entry(tenant).or_default().append(&mut logs);
        }
        for (tenant, logs) in shown {
            self.live_feed.publish(tenant, logs);
        }
    }
}

fn copies(batches: &[ScoredBatch]) -> Vec<(Tenant, Vec<StoredLog>)> {
    batches.iter().map(|batch| (batch.tenant.clone(), batch.stored_logs())).collect()
}

/// Hands the batches back to the queue, with what stands in the way.
fn give_back(settlements: Vec<Settlement>, failure: &StorageError) {
    counter!("logweir_processor_write_failures_total").increment(1);
    let cause = match failure.source() {
        Some(source) => format!("{failure}: {source}"),
        None => failure.to_string(),
    };
    if failure.is_retryable() {
        warn!(batches = settlements.len(), "a write failed, its batches are given back: {cause}");
    } else {
        error!(batches = settlements.len(), "a write failed, its batches are given back: {cause}");
    }
    for settlement in settlements {
        settlement.requeue(&cause, failure.retry_after());
    }
}

/// Counts of a group, reported once it is stored.
struct Tally {
    /// Anomalies of each batch.
    anomalies: Vec<u64>,
}

impl Tally {
    fn of(batches: &[ScoredBatch]) -> Self {
        let of_batch = |batch: &ScoredBatch| {
            batch.records.iter().filter(|scored| scored.is_anomaly).count() as u64
        };
        Self { anomalies: batches.iter().map(of_batch).collect() }
    }

    fn report(&self, outcomes: &[WriteOutcome]) {
        counter!("logweir_processor_groups_total").increment(1);
        let (mut logs, mut letters, mut anomalies) = (0, 0, 0);
        for (outcome, of_batch) in outcomes.iter().zip(&self.anomalies) {
            let name = match outcome {
                WriteOutcome::Stored { stored, dead_lettered, .. } => {
                    logs += u64::from(*stored);
                    letters += u64::from(*dead_lettered);
                    anomalies += of_batch;
                    "stored"
                }
                WriteOutcome::Duplicate => "duplicate",
                WriteOutcome::Conflict => "conflict",
            };
            counter!("logweir_processor_batches_total", "outcome" => name).increment(1);
        }
        counter!("logweir_processor_logs_total").increment(logs);
        counter!("logweir_processor_dead_letters_total").increment(letters);
        counter!("logweir_processor_anomalies_total").increment(anomalies);
    }
}
