//! Hand-made series, one property each. Noise is a fixed sequence, so every run is the same.

use std::f64::consts::TAU;

use proptest::prelude::*;

use super::*;

const MINUTE: i64 = 60_000_000_000;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
/// A Monday, at midnight.
const START: i64 = 1_767_571_200_000_000_000;

/// Uniform noise from -1 to 1.
fn noise(n: i64) -> f64 {
    let mut hash = n.cast_unsigned().wrapping_add(0x9e37_79b9_7f4a_7c15);
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (hash ^ (hash >> 31)) as f64 / u64::MAX as f64 * 2.0 - 1.0
}

/// Roughly normal noise, of standard deviation 1.
fn normal(n: i64) -> f64 {
    (0..12).map(|part| noise(n * 12 + part)).sum::<f64>() / 2.0
}

struct Alert {
    row: i64,
    reason: String,
}

/// The alerts over rows `step` apart.
fn alerts(step: i64, rows: i64, value: impl Fn(i64) -> Option<f64>) -> Vec<Alert> {
    let mut detector = SeriesDetector::new(SeriesConfig::default());
    let mut alerts = Vec::new();
    for row in 0..rows {
        let Some(value) = value(row) else { continue };
        let scored = detector.observe(START + row * step, value);
        assert!((0.0..=1.0).contains(&scored.score));
        if scored.is_alert {
            alerts.push(Alert { row, reason: scored.reason });
        }
    }
    alerts
}

fn rows(alerts: &[Alert]) -> Vec<i64> {
    alerts.iter().map(|alert| alert.row).collect()
}

#[test]
fn a_new_level_is_told_once_and_becomes_the_usual() {
    let level = |row: i64| if row < 1_500 { 100.0 } else { 160.0 };
    let told = alerts(MINUTE, 4_000, |row| Some(level(row) + 5.0 * normal(row)));
    let told: Vec<i64> = rows(&told).into_iter().filter(|&row| row >= 1_500).collect();
    assert!(told.first().is_some_and(|&row| row < 1_503), "{told:?}");
    assert!(told.len() <= 3, "{told:?}");
}

#[test]
fn a_slow_drift_is_followed() {
    let drift = |row: i64| 100.0 + row as f64 * 0.005;
    let told = alerts(5 * MINUTE, 5_000, |row| Some(drift(row) + 5.0 * normal(row)));
    // No more than by chance: a drift is no event.
    let budget = 5_000.0 * SeriesConfig::default().alert_probability;
    assert!(told.len() as f64 <= budget, "{:?}", rows(&told));
}

#[test]
fn healthy_noise_stays_within_the_budget() {
    let day = |row: i64| 50.0 * (row as f64 / 1_440.0 * TAU).sin();
    let told = [
        alerts(MINUTE, 20_000, |row| Some(50.0 + 5.0 * normal(row))),
        alerts(MINUTE, 20_000, |row| Some(50.0 + 5.0 * noise(row))),
        alerts(MINUTE, 20_000, |row| Some((2.0 * normal(row)).exp())),
        alerts(MINUTE, 20_000, |row| Some(100.0 + day(row) + 5.0 * normal(row))),
    ];
    let counts = told.map(|told| told.len());
    assert!(counts.iter().all(|&count| count <= 20), "{counts:?}");
}

#[test]
fn one_blip_in_a_constant_is_told() {
    let told = alerts(MINUTE, 2_000, |row| Some(if row == 1_500 { 7.0 } else { 5.0 }));
    assert_eq!(rows(&told), [1_500]);
    assert!(told[0].reason.starts_with("7, normal 5 ("), "{}", told[0].reason);
}

#[test]
fn counts_with_zeros_are_told_apart_from_bursts() {
    let count = |row: i64| (noise(row).max(0.0) * 3.0).floor();
    let told = alerts(MINUTE, 6_000, |row| Some(if row == 5_000 { 80.0 } else { count(row) }));
    assert!(rows(&told).contains(&5_000) && told.len() <= 4, "{:?}", rows(&told));
    let burst = told.iter().find(|alert| alert.row == 5_000).unwrap();
    assert!(burst.reason.starts_with("80, normal 0.5"), "{}", burst.reason);
    assert!(burst.reason.contains("99 % below 2"), "{}", burst.reason);
}

#[test]
fn the_rhythm_of_the_week_is_learnt() {
    // Busy by day, quiet at night, and quiet all the weekend; then a busy Sunday.
    let busy = |row: i64| (9..17).contains(&(row % 96 / 4)) && row / 96 % 7 < 5;
    let sunday = 6 * 7 * 96 + 6 * 96 + 11 * 4;
    let value = |row: i64| {
        let is_busy = busy(row) || (sunday..sunday + 16).contains(&row);
        Some(if is_busy { 100.0 } else { 20.0 } + 3.0 * normal(row))
    };
    let told = alerts(15 * MINUTE, 8 * 7 * 96, value);
    let late: Vec<&Alert> = told.iter().filter(|alert| alert.row > 4 * 7 * 96).collect();
    assert!(
        late.iter().any(|alert| (sunday..sunday + 2).contains(&alert.row)),
        "{:?}",
        rows(&told)
    );
    assert!(late.len() <= 4, "{:?}", rows(&told));
    let reason = &late.iter().find(|alert| alert.row >= sunday).unwrap().reason;
    assert!(reason.contains("at this hour of the week"), "{reason}");
}

