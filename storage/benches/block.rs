//! What the column block costs, on made-up logs: 1,000 patterns over 20 services, messages of 70 to
//! 200 bytes with 2 to 4 variable parts, 3 attributes. Prints bytes per log beside the times.

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use logweir_core::{
    filter::Filter,
    identity::{BatchId, LogId, Service, TemplateId},
    record::{Attribute, Level, Record, ScoredRecord, StoredLog, Value},
    timestamp::Timestamp,
};
use logweir_storage::block::{Block, Effort, EncodedBlock, Encoder, Row, Window, may_match};

const SERVICES: u64 = 20;
const PATTERNS_PER_SERVICE: u64 = 50;
const BATCH: u32 = 1_000;
const WORDS: [&str; 40] = [
    "request",
    "completed",
    "connection",
    "refused",
    "by",
    "upstream",
    "cache",
    "miss",
    "for",
    "key",
    "payment",
    "accepted",
    "order",
    "shipped",
    "retrying",
    "after",
    "timeout",
    "in",
    "worker",
    "pool",
    "session",
    "opened",
    "closed",
    "user",
    "logged",
    "query",
    "returned",
    "rows",
    "slow",
    "handler",
    "fetched",
    "object",
    "from",
    "bucket",
    "with",
    "status",
    "queue",
    "depth",
    "now",
    "at",
];

/// A small generator of noise (SplitMix64).
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// From 0 to 1, exclusive.
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// A message of a pattern: the pattern fixes words and kinds of variable parts.
fn message(pattern: u64, noise: &mut Noise) -> String {
    let mut fixed = Noise(pattern);
    let mut text = String::new();
    let parts = 2 + fixed.below(3);
    for _ in 0..parts {
        for _ in 0..3 + fixed.below(4) {
            text.push_str(WORDS[fixed.below(40) as usize]);
            text.push(' ');
        }
        let part = match fixed.below(6) {
            0 => format!("user_id={} ", noise.below(1_000_000)),
            1 => format!("id={:016x} ", noise.next()),
            2 => format!("took {}ms ", noise.below(5_000)),
            3 => format!("10.0.{}.{} ", noise.below(4), noise.below(256)),
            4 => format!("order-{} ", noise.below(100_000_000)),
            _ => format!("{} bytes ", noise.below(65_536)),
        };
        text.push_str(&part);
    }
    text
}

fn log(service: u64, batch: u64, index: u32, time: i64, noise: &mut Noise) -> StoredLog {
    let skewed = (noise.unit() * noise.unit() * PATTERNS_PER_SERVICE as f64) as u64;
    let pattern = service * PATTERNS_PER_SERVICE + skewed;
    let level = if pattern.is_multiple_of(11) { Level::Error } else { Level::Info };
    let latency = (-(noise.unit().ln()) * 20_000.0).round() / 1_000.0;
    let regions = ["eu-west-1", "us-east-1", "ap-south-1"];
    let attributes = vec![
        Attribute::new("region", Value::String(regions[noise.below(3) as usize].into())),
        Attribute::new(
            "http.status",
            Value::Int([200, 200, 200, 404, 500][noise.below(5) as usize]),
        ),
        Attribute::new("user", Value::String(format!("u{}", noise.below(50_000)))),
    ];
    let batch_id = BatchId(u128::from(Noise(batch).next()).to_be_bytes());
    StoredLog {
        id: LogId { time: Timestamp::from_unix_nanos(time), batch_id, index },
        received_at: Timestamp::from_unix_nanos(
            1_790_000_000_000_000_000 + batch as i64 * 50_000_000,
        ),
        service: Service::new(&format!("service-{service}")).expect("a good name"),
        instance: format!("host-{service}"),
        environment: "production".into(),
        scored: ScoredRecord {
            record: Record {
                index,
                time: Timestamp::from_unix_nanos(time),
                level: Some(level),
                severity_number: 0,
                message: message(pattern, noise),
                latency_ms: noise.below(2).eq(&0).then_some(latency),
                trace_id: None,
                span_id: None,
                logger: format!("app.module{}", pattern % 7),
                attributes,
            },
            level,
            template_id: TemplateId(Noise(pattern ^ 0xabc).next()),
            anomaly_score: (noise.unit() * 1_000.0).floor() as f32 / 1_000.0,
            is_anomaly: false,
            anomaly_reasons: Vec::new(),
        },
    }
}

