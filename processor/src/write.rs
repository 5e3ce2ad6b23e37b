//! Writes groups, settles them and shows what is stored.
//!
//! When a group cannot be written, what happens next depends on who keeps its batches:
//! - *The publishers do* (the in-process queue): it is given back at once, so that their senders hear
//!   of it and try again.
//! - *The queue does*: it is held and written again, one try after the other with the pause that
//!   storage asks for, so that a database that is down is asked about once a second by each
//!   processor, and nothing is fetched meanwhile beyond the prefetch. When the process is to stop it
//!   is given back after all.
//!
//! An error that is neither storage's state nor the way to it may be due to one of the batches:
//! then each is written alone, and only those that fail again are given back.

use std::{collections::HashMap, error::Error, sync::Arc};

use logweir_core::{
    identity::{TemplateId, Tenant},
    record::{ScoredBatch, StoredLog, Template},
};
use logweir_queue::{LiveFeed, Settlement};
use logweir_storage::{StorageError, WriteLogs, WriteOutcome};
use metrics::{counter, histogram};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::progress::Progress;

/// The end of the pipeline.
pub(crate) struct Writer {
    pub(crate) storage: Arc<dyn WriteLogs>,
    pub(crate) live_feed: LiveFeed,
    pub(crate) progress: Arc<Progress>,
    /// Whether the queue keeps what is not acknowledged.
    pub(crate) holds: bool,
    pub(crate) stop: CancellationToken,
    /// Templates whose aliases were not noted yet, at most [`TEMPLATES_WAITING_MAX`].
    pub(crate) waiting: HashMap<TemplateId, Arc<Template>>,
}

/// Templates whose aliases wait for storage: as many as all services together may have. More are
/// forgotten, for the next start merges the same templates again.
const TEMPLATES_WAITING_MAX: usize = 100_000;

// The logs of the group wait for it: with so many, some ten milliseconds.
/// Aliases noted with a group; the others wait for the next.
const TEMPLATES_NOTED_MAX: usize = 1_000;

/// A group that is ready to be written.
pub(crate) struct Scored {
    pub(crate) batches: Vec<ScoredBatch>,
    /// Templates that turned out to be the same as others.
    pub(crate) templates: Vec<Arc<Template>>,
    pub(crate) settlements: Vec<Settlement>,
    pub(crate) taken: Instant,
}

impl Writer {
    pub(crate) async fn write(&mut self, scored: Scored) {
        // Aliases of templates go first and apart. A log may name a template whose alias is not
        // stored yet (it is shown apart until then), so no log waits for them.
        let Scored { batches, templates, settlements, taken } = scored;
        self.note(templates).await;
        let batches: Arc<[ScoredBatch]> = batches.into();
        let begun = Instant::now();
        match self.commit(&batches).await {
            Err(error) if may_be_a_batchs(&error) && batches.len() > 1 => {
                warn!(
                    batches = batches.len(),
                    "a write failed, each batch is written alone: {error}"
                );
                counter!("logweir_processor_groups_taken_apart_total").increment(1);
                // Each is settled by its own outcome, as soon as it is known: one that cannot be
                // stored takes none of the others back to the queue with it.
                for (batch, settlement) in batches.iter().zip(settlements) {
                    let alone: Arc<[ScoredBatch]> = [batch.clone()].into();
                    let written = self.commit(&alone).await;
                    self.settle(&alone, vec![settlement], written);
                }
            }
            written => self.settle(&batches, settlements, written),
        }
        self.progress.add_busy(begun.elapsed());
        histogram!("logweir_processor_group_seconds").record(taken.elapsed().as_secs_f64());
    }

