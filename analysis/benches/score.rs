//! The cost of scores, apart from templates, and of growing a forest.
//!
//! Scoring: 1,000 patterns over 20 services, a latency and three attributes each, one log in 2,000
//! out of the ordinary. What is shown is the time with scores less the time of the same logs
//! without (as history they get a template only).

use std::{hint::black_box, time::Duration, time::Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use logweir_analysis::{
    Detector, DetectorConfig, FEATURE_COUNT, ForestModel, ForestParameters, ReceivedLog,
};
use logweir_core::{
    identity::{Service, Tenant},
    limits::HISTORY_AGE,
    record::{Attribute, Level, Record, Value},
    timestamp::{Timestamp, nanos_of},
};

const SERVICES: u64 = 20;
const PATTERNS: u64 = 50;
const LOGS: u64 = 100_000;
const RUN: u64 = 1_000;
const MILLISECOND: i64 = 1_000_000;

struct Random(u64);

impl Random {
    fn share(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.share()).sum::<f64>() - 6.0
    }
}

fn word(number: u64) -> String {
    let letter = |n: u64| char::from(b'a' + (n % 26) as u8);
    (0..6).map(|n| letter(number * (n + 3) + number / (n + 1))).collect()
}

fn log(n: u64, random: &mut Random) -> Record {
    let service = n / RUN % SERVICES;
    let kind = (random.share().powi(3) * PATTERNS as f64) as u64;
    let usual = (3.0 + 0.5 * random.normal() + kind as f64 / 20.0).exp();
    let latency = if random.share() < 0.0005 { usual * 100.0 } else { usual };
    let text = |text: String| Value::String(text);
    Record {
        message: format!("{} request {n} took {latency:.0} ms", word(service * 100 + kind)),
        latency_ms: Some(latency),
        attributes: vec![
            Attribute::new("request_id", text(format!("{n:016x}"))),
            Attribute::new("user_id", Value::Int((n * 7_919 % 100_000) as i64)),
            Attribute::new("region", text(format!("region-{}", n % 4))),
        ],
        ..Record::default()
    }
}

struct Stream {
    tenant: Tenant,
    services: Vec<Service>,
    logs: Vec<Record>,
    detector: Detector,
    passes: i64,
}

impl Stream {
    fn new() -> Self {
        let mut random = Random(1);
        let service = |n| Service::new(&format!("service-{n}")).expect("a valid name");
        Self {
            tenant: Tenant::default(),
            services: (0..SERVICES).map(service).collect(),
            logs: (0..LOGS).map(|n| log(n, &mut random)).collect(),
            detector: Detector::new(DetectorConfig::default()),
            passes: 0,
        }
    }

    /// Scores all logs, which go on in time from pass to pass.
    fn pass(&mut self, age_nanos: i64) -> Duration {
        let start = 1_700_000_000_000 * MILLISECOND + self.passes * LOGS as i64 * MILLISECOND;
        for (n, record) in self.logs.iter_mut().enumerate() {
            record.time = Timestamp::from_unix_nanos(start + n as i64 * MILLISECOND);
        }
        self.passes += 1;
        let started = Instant::now();
        for (n, record) in self.logs.iter().enumerate() {
            let service = &self.services[n / RUN as usize % SERVICES as usize];
            let received_unix_nano = record.time.as_unix_nanos() + age_nanos;
            black_box(self.detector.observe(&received(
                &self.tenant,
                service,
                received_unix_nano,
                record,
            )));
        }
        started.elapsed()
    }
}

fn score(criterion: &mut Criterion) {
    let mut stream = Stream::new();
    (0..5).for_each(|_| {
        stream.pass(0);
    });
    let mut group = criterion.benchmark_group("score");
    group.throughput(Throughput::Elements(LOGS));
    group.bench_function("templates apart", |bencher| {
        bencher.iter_custom(|passes| {
            (0..passes)
                .map(|_| stream.pass(0).saturating_sub(stream.pass(nanos_of(HISTORY_AGE) + 1)))
                .sum()
        });
    });
    group.finish();
}

fn forest(criterion: &mut Criterion) {
    let mut random = Random(2);
    let rows: Vec<[f32; FEATURE_COUNT]> =
        (0..100_000).map(|_| std::array::from_fn(|_| random.normal() as f32)).collect();
    let model = ForestModel::train(&rows, &ForestParameters::default()).expect("enough rows");
    let mut group = criterion.benchmark_group("isolation forest");
    group.sample_size(10);
    group.bench_function("train on 100,000 logs", |bencher| {
        bencher.iter(|| ForestModel::train(black_box(&rows), &ForestParameters::default()));
    });
    let mut at = 0;
    group.bench_function("tail of a log", |bencher| {
        bencher.iter(|| {
            at = (at + 1) % rows.len();
            model.tail(black_box(&rows[at]))
        });
    });
    let bytes = model.encode();
    group.bench_function("decode", |bencher| bencher.iter(|| ForestModel::decode(&bytes)));
    group.finish();
}

fn received<'a>(
    tenant: &'a Tenant,
    service: &'a Service,
    received_unix_nano: i64,
    record: &'a Record,
) -> ReceivedLog<'a> {
    ReceivedLog {
        tenant,
        service,
        instance: "",
        received_at: Timestamp::from_unix_nanos(received_unix_nano),
        record,
        level: Level::Info,
    }
}

criterion_group!(benches, score, forest);
criterion_main!(benches);
