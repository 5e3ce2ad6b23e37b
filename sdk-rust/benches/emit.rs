//! What a log costs the thread that writes it.
//!
//! Criterion times many calls together; the percentiles beside it time each call, the clock's own
//! cost included. `drained`: a server takes everything. `full`: nobody does, and each log evicts
//! one. Last, how fast the library empties a full queue into a server beside it, by compression.

#[path = "../tests/support/mod.rs"]
mod support;

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use logweir_sdk::{Client, Compression, Level, Record};
use support::{Answer, Server};

/// One log every so often is 100,000 a second.
const PACE: Duration = Duration::from_micros(10);
const TIMED_CALLS: usize = 300_000;
const SENT_TOGETHER: usize = 200_000;

fn record(number: usize) -> Record {
    Record::new(Level::Info, format!("user {number} logged in from 10.0.0.7 after 3 attempts"))
        .attribute("user_id", number as i64)
        .attribute("region", "eu-west-1")
        .attribute("retry", false)
}

fn clients() -> Vec<(&'static str, Server, Client)> {
    let drained = Server::scripted([]);
    let away = Server::ruled(|_, _| Some(Answer::Hold));
    let client = |server: &Server| {
        let builder = Client::builder().endpoint(server.url()).token("secret");
        builder.on_notice(|_| {}).build().expect("the settings are right")
    };
    let (first, second) = (client(&drained), client(&away));
    (0..40_000).for_each(|number| second.emit(record(number)));
    vec![("drained", drained, first), ("full", away, second)]
}

/// Times single calls at a steady pace, and prints percentiles in nanoseconds.
fn percentiles(name: &str, client: &Client) {
    let mut nanos = Vec::with_capacity(TIMED_CALLS);
    let mut next = Instant::now();
    for number in 0..TIMED_CALLS {
        let record = record(number);
        while Instant::now() < next {
            std::hint::spin_loop();
        }
        next += PACE;
        let before = Instant::now();
        client.emit(black_box(record));
        nanos.push(before.elapsed().as_nanos());
    }
    nanos.sort_unstable();
    let at = |share: f64| nanos[((TIMED_CALLS - 1) as f64 * share) as usize];
    let (p50, p90, p99, p999) = (at(0.5), at(0.9), at(0.99), at(0.999));
    println!("emit/{name}: p50 {p50} ns, p90 {p90} ns, p99 {p99} ns, p99.9 {p999} ns");
}

fn emit(criterion: &mut Criterion) {
    for (name, server, client) in clients() {
        percentiles(name, &client);
        let mut group = criterion.benchmark_group("emit");
        group.throughput(Throughput::Elements(1));
        let mut number = 0;
        group.bench_function(name, |bencher| {
            bencher.iter_batched(
                || {
                    number += 1;
                    record(number)
                },
                |record| client.emit(record),
                criterion::BatchSize::SmallInput,
            );
        });
        group.finish();
        println!("{:?}", client.stats());
        server.open_gate();
        client.shutdown(Duration::from_secs(5));
    }
}

/// Sends a full queue in batches of 1,000, and prints the rate.
fn throughput(_: &mut Criterion) {
    for compression in [Compression::None, Compression::Zstd, Compression::Gzip] {
        let server = Server::scripted([]);
        let client = Client::builder()
            .endpoint(server.url())
            .token("secret")
            .compression(compression)
            .queue_records(2 * SENT_TOGETHER)
            .queue_bytes(1 << 30)
            .batch_records(1_000)
            .in_flight(8)
            .build()
            .expect("the settings are right");
        let before = Instant::now();
        (0..SENT_TOGETHER).for_each(|number| client.emit(record(number)));
        let report = client.flush(Duration::from_secs(60));
        assert_eq!(report.sent, SENT_TOGETHER as u64);
        let rate = SENT_TOGETHER as f64 / before.elapsed().as_secs_f64();
        println!("send/{compression:?}: {rate:.0} logs/s, emit and a test server included");
    }
}

criterion_group!(benches, emit, throughput);
criterion_main!(benches);
