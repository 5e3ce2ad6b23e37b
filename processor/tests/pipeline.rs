//! The pipeline between the in-process queue and SQLite.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use logweir_core::{
    filter::Filter,
    identity::{BatchId, Service, Tenant},
    limits::Limits,
    record::{Batch, Level, Record, Resource, ScoredBatch, StoredLog, Template},
    runtime::{
        clock::{now, system_clock},
        identity::ProcessIdentity,
        tasks::Tasks,
    },
};
use logweir_processor::{Parts, ProcessorConfig, start};
use logweir_queue::{InProcessQueue, LiveFeed, PublishError, Publisher, QueueLimits};
use logweir_storage::{
    Administer, FindingKind, KeepFindings, ReadLogs, SearchLimits, SearchQuery, SqliteConfig,
    SqliteStorage, StorageError, TimeRange, WriteLogs, WriteOutcome,
};
use parking_lot::Mutex;
use tokio::sync::Semaphore;

/// The real storage, with a gate before each write, a full disk on demand, and a note of how many
/// batches came with each write.
struct Gated {
    storage: Arc<SqliteStorage>,
    gate: Semaphore,
    disk_full: AtomicBool,
    arrived: Semaphore,
    groups: Mutex<Vec<usize>>,
}

#[async_trait]
impl WriteLogs for Gated {
    async fn write(&self, batches: Arc<[ScoredBatch]>) -> Result<Vec<WriteOutcome>, StorageError> {
        self.groups.lock().push(batches.len());
        self.arrived.add_permits(1);
        self.gate.acquire().await.expect("the gate is never closed").forget();
        if self.disk_full.load(Ordering::SeqCst) {
            return Err(StorageError::DiskFull { place: "/data".into() });
        }
        self.storage.write(batches).await
    }

    async fn save_templates(&self, templates: Vec<Arc<Template>>) -> Result<(), StorageError> {
        self.storage.save_templates(templates).await
    }

    async fn load_templates(&self) -> Result<Vec<(Template, u64)>, StorageError> {
        self.storage.load_templates().await
    }
}

struct Setting {
    directory: tempfile::TempDir,
    storage: Arc<SqliteStorage>,
    gated: Arc<Gated>,
    publisher: Arc<dyn Publisher>,
    live_feed: LiveFeed,
    tasks: Tasks,
}

const OPEN: usize = 1_000;

impl Setting {
    async fn new(permits: usize) -> Self {
        Self::over(tempfile::tempdir().unwrap(), permits).await
    }

    async fn over(directory: tempfile::TempDir, permits: usize) -> Self {
        let config = SqliteConfig::new(directory.path());
        let storage = Arc::new(SqliteStorage::open(&config, system_clock()).unwrap());
        let (publisher, consumer) = InProcessQueue::open(QueueLimits::default());
        let gated = Arc::new(Gated {
            storage: Arc::clone(&storage),
            gate: Semaphore::new(permits),
            disk_full: AtomicBool::new(false),
            arrived: Semaphore::new(0),
            groups: Mutex::default(),
        });
        let (live_feed, tasks) = (LiveFeed::default(), Tasks::new());
        let write: Arc<dyn WriteLogs> = Arc::<Gated>::clone(&gated);
        let administer: Arc<dyn Administer> = Arc::<SqliteStorage>::clone(&storage);
        let parts = Parts {
            config: ProcessorConfig::default(),
            limits: Limits::default(),
            identity: ProcessIdentity::new("standalone", &system_clock()),
            consumer,
            partitions: None,
            partition_count: 1,
            write,
            administer,
            read: Arc::<SqliteStorage>::clone(&storage),
            models: Arc::<SqliteStorage>::clone(&storage),
            findings: Arc::<SqliteStorage>::clone(&storage),
            jobs: Arc::<SqliteStorage>::clone(&storage),
            live_feed: live_feed.clone(),
            clock: system_clock(),
        };
        start(parts, &tasks).await.unwrap();
        Self { directory, storage, gated, publisher, live_feed, tasks }
    }

    async fn publish(&self, id: u8, messages: &[&str]) -> Result<(), PublishError> {
        self.publisher.publish(batch(id, messages)).await
    }

    async fn stored(&self, filter: &str) -> Vec<StoredLog> {
        let query = SearchQuery {
            filter: Filter::parse(filter, now()).unwrap(),
            range: TimeRange::ALL,
            cursor: None,
            page_size: 100,
            limits: SearchLimits::NONE,
        };
        self.storage.search(&Tenant::default(), query).await.unwrap().logs
    }

