//! The cost of judging a row of a series, once its memory is full; a thousand series take turns, as
//! services do.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use logweir_analysis::{SeriesConfig, SeriesDetector};

const SERIES: usize = 1_000;
const INTERVAL_NANOS: i64 = 10_000_000_000;

/// A busy day and a quiet night, with noise.
fn value(row: i64) -> f64 {
    let day = (row as f64 / 8_640.0 * std::f64::consts::TAU).sin();
    let noise = (row.wrapping_mul(2_654_435_761) % 1_000) as f64;
    100.0 + 50.0 * day + noise / 100.0
}

fn observe(criterion: &mut Criterion) {
    let mut one = SeriesDetector::new(SeriesConfig::default());
    (0..2_000).for_each(|row| drop(one.observe(row * INTERVAL_NANOS, value(row))));
    let mut series = vec![one; SERIES];
    let mut row = 2_000;
    let mut group = criterion.benchmark_group("series");
    group.throughput(Throughput::Elements(SERIES as u64));
    group.bench_function("observe", |bencher| {
        bencher.iter(|| {
            for detector in &mut series {
                black_box(detector.observe(row * INTERVAL_NANOS, value(row)));
            }
            row += 1;
        });
    });
    group.finish();
}

criterion_group!(benches, observe);
criterion_main!(benches);
