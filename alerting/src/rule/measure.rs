//! Rules with a number: what is measured over a window, and whether it is past the threshold.

use logweir_core::timestamp::Timestamp;
use logweir_incident::{
    incident::Measured,
    rule::{Rule, Threshold},
};

use crate::detector::{
    detection::{Confidence, Detection, format_number},
    history::ServiceHistory,
    ratio::Ratio,
    window::{BUCKET_SECONDS, Sums},
};

/// An "unusual" count of anomalies, which have no baseline: ten times the share of logs that
/// detection's false-alarm budget (`contamination`, 0.001) allows, and at least ten logs.
const UNUSUAL_ANOMALY_SHARE: f64 = 0.01;
const UNUSUAL_ANOMALIES_MIN: f64 = 10.0;
/// A smaller `recovery_share` counts as this, as the threshold of a fall is divided by it.
const RECOVERY_SHARE_MIN: f64 = 0.01;
/// A smaller error budget counts as this: an objective of 100 % leaves none to divide by.
const ERROR_BUDGET_MIN: f64 = 1e-9;

/// What is measured over a window.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Quantity {
    /// Share of logs that are errors, 0 to 1.
    ErrorShare,
    /// Number of errors.
    Errors,
    /// Number of logs.
    Logs,
    /// Number of logs that detection calls anomalies.
    Anomalies,
    /// The latency in milliseconds below which this share of logs lies.
    LatencyMs(f64),
}

/// What a rule asks for, shared by all rules that ask the same.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Query {
    pub(super) quantity: Quantity,
    pub(super) window_seconds: u32,
}

/// The answer to a query.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Measurement {
    pub(super) value: f64,
    /// Expected at this time; none if not known.
    pub(super) expected: Option<f64>,
    /// Logs that it rests on.
    pub(super) support: f64,
}

impl Measurement {
    /// What a service's last window says, seen at a moment.
    pub(super) fn of(history: &ServiceHistory, at: Timestamp, query: Query) -> Self {
        let expected = history.baseline.expected();
        let buckets = full_buckets(query.window_seconds);
        let [sums] = history.buckets.sums(at, [buckets], expected.slow_from);
        // Before the first row is learnt every expectation is 0, which any log would exceed.
        let known = |value: f64| (expected.spans > 0).then_some(value);
        let (value, expected, support) = match query.quantity {
            Quantity::ErrorShare => (
                sums.errors / sums.total.max(1.0),
                known(expected.ratios[Ratio::Errors]),
                sums.total,
            ),
            Quantity::Errors => {
                (sums.errors, known(expected.errors_per_second * sums.seconds), sums.total)
            }
            Quantity::Logs => (sums.total, known(expected.rate * sums.seconds), sums.total),
            Quantity::Anomalies => (sums.anomalies, None, sums.total),
            Quantity::LatencyMs(quantile) => (
                history.buckets.latency_ms(at, buckets, quantile),
                known(history.baseline.latency_ms(quantile)),
                sums.timed,
            ),
        };
        Self { value, expected, support }
    }

    /// The logs that matched a rule's filter.
    pub(super) const fn of_matches(sums: &Sums) -> Self {
        Self { value: sums.total, expected: None, support: sums.total }
    }

    /// How many times faster than allowed a service's error budget is used up, in both of two
    /// windows: the long one says that it matters, the short one that it still goes on.
    pub(super) fn of_burn_rate(
        history: &ServiceHistory,
        at: Timestamp,
        objective: f64,
        [long_seconds, short_seconds]: [u32; 2],
    ) -> Self {
        // The share of logs that may be errors.
        let budget = (1.0 - objective).max(ERROR_BUDGET_MIN);
        let burn = |seconds| {
            let tally = history.errors_over(at, seconds);
            (tally.hits / tally.total.max(1.0) / budget, tally.total)
        };
        let (long, support) = burn(long_seconds);
        let (short, _) = burn(short_seconds);
        // A rate of 1 uses the budget up just in its time. The lower of both must be past the
        // factor.
        Self { value: long.min(short), expected: Some(1.0), support }
    }

    /// The number that a threshold stands for; none without enough history.
    pub(super) fn limit(&self, threshold: Threshold) -> Option<f64> {
        match threshold {
            Threshold::Absolute(limit) => Some(limit),
            Threshold::Relative(factor) => {
                self.expected.filter(|expected| *expected > 0.0).map(|expected| expected * factor)
            }
            Threshold::Unusual => {
                Some((self.support * UNUSUAL_ANOMALY_SHARE).max(UNUSUAL_ANOMALIES_MIN))
            }
        }
    }

    /// Whether it is past the limit. What already fires goes on down to the rule's recovery share
    /// of it, so that a value around the limit makes one incident and not many.
    pub(super) fn is_past(&self, limit: f64, is_down: bool, rule: &Rule, is_active: bool) -> bool {
        // A fall needs no support: that there are few logs is what it is about.
        if is_down {
            let recovery_share = rule.recovery_share.max(RECOVERY_SHARE_MIN);
            return self.value < if is_active { limit / recovery_share } else { limit };
        }
        let limit = if is_active { limit * rule.recovery_share } else { limit };
        self.value > limit && self.support >= rule.minimum_support as f64
    }

    /// That it is past the limit, in words and numbers.
    pub(super) fn detection(
        &self,
        limit: f64,
        is_down: bool,
        rule: &Rule,
        at: Timestamp,
    ) -> Detection {
        // The name in the incident is the stable one of the rule's kind, as files have it; people
        // read the summary.
        let expected =
            self.expected.map_or(String::new(), |n| format!(", normal {}", format_number(n)));
        let word = if is_down { "below" } else { "above" };
        let name = rule.measure.name();
        Detection {
            confidence: Confidence::Certain,
            severity: rule.severity,
            summary: format!(
                "{}: {}{expected}, {word} {}",
                name.replace('_', " "),
                format_number(self.value),
                format_number(limit)
            ),
            measured: vec![Measured {
                name: name.to_owned(),
                now: self.value,
                normal: self.expected,
                threshold: Some(limit),
                support: self.support as u64,
            }],
            started_at: at,
        }
    }
}

/// Full buckets of a window of so many seconds, besides the open one.
pub(super) fn full_buckets(window_seconds: u32) -> u32 {
    // One bucket less: with the open one a window would be longer than was asked for.
    (window_seconds / BUCKET_SECONDS).saturating_sub(1)
}
