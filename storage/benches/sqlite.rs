//! What storing, keeping and finding logs costs with SQLite: `cargo bench -p logweir-storage
//! --bench sqlite -- LOGS [DIRECTORY]` writes so many made-up logs (a million by default) of 20
//! services and 1,000 templates, 20,000 to a transaction, merges as it goes, and then searches.

use std::{
    collections::HashMap,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use logweir_core::{
    filter::Filter,
    identity::{BatchId, ProducerId, Service, TemplateId, Tenant},
    record::{
        Account, Attribute, Level, Producer, Record, Resource, ScoredBatch, ScoredRecord, Template,
        Value,
    },
};
use logweir_storage::{
    Administer, AggregateQuery, GroupBy, ReadLogs, SearchQuery, SqliteConfig, SqliteStorage,
    TimeRange, WriteLogs,
    block::{Effort, Encoder, Row},
};

const SERVICES: u64 = 20;
const TEMPLATES_PER_SERVICE: u64 = 50;
const BATCH_LOGS: u64 = 1_000;
const START: i64 = 1_700_000_000_000_000_000;
const HOUR: i64 = 3_600_000_000_000;
/// Event time that all the logs together take.
const SPAN: i64 = 10 * HOUR;

fn mixed(number: u64) -> u64 {
    let mut x = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

struct Made {
    services: Vec<Service>,
    templates: Vec<Arc<Template>>,
    step: i64,
}

impl Made {
    fn new(total: u64) -> Self {
        let service = |n| Service::new(&format!("service-{n:02}")).expect("a valid name");
        let services: Vec<Service> = (0..SERVICES).map(service).collect();
        let template = |n: u64| {
            let of = services[(n / TEMPLATES_PER_SERVICE) as usize].clone();
            let pattern = format!(
                "{of} step {n} handled request <*> for user <*> in <*> ms via route <*> with result ok"
            );
            let template_id = TemplateId(mixed(n + 1_000_000));
            Arc::new(Template { template_id, tenant: Tenant::default(), service: of, pattern })
        };
        let templates = (0..SERVICES * TEMPLATES_PER_SERVICE).map(template).collect();
        Self { services, templates, step: SPAN / total as i64 }
    }

    fn log(&self, service: u64, index: u32, place: u64) -> ScoredRecord {
        let random = mixed(place);
        // Some templates are much more frequent than others.
        let skewed = (random % TEMPLATES_PER_SERVICE) * (random >> 8) % TEMPLATES_PER_SERVICE;
        let template = &self.templates[(service * TEMPLATES_PER_SERVICE + skewed) as usize];
        let level = match random >> 16 & 0x3f {
            0 => Level::Error,
            1..4 => Level::Warn,
            4..16 => Level::Debug,
            _ => Level::Info,
        };
        let latency_ms = ((random >> 20 & 0xfff) as f64 / 10.0 + 1.0).round();
        let message = format!(
            "{} step {skewed} handled request {:012x} for user {} in {latency_ms} ms via route /api/v1/items/{} with result ok",
            template.service,
            random >> 16,
            random >> 32 & 0xffff,
            random >> 44 & 0xfff,
        );
        ScoredRecord {
            record: Record {
                index,
                time_unix_nano: START + place as i64 * self.step,
                level: Some(level),
                severity_number: level as u8 * 4 - 3,
                message,
                latency_ms: (random & 3 == 0).then_some(latency_ms),
                trace_id: None,
                span_id: None,
                logger: "app.http".into(),
                attributes: vec![
                    Attribute::new("user_id", Value::Int((random >> 32 & 0xffff) as i64)),
                    Attribute::new(
                        "region",
                        Value::String(["eu", "us", "ap"][(random % 3) as usize].into()),
                    ),
                    Attribute::new(
                        "status",
                        Value::Int([200, 200, 200, 404, 500][(random % 5) as usize]),
                    ),
                ],
            },
            level,
            template_id: template.template_id,
            anomaly_score: (random >> 40 & 0xff) as f32 / 256.0,
            is_anomaly: random.is_multiple_of(1_000),
            anomaly_reasons: Vec::new(),
        }
    }

    fn batch(&self, number: u64) -> ScoredBatch {
        let service = number % SERVICES;
        // The batches of a round are of the same time.
        let round = number / SERVICES * SERVICES * BATCH_LOGS;
        let place = |index: u64| round + index * SERVICES + service;
        let log = |index: u64| self.log(service, index as u32, place(index));
        let records: Vec<ScoredRecord> = (0..BATCH_LOGS).map(log).collect();
        let first = service * TEMPLATES_PER_SERVICE;
        let of_service = &self.templates[first as usize..(first + TEMPLATES_PER_SERVICE) as usize];
        let templates: HashMap<_, _> = of_service
            .iter()
            .map(|template| (template.template_id, Arc::clone(template)))
            .collect();
        let mut id = [0; 16];
        id[..8].copy_from_slice(&number.to_be_bytes());
        ScoredBatch {
            tenant: Tenant::default(),
            batch_id: BatchId(id),
            checksum: number,
            received_unix_nano: START + place(BATCH_LOGS) as i64 * self.step,
            producer: Some(Producer {
                producer_id: ProducerId([service as u8; 16]),
                sequence: number / SERVICES + 1,
                account: Account {
                    emitted: (number / SERVICES + 1) * BATCH_LOGS,
                    ..Account::default()
                },
                sdk: "bench/1".into(),
            }),
            resource: Resource {
                instance: format!("host-{service}"),
                ..Resource::of(self.services[service as usize].clone())
            },
            records,
            rejected: Vec::new(),
            templates,
        }
    }
}

/// CPU time of this process in seconds, all threads.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after = stat.rsplit(')').next().unwrap_or_default();
    let ticks =
        |place| after.split_whitespace().nth(place).and_then(|text| text.parse::<f64>().ok());
    (ticks(11).unwrap_or(0.0) + ticks(12).unwrap_or(0.0)) / 100.0
}

fn disk_bytes(directory: &Path) -> u64 {
    std::fs::metadata(directory.join("logweir.db")).map_or(0, |found| found.len())
}

async fn write(storage: &SqliteStorage, made: &Made, total: u64) {
    let (mut wall, mut cpu, mut merge_wall, mut merge_cpu) = (0.0, 0.0, 0.0, 0.0);
    let mut slowest = Duration::ZERO;
    let mut encode = 0.0;
    let mut encoder = Encoder::new();
    for first in (0..total / BATCH_LOGS).step_by(SERVICES as usize) {
        let batches: Vec<ScoredBatch> = (first..first + SERVICES).map(|n| made.batch(n)).collect();
        let used = cpu_seconds();
        let rows: Vec<Row<'_>> = batches.iter().flat_map(rows).collect();
        encoder.encode(&rows, Effort::Fresh).expect("good rows");
        encode += cpu_seconds() - used;
        let (started, used) = (Instant::now(), cpu_seconds());
        storage.write(batches.into()).await.expect("room");
        slowest = slowest.max(started.elapsed());
        (wall, cpu) = (wall + started.elapsed().as_secs_f64(), cpu + cpu_seconds() - used);
        let (started, used) = (Instant::now(), cpu_seconds());
        while storage.maintain(START).await.expect("upkeep") {}
        merge_wall += started.elapsed().as_secs_f64();
        merge_cpu += cpu_seconds() - used;
    }
    while storage.maintain(START + 60_000_000_000).await.expect("upkeep") {}
    let millions = total as f64 / 1e6;
    println!(
        "write   {:.3} s wall, {:.3} s CPU per million (slowest {slowest:?})",
        wall / millions,
        cpu / millions
    );
    println!("  of it encoding {:.3} s CPU per million", encode / millions);
    println!(
        "upkeep  {:.3} s wall, {:.3} s CPU per million",
        merge_wall / millions,
        merge_cpu / millions
    );
}

fn rows(batch: &ScoredBatch) -> impl Iterator<Item = Row<'_>> {
    batch.records.iter().map(|scored| Row {
        batch_id: batch.batch_id,
        received_unix_nano: batch.received_unix_nano,
        service: &batch.resource.service,
        instance: &batch.resource.instance,
        environment: &batch.resource.environment,
        scored,
    })
}

