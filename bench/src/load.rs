//! Clients that send at a rate, or as fast as they are answered.

use logweir_core::timestamp::Timestamp;
use std::time::{Duration, Instant};

use logweir_loadgen::{Config, Generator};
use logweir_proto::v1;
use logweir_sdk::{Compression, EncodedBatch, SendOptions, SendOutcome, Sender, Token};
use opentelemetry_proto::tonic::collector::logs::v1::{
    ExportLogsServiceRequest, logs_service_client::LogsServiceClient,
};
use prost::Message as _;
use tokio::task::JoinSet;
use tonic::{
    Request,
    metadata::{Ascii, MetadataValue},
    transport::Channel,
};

use crate::{otlp, process::Server};

/// Logs of each measured run at full speed.
pub(crate) const RUN_LOGS: u64 = 1_000_000;

/// How to load a server.
#[derive(Clone)]
pub(crate) struct Load {
    pub(crate) endpoint: String,
    pub(crate) token: String,
    /// Clients in parallel, each with one batch under way.
    pub(crate) clients: usize,
    /// Connections that they share.
    pub(crate) connections: usize,
    pub(crate) batch_records: usize,
    pub(crate) logs: u64,
    /// None: as fast as they are answered.
    pub(crate) logs_per_second: Option<f64>,
    /// Event time runs over this span, ending now; zero: every log happens now.
    pub(crate) history: Duration,
    /// Whether logs belong to traces, ten logs to each.
    pub(crate) is_traced: bool,
    /// Whether they come by OTLP over gRPC.
    pub(crate) is_otlp: bool,
    pub(crate) seed: u64,
}

/// What a load came to: logs acknowledged, the time until the last, and each batch's latency.
#[derive(Default)]
pub(crate) struct Outcome {
    pub(crate) logs: u64,
    pub(crate) elapsed: Duration,
    latencies: Vec<Duration>,
}

impl Outcome {
    pub(crate) fn logs_per_second(&self) -> f64 {
        self.logs as f64 / self.elapsed.as_secs_f64()
    }

    /// Time from due to acknowledged, refusals and retries included.
    pub(crate) fn latency_ms(&self, quantile: f64) -> f64 {
        let last = self.latencies.len().saturating_sub(1);
        let rank = (self.latencies.len() as f64 * quantile) as usize;
        self.latencies.get(rank.min(last)).map_or(0.0, |latency| latency.as_secs_f64() * 1e3)
    }
}

impl Load {
    /// As many clients as keep the server busy, as fast as they are answered.
    pub(crate) fn full_speed(server: &Server, token: &str, seed: u64) -> Self {
        Self {
            endpoint: server.endpoint.clone(),
            token: token.to_owned(),
            clients: 16,
            connections: 4,
            batch_records: 1_000,
            logs: RUN_LOGS,
            logs_per_second: None,
            history: Duration::ZERO,
            is_traced: false,
            is_otlp: false,
            seed,
        }
    }

    /// Runs it to the end.
    #[allow(clippy::disallowed_methods, reason = "the clients are awaited here")]
    pub(crate) async fn run(&self) -> anyhow::Result<Outcome> {
        let mut senders = Vec::new();
        for _ in 0..self.connections {
            senders.push(Client::connect(self)?);
        }
        let begun = Instant::now();
        let mut clients = JoinSet::new();
        for number in 0..self.clients {
            let sender = senders[number % senders.len()].clone();
            clients.spawn(self.clone().client(number, sender, begun));
        }
        let mut outcome = Outcome::default();
        while let Some(client) = clients.join_next().await {
            let client = client??;
            outcome.logs += client.logs;
            outcome.latencies.extend(client.latencies);
        }
        outcome.elapsed = begun.elapsed();
        outcome.latencies.sort_unstable();
        Ok(outcome)
    }

    async fn client(
        self,
        number: usize,
        mut client: Client,
        begun: Instant,
    ) -> anyhow::Result<Outcome> {
        // The clients are instances of the same services.
        let config = Config { stream: self.seed + number as u64, ..Config::default() };
        let mut generator = Generator::new(config, Timestamp::EPOCH);
        let rounds = (self.logs / self.batch_records as u64).div_ceil(self.clients as u64);
        let interval = self.logs_per_second.map(|rate| {
            Duration::from_secs_f64(self.batch_records as f64 * self.clients as f64 / rate)
        });
        let mut outcome = Outcome::default();
        for round in 0..rounds {
            let mut due = Instant::now();
            if let Some(interval) = interval {
                // Clients start spread over one interval. Latency counts from the due time, so that
                // a server that stalls is not measured less often.
                let offset = interval.mul_f64(number as f64 / self.clients as f64);
                due = begun + offset + interval.mul_f64(round as f64);
                tokio::time::sleep_until(due.into()).await;
            }
            let age = self.history.mul_f64(1.0 - round as f64 / rounds as f64);
            let time = logweir_core::runtime::clock::now() - age;
            let service = (number + round as usize) % generator.service_count();
            let mut batch = batch(&mut generator, service, self.batch_records, time);
            if self.is_traced {
                trace(&mut batch);
            }
            let message = client.encoded(batch, time);
            // Without a rate nothing was due before: making the batch is the client's own time.
            if interval.is_none() {
                due = Instant::now();
            }
            client.send(message).await?;
            outcome.latencies.push(due.elapsed());
            outcome.logs += self.batch_records as u64;
        }
        Ok(outcome)
    }
}