    /// Notes which templates are the same; logs do not wait for it to succeed.
    async fn note(&mut self, templates: Vec<Arc<Template>>) {
        self.waiting.extend(templates.into_iter().map(|of| (of.template_id, of)));
        if self.waiting.is_empty() {
            return;
        }
        let next: Vec<_> = self.waiting.values().take(TEMPLATES_NOTED_MAX).cloned().collect();
        match self.storage.save_templates(next.clone()).await {
            Ok(()) => next.iter().for_each(|of| drop(self.waiting.remove(&of.template_id))),
            Err(error) => {
                counter!("logweir_processor_template_failures_total").increment(1);
                if !error.is_retryable() {
                    self.forget_waiting(&told(&error));
                }
            }
        }
        let excess = self.waiting.len().saturating_sub(TEMPLATES_WAITING_MAX);
        if excess > 0 {
            let forgotten: Vec<_> = self.waiting.keys().take(excess).copied().collect();
            forgotten.iter().for_each(|id| drop(self.waiting.remove(id)));
            warn!(
                excess,
                "merged patterns are shown apart until the next start: storage is behind"
            );
        }
    }

    fn forget_waiting(&mut self, cause: &str) {
        let count = self.waiting.len();
        warn!(count, "merged patterns are shown apart until the next start: {cause}");
        self.waiting.clear();
    }

    /// One transaction, tried again while that may help and somebody keeps the batches.
    async fn commit(
        &self,
        batches: &Arc<[ScoredBatch]>,
    ) -> Result<Vec<WriteOutcome>, StorageError> {
        let mut failures = 0_u32;
        loop {
            let begun = Instant::now();
            let error = match self.storage.write(Arc::clone(batches)).await {
                Ok(outcomes) => {
                    histogram!("logweir_processor_write_seconds")
                        .record(begun.elapsed().as_secs_f64());
                    if failures > 0 {
                        info!(failures, "storage takes logs again");
                    }
                    return Ok(outcomes);
                }
                Err(error) => error,
            };
            counter!("logweir_processor_write_failures_total").increment(1);
            // In process the sender still waits for its answer: held here, its own time-out would
            // pass before it heard anything.
            if !self.holds || may_be_a_batchs(&error) || self.stop.is_cancelled() {
                return Err(error);
            }
            if failures == 0 {
                let (batches, cause) = (batches.len(), told(&error));
                warn!(batches, "a write failed, its batches are held and written again: {cause}");
            }
            failures += 1;
            // Cut short when the process is to stop: one more try, then they are given back.
            drop(timeout(error.retry_after(), self.stop.cancelled()).await);
        }
    }

    fn settle(
        &self,
        batches: &[ScoredBatch],
        settlements: Vec<Settlement>,
        written: Result<Vec<WriteOutcome>, StorageError>,
    ) {
        let received: Vec<_> = batches.iter().map(|batch| batch.received_at).collect();
        self.progress.settled(&received, written.is_ok());
        match written {
            // Duplicates and conflicts are acknowledged as well: storage has done with them what is
            // to be done, and handed out again they would be the same.
            Ok(outcomes) => {
                settlements.into_iter().for_each(Settlement::acknowledge);
                report(batches, &outcomes);
                self.show(batches, &outcomes);
            }
            Err(error) => give_back(settlements, &error),
        }
    }

    /// Shows what is stored, what is of one tenant together: a reader that lags can be behind by so
    /// many groups, however small.
    fn show(&self, batches: &[ScoredBatch], outcomes: &[WriteOutcome]) {
        let mut shown: HashMap<&Tenant, Vec<StoredLog>> = HashMap::new();
        for (batch, outcome) in batches.iter().zip(outcomes) {
            if !self.live_feed.is_read(&batch.tenant) {
                continue;
            }
            // A repeat was shown when it was first stored.
            let WriteOutcome::Stored { put_aside, .. } = outcome else { continue };
            let mut logs = batch.stored_logs();
            logs.retain(|log| put_aside.binary_search(&log.id.index).is_err());
            shown.entry(&batch.tenant).or_default().append(&mut logs);
        }
        for (tenant, logs) in shown {
            self.live_feed.publish(tenant.clone(), logs);
        }
    }
}

/// Whether the error may be due to one of the batches, so that the others could be stored without
/// it. A database that refuses this program, say, would refuse each of them.
const fn may_be_a_batchs(error: &StorageError) -> bool {
    matches!(error, StorageError::Broken(_) | StorageError::Corrupt(_))
}

fn told(failure: &StorageError) -> String {
    match failure.source() {
        Some(source) => format!("{failure}: {source}"),
        None => failure.to_string(),
    }
}