    async fn stop(self) -> tempfile::TempDir {
        self.tasks.stop();
        self.publisher.close();
        let end = self.tasks.wait(Duration::from_secs(30)).await;
        assert!(end.laggards.is_empty() && end.failed.is_none(), "{end:?}");
        self.directory
    }
}

fn batch(id: u8, messages: &[&str]) -> Batch {
    let now = now();
    let record = |(index, message): (u32, &&str)| Record {
        index,
        time: now,
        message: (*message).to_owned(),
        ..Record::default()
    };
    Batch {
        tenant: Tenant::default(),
        batch_id: BatchId([id; 16]),
        checksum: u64::from(id),
        received_at: now,
        producer: None,
        resource: Resource::of(Service::new("a").unwrap()),
        records: (0..).zip(messages).map(record).collect(),
        rejected: Vec::new(),
    }
}

#[tokio::test]
async fn what_is_acknowledged_is_stored_completed_and_shown() {
    let setting = Setting::new(OPEN).await;
    let mut reader = setting.live_feed.subscribe(Tenant::default());
    setting.publish(1, &["[ERROR] order 7 took 12 ms"]).await.unwrap();
    let logs = setting.stored("").await;
    let [log] = &logs[..] else { panic!("{logs:?}") };
    assert_eq!((log.scored.level, log.scored.record.latency_ms), (Level::Error, Some(12.0)));
    let templates = setting.storage.load_templates().await.unwrap();
    let [(template, 1)] = &templates[..] else { panic!("{templates:?}") };
    assert_eq!(template.template_id, log.scored.template_id);
    assert_eq!(template.pattern, "[ERROR] order <*> took <*> ms");
    let shown = reader.next().await.unwrap();
    assert_eq!(shown.logs[0].id, log.id);
    setting.stop().await;
}

#[tokio::test]
async fn a_repeated_batch_is_acknowledged_but_neither_stored_nor_shown_again() {
    let setting = Setting::new(OPEN).await;
    let mut reader = setting.live_feed.subscribe(Tenant::default());
    let first = batch(1, &["hello"]);
    setting.publisher.publish(first.clone()).await.unwrap();
    setting.publisher.publish(first).await.unwrap();
    setting.publish(2, &["another"]).await.unwrap();
    assert_eq!(setting.stored("").await.len(), 2);
    let shown = [reader.next().await.unwrap(), reader.next().await.unwrap()];
    let messages = shown.map(|event| event.logs[0].scored.record.message.clone());
    assert_eq!(messages, ["hello", "another"]);
    setting.stop().await;
}

#[tokio::test]
async fn of_a_batch_stored_in_part_that_part_is_shown() {
    let setting = Setting::new(OPEN).await;
    let mut reader = setting.live_feed.subscribe(Tenant::default());
    let mut poisoned = batch(1, &["first", "second", "third"]);
    poisoned.records[1].latency_ms = Some(f64::NAN);
    setting.publisher.publish(poisoned).await.unwrap();
    let shown = reader.next().await.unwrap();
    let indices: Vec<u32> = shown.logs.iter().map(|log| log.id.index).collect();
    assert_eq!(indices, [0, 2]);
    assert_eq!(setting.stored("").await.len(), 2);
    setting.stop().await;
}

#[tokio::test]
async fn batches_that_come_while_others_commit_share_a_transaction() {
    let setting = Arc::new(Setting::new(0).await);
    let publish = |id: u8| {
        let setting = Arc::clone(&setting);
        async move { setting.publish(id, &["hello"]).await }
    };
    // The first is at the gate when the others come; nothing is answered before its commit.
    let first = futures::future::join(publish(0), async {
        setting.gated.arrived.acquire().await.unwrap().forget();
        let others = futures::future::join_all((1..=40).map(publish));
        let open = async { setting.gated.gate.add_permits(OPEN) };
        futures::future::join(others, open).await.0
    });
    let (first, others) = first.await;
    assert!(first.is_ok() && others.iter().all(Result::is_ok));
    let groups = setting.gated.groups.lock().clone();
    assert_eq!(groups.iter().sum::<usize>(), 41);
    assert!(groups.len() <= 4, "{groups:?}");
    assert_eq!(setting.stored("").await.len(), 41);
}

