//! Finding a log's template: known signatures, ten million hostile messages, and the memory of it
//! all.
//!
//! Logs that are older than their receipt by far are not scored, so that this is the template
//! alone.

use std::{fs, hint::black_box, time::Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use logweir_analysis::{Detector, DetectorConfig, ReceivedLog};
use logweir_core::{
    identity::{Service, Tenant},
    limits::HISTORY_AGE,
    record::{Level, Record},
    timestamp::{Timestamp, nanos_of},
};

const LOGS: u64 = 10_000;
const HOSTILE: u64 = 10_000_000;
const TEMPLATES: u64 = 100_000;
const LATER: i64 = nanos_of(HISTORY_AGE) + 1;

fn record(message: String) -> Record {
    Record { message, ..Record::default() }
}

fn service(number: u64) -> Service {
    Service::new(&format!("service-{number}")).expect("a valid name")
}

/// A word of letters, different for each number.
fn word(mut number: u64) -> String {
    let mut word = String::new();
    for _ in 0..7 {
        word.push(char::from(b'a' + (number % 26) as u8));
        number /= 26;
    }
    word
}

fn known(criterion: &mut Criterion) {
    let make = |n: u64| {
        let step = word(n % 200);
        record(format!(
            "{step} handled request {n} for user-{} in {} ms, status=ok",
            n % 97,
            n % 311
        ))
    };
    let logs: Vec<Record> = (0..LOGS).map(make).collect();
    let (tenant, service) = (Tenant::default(), service(0));
    let mut detector = Detector::new(DetectorConfig::default());
    let mut group = criterion.benchmark_group("template");
    group.throughput(Throughput::Elements(LOGS));
    group.bench_function("known signature", |bencher| {
        bencher.iter(|| {
            for record in &logs {
                black_box(detector.observe(&received(&tenant, &service, LATER, record)));
            }
        });
    });
    group.finish();
}

/// Resident memory of the process, MB.
fn resident_mb() -> f64 {
    let pages = fs::read_to_string("/proc/self/statm").ok();
    let pages = pages.and_then(|text| text.split(' ').nth(1)?.parse::<f64>().ok());
    pages.unwrap_or(f64::NAN) * 4_096.0 / 1e6
}

fn memory(_: &mut Criterion) {
    let tenant = Tenant::default();
    let before = resident_mb();
    let mut detector = Detector::new(DetectorConfig::default());
    let started = Instant::now();
    for n in 0..TEMPLATES {
        let service = service(n / 9_000);
        // Two places differ, so that no two are one pattern.
        let message =
            format!("{} of the request was handled by {}, took 5 ms", word(n), word(n * 7 + 3));
        detector.observe(&received(&tenant, &service, LATER, &record(message)));
    }
    let (stats, seconds) = (detector.stats(), started.elapsed().as_secs_f64());
    println!("{stats:?}: {:.0} MB more, {seconds:.1} s", resident_mb() - before);
}

fn hostile(_: &mut Criterion) {
    let (tenant, service) = (Tenant::default(), service(0));
    let before = resident_mb();
    let mut detector = Detector::new(DetectorConfig::default());
    let started = Instant::now();
    for n in 0..HOSTILE {
        let scattered = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let message = match n % 4 {
            0 => word(scattered).repeat(100),
            1 => format!("{} {} {}", word(scattered), word(scattered >> 20), word(n)),
            2 => String::from_utf8_lossy(&scattered.to_le_bytes()).into_owned(),
            _ => format!("{{\"{}\":\"{}\"}}", word(scattered), word(n)),
        };
        black_box(detector.observe(&received(&tenant, &service, LATER, &record(message))));
    }
    let (stats, seconds) = (detector.stats(), started.elapsed().as_secs_f64());
    let mb = resident_mb() - before;
    println!("{HOSTILE} hostile messages: {stats:?}: {mb:.0} MB more, {seconds:.1} s");
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

criterion_group!(benches, known, memory, hostile);
criterion_main!(benches);
