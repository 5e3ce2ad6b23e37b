//! Scores: how unusual a log is for its service.
//!
//! Each test answers with a tail probability: the chance of a log at least as unusual as this one.
//!
//! - *Novelty*: the chance that the next log has a pattern never seen, by Good and Turing the share
//!   of patterns seen once. A service that keeps inventing patterns is not alarming.
//! - *Rarity*: the share of logs whose pattern is as rare as this one or rarer.
//! - *Latency*: see [`latency`].
//!
//! The smallest counts, corrected for the number of tests. Its complement is the score. Whether it
//! alarms is up to a threshold that follows the budget of false alarms; see [`Threshold`].

mod decay;
mod latency;

use logweir_core::{identity::Service, record::Level};

use self::decay::{Decay, HALF_LIFE_RARITY_SECONDS};
pub(crate) use self::latency::LatencyHistogram;

/// Logs of a service before anything alarms.
const LEARNING_LOGS: u64 = 1_000;
/// How confident a baseline from stored counts may be, in logs.
const PRELOADED_WEIGHT_MAX: f64 = 100_000.0;
/// No claim is made beyond one in a million.
const TAIL_MIN: f64 = 1e-6;
const PATTERN_CHARS_MAX: usize = 160;
/// Weights are grouped by their binary exponent; this one has index 0.
const EXPONENT_MIN: i64 = -64;
const EXPONENTS: usize = 128;

/// How often a pattern occurs.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Frequency {
    /// Logs ever.
    pub(crate) count: u64,
    /// Logs, fading.
    weight: f64,
}

impl Frequency {
    /// A pattern that storage has counted.
    pub(crate) fn counted(count: u64) -> Self {
        Self { count, weight: 0.0 }
    }

    /// Adds the logs of a pattern that turned out to be the same.
    pub(crate) fn absorb(&mut self, other: Self) {
        self.count = self.count.saturating_add(other.count);
        self.weight += other.weight;
    }
}

/// What is usual for a service.
#[derive(Debug, Clone)]
pub(crate) struct Baseline {
    decay: Decay,
    started: bool,
    /// Logs ever.
    seen: u64,
    /// Logs, fading.
    total: f64,
    /// Those of patterns seen once.
    singles: f64,
    /// Logs by the order of magnitude of their pattern's weight.
    by_magnitude: Box<[f64; EXPONENTS]>,
    threshold: Threshold,
}

/// The judgement on one log.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Judgement {
    pub(crate) score: f32,
    pub(crate) is_anomaly: bool,
    rarity_tail: f64,
    latency_tail: Option<f64>,
}

impl Baseline {
    pub(crate) fn new(contamination: f64) -> Self {
        Self {
            decay: Decay::new(HALF_LIFE_RARITY_SECONDS, 0),
            started: false,
            seen: 0,
            total: 0.0,
            singles: 0.0,
            by_magnitude: Box::new([0.0; EXPONENTS]),
            threshold: Threshold::new(contamination),
        }
    }

