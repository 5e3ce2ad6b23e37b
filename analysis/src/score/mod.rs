//! Scores: how unusual a log is for its service.
//!
//! Each test answers with a tail probability: the chance of a log at least as unusual as this one.
//!
//! - *Novelty*: the chance that the next log has a pattern never seen, by Good and Turing the share
//!   of patterns seen once. A service that keeps inventing patterns is not alarming.
//! - *Rarity*: the share of logs whose pattern is as rare as this one or rarer.
//! - *Bursts*: a pattern, or a level, that is far more frequent than it should be; see [`frequency`].
//! - *Latency*: a slow log for its pattern ([`latency`]), and slow phases ([`level_shift`], [`slow`]).
//! - *Length* of the message for its pattern; see [`length`].
//! - *Parameters*: a value never seen of an attribute of few values; see [`new_value`].
//! - *Combination*: an isolation [`forest`] over numbers about the log. It is asked only about logs
//!   that some other test raises, for it costs as much as all others together.
//!
//! [`evidence`] combines them into one tail probability, whose complement is the score. A log with
//! a tail within `contamination` is an anomaly if its cause has alarms left.
//!
//! What alarms is not learned until it has turned out to be usual; see [`episode`]. So a fault is
//! an anomaly from its first logs to its last, a new level is accepted after half an hour, and a
//! flood of one message changes nothing for the others: it has its own cause, its own budget, and
//! is kept out of what the others are measured by.

mod baseline;
mod decay;
mod episode;
mod evidence;
mod features;
mod forest;
mod frequency;
mod latency;
mod length;
mod level_shift;
mod new_value;
mod reason;
mod reservoir;
mod slow;

use self::{baseline::ScoreParts, reason::reasons};
pub(crate) use self::{
    baseline::{Log, PatternBaseline, ServiceBaseline},
    frequency::DecayTable,
};
pub use self::{
    features::{FEATURE_COUNT, FEATURE_NAMES, FeatureStatistics, FeatureSummary, Features},
    forest::{ForestModel, ForestParameters},
};

// With the default budget of a thousandth, one "normal" spares a pattern all but the rarest tails,
// and two of them all tails that there are (`TAIL_MIN` is a millionth).
/// One feedback makes the logs of a pattern so many times more, or less, likely to be anomalies.
const FEEDBACK_FACTOR: f64 = 100.0;
/// So often the factor is applied at most.
const FEEDBACK_MAX: f32 = 2.0;

/// The score of one log.
#[derive(Debug, Clone)]
pub(crate) struct PointScore {
    pub(crate) score: f32,
    pub(crate) is_anomaly: bool,
    pub(crate) reasons: Vec<String>,
}

impl ServiceBaseline {
    /// Scores a log of a pattern, then learns it.
    pub(crate) fn observe(&mut self, pattern: &mut PatternBaseline, log: &Log<'_>) -> PointScore {
        let time = log.record.time.as_unix_nanos();
        self.seen += 1;
        self.advance(time);
        let weight = self.decay.weight(time);
        let mut found = ScoreParts::new();
        // The order matters: a level is not asked about where the pattern explains it, and the
        // forest only where one of the others raises the log. Learning comes last, so that nothing
        // is measured by itself.
        self.score_pattern(pattern, weight, time, &mut found);
        self.score_level(log.level, weight, time, &mut found);
        self.score_latency(pattern, log, &mut found);
        self.score_length(pattern, log, &mut found);
        self.score_values(log, &mut found);
        self.score_combination(pattern, log, &mut found);
        let tail = heeding(log.feedback, found.evidence.combined());
        let is_anomaly = tail <= self.contamination && self.is_affordable(pattern, log, &found);
        let reasons = if is_anomaly { reasons(self, pattern, log, &found) } else { Vec::new() };
        self.learn(pattern, log, weight, &found);
        PointScore { score: score(tail), is_anomaly, reasons }
    }
}

/// A tail with what people said of the pattern.
fn heeding(feedback: f32, tail: f64) -> f64 {
    if feedback == 0.0 {
        return tail;
    }
    let feedback = f64::from(feedback.clamp(-FEEDBACK_MAX, FEEDBACK_MAX));
    (tail * FEEDBACK_FACTOR.powf(-feedback)).min(1.0)
}

/// In thousandths: finer means nothing to a reader, and costs space where scores are stored.
fn score(tail: f64) -> f32 {
    (((1.0 - tail) * 1_000.0).round() / 1_000.0) as f32
}
