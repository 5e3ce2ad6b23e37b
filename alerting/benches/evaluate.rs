//! How long an evaluation takes: 10,000 rules, each for every one of 500 services, on one thread.
//! There are five seconds for it.

use std::{hint::black_box, time::Duration};

use criterion::{Criterion, criterion_group, criterion_main};
use logweir_alerting::{
    detector::window::{BUCKET_WIDTH, Bucket},
    incident::Incidents,
    notify::{pipeline::due, policy::NotificationPolicy},
    rule::{
        engine::{EVALUATE_EVERY, Engine},
        observations::Observations,
    },
};
use logweir_core::timestamp::Timestamp;
use logweir_incident::{
    built_in,
    rule::{Direction, Rule, RuleKind, Threshold},
};

/// 2026-01-05T00:00:00Z
const START: Timestamp = Timestamp::from_unix_seconds(1_767_571_200);
const SERVICES: usize = 500;
const RULES: usize = 10_000;

fn rule(number: usize) -> Rule {
    let window_seconds = [30, 60, 120, 300, 600, 900, 1_800, 3_600][number % 8];
    let level = 1.0 + (number % 97) as f64 / 10.0;
    let measure = match number / 8 % 5 {
        0 => {
            let threshold = Threshold::Absolute((0.1 * level).min(0.99));
            RuleKind::ErrorRate { window_seconds, threshold }
        }
        1 => RuleKind::ErrorCount { window_seconds, threshold: Threshold::Relative(3.0 * level) },
        2 => RuleKind::Volume {
            window_seconds,
            direction: Direction::Up,
            threshold: Threshold::Relative(3.0 * level),
        },
        3 => RuleKind::Volume {
            window_seconds,
            direction: Direction::Down,
            threshold: Threshold::Absolute(0.5),
        },
        _ => RuleKind::Latency {
            window_seconds,
            percentile: 0.95,
            threshold: Threshold::Absolute(5_000.0 * level),
        },
    };
    Rule::new(&format!("rule {number}"), measure)
}

fn bucket(start: Timestamp, service: usize) -> Bucket {
    let total = 50 + (service % 50) as u64;
    Bucket {
        start,
        total,
        errors: total / 50,
        anomalies: 0,
        latencies: (10..40).map(|bucket| (bucket, total / 30 + 1)).collect(),
        last_seen: start + Duration::from_secs(9),
    }
}

fn evaluate(criterion: &mut Criterion) {
    let mut rules = built_in::rules();
    rules.extend((0..RULES).map(rule));
    let mut engine = Engine::new("tenant", rules, Incidents::default());
    let names: Vec<String> = (0..SERVICES).map(|number| format!("service-{number}")).collect();
    // Two hours are known, so that the detectors do not give up at once.
    for start in (0..720).map(|bucket| START + BUCKET_WIDTH * bucket) {
        for (number, name) in names.iter().enumerate() {
            engine.learn_bucket(name, bucket(start, number));
        }
    }
    let mut now = START + BUCKET_WIDTH * 720;
    let mut group = criterion.benchmark_group("evaluate");
    // The fewest that criterion takes: one evaluation takes seconds.
    group.sample_size(10);
    group.bench_function("10,000 rules for 500 services", |bencher| {
        bencher.iter(|| {
            // Each is a new moment, as nothing is evaluated where time stands still.
            now += EVALUATE_EVERY;
            let start = now.floor(BUCKET_WIDTH) - BUCKET_WIDTH;
            let buckets = names.iter().enumerate();
            let buckets = buckets.map(|(number, name)| (name.clone(), bucket(start, number)));
            let seen = Observations { buckets: buckets.collect(), ..Observations::default() };
            black_box(engine.evaluate(now, seen, |_| None));
            black_box(due(engine.incidents_mut(), &NotificationPolicy::default(), now));
        });
    });
    group.finish();
}

criterion_group!(benches, evaluate);
criterion_main!(benches);