#[test]
fn missing_rows_are_no_event() {
    let wave = |row: i64| 100.0 + 50.0 * (row as f64 / 288.0 * TAU).sin() + 3.0 * normal(row);
    let is_there = |row: i64| noise(row + 77) < 0.6 && !(3_000..3_700).contains(&row);
    let told = alerts(5 * MINUTE, 6_000, |row| is_there(row).then(|| wave(row)));
    assert!(told.len() <= 4, "{:?}", rows(&told));
    assert!(!rows(&told).iter().any(|row| (3_700..3_720).contains(row)), "{:?}", rows(&told));
}

#[test]
fn what_is_expected_follows_the_hour() {
    let mut detector = SeriesDetector::new(SeriesConfig::default());
    for row in 0..4 * 288 {
        let value = if (108..204).contains(&(row % 288)) { 80.0 } else { 20.0 };
        detector.observe(START + row * 5 * MINUTE, value + normal(row));
    }
    let noon = detector.forecast(START + 5 * DAY + 12 * HOUR);
    let night = detector.forecast(START + 5 * DAY + 3 * HOUR);
    assert!((noon.median - 80.0).abs() < 2.0 && (night.median - 20.0).abs() < 2.0);
    assert!(noon.low < noon.median && noon.median < noon.high);
}

#[test]
fn what_is_no_number_is_refused() {
    let mut detector = SeriesDetector::new(SeriesConfig::default());
    for row in 0..200 {
        detector.observe(START + row * MINUTE, normal(row));
    }
    let before = detector.clone();
    for value in [f64::NAN, f64::INFINITY, 1e300] {
        let scored = detector.observe(START + 300 * MINUTE, value);
        assert_eq!((scored.score, scored.is_alert), (0.0, false));
    }
    assert_eq!(detector, before);
}

#[test]
fn a_state_takes_little_and_goes_on_where_it_was() {
    let mut detector = SeriesDetector::new(SeriesConfig::default());
    for row in 0..3_000 {
        detector.observe(START + row * MINUTE, 50.0 + 5.0 * normal(row));
    }
    let bytes = detector.encode();
    assert!(bytes.len() <= STATE_BYTES_MAX, "{}", bytes.len());
    assert!(size_of::<SeriesDetector>() + 768 * size_of::<f32>() <= STATE_BYTES_MAX);
    let mut restored = SeriesDetector::decode(SeriesConfig::default(), &bytes).unwrap();
    for row in 3_000..4_000 {
        let value = 50.0 + 5.0 * normal(row) + if row == 3_500 { 90.0 } else { 0.0 };
        let time = START + row * MINUTE;
        assert_eq!(restored.observe(time, value), detector.observe(time, value));
    }
}

#[test]
fn a_state_that_is_none_is_refused() {
    let bytes = SeriesDetector::new(SeriesConfig::default()).encode();
    let decode = |bytes: &[u8]| SeriesDetector::decode(SeriesConfig::default(), bytes).unwrap_err();
    assert_eq!(decode(b"something else"), SeriesStateError::Kind);
    assert_eq!(decode(b"LWSE\x09"), SeriesStateError::Version(9));
    for cut in 5..bytes.len() {
        assert!(matches!(decode(&bytes[..cut]), SeriesStateError::Corrupt(_)));
    }
    let longer = [bytes.as_slice(), &[0]].concat();
    assert_eq!(decode(&longer), SeriesStateError::Corrupt(bytes.len()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever comes, in whatever order of time: a score within bounds, and no panic.
    #[test]
    fn anything_is_judged(input in prop::collection::vec((any::<i64>(), any::<f64>()), 0..300)) {
        let mut detector = SeriesDetector::new(SeriesConfig::default());
        for (time, value) in input {
            let scored = detector.observe(time, value);
            prop_assert!((0.0..=1.0).contains(&scored.score), "{scored:?}");
            prop_assert!(scored.probability >= 0.0, "{scored:?}");
        }
        let again = SeriesDetector::decode(SeriesConfig::default(), &detector.encode());
        prop_assert_eq!(again.unwrap().encode(), detector.encode());
    }

    /// Damaged bytes are refused, or make a detector that works.
    #[test]
    fn damage_does_no_harm(at in 5_usize..4_000, byte in any::<u8>(), value in -1e6..1e6_f64) {
        let mut detector = SeriesDetector::new(SeriesConfig::default());
        (0..100).for_each(|row| drop(detector.observe(row * MINUTE, normal(row))));
        let mut bytes = detector.encode();
        let length = bytes.len();
        bytes[at % length] = byte;
        if let Ok(mut detector) = SeriesDetector::decode(SeriesConfig::default(), &bytes) {
            let scored = detector.observe(101 * MINUTE, value);
            prop_assert!((0.0..=1.0).contains(&scored.score));
        }
    }
}
