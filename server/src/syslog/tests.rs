//! Streams and datagrams over a queue that is full until it is let go.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::atomic::AtomicBool,
};

use logweir_core::{
    fairness::resource::{HeldShare, SharedResource},
    identity::{Role, ServiceScope, Tenant},
    limits::Limits,
    record::Batch,
    timestamp::Timestamp,
};
use logweir_queue::{PublishError, Publisher};
use logweir_storage::{SqliteConfig, SqliteStorage};
use tempfile::TempDir;
use tokio::{
    io::{AsyncWriteExt, duplex},
    time::sleep,
};

use super::{connection::READ_BYTES, intake::weight, *};
use crate::{
    auth::{issue, token_keys::TokenKeys},
    config::RateConfig,
    ingest::rate_limit::RateLimits,
};

const NOW: Timestamp = Timestamp::from_unix_seconds(1_760_000_000);
const PEER: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Takes batches once it is open.
#[derive(Default)]
struct Gate {
    is_open: AtomicBool,
    taken: Mutex<Vec<String>>,
}

#[tonic::async_trait]
impl Publisher for Gate {
    async fn publish(&self, batch: Batch) -> Result<(), PublishError> {
        self.check_room(&batch.tenant)?;
        let messages = batch.records.iter().map(|record| record.message.clone());
        self.taken.lock().extend(messages);
        Ok(())
    }

    fn check_ready(&self) -> Result<(), PublishError> {
        Ok(())
    }

    fn check_room(&self, _tenant: &Tenant) -> Result<(), PublishError> {
        if self.is_open.load(Ordering::Relaxed) {
            return Ok(());
        }
        let (what, retry_after) = ("the queue".into(), Duration::from_secs(1));
        Err(PublishError::Full { what, retry_after })
    }

    fn held_shares(&self, _tenant: &Tenant) -> [HeldShare; 2] {
        let resource = SharedResource::QueueBytes;
        [HeldShare { resource, held: 0, held_max: 0 }; 2]
    }

    fn keeps_batches(&self) -> bool {
        true
    }

    fn close(&self) {}
}

struct Bench {
    running: Running,
    streams: Arc<Streams>,
    gate: Arc<Gate>,
    _directory: TempDir,
}

fn bench() -> Bench {
    let (gate, directory) = (Arc::new(Gate::default()), TempDir::new().unwrap());
    let clock: Clock = Arc::new(|| NOW);
    let storage = SqliteConfig::new(directory.path());
    let (keys, tenant) = (TokenKeys::generate(), Tenant::default());
    let hour = Duration::from_secs(3_600);
    let (_, token) = issue(&keys, &tenant, &ServiceScope::Any, Role::Ingest, hour, NOW);
    let ingest = Ingest {
        publisher: Arc::clone(&gate) as _,
        limits: Limits::default(),
        rates: RateLimits::new(&RateConfig::default()),
        clock: Arc::clone(&clock),
        storage: Arc::new(SqliteStorage::open(&storage, Arc::clone(&clock)).unwrap()),
    };
    let config = SyslogConfig::default();
    let intake = Arc::new(Intake {
        auth: Arc::new(Auth::new(keys, Arc::clone(&clock))),
        ingest: Arc::new(ingest),
        budget: Budget::new(1 << 20),
        header: format!("Bearer {token}"),
        zone: config.zone(),
        clock,
        stop: CancellationToken::new(),
        give_up: CancellationToken::new(),
        given_up: AtomicU64::new(0),
        told: Mutex::default(),
    });
    let streams = Streams::new(config, Arc::clone(&intake), TenantPermits::for_one(100, 3));
    let running = Running { tracker: TaskTracker::new(), intake };
    Bench { running, streams, gate, _directory: directory }
}

/// What is stored and what is given up of one message and the beginning of another, which were read
/// before the stop; the queue has room `after` that.
async fn stopped(after: Duration) -> (Vec<String>, u64) {
    let Bench { running, streams, gate, _directory } = bench();
    let intake = Arc::clone(&running.intake);
    let (mut sender, stream) = duplex(1 << 10);
    sender.write_all(b"<13>one\n<13>two").await.unwrap();
    let reading = running.tracker.track_future(streams.read(stream, PEER));
    let stopping = async {
        sleep(Duration::from_millis(100)).await;
        intake.stop.cancel();
        sleep(after).await;
        gate.is_open.store(true, Ordering::Relaxed);
    };
    let drained = running.drained(Duration::from_secs(10));
    let (read, (), ()) = tokio::join!(reading, drained, stopping);
    read.unwrap();
    (gate.taken.lock().clone(), intake.given_up.load(Ordering::Relaxed))
}

#[tokio::test(start_paused = true)]
async fn what_was_read_before_the_stop_is_stored_or_counted() {
    let both = vec!["one".to_owned(), "two".to_owned()];
    assert_eq!(stopped(Duration::from_secs(5)).await, (both, 0));
    assert_eq!(stopped(Duration::from_secs(60)).await, (Vec::new(), 2));
}

#[tokio::test(start_paused = true)]
async fn a_stream_is_charged_for_its_messages_and_for_no_more() {
    let Bench { running, streams, gate, _directory } = bench();
    let held = || running.intake.budget.held_share(&Tenant::default()).held as usize;
    let (mut few, mut many) = (Vec::new(), Vec::new());
    for (sent, senders) in [("<13>a\n".to_owned(), &mut few), ("a\n".repeat(2_500), &mut many)] {
        let (mut sender, stream) = duplex(READ_BYTES);
        sender.write_all(sent.as_bytes()).await.unwrap();
        drop(sender);
        senders.push(Box::pin(streams.read(stream, PEER)));
        let reading = tokio::time::timeout(Duration::from_millis(100), &mut senders[0]).await;
        assert!(reading.is_err(), "the queue is full");
    }
    // Those of the second are taken in two parts.
    let (one, part) = (weight(3, 6), weight(2_000, 5_000));
    assert_eq!(held(), one + part);
    gate.is_open.store(true, Ordering::Relaxed);
    for reading in few.into_iter().chain(many) {
        reading.await.unwrap();
    }
    assert_eq!((gate.taken.lock().len(), held()), (2_501, 0));
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_told_once_a_minute() {
    let Bench { running, _directory, .. } = bench();
    assert_eq!([running.intake.may_tell(), running.intake.may_tell()], [true, false]);
    sleep(Duration::from_secs(60)).await;
    assert!(running.intake.may_tell());
}