    /// Starts from what storage has counted, before any log is learned.
    pub(crate) fn preload<'a>(&mut self, frequencies: impl Iterator<Item = &'a mut Frequency>) {
        let frequencies: Vec<&mut Frequency> = frequencies.collect();
        self.seen = frequencies.iter().fold(0, |sum, known| sum.saturating_add(known.count));
        let scale = (PRELOADED_WEIGHT_MAX / self.seen.max(1) as f64).min(1.0);
        for known in frequencies {
            known.weight = known.count as f64 * scale;
            self.account(*known);
        }
    }

    fn account(&mut self, known: Frequency) {
        self.total += known.weight;
        self.by_magnitude[magnitude(known.weight)] += known.weight;
        if known.count == 1 {
            self.singles += known.weight;
        }
    }

    /// Whether all weights must be scaled before the next log is learned, and by what.
    pub(crate) fn rescale(&mut self, time_unix_nano: i64) -> Option<f64> {
        if !self.started {
            self.started = true;
            self.decay = Decay::new(HALF_LIFE_RARITY_SECONDS, time_unix_nano);
        }
        self.decay.rescale(time_unix_nano)
    }

    /// Scales all weights.
    pub(crate) fn scale<'a>(
        &mut self,
        factor: f64,
        frequencies: impl Iterator<Item = &'a mut Frequency>,
    ) {
        (self.total, self.singles) = (0.0, 0.0);
        self.by_magnitude.fill(0.0);
        for known in frequencies {
            known.weight *= factor;
            self.account(*known);
        }
    }

    /// Judges a log of a pattern, then learns it.
    pub(crate) fn observe(
        &mut self,
        frequency: &mut Frequency,
        latency_tail: Option<f64>,
        time_unix_nano: i64,
    ) -> Judgement {
        let weight = self.decay.weight(time_unix_nano);
        let rarity_tail = self.rarity_tail(*frequency, weight);
        self.learn(frequency, weight);
        let tests = if latency_tail.is_some() { 2.0 } else { 1.0 };
        let smallest = latency_tail.map_or(rarity_tail, |latency| latency.min(rarity_tail));
        let tail = (smallest * tests).clamp(TAIL_MIN, 1.0);
        let is_anomaly = self.seen > LEARNING_LOGS && self.threshold.is_passed_by(tail);
        Judgement { score: score(tail), is_anomaly, rarity_tail, latency_tail }
    }

    fn rarity_tail(&self, known: Frequency, weight: f64) -> f64 {
        let as_rare = if known.count == 0 {
            self.singles
        } else {
            self.by_magnitude[..=magnitude(known.weight)].iter().sum()
        };
        (as_rare + weight) / (self.total + weight)
    }

    fn learn(&mut self, known: &mut Frequency, weight: f64) {
        let before = known.weight;
        known.count += 1;
        known.weight += weight;
        self.seen += 1;
        self.total += weight;
        let (from, to) = (magnitude(before), magnitude(known.weight));
        if from == to {
            self.by_magnitude[to] += weight;
        } else {
            self.by_magnitude[from] = (self.by_magnitude[from] - before).max(0.0);
            self.by_magnitude[to] += known.weight;
        }
        match known.count {
            1 => self.singles += weight,
            2 => self.singles = (self.singles - before).max(0.0),
            _ => {}
        }
    }

    /// Why a log was called an anomaly, in a person's words. `seen_before` is how often its pattern
    /// had occurred.
    pub(crate) fn reasons(&self, judgement: Judgement, log: &Described<'_>) -> Vec<String> {
        let mut reasons = Vec::new();
        let bound = self.threshold.contamination;
        if let (Some(tail), Some((latency_ms, p99))) = (judgement.latency_tail, log.latency)
            && tail <= bound
        {
            let (latency, p99) = (milliseconds(latency_ms), milliseconds(p99));
            reasons.push(format!("latency {latency}; this pattern's p99 is {p99}"));
        }
        if judgement.rarity_tail <= bound {
            reasons.push(self.rarity_reason(log));
        }
        reasons
    }

    fn rarity_reason(&self, log: &Described<'_>) -> String {
        if log.seen_before > 0 {
            let times = if log.seen_before == 1 { "time" } else { "times" };
            let (count, seen) = (grouped(log.seen_before), grouped(self.seen));
            return format!("rare pattern: seen {count} {times} in {seen} logs");
        }
        let pattern: String = log.pattern.chars().take(PATTERN_CHARS_MAX).collect();
        let level = if log.level >= Level::Warn { log.level.as_str() } else { "" };
        let gap = if level.is_empty() { "" } else { " " };
        format!("new {level}{gap}pattern for {}: {pattern}", log.service)
    }
}

/// What reasons are made of.
pub(crate) struct Described<'a> {
    pub(crate) service: &'a Service,
    pub(crate) level: Level,
    pub(crate) pattern: &'a str,
    pub(crate) seen_before: u64,
    /// The latency and its pattern's 99th percentile, milliseconds.
    pub(crate) latency: Option<(f64, f64)>,
}

/// Decides what alarms, so that a false-alarm budget is kept whatever the tails are worth.
///
/// An alarm needs a tail probability within the budget. On top, the bound follows the budget's
/// quantile of recent tails (Robbins and Monro, 1951): each alarm makes it stricter by a step, each
/// other log relaxes it by the budget's share of a step, so in the long run no more than that share
/// alarms, and a burst of equal logs is silenced after some tens.
#[derive(Debug, Clone)]
struct Threshold {
    contamination: f64,
    tail_log2: f64,
}

