//! The cost of a log: 1,000 templates over 20 services, messages of 70 to 200 bytes, a latency
//! each. Few templates are most of the logs, and which follows which is chance. With its template
//! alone, and scored.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use logweir_analysis::{Detector, DetectorConfig, ReceivedLog};
use logweir_core::{
    identity::{Service, Tenant},
    record::{Level, Record},
    timestamp::Timestamp,
};
use xxhash_rust::xxh3::xxh3_64;

const SERVICES: usize = 20;
/// So many that it takes long until windows of them come again.
const LOGS: usize = 200_000;
const RUN: usize = 1_000;

fn word(number: usize) -> String {
    let letter = |n: usize| char::from(b'a' + (n % 26) as u8);
    (0..6).map(|n| letter(number * (n + 3) + number / (n + 1))).collect()
}

fn logs(services: &[Service]) -> Vec<(Service, Record)> {
    (0..LOGS)
        .map(|n| {
            let service = (n / RUN) % SERVICES;
            let draw = xxh3_64(&n.to_le_bytes()) >> 32;
            // The square of an even draw: few are frequent.
            let kind = (((draw * draw) >> 32) as usize * 50) >> 32;
            let message = format!(
                "{} {} request {n} from 10.0.{}.{}:{} for user=u{n} took {}.{} ms, trace {:032x} {}",
                word(service * 50 + kind),
                word(kind + 7),
                n % 256,
                kind,
                n % 65_536,
                n % 900,
                n % 10,
                n as u128 * 0x9e37_79b9_7f4a_7c15,
                "handled by the worker of the pool".repeat(n % 3),
            );
            let record = Record {
                message,
                latency_ms: Some(10.0 + (n % 90) as f64),
                time: Timestamp::from_unix_nanos(n as i64 * 1_000_000),
                ..Record::default()
            };
            (services[service].clone(), record)
        })
        .collect()
}

fn observe(criterion: &mut Criterion) {
    let tenant = Tenant::default();
    let names = (0..SERVICES).map(|n| Service::new(&format!("service-{n}")).expect("a valid name"));
    let services: Vec<Service> = names.collect();
    let logs = logs(&services);
    let bytes: usize = logs.iter().map(|(_, record)| record.message.len()).sum();
    let mut group = criterion.benchmark_group(format!("observe, {} B a message", bytes / LOGS));
    group.throughput(Throughput::Elements(LOGS as u64)).sample_size(20);
    for (name, scoring) in [("template", false), ("template and score", true)] {
        let mut detector = Detector::new(DetectorConfig { scoring, ..DetectorConfig::default() });
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                for (service, record) in &logs {
                    let received_unix_nano = record.time.as_unix_nanos();
                    black_box(detector.observe(&received(
                        &tenant,
                        service,
                        received_unix_nano,
                        record,
                    )));
                }
            });
        });
    }
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

criterion_group!(benches, observe);
criterion_main!(benches);
