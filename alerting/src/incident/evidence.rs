//! Why it may be: the patterns that grew most against what is normal for the service. Pure.

use std::cmp::Ordering;

use logweir_incident::incident::{EVIDENCE_MAX, ProbableCause};

use crate::detector::statistics::count_deviance;

/// Logs of a pattern that it takes to be a cause.
const SUPPORT_MIN: u64 = 2;
/// Standard deviations that its growth must have.
const GROWTH_MIN: f64 = 2.0;
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
    /// Mean latency in the window and before, milliseconds; none without.
    pub latency_ms: Option<(f64, f64)>,
}

/// What a cause is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Symptom {
    /// More errors.
    Errors,
    /// Slower.
    Latency,
    /// Fewer logs, or none.
    Less,
    /// More logs, or new ones.
    More,
}

impl Symptom {
    /// By the kind of a rule.
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
    let mut ranked: Vec<(f64, f64, &PatternCount)> = patterns
        .iter()
        .filter_map(|pattern| {
            let (score, excess) = score(symptom, pattern)?;
            (score >= GROWTH_MIN).then_some((score, excess, pattern))
        })
        .collect();
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| by_level(a.2, b.2)));
    let total: f64 = ranked.iter().map(|(_, excess, _)| excess.max(0.0)).sum();
    let causes = ranked.into_iter().take(EVIDENCE_MAX);
    // Of latencies beyond all measure the sum is no number, and nothing is known of a share.
    let share = |excess: f64| Some(excess / total.max(1e-9)).filter(|share| share.is_finite());
    causes.map(|(_, excess, pattern)| cause(pattern, share(excess).unwrap_or(0.0))).collect()
}

fn by_level(left: &PatternCount, right: &PatternCount) -> Ordering {
    right.level.cmp(&left.level).then_with(|| left.template_id.cmp(&right.template_id))
}

/// How far it grew in standard deviations, and by how much.
fn score(symptom: Symptom, pattern: &PatternCount) -> Option<(f64, f64)> {
    let now = pattern.now as f64;
    let growth = count_deviance(now, pattern.before.max(EXPECTED_MIN));
    let excess = now - pattern.before;
    match symptom {
        Symptom::Less => Some((-growth, -excess)),
        _ if pattern.now < SUPPORT_MIN => None,
        // A warning may explain errors, but an error explains them better.
        Symptom::Errors if pattern.level >= 5 => Some((growth, excess)),
        Symptom::Errors if pattern.level == 4 => Some((growth * 0.5, excess)),
        Symptom::Errors => Some((growth * 0.1, excess)),
        Symptom::More if pattern.level >= 4 => Some((growth * 1.5, excess)),
        Symptom::More => Some((growth, excess)),
        Symptom::Latency => {
            let (slow, usual) = pattern.latency_ms?;
            let factor = (slow / usual.max(1e-3)).max(1e-3).ln();
            Some((factor * now.sqrt() * 2.0, (slow - usual) * now))
        }
    }
}

fn cause(pattern: &PatternCount, share: f64) -> ProbableCause {
    let level = logweir_core::record::Level::from_number(pattern.level).unwrap_or_default();
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
            latency_ms: Some((f64::INFINITY, 5.0)),
            ..pattern("endless", 3, 100, 100.0)
        };
        let found = probable_causes(Symptom::Latency, &[endless]);
        assert_eq!(found[0].template_id, "endless");
        assert!(found[0].share.is_finite(), "what is no number cannot be read back from JSON");
    }

    #[test]
    fn slowness_is_found_where_it_is() {
        let timed =
            |id: &str, ms| PatternCount { latency_ms: Some(ms), ..pattern(id, 3, 100, 100.0) };
        let patterns = [timed("same", (900.0, 880.0)), timed("slow", (50.0, 10.0))];
        assert_eq!(first(Symptom::Latency, &patterns), "slow");
    }
}
