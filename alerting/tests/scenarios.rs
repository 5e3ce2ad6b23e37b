//! Whole scenarios with a quiet day before, through the built-in rules: every fault is found, soon,
//! and for the right cause; and nothing else is.

use logweir_alerting::{
    detector::window::Bucket,
    incident::Incidents,
    notify::{pipeline::due, policy::NotificationPolicy},
    rule::{
        engine::Engine,
        observations::{Observations, Watermarks},
    },
    simulate::replay::{Replay, ReplayedLog},
};
use logweir_core::{latency::bucket_of, record::Level};
use logweir_incident::{built_in, incident::Incident, notification::Notification};

const SECOND: i64 = 1_000_000_000;
/// 2026-01-05T00:00:00Z, a Monday.
const START: i64 = 1_767_571_200 * SECOND;
const FAULT: i64 = START + 25 * 3_600 * SECOND;
const END: i64 = FAULT + 900 * SECOND;

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
        time += (-(1.0 - random.share()).ln() * 0.5e9) as i64;
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
            time_unix_nano: time,
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

fn check(fault: Fault, rule: &str, delay_seconds_max: i64, cause: Option<u64>) {
    let incidents = play(fault, 7);
    let first = incidents.first().unwrap_or_else(|| panic!("{fault:?} is not found"));
    let firing = first.firing_unix_nano.expect("it fired");
    assert!(firing >= FAULT, "{fault:?}: {} fires before", first.rule);
    assert!(
        firing - FAULT <= delay_seconds_max * SECOND,
        "{fault:?}: {} s",
        (firing - FAULT) / SECOND
    );
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
    check(Fault::Burst, "error spike", 30, Some(10));
}

#[test]
fn a_new_pattern_is_found() {
    check(Fault::New, "new error pattern", 30, Some(11));
}

#[test]
fn slowness_is_found() {
    check(Fault::Slow, "latency shift", 30, None);
}

#[test]
fn silence_is_found() {
    check(Fault::Silent, "service silent", 30, None);
}

/// A service that logs steadily for two hours, through this moment.
fn steady() -> (Engine, i64) {
    let mut engine = engine();
    let start = START / SECOND;
    for start_seconds in (start..start + 7_200).step_by(10) {
        let last_seen_unix_nano = (start_seconds + 10) * SECOND - 1;
        let row = Bucket { start_seconds, total: 50, last_seen_unix_nano, ..Bucket::default() };
        engine.learn_bucket("payments", row);
    }
    (engine, (start + 7_200) * SECOND)
}

/// Evaluates once, with this watermark from now on; what is told.
fn evaluate(engine: &mut Engine, watermark: Option<Option<i64>>, now: i64) -> Vec<Notification> {
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
    let start = START / SECOND;
    for start_seconds in (start..start + 7_200).step_by(10) {
        let last_seen_unix_nano = (start_seconds + 10) * SECOND - 1;
        let row = Bucket { start_seconds, total: 50, last_seen_unix_nano, ..Bucket::default() };
        second.learn_bucket("payments", row);
    }
    assert_eq!(evaluate(&mut second, None, end + 62 * SECOND), []);
    assert_eq!(second.incidents().iter().count(), 1);
}