/// The way in of one connection.
#[derive(Clone)]
enum Client {
    Native(Sender),
    Otlp(Box<LogsServiceClient<Channel>>, MetadataValue<Ascii>),
}

/// A batch as it is sent.
enum Message {
    Native(EncodedBatch),
    Otlp(ExportLogsServiceRequest),
}

impl Client {
    fn connect(load: &Load) -> anyhow::Result<Self> {
        if load.is_otlp {
            let channel = Channel::from_shared(load.endpoint.clone())?.connect_lazy();
            let bearer = format!("Bearer {}", load.token).parse()?;
            let client = Box::new(LogsServiceClient::new(channel));
            return Ok(Self::Otlp(client, bearer));
        }
        let options = SendOptions { compression: Compression::None, ..SendOptions::default() };
        let token = Token::Text(load.token.clone());
        Ok(Self::Native(Sender::connect(&load.endpoint, token, options)?))
    }

    fn encoded(&self, batch: v1::Batch, time: Timestamp) -> Message {
        match self {
            Self::Native(_) => Message::Native(EncodedBatch::new(batch, time.as_unix_nanos())),
            Self::Otlp(..) => Message::Otlp(otlp::request(batch)),
        }
    }

    /// Sends it, and is content with nothing but that all of it was accepted: a log that was refused
    /// cost next to nothing, and no figure may count it.
    async fn send(&mut self, message: Message) -> anyhow::Result<()> {
        match (self, message) {
            (Self::Native(sender), Message::Native(batch)) => {
                match sender.send(&batch, None).await {
                    SendOutcome::Accepted { rejected, .. } if rejected.is_empty() => Ok(()),
                    other => anyhow::bail!("a batch was not accepted: {other:?}"),
                }
            }
            (Self::Otlp(client, bearer), Message::Otlp(request)) => {
                let mut request = Request::new(request);
                request.metadata_mut().insert("authorization", bearer.clone());
                let partial = client.export(request).await?.into_inner().partial_success;
                anyhow::ensure!(partial.is_none(), "a batch was not accepted: {partial:?}");
                Ok(())
            }
            _ => unreachable!("a client sends what it has encoded"),
        }
    }
}

/// Bytes a log of this kind as encoded for the wire, a service's logs together, in one stream of
/// zstd's hardest level: about what such logs have to say.
pub(crate) fn compressed_bytes() -> anyhow::Result<f64> {
    const BATCHES_PER_SERVICE: usize = 8;
    const BATCH_RECORDS: usize = 1_000;
    const HARDEST_LEVEL: i32 = 22;
    let mut generator = Generator::new(Config::default(), Timestamp::EPOCH);
    let mut encoded = Vec::new();
    for service in 0..generator.service_count() {
        for number in 0..BATCHES_PER_SERVICE {
            let time = Timestamp::from_unix_seconds(number as i64);
            let batch = batch(&mut generator, service, BATCH_RECORDS, time);
            batch.encode(&mut encoded)?;
        }
    }
    let logs = generator.service_count() * BATCHES_PER_SERVICE * BATCH_RECORDS;
    Ok(zstd::bulk::compress(&encoded, HARDEST_LEVEL)?.len() as f64 / logs as f64)
}

fn batch(
    generator: &mut Generator,
    service: usize,
    records_max: usize,
    time: Timestamp,
) -> v1::Batch {
    let mut records = Vec::new();
    generator.records(service, records_max, time, Duration::from_millis(1), &mut records);
    let service = generator.service_name(service).to_owned();
    let resource = v1::Resource { service, instance: "bench-1".into(), ..v1::Resource::default() };
    v1::Batch {
        batch_id: uuid::Uuid::now_v7().into_bytes().to_vec(),
        producer: None,
        resource: Some(resource),
        records,
    }
}

fn trace(batch: &mut v1::Batch) {
    for records in batch.records.chunks_mut(10) {
        let trace_id = uuid::Uuid::new_v4();
        for record in records {
            record.trace_id = trace_id.as_bytes().to_vec();
        }
    }
}
