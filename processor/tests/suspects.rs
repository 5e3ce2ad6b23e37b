//! A batch that ends every processor that touches it, among others that were fetched with it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{collections::BTreeSet, future::pending, sync::Arc, time::Duration};

use async_trait::async_trait;
use logweir_core::{
    identity::{BatchId, Service, Tenant},
    limits::Limits,
    record::{Batch, Record, Resource, ScoredBatch, Template},
    runtime::{
        clock::{now, system_clock},
        identity::ProcessIdentity,
        tasks::Tasks,
    },
};
use logweir_processor::{Parts, ProcessorConfig, start};
use logweir_queue::{Consumer, Delivery, LiveFeed, Receipt};
use logweir_storage::{SqliteConfig, SqliteStorage, StorageError, WriteLogs, WriteOutcome};
use parking_lot::Mutex;
use tokio::sync::Notify;

const DEADLY: u8 = 0;
const BATCHES: u8 = 20;

/// A queue that outlives the processors. Whatever a dead one had fetched counts as handed out.
#[derive(Default)]
struct Broker {
    unsettled: Mutex<BTreeSet<u8>>,
    all_settled: Notify,
}

struct Fetched {
    broker: Arc<Broker>,
    deaths: u32,
    waiting: BTreeSet<u8>,
}

struct Fetch(u8, Arc<Broker>);

impl Receipt for Fetch {
    fn acknowledge(self: Box<Self>) {
        let mut unsettled = self.1.unsettled.lock();
        unsettled.remove(&self.0);
        if unsettled.is_empty() {
            self.1.all_settled.notify_one();
        }
    }

    fn requeue(self: Box<Self>, _: String, _: Duration) {}
}

#[async_trait]
impl Consumer for Fetched {
    async fn receive(&mut self) -> Option<Delivery> {
        match self.try_receive() {
            Some(delivery) => Some(delivery),
            None => pending().await,
        }
    }

    fn try_receive(&mut self) -> Option<Delivery> {
        let id = self.waiting.pop_first()?;
        let receipt = Box::new(Fetch(id, Arc::clone(&self.broker)));
        Some(Delivery::new(batch(id), receipt).with_delivery_count(self.deaths))
    }
}

fn batch(id: u8) -> Batch {
    Batch {
        tenant: Tenant::default(),
        batch_id: BatchId([id; 16]),
        checksum: 1,
        received_at: now(),
        producer: None,
        resource: Resource::of(Service::new("a").unwrap()),
        records: vec![Record { time: now(), ..Record::default() }],
        rejected: Vec::new(),
    }
}

/// The real storage, but for the batch that ends whoever writes a log of it.
struct Deadly {
    storage: Arc<SqliteStorage>,
    died: Notify,
}

#[async_trait]
impl WriteLogs for Deadly {
    async fn write(&self, batches: Arc<[ScoredBatch]>) -> Result<Vec<WriteOutcome>, StorageError> {
        let is_deadly = |batch: &ScoredBatch| batch.batch_id.0[0] == DEADLY;
        if batches.iter().any(|batch| is_deadly(batch) && !batch.records.is_empty()) {
            self.died.notify_one();
            pending::<()>().await;
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

/// One processor until it dies, or has settled everything.
fn live(broker: &Arc<Broker>, write: &Arc<Deadly>, deaths: u32) {
    let waiting = broker.unsettled.lock().clone();
    let consumer = Box::new(Fetched { broker: Arc::clone(broker), deaths, waiting });
    let parts = Parts {
        config: ProcessorConfig::default(),
        limits: Limits::default(),
        identity: ProcessIdentity::new("processor", &system_clock()),
        consumer,
        partitions: None,
        partition_count: 1,
        write: Arc::<Deadly>::clone(write),
        administer: Arc::<SqliteStorage>::clone(&write.storage),
        read: Arc::<SqliteStorage>::clone(&write.storage),
        models: Arc::<SqliteStorage>::clone(&write.storage),
        findings: Arc::<SqliteStorage>::clone(&write.storage),
        jobs: Arc::<SqliteStorage>::clone(&write.storage),
        live_feed: LiveFeed::default(),
        clock: system_clock(),
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        start(parts, &Tasks::new()).await.unwrap();
        tokio::select! {
            () = write.died.notified() => {}
            () = broker.all_settled.notified() => {}
        }
    });
    runtime.shutdown_background();
}

#[test]
fn what_ends_every_processor_is_quarantined_and_nothing_that_was_fetched_with_it() {
    let directory = tempfile::tempdir().unwrap();
    let config = SqliteConfig::new(directory.path());
    let storage = Arc::new(SqliteStorage::open(&config, system_clock()).unwrap());
    let write = Arc::new(Deadly { storage: Arc::clone(&storage), died: Notify::new() });
    let broker = Arc::new(Broker::default());
    broker.unsettled.lock().extend(0..BATCHES);
    let mut deaths = 0;
    while !broker.unsettled.lock().is_empty() {
        assert!(deaths < 20, "it ends a processor again and again");
        live(&broker, &write, deaths);
        deaths += 1;
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let letters = runtime.block_on(async {
        use logweir_storage::Administer;
        storage.list_dead_letters(&Tenant::default(), None, 100).await.unwrap().0
    });
    let quarantined: Vec<u8> = letters.iter().map(|letter| letter.batch_id.0[0]).collect();
    assert_eq!(quarantined, [DEADLY]);
    assert_eq!(letters[0].reason, "quarantined");
}