/// Batches of 1,000 logs, each of one service, in order of service.
fn logs(services: std::ops::Range<u64>, batches_per_service: u64) -> Vec<StoredLog> {
    let mut noise = Noise(7);
    let mut logs = Vec::new();
    for service in services {
        let mut time = 1_790_000_000_000_000_000_i64;
        for batch in 0..batches_per_service {
            for index in 0..BATCH {
                time += (-(noise.unit().ln()) * 1_000_000.0) as i64;
                logs.push(log(service, service * 1_000 + batch, index, time, &mut noise));
            }
        }
    }
    logs
}

fn encode(encoder: &mut Encoder, logs: &[StoredLog], effort: Effort) -> EncodedBlock {
    let rows: Vec<Row<'_>> = logs.iter().map(Row::from).collect();
    encoder.encode(&rows, effort).expect("good rows")
}

fn print_size(name: &str, logs: &[StoredLog], block: &EncodedBlock) {
    let per_log = |bytes: usize| bytes as f64 / logs.len() as f64;
    let message: usize = logs.iter().map(|log| log.scored.record.message.len()).sum();
    let sections = Block::open(&block.body).expect("a good block").section_bytes();
    print!("{name}: {} logs, messages of {:.0} B; bytes per log:", logs.len(), per_log(message));
    for (section, bytes) in sections {
        print!(" {section} {:.2}", per_log(bytes));
    }
    let (filter, body) = (block.word_filter.len(), block.body.len());
    println!(" filter {:.2}; in all {:.2}", per_log(filter), per_log(filter + body));
}

fn bench_encode(criterion: &mut Criterion, name: &str, logs: &[StoredLog], effort: Effort) {
    let mut encoder = Encoder::new();
    let block = encode(&mut encoder, logs, effort);
    print_size(name, logs, &block);
    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::Elements(logs.len() as u64)).sample_size(20);
    group.bench_function("encode", |b| b.iter(|| encode(&mut encoder, logs, effort)));
    group.bench_function("decode", |b| {
        b.iter(|| Block::open(&block.body).expect("a good block").logs().expect("good logs"));
    });
    for text in
        ["", "level:error", "timeout", "*imeo*", "\"connection refused\"", "4711", "user=u77"]
    {
        let filter = Filter::parse(text, Timestamp::EPOCH).expect("a good filter").into();
        group.bench_function(format!("scan {text:?}"), |b| {
            b.iter(|| {
                let block = Block::open(&block.body).expect("a good block");
                block.matching(&filter, &Window::ALL, &|| true).expect("good columns").len()
            });
        });
    }
    let filter = Filter::parse("nowhere4711", Timestamp::EPOCH).expect("a good filter");
    group.throughput(Throughput::Elements(1));
    group.bench_function("ask the filter", |b| {
        b.iter(|| may_match(black_box(&block.word_filter), &filter));
    });
    group.finish();
}

/// Five blocks of 20 services each become one block of one service.
fn bench_merge(criterion: &mut Criterion) {
    let mut encoder = Encoder::new();
    let logs = logs(0..SERVICES, 5);
    let of_round = |round: usize| {
        let batches = logs.chunks(BATCH as usize).skip(round).step_by(5);
        encode(&mut encoder, &batches.flatten().cloned().collect::<Vec<_>>(), Effort::Fresh).body
    };
    let bodies: Vec<Vec<u8>> = (0..5).map(of_round).collect();
    let mut group = criterion.benchmark_group("merge");
    group.throughput(Throughput::Elements(logs.len() as u64)).sample_size(10);
    group.bench_function("5 blocks to 20", |b| {
        b.iter(|| {
            let open = |body| Block::open(body).expect("a good block");
            let blocks: Vec<Block<'_>> = bodies.iter().map(|body| open(body)).collect();
            for service in 0..SERVICES as u32 {
                let rows = service * BATCH..(service + 1) * BATCH;
                let places: Vec<(u32, u32)> =
                    (0..5).flat_map(|block| rows.clone().map(move |row| (block, row))).collect();
                black_box(encoder.merge(&blocks, &places).expect("good rows"));
            }
        });
    });
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    bench_encode(&mut criterion, "fresh", &logs(0..SERVICES, 1), Effort::Fresh);
    bench_encode(&mut criterion, "small", &logs(3..4, 1)[..50], Effort::Fresh);
    bench_encode(&mut criterion, "merged", &logs(3..4, 50), Effort::Merged);
    bench_merge(&mut criterion);
    criterion.final_summary();
}
