//! Whole scenarios with a quiet day before, through the built-in rules: every fault is found, soon,
//! and for the right cause; and nothing else is.

use std::time::Duration;

use logweir_alerting::{
    detector::window::{BUCKET_WIDTH, Bucket},
    incident::Incidents,
    notify::{pipeline::due, policy::NotificationPolicy},
    rule::{
        engine::Engine,
        observations::{Observations, Watermarks},
    },
    simulate::replay::{Replay, ReplayedLog},
};
use logweir_core::{latency::bucket_of, record::Level, timestamp::Timestamp};
use logweir_incident::{built_in, incident::Incident, notification::Notification};

const SECOND: Duration = Duration::from_secs(1);
/// 2026-01-05T00:00:00Z, a Monday.
const START: Timestamp = Timestamp::from_unix_seconds(1_767_571_200);
/// 25 hours later.
const FAULT: Timestamp = Timestamp::from_unix_seconds(1_767_571_200 + 25 * 3_600);
/// A quarter of an hour after that.
const END: Timestamp = Timestamp::from_unix_seconds(1_767_571_200 + 25 * 3_600 + 900);

/// SplitMix64.
struct Random(u64);

impl Random {
    fn share(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((bits ^ (bits >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    None,
    Burst,
    Slow,
    Silent,
    New,
}

fn engine() -> Engine {
    Engine::new("tenant", built_in::rules(), Incidents::default())
}

/// Two logs a second at random, two in a hundred of them errors.
fn play(fault: Fault, seed: u64) -> Vec<Incident> {
    let mut random = Random(seed);
    let mut replay = Replay::new(engine());
    let mut time = START;
    loop {
        // Exponential gaps with a mean of half a second: logs that know nothing of each other.
        time += Duration::from_nanos((-(1.0 - random.share()).ln() * 0.5e9) as u64);
        if time >= END {
            break;
        }
        let fault = if time >= FAULT { fault } else { Fault::None };
        let choice = random.share();
        let (mut level, mut template) = (Level::Info, (random.share() * 6.0) as u64);
        if choice < 0.02 {
            (level, template) = (Level::Error, 10);
        }
        let mut latency_ms = 20.0 * (-random.share().ln() + 0.1);
        let is_hit = random.share() < 0.3;
        match fault {
            Fault::None => {}
            Fault::Burst if is_hit => (level, template) = (Level::Error, 10),
            Fault::New if is_hit => (level, template) = (Level::Error, 11),
            Fault::Slow => latency_ms *= 4.0,
            Fault::Silent => continue,
            Fault::Burst | Fault::New => {}
        }
        replay.log(&ReplayedLog {
            time,
            service: "payments",
            level,
            message: "a message",
            latency_ms: Some(latency_ms),
            latency_bucket: Some(bucket_of(latency_ms)),
            template_id: template,
            pattern: "a <*>",
            is_anomaly: false,
            trace_id: "",
            instance: "",
        });
    }
    replay.pass(END);
    replay.finish().0
}

fn check(fault: Fault, rule: &str, delay_max: Duration, cause: Option<u64>) {
    let incidents = play(fault, 7);
    let first = incidents.first().unwrap_or_else(|| panic!("{fault:?} is not found"));
    let firing = first.firing_at.expect("it fired");
    assert!(firing >= FAULT, "{fault:?}: {} fires before", first.rule);
    let delay = firing.since(FAULT);
    assert!(delay <= delay_max, "{fault:?}: {delay:?}");
    assert!(incidents.iter().any(|incident| incident.rule == rule), "{fault:?}: {incidents:?}");
    if let Some(cause) = cause {
        let found = &first.evidence.probable_causes[0];
        assert_eq!(found.template_id, format!("{cause:016x}"), "{fault:?}");
    }
}

#[test]
fn a_healthy_service_is_left_alone() {
    assert_eq!(play(Fault::None, 3), []);
}

#[test]
fn a_burst_of_errors_is_found() {
    check(Fault::Burst, "error spike", 30 * SECOND, Some(10));
}

#[test]
fn a_new_pattern_is_found() {
    check(Fault::New, "new error pattern", 30 * SECOND, Some(11));
}

#[test]
fn slowness_is_found() {
    check(Fault::Slow, "latency shift", 30 * SECOND, None);
}

#[test]
fn silence_is_found() {
    check(Fault::Silent, "service silent", 30 * SECOND, None);
}

/// A service that logs steadily for two hours, through this moment.
fn steady() -> (Engine, Timestamp) {
    let mut engine = engine();
    learn_steady(&mut engine);
    (engine, START + 7_200 * SECOND)
}

fn learn_steady(engine: &mut Engine) {
    for start in (0..720).map(|bucket| START + bucket * BUCKET_WIDTH) {
        let last_seen = (start + BUCKET_WIDTH).previous();
        let row = Bucket { start, total: 50, last_seen, ..Bucket::default() };
        engine.learn_bucket("payments", row);
    }
}

/// Evaluates once, with this watermark from now on; what is told.
fn evaluate(
    engine: &mut Engine,
    watermark: Option<Option<Timestamp>>,
    now: Timestamp,
) -> Vec<Notification> {
    let watermarks = watermark.map(|through| ("payments".to_owned(), through));
    let watermarks: Watermarks = watermarks.into_iter().collect();
    engine.evaluate(now, Observations { watermarks, ..Observations::default() }, |_| None);
    due(engine.incidents_mut(), &NotificationPolicy::default(), now)
}

#[test]
fn a_pipeline_that_lags_silences_nobody() {
    let (mut engine, end) = steady();
    // Half an hour in which nothing more becomes known.
    for step in 1..1_000 {
        assert_eq!(evaluate(&mut engine, Some(Some(end)), end + 2 * step * SECOND), []);
    }
    evaluate(&mut engine, Some(None), end + 3_000 * SECOND);
    assert_eq!(engine.incidents().iter().count(), 0);
    let known = Some(Some(end + 3_000 * SECOND));
    let told = evaluate(&mut engine, known, end + 3_010 * SECOND);
    assert_eq!(told[0].incident.rule, "service silent");
}

#[test]
fn incidents_are_taken_up_after_a_restart() {
    let (mut first, end) = steady();
    assert_eq!(evaluate(&mut first, None, end + 60 * SECOND).len(), 1);
    let ids = first.incidents().iter().map(|incident| &incident.id);
    let stored = ids.filter_map(|id| first.incidents().stored(id)).collect();
    let incidents = Incidents::restore(stored, end + 60 * SECOND);
    let mut second = Engine::new("tenant", built_in::rules(), incidents);
    // The baseline is not stored: it is learnt anew from the logs, as a process that takes over
    // does.
    learn_steady(&mut second);
    assert_eq!(evaluate(&mut second, None, end + 62 * SECOND), []);
    assert_eq!(second.incidents().iter().count(), 1);
}