async fn search(storage: &SqliteStorage, name: &str, filter: &str) {
    let query = SearchQuery {
        filter: Filter::parse(filter, START).expect("a good filter"),
        range: TimeRange::ALL,
        cursor: None,
        page_size: 100,
    };
    let mut times = Vec::new();
    let mut found = 0;
    for _ in 0..5 {
        let started = Instant::now();
        found =
            storage.search(&Tenant::default(), query.clone()).await.expect("an answer").logs.len();
        times.push(started.elapsed().as_secs_f64() * 1e3);
    }
    println!(
        "{name}: first {:.1} ms, best {:.1} ms, {found} found",
        times[0],
        times.iter().copied().fold(f64::MAX, f64::min)
    );
}

async fn aggregate(
    storage: &SqliteStorage,
    group_by: GroupBy,
    bucket_seconds: u32,
    range: TimeRange,
) {
    let query = AggregateQuery { range, bucket_seconds, group_by, service: None };
    let mut best = f64::MAX;
    let mut series = 0;
    for _ in 0..5 {
        let started = Instant::now();
        series =
            storage.aggregate(&Tenant::default(), query.clone()).await.expect("an answer").len();
        best = best.min(started.elapsed().as_secs_f64() * 1e3);
    }
    println!("counts per {bucket_seconds} s by {group_by:?}: {best:.1} ms, {series} series");
}

