//! What is done by sending.

use std::time::Duration;

use logweir_proto::v1::{
    Account, Batch, DropCount, IngestRequest, LogRecord, Producer, Resource,
    ingest_service_client::IngestServiceClient,
};
use opentelemetry_proto::tonic::{
    collector::logs::v1::{ExportLogsServiceRequest, logs_service_client::LogsServiceClient},
    common::v1::{AnyValue, any_value},
    logs::v1::{LogRecord as OtlpRecord, ResourceLogs, ScopeLogs},
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tonic::{Status, transport::Channel};
use uuid::Uuid;

use super::abuser::{Abuser, REFUSED_PAUSE};
use crate::noisy::batch;

/// Of the service that the other cases read.
pub(super) const SERVICE: &str = "noise";
const WEEK_BATCHES: u32 = 30;
const WEEK_BATCH_LOGS: u64 = 1_000;
const WEEK: Duration = Duration::from_secs(7 * 86_400);

const FLOOD_CONNECTIONS: usize = 8;
const FLOOD_WORKERS: usize = 32;
const FLOOD_LOGS: u64 = 5_000;
const LARGE_WORKERS: usize = 8;
const LARGE_LOGS: u64 = 100_000;
const LARGE_LOG_BYTES: usize = 260;
const REJECTED_LOGS: u64 = 1_000;
const PATTERN_LOGS: u64 = 500;
const PATTERN_SERVICES: u64 = 130;
const WORDS_OF_PATTERN: usize = 6;
const CONNECTIONS: usize = 4;
const WORKERS: usize = 16;
const PRODUCER_WORKERS: usize = 32;
/// The largest legal account.
const DROP_REASONS: u64 = 64;
const NAME_BYTES: usize = 64;
const FIELD_BYTES: usize = 256;

/// Stores logs over the past week.
pub(in crate::noisy) async fn store_a_week(abuser: &Abuser) -> Result<(), Status> {
    let mut client = IngestServiceClient::new(abuser.channel());
    for number in 0..WEEK_BATCHES {
        let time_unix_nano = batch::before_now(WEEK * (WEEK_BATCHES - number) / WEEK_BATCHES);
        let first = u64::from(number) * WEEK_BATCH_LOGS;
        let logs = noise(first, WEEK_BATCH_LOGS);
        let logs = logs.map(|log| LogRecord { time_unix_nano, ..log }).collect();
        client.ingest(abuser.request(batch::request(SERVICE, logs))).await?;
    }
    Ok(())
}

fn noise(first: u64, count: u64) -> impl Iterator<Item = LogRecord> {
    (first..first + count).map(|number| {
        let message =
            format!("request {number} of client {} answered in {} ms", number * 13, number % 97);
        let attributes = vec![batch::attribute("order", number.cast_signed())];
        LogRecord { attributes, latency_ms: Some((number % 97) as f64), ..batch::log(message) }
    })
}

pub(super) async fn flood(abuser: &Abuser) {
    let act = |abuser, channel, number| {
        let logs = noise(number * FLOOD_LOGS, FLOOD_LOGS).collect();
        send(abuser, channel, batch::batch(SERVICE, logs), "logs acknowledged")
    };
    abuser.repeat(FLOOD_CONNECTIONS, FLOOD_WORKERS, act).await;
}

/// As an OpenTelemetry collector that has a backlog: each request is many batches.
pub(super) async fn send_large_requests(abuser: &Abuser) {
    let act = async |abuser: Abuser, channel, number: u64| {
        let first = number * LARGE_LOGS;
        let log_records = (first..first + LARGE_LOGS).map(otlp_log).collect();
        let scope_logs = vec![ScopeLogs { log_records, ..ScopeLogs::default() }];
        let logs = ResourceLogs { scope_logs, ..ResourceLogs::default() };
        let sent = ExportLogsServiceRequest { resource_logs: vec![logs] };
        LogsServiceClient::new(channel).export(abuser.request(sent)).await?;
        abuser.tally.add("logs acknowledged", LARGE_LOGS);
        Ok(())
    };
    abuser.repeat(CONNECTIONS, LARGE_WORKERS, act).await;
}

fn otlp_log(number: u64) -> OtlpRecord {
    let text = format!("request {number} answered in {} ms; {:LARGE_LOG_BYTES$}", number % 97, "");
    let body = Some(AnyValue { value: Some(any_value::Value::StringValue(text)) });
    OtlpRecord { time_unix_nano: batch::now_unix_nano(), body, ..OtlpRecord::default() }
}

/// A few logs a second, for those who are to look at them.
pub(super) async fn trickle(abuser: &Abuser) {
    let act = async |abuser: &Abuser, number| {
        let logs = noise(number * WEEK_BATCH_LOGS, WEEK_BATCH_LOGS).collect();
        send(abuser.clone(), abuser.channel(), batch::batch(SERVICE, logs), "logs acknowledged")
            .await
    };
    for number in 0.. {
        abuser.tally.note(&act(abuser, number).await);
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// Waits until all that was sent before is stored: batches of one service are stored in order.
pub(super) async fn until_stored(abuser: &Abuser) {
    let last = || batch::batch(SERVICE, noise(0, 1).collect());
    while send(abuser.clone(), abuser.channel(), last(), "logs acknowledged").await.is_err() {
        tokio::time::sleep(REFUSED_PAUSE).await;
    }
}

pub(super) async fn send_rejected(abuser: &Abuser) {
    abuser.repeat(CONNECTIONS, WORKERS, send_batch_of_rejected).await;
}

async fn send_batch_of_rejected(
    abuser: Abuser,
    channel: Channel,
    number: u64,
) -> Result<(), Status> {
    let rejected = |log| LogRecord { latency_ms: Some(f64::NAN), ..log };
    let logs = noise(number * REJECTED_LOGS, REJECTED_LOGS).map(rejected).collect();
    let mut client = IngestServiceClient::new(channel);
    let answer = client.ingest(abuser.request(batch::request(SERVICE, logs))).await?;
    abuser.tally.add("logs rejected", answer.get_ref().rejected.len() as u64);
    Ok(())
}

pub(super) async fn send_one_off_patterns(abuser: &Abuser) {
    let act = |abuser, channel, number| {
        let mut random = StdRng::seed_from_u64(number);
        let logs = (0..PATTERN_LOGS).map(|_| batch::log(one_off(&mut random))).collect();
        let service = format!("patterns-{}", number % PATTERN_SERVICES);
        send(abuser, channel, batch::batch(&service, logs), "patterns acknowledged")
    };
    abuser.repeat(CONNECTIONS, WORKERS, act).await;
}

/// Words of letters alone, as numbers are masked.
fn one_off(random: &mut StdRng) -> String {
    let mut word = || (0..8).map(|_| char::from(random.random_range(b'a'..=b'z'))).collect();
    let words: Vec<String> = std::iter::repeat_with(&mut word).take(WORDS_OF_PATTERN).collect();
    words.join(" ")
}

pub(super) async fn send_as_many_producers(abuser: &Abuser) {
    let act = |abuser, channel, number: u64| {
        let service = format!("producers-{}", number % PATTERN_SERVICES);
        let resource = Some(Resource {
            instance: long("instance", number, FIELD_BYTES),
            ..Resource { service, ..Resource::default() }
        });
        let batch = Batch { producer: Some(producer()), resource, ..batch::batch("", Vec::new()) };
        send(abuser, channel, batch, "logs acknowledged")
    };
    abuser.repeat(CONNECTIONS, PRODUCER_WORKERS, act).await;
}

fn producer() -> Producer {
    let count = i64::MAX as u64 / DROP_REASONS;
    let dropped =
        (0..DROP_REASONS).map(|n| DropCount { reason: long("reason", n, NAME_BYTES), count });
    let dropped = dropped.collect();
    let account = Account { emitted: i64::MAX as u64, dropped, ..Account::default() };
    Producer {
        producer_id: Uuid::new_v4().as_bytes().to_vec(),
        sequence: 1,
        account: Some(account),
        sdk_name: long("sdk", 0, NAME_BYTES),
        sdk_version: long("version", 0, NAME_BYTES),
    }
}

fn long(name: &str, number: u64, bytes: usize) -> String {
    format!("{name}-{number:_>width$}", width = bytes - name.len() - 1)
}

async fn send(abuser: Abuser, channel: Channel, batch: Batch, counts: &str) -> Result<(), Status> {
    let sent = IngestRequest { batch: Some(batch) };
    let answer = IngestServiceClient::new(channel).ingest(abuser.request(sent)).await?;
    abuser.tally.add(counts, u64::from(answer.get_ref().accepted));
    Ok(())
}
