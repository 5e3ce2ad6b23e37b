//! The probable causes of an incident: the patterns that grew most against what is normal for the
//! service. Pure.

use std::cmp::Ordering;

use logweir_core::record::Level;
use logweir_incident::incident::{EVIDENCE_MAX, ProbableCause};

use crate::detector::statistics::count_deviance;

/// Logs of a pattern that it takes to be a cause.
const SUPPORT_MIN: u64 = 2;
/// Standard deviations that its growth must have.
const GROWTH_MIN: f64 = 2.0;
/// Of an excess of nothing there are no shares; a smaller one counts as this.
const EXCESS_MIN: f64 = 1e-9;
/// How well a pattern explains more errors, by its level: an error explains them best, a warning
/// may, and that something harmless became more mostly only follows. By judgement, as the two
/// below.
const ERROR_WEIGHT: f64 = 1.0;
const WARN_WEIGHT: f64 = 0.5;
const HARMLESS_WEIGHT: f64 = 0.1;
/// How well it explains more logs: what grew and is bad is what people ask about first.
const BAD_WEIGHT: f64 = 1.5;
const ANY_WEIGHT: f64 = 1.0;
/// The inverse of the deviation that latencies are taken to have around their mean, by their
/// logarithm: they scatter by half, which gives a mean of many its weight.
const LATENCY_PRECISION: f64 = 2.0;
/// Smaller latencies, and factors of them, count as this: there is no logarithm of nothing.
const LATENCY_MS_MIN: f64 = 1e-3;
/// The numbers of the levels that patterns are weighted by.
const WARN: u8 = Level::Warn as u8;
const ERROR: u8 = Level::Error as u8;
/// What a log of unknown past counts as, so that a single one is no infinite growth.
const EXPECTED_MIN: f64 = 0.05;

/// What a pattern did in an incident's window, and in health.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PatternCount {
    /// The template's id, in hexadecimal.
    pub template_id: String,
    /// The pattern.
    pub pattern: String,
    /// Number of its highest level, 1 to 6.
    pub level: u8,
    /// Logs in the window.
    pub now: u64,
    /// Logs that are usual in as long a time.
    pub before: f64,
    /// Whether it never occurred before the window.
    pub is_new: bool,
    /// Its latencies; none where either time has none.
    pub latency: Option<LatencyChange>,
}

/// How slow the logs of a pattern are, milliseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LatencyChange {
    /// The mean in the incident's window.
    pub now_ms: f64,
    /// The mean before.
    pub before_ms: f64,
}

/// What an incident's rule noticed, which a cause is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Symptom {
    /// More errors than expected.
    Errors,
    /// Latencies above what is expected.
    Latency,
    /// Fewer logs, or none.
    Less,
    /// More logs, or new ones.
    More,
}

impl Symptom {
    /// What a rule of this kind notices.
    pub fn of(kind: &str) -> Self {
        match kind {
            "error_rate" | "error_count" | "burn_rate" => Self::Errors,
            "latency" => Self::Latency,
            "service_silence" | "volume_down" => Self::Less,
            _ => Self::More,
        }
    }
}

/// The most probable causes, best first.
pub fn probable_causes(symptom: Symptom, patterns: &[PatternCount]) -> Vec<ProbableCause> {
    let growths = patterns.iter().filter_map(|pattern| Some((growth(symptom, pattern)?, pattern)));
    let mut ranked: Vec<(Growth, &PatternCount)> =
        growths.filter(|(growth, _)| growth.score >= GROWTH_MIN).collect();
    ranked.sort_by(|(a, left), (b, right)| {
        b.score.total_cmp(&a.score).then_with(|| by_level(left, right))
    });
    let total: f64 = ranked.iter().map(|(growth, _)| growth.excess.max(0.0)).sum();
    let causes = ranked.into_iter().take(EVIDENCE_MAX);
    // Of latencies beyond all measure the sum is no number, and nothing is known of a share.
    let share =
        |excess: f64| Some(excess / total.max(EXCESS_MIN)).filter(|share| share.is_finite());
    let cause = |(growth, pattern): (Growth, &PatternCount)| {
        cause(pattern, share(growth.excess).unwrap_or(0.0))
    };
    causes.map(cause).collect()
}