/// Hands the batches back to the queue, with what stands in the way.
fn give_back(settlements: Vec<Settlement>, failure: &StorageError) {
    let cause = told(failure);
    if failure.is_retryable() {
        warn!(batches = settlements.len(), "a write failed, its batches are given back: {cause}");
    } else {
        error!(batches = settlements.len(), "a write failed, its batches are given back: {cause}");
    }
    for settlement in settlements {
        settlement.requeue(&cause, failure.retry_after());
    }
}

/// Counts a group that is stored.
fn report(batches: &[ScoredBatch], outcomes: &[WriteOutcome]) {
    counter!("logweir_processor_groups_total").increment(1);
    let (mut logs, mut letters, mut anomalies) = (0, 0, 0);
    for (outcome, batch) in outcomes.iter().zip(batches) {
        let name = match outcome {
            WriteOutcome::Stored { stored, dead_lettered, .. } => {
                logs += u64::from(*stored);
                letters += u64::from(*dead_lettered);
                // Only of batches that are new: a repeat was counted before.
                anomalies += batch.records.iter().filter(|scored| scored.is_anomaly).count() as u64;
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

#[cfg(test)]
mod tests {
    use std::{collections::HashMap as Map, time::Duration};

    use async_trait::async_trait;
    use logweir_core::{
        identity::{BatchId, Service},
        record::Resource,
        timestamp::Timestamp,
    };
    use logweir_queue::Receipt;
    use parking_lot::Mutex;

    use super::*;

    /// Fails by the script, then works; batch 13 is never taken.
    #[derive(Default)]
    struct Scripted {
        failures: Mutex<Vec<StorageError>>,
        /// When each try came, and with how many batches.
        tries: Mutex<Vec<(Instant, usize)>>,
        /// How many templates were noted at a time.
        noted: Mutex<Vec<usize>>,
    }

    #[async_trait]
    impl WriteLogs for Scripted {
        async fn write(
            &self,
            batches: Arc<[ScoredBatch]>,
        ) -> Result<Vec<WriteOutcome>, StorageError> {
            self.tries.lock().push((Instant::now(), batches.len()));
            if let Some(error) = self.failures.lock().pop() {
                return Err(error);
            }
            if batches.iter().any(|batch| batch.batch_id.0[0] == 13) {
                return Err(StorageError::Broken("it does not like 13".into()));
            }
            Ok(batches.iter().map(|_| WriteOutcome::stored(0, 0)).collect())
        }

        async fn save_templates(&self, noted: Vec<Arc<Template>>) -> Result<(), StorageError> {
            self.noted.lock().push(noted.len());
            Ok(())
        }

        async fn load_templates(&self) -> Result<Vec<(Template, u64)>, StorageError> {
            Ok(Vec::new())
        }
    }

    type Settled = Arc<Mutex<Vec<(u8, bool)>>>;

    struct Noted(u8, Settled);

    impl Receipt for Noted {
        fn acknowledge(self: Box<Self>) {
            self.1.lock().push((self.0, true));
        }

        fn requeue(self: Box<Self>, _: String, _: Duration) {
            self.1.lock().push((self.0, false));
        }
    }

    struct Setting {
        storage: Arc<Scripted>,
        writer: Writer,
        settled: Settled,
    }

    fn setting(holds: bool, failures: Vec<StorageError>) -> Setting {
        let storage = Arc::new(Scripted { failures: Mutex::new(failures), ..Default::default() });
        let writer = Writer {
            storage: Arc::<Scripted>::clone(&storage),
            live_feed: LiveFeed::default(),
            progress: Arc::new(Progress::new()),
            holds,
            stop: CancellationToken::new(),
            waiting: HashMap::new(),
        };
        Setting { storage, writer, settled: Settled::default() }
    }

    impl Setting {
        async fn write(&mut self, numbers: &[u8]) -> Vec<(u8, bool)> {
            let batch = |&number: &u8| ScoredBatch {
                tenant: Tenant::default(),
                batch_id: BatchId([number; 16]),
                checksum: 1,
                received_at: Timestamp::from_unix_nanos(1),
                producer: None,
                resource: Resource::of(Service::new("a").unwrap()),
                records: Vec::new(),
                rejected: Vec::new(),
                templates: Map::new(),
            };
            let delivery = |&number: &u8| {
                let receipt = Box::new(Noted(number, Arc::clone(&self.settled)));
                let batch = logweir_core::record::Batch {
                    tenant: Tenant::default(),
                    batch_id: BatchId([number; 16]),
                    checksum: 1,
                    received_at: Timestamp::from_unix_nanos(1),
                    producer: None,
                    resource: Resource::of(Service::new("a").unwrap()),
                    records: Vec::new(),
                    rejected: Vec::new(),
                };
                logweir_queue::Delivery::new(batch, receipt).into_parts().1
            };
            let scored = Scored {
                templates: Vec::new(),
                batches: numbers.iter().map(batch).collect(),
                settlements: numbers.iter().map(delivery).collect(),
                taken: Instant::now(),
            };
            self.writer.write(scored).await;
            std::mem::take(&mut self.settled.lock())
        }

        fn tries(&self) -> Vec<usize> {
            self.storage.tries.lock().iter().map(|(_, batches)| *batches).collect()
        }
    }

    fn unavailable(times: usize) -> Vec<StorageError> {
        (0..times).map(|_| StorageError::Unavailable("it is down".into())).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn while_storage_is_down_it_is_tried_once_a_second_and_the_batches_are_held() {
        let mut setting = setting(true, unavailable(60));
        let begun = Instant::now();
        assert_eq!(setting.write(&[1, 2]).await, [(1, true), (2, true)]);
        assert_eq!(begun.elapsed(), Duration::from_secs(60));
        let tries = setting.storage.tries.lock().clone();
        assert!(tries.windows(2).all(|two| two[1].0 - two[0].0 >= Duration::from_secs(1)));
    }

    #[tokio::test(start_paused = true)]
    async fn while_storage_refuses_everybody_no_batch_is_blamed() {
        let unusable =
            || StorageError::Unusable { place: "a database".into(), source: "no".into() };
        let mut setting = setting(true, vec![unusable(), unusable()]);
        assert_eq!(setting.write(&[1, 2]).await, [(1, true), (2, true)]);
        assert_eq!(setting.tries(), [2, 2, 2]);
    }

    #[tokio::test(start_paused = true)]
    async fn asked_to_stop_it_tries_once_more_and_gives_back() {
        let mut setting = setting(true, unavailable(60));
        let stop = setting.writer.stop.clone();
        let stopping = async {
            tokio::time::sleep(Duration::from_millis(2_500)).await;
            stop.cancel();
        };
        let (settled, ()) = tokio::join!(setting.write(&[1]), stopping);
        assert_eq!((settled, setting.tries().len()), (vec![(1, false)], 4));
    }

    #[tokio::test(start_paused = true)]
    async fn where_publishers_wait_they_hear_at_once() {
        let mut setting = setting(false, unavailable(1));
        assert_eq!(setting.write(&[1, 2]).await, [(1, false), (2, false)]);
        assert_eq!(setting.tries(), [2]);
    }

    #[tokio::test(start_paused = true)]
    async fn of_a_group_that_fails_for_good_only_those_at_fault_are_given_back() {
        for holds in [true, false] {
            let mut setting = setting(holds, Vec::new());
            let settled = setting.write(&[1, 13, 2]).await;
            assert_eq!(settled, [(1, true), (13, false), (2, true)]);
            assert_eq!(setting.tries(), [3, 1, 1, 1]);
        }
    }

    #[tokio::test]
    async fn aliases_are_noted_a_thousand_at_a_time() {
        let mut setting = setting(true, Vec::new());
        let template = |id| Template {
            template_id: TemplateId(id),
            tenant: Tenant::default(),
            service: Service::new("a").unwrap(),
            pattern: "a b".into(),
            merged_into: None,
            is_merger: false,
        };
        setting.writer.note((0..2_500).map(template).map(Arc::new).collect()).await;
        for _ in 0..3 {
            setting.writer.note(Vec::new()).await;
        }
        assert_eq!(*setting.storage.noted.lock(), [1_000, 1_000, 500]);
    }
}