async fn queries(storage: &SqliteStorage, made: &Made, total: u64) {
    search(storage, "newest 100 errors of a service", "service:service-07 level>=error").await;
    search(storage, "newest 100", "").await;
    let rare = made.log(3, 0, total / 2 / SERVICES * SERVICES + 3).record.message;
    let word = rare.split(' ').nth(5).expect("a word");
    search(storage, "a rare word", word).await;
    search(storage, "a word that is nowhere", "wordthatneverwas").await;
    search(storage, "an attribute, all opened", "user_id=999999").await;
    let hour = (START / HOUR + 5) * HOUR;
    let range = TimeRange { from_unix_nano: hour, to_unix_nano: hour + HOUR };
    aggregate(storage, GroupBy::Service, 60, range).await;
    aggregate(storage, GroupBy::Nothing, 60, range).await;
    aggregate(storage, GroupBy::Template, 3_600, TimeRange::ALL).await;
    let started = Instant::now();
    let listed =
        storage.list_templates(&Tenant::default(), None, range, 100).await.expect("an answer");
    println!(
        "templates of an hour: {:.1} ms, {}",
        started.elapsed().as_secs_f64() * 1e3,
        listed.len()
    );
}

fn main() {
    let arguments: Vec<String> = std::env::args().filter(|text| text != "--bench").collect();
    let total = arguments.get(1).and_then(|text| text.parse().ok()).unwrap_or(1_000_000);
    let temporary = tempfile::TempDir::new().expect("a directory");
    let directory =
        arguments.get(2).map_or_else(|| temporary.path(), |text| Path::new(text.as_str()));
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let config = SqliteConfig::new(directory);
        let is_new = disk_bytes(directory) == 0;
        let storage = SqliteStorage::open(&config, Arc::new(|| START)).expect("a data directory");
        let made = Made::new(total);
        if is_new {
            write(&storage, &made, total).await;
        }
        queries(&storage, &made, total).await;
        drop(storage);
        println!("disk    {:.1} B a log", disk_bytes(directory) as f64 / total as f64);
    });
}