fn by_level(left: &PatternCount, right: &PatternCount) -> Ordering {
    right.level.cmp(&left.level).then_with(|| left.template_id.cmp(&right.template_id))
}

/// How much a pattern grew.
struct Growth {
    /// By how many standard deviations, weighted by how well it explains the symptom.
    score: f64,
    /// Logs more than expected, or milliseconds of all its logs together.
    excess: f64,
}

/// How much a pattern grew, as far as that explains the symptom; none if it does not.
fn growth(symptom: Symptom, pattern: &PatternCount) -> Option<Growth> {
    let now = pattern.now as f64;
    let deviations = count_deviance(now, pattern.before.max(EXPECTED_MIN));
    let excess = now - pattern.before;
    let weighted = |weight: f64| Some(Growth { score: deviations * weight, excess });
    match symptom {
        // What stopped is the cause: the sign is turned, so that the deepest fall comes first.
        Symptom::Less => Some(Growth { score: -deviations, excess: -excess }),
        _ if pattern.now < SUPPORT_MIN => None,
        Symptom::Errors if pattern.level >= ERROR => weighted(ERROR_WEIGHT),
        Symptom::Errors if pattern.level == WARN => weighted(WARN_WEIGHT),
        Symptom::Errors => weighted(HARMLESS_WEIGHT),
        Symptom::More if pattern.level >= WARN => weighted(BAD_WEIGHT),
        Symptom::More => weighted(ANY_WEIGHT),
        Symptom::Latency => {
            let LatencyChange { now_ms, before_ms } = pattern.latency?;
            // By the factor, not the difference: the pattern that is slow anyway would always come
            // first.
            let factor = (now_ms / before_ms.max(LATENCY_MS_MIN)).max(LATENCY_MS_MIN).ln();
            let score = factor * now.sqrt() * LATENCY_PRECISION;
            Some(Growth { score, excess: (now_ms - before_ms) * now })
        }
    }
}

fn cause(pattern: &PatternCount, share: f64) -> ProbableCause {
    let level = Level::from_number(pattern.level).unwrap_or_default();
    ProbableCause {
        template_id: pattern.template_id.clone(),
        pattern: pattern.pattern.clone(),
        level: level.as_str().to_owned(),
        count_now: pattern.now,
        count_before: pattern.before,
        share: share.clamp(0.0, 1.0),
        is_new: pattern.is_new,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(id: &str, level: u8, now: u64, before: f64) -> PatternCount {
        PatternCount { template_id: id.to_owned(), level, now, before, ..PatternCount::default() }
    }

    fn first(symptom: Symptom, patterns: &[PatternCount]) -> String {
        probable_causes(symptom, patterns).first().map_or(String::new(), |c| c.template_id.clone())
    }

    #[test]
    fn the_pattern_that_grew_most_is_first() {
        let busy = pattern("busy", 3, 12_000, 11_500.0);
        let burst = pattern("burst", 5, 80, 0.0);
        let usual = pattern("usual", 5, 24, 20.0);
        let patterns = [busy.clone(), burst.clone(), usual];
        assert_eq!(first(Symptom::Errors, &patterns), "burst");
        assert_eq!(first(Symptom::More, &patterns), "burst");
        assert_eq!(first(Symptom::Less, &[pattern("gone", 3, 0, 50.0), busy]), "gone");
        assert_eq!(first(Symptom::Errors, &[pattern("one", 5, 1, 0.0)]), "");
    }

    #[test]
    fn latencies_beyond_all_measure_leave_numbers() {
        let endless = PatternCount {
            latency: Some(LatencyChange { now_ms: f64::INFINITY, before_ms: 5.0 }),
            ..pattern("endless", 3, 100, 100.0)
        };
        let found = probable_causes(Symptom::Latency, &[endless]);
        assert_eq!(found[0].template_id, "endless");
        assert!(found[0].share.is_finite(), "what is no number cannot be read back from JSON");
    }

    #[test]
    fn slowness_is_found_where_it_is() {
        let timed = |id: &str, now_ms, before_ms| PatternCount {
            latency: Some(LatencyChange { now_ms, before_ms }),
            ..pattern(id, 3, 100, 100.0)
        };
        let patterns = [timed("same", 900.0, 880.0), timed("slow", 50.0, 10.0)];
        assert_eq!(first(Symptom::Latency, &patterns), "slow");
    }
}
