//! The cost of following sessions: traces of about twenty logs, 500 open at a time, of twenty
//! kinds with branches and loops; and of judging a whole session, and of training.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use logweir_analysis::sequence::{
    SequenceLog, SequenceModel, SequenceParameters, SequenceTracker, SessionKind, TrackerConfig,
    event_id,
};

const OPEN: usize = 500;
const SESSIONS: usize = 5_000;

fn session(number: usize) -> Vec<u64> {
    let kind = number % 20;
    let event = |step: usize| event_id(&format!("{kind}/{step}"));
    let mut events: Vec<u64> = (0..6).map(event).collect();
    for turn in 0..2 + number / 20 % 5 {
        events.extend([event(6), event(7), event(8 + (number / 7 + turn) % 3)]);
    }
    if number.is_multiple_of(37) {
        events.extend([event(20), event(21)]);
    }
    events.extend((11..14).map(event));
    events
}

/// The logs of all sessions, as they interleave.
fn stream(sessions: &[Vec<u64>]) -> Vec<(u64, u64)> {
    let mut logs = Vec::new();
    for (round, open) in sessions.chunks(OPEN).enumerate() {
        for step in 0..open.iter().map(Vec::len).max().unwrap_or(0) {
            for (at, events) in open.iter().enumerate() {
                let session = (round * OPEN + at) as u64;
                logs.extend(events.get(step).map(|event| (session, *event)));
            }
        }
    }
    logs
}

fn follow(criterion: &mut Criterion) {
    let sessions: Vec<_> = (0..SESSIONS).map(session).collect();
    let logs = stream(&sessions);
    let mut group = criterion.benchmark_group("sequence");
    group.throughput(Throughput::Elements(logs.len() as u64));
    // Ten minutes pass between two passes, so the sessions of the last one are over.
    let config = TrackerConfig { idle_nanos: 100_000_000, ..TrackerConfig::default() };
    let mut tracker = SequenceTracker::new(config);
    let mut pass = 0_u64;
    group.bench_function("observe", |bencher| {
        bencher.iter(|| {
            pass += 1;
            for (number, (session, event)) in logs.iter().enumerate() {
                let received_unix_nano = (pass * 600_000_000_000 + number as u64 * 10_000) as i64;
                let log = SequenceLog {
                    account: 0,
                    scope: 1,
                    session: event_key(*session, pass),
                    kind: SessionKind::Trace,
                    event: *event,
                    received_unix_nano,
                };
                black_box(tracker.observe(log, || ()));
            }
            tracker.alarms().len()
        });
    });
    group.throughput(Throughput::Elements(SESSIONS as u64));
    group.sample_size(10);
    group.bench_function("train", |bencher| {
        bencher.iter(|| SequenceModel::train(&sessions, SequenceParameters::default()));
    });
    let model = SequenceModel::train(&sessions, SequenceParameters::default());
    group.bench_function("score", |bencher| {
        bencher.iter(|| sessions.iter().filter(|session| model.score(session).is_anomaly).count());
    });
    group.finish();
}

fn event_key(session: u64, pass: u64) -> u64 {
    (session + pass * 1_000_003).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

criterion_group!(benches, follow);
criterion_main!(benches);