#[tokio::test]
async fn a_failed_write_is_given_back_with_its_cause_and_can_be_repeated() {
    let setting = Setting::new(OPEN).await;
    setting.gated.disk_full.store(true, Ordering::SeqCst);
    let Err(PublishError::NotDurable { cause, retry_after }) = setting.publish(1, &["hello"]).await
    else {
        panic!("the disk is full")
    };
    assert!(cause.contains("the disk is full") && retry_after == Duration::from_secs(5), "{cause}");
    assert!(setting.stored("").await.is_empty());
    setting.gated.disk_full.store(false, Ordering::SeqCst);
    setting.publish(1, &["hello"]).await.unwrap();
    assert_eq!(setting.stored("").await.len(), 1);
    setting.stop().await;
}

#[tokio::test]
async fn a_log_that_cannot_be_processed_is_dead_lettered_and_the_rest_stored() {
    let scenario = fail::FailScenario::setup();
    fail::cfg("process_record", "return").unwrap();
    let setting = Setting::new(OPEN).await;
    setting.publish(1, &["one", "poison", "three"]).await.unwrap();
    assert_eq!(setting.stored("").await.len(), 2);
    let (letters, count) =
        setting.storage.list_dead_letters(&Tenant::default(), None, 10).await.unwrap();
    assert_eq!((letters.len(), count), (1, 1));
    assert_eq!(letters[0].reason, "processing_failed");
    assert_eq!(letters[0].record.message, "poison");
    setting.stop().await;
    scenario.teardown();
}

#[tokio::test]
async fn a_restart_knows_the_patterns_of_before() {
    let setting = Setting::new(OPEN).await;
    let known: Vec<String> = (0..5_000).map(|n| format!("order {n} paid")).collect();
    let known: Vec<&str> = known.iter().map(String::as_str).collect();
    setting.publish(1, &known).await.unwrap();
    let directory = setting.stop().await;
    let setting = Setting::over(directory, OPEN).await;
    setting.publish(2, &["order 9 paid", "the bank said no"]).await.unwrap();
    let anomalies = setting.stored("anomaly:true").await;
    let [log] = &anomalies[..] else { panic!("{anomalies:?}") };
    assert_eq!(
        log.scored.anomaly_reasons,
        ["new pattern, seen for the first time in a: the bank said no"]
    );
    setting.stop().await;
}

#[tokio::test]
async fn stopping_stores_what_was_taken() {
    let setting = Arc::new(Setting::new(0).await);
    let answer = {
        let setting = Arc::clone(&setting);
        async move { setting.publish(1, &["hello"]).await }
    };
    let stop = async {
        setting.gated.arrived.acquire().await.unwrap().forget();
        setting.tasks.stop();
        setting.publisher.close();
        setting.gated.gate.add_permits(1);
    };
    let (answer, ()) = futures::future::join(answer, stop).await;
    assert_eq!(answer, Ok(()));
    let end = setting.tasks.wait(Duration::from_secs(30)).await;
    assert!(end.laggards.is_empty() && end.failed.is_none(), "{end:?}");
    assert_eq!(setting.stored("").await.len(), 1);
}

#[tokio::test]
async fn a_session_that_is_unusual_as_a_whole_is_found() {
    let setting = Setting::new(OPEN).await;
    let traces = |count: u32, messages: &'static [&'static str]| -> Vec<(u128, &'static str)> {
        let of = |trace: u32| messages.iter().map(move |message| (u128::from(trace), *message));
        (0..count).flat_map(of).collect()
    };
    let usual = traces(1_200, &["cart opened again", "order was paid"]);
    let unusual = vec![(9_999, "cart opened again")];
    let later = vec![(10_000, "cart opened again")];
    for (id, seconds, logs) in [(1, 0, usual), (2, 1, unusual), (3, 70, later)] {
        let messages: Vec<&str> = logs.iter().map(|(_, message)| *message).collect();
        let mut batch = batch(id, &messages);
        batch.received_at += Duration::from_secs(seconds);
        for (record, (trace_id, _)) in batch.records.iter_mut().zip(&logs) {
            record.trace_id = Some(trace_id.to_be_bytes());
            record.time = batch.received_at;
        }
        setting.publisher.publish(batch).await.unwrap();
    }
    let found = loop {
        let tenant = Tenant::default();
        let found = setting.storage.list_findings(&tenant, None, TimeRange::ALL, 10).await.unwrap();
        if !found.is_empty() {
            break found;
        }
        tokio::task::yield_now().await;
    };
    let [found] = &found[..] else { panic!("{found:?}") };
    assert_eq!(found.kind, FindingKind::UnusualSession);
    assert_eq!((found.subject.as_str(), found.logs), ("0000000000000000000000000000270f", 1));
    assert!(found.reasons.iter().any(|reason| reason.contains("order was paid")), "{found:?}");
    assert_eq!(setting.stored("anomaly:true").await, []);
    setting.stop().await;
}