const THRESHOLD_STEP_LOG2: f64 = 0.25;

impl Threshold {
    fn new(contamination: f64) -> Self {
        let contamination = contamination.clamp(TAIL_MIN, 0.5);
        Self { contamination, tail_log2: contamination.log2() }
    }

    fn is_passed_by(&mut self, tail: f64) -> bool {
        let budget = self.contamination;
        let passed = tail <= budget && tail.log2() <= self.tail_log2;
        let step = if passed { -1.0 } else { budget / (1.0 - budget) };
        let next = self.tail_log2 + step * THRESHOLD_STEP_LOG2;
        if !passed && next >= budget.log2() {
            self.tail_log2 = budget.log2();
        } else {
            self.tail_log2 = next;
        }
        passed
    }
}

fn magnitude(weight: f64) -> usize {
    let exponent = ((weight.to_bits() >> 52) & 0x7ff) as i64 - 1023;
    (exponent - EXPONENT_MIN).clamp(0, EXPONENTS as i64 - 1) as usize
}

/// In thousandths: finer means nothing to a reader, and costs space where scores are stored.
fn score(tail: f64) -> f32 {
    (((1.0 - tail) * 1_000.0).round() / 1_000.0) as f32
}

fn milliseconds(latency_ms: f64) -> String {
    if latency_ms >= 100.0 { format!("{latency_ms:.0} ms") } else { format!("{latency_ms:.2} ms") }
}

fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;

    fn steady(baseline: &mut Baseline, known: &mut Frequency, logs: i64) -> usize {
        (0..logs).filter(|n| baseline.observe(known, None, n * SECOND / 100).is_anomaly).count()
    }

    #[test]
    fn a_new_pattern_is_unusual_once_much_is_known() {
        let mut baseline = Baseline::new(0.001);
        let mut known = Frequency::default();
        assert_eq!(baseline.rescale(0), None);
        assert!(!baseline.observe(&mut known, None, 0).is_anomaly);
        assert_eq!(steady(&mut baseline, &mut known, 10_000), 0);
        let mut new = Frequency::default();
        let judgement = baseline.observe(&mut new, None, 100 * SECOND);
        assert!(judgement.is_anomaly && judgement.score > 0.999);
    }

    #[test]
    fn a_burst_of_alarms_silences_itself() {
        let mut baseline = Baseline::new(0.001);
        let mut known = Frequency::default();
        steady(&mut baseline, &mut known, 1_000_000);
        let mut rare = Frequency::default();
        let alarms = (0..10_000)
            .filter(|n| baseline.observe(&mut rare, None, 10_000 * SECOND + n).is_anomaly)
            .count();
        assert!((5..=60).contains(&alarms), "{alarms}");
    }

    #[test]
    fn a_service_that_keeps_inventing_patterns_stays_quiet() {
        let mut baseline = Baseline::new(0.001);
        let alarms = (0..20_000)
            .filter(|n| baseline.observe(&mut Frequency::default(), None, n * SECOND).is_anomaly)
            .count();
        assert_eq!(alarms, 0);
    }

    #[test]
    fn scaling_keeps_shares() {
        let mut baseline = Baseline::new(0.001);
        let (mut often, mut rare) = (Frequency::default(), Frequency::default());
        steady(&mut baseline, &mut often, 1_000);
        steady(&mut baseline, &mut rare, 10);
        let before = baseline.rarity_tail(rare, 0.0);
        baseline.scale(2.0_f64.powi(-16), [&mut often, &mut rare].into_iter());
        assert!((baseline.rarity_tail(rare, 0.0) / before - 1.0).abs() < 1e-9);
    }

    #[test]
    fn numbers_read_like_a_person_writes_them() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (120_000, "120,000")] {
            assert_eq!(grouped(number), text);
        }
        assert_eq!(milliseconds(1_320.2), "1320 ms");
        assert_eq!(milliseconds(1.234), "1.23 ms");
    }
}
