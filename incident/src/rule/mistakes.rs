//! What may be wrong with a rule.

use logweir_core::filter::Filter;

use super::{NAME_BYTES_MAX, Rule, RuleKind, Threshold};

/// Seconds of a window: thirty days.
const WINDOW_SECONDS_MAX: u32 = 30 * 86_400;
/// Windows that rest on buckets of ten seconds: an hour.
const FINE_SECONDS_MAX: u32 = 3_600;

/// Labels that incidents have of themselves.
const RESERVED: [&str; 2] = ["rule", "service"];

impl Rule {
    /// What is wrong with it and what to do, wherever it comes from.
    pub fn mistakes(&self) -> Vec<String> {
        mistakes(self)
    }
}

fn mistakes(rule: &Rule) -> Vec<String> {
    let mut found = Vec::new();
    let mut check = |is_good: bool, message: String| {
        if !is_good {
            found.push(format!("rule {:?}: {message}", rule.name));
        }
    };
    let name = &rule.name;
    let is_name = !name.trim().is_empty()
        && name.len() <= NAME_BYTES_MAX
        && !name.chars().any(char::is_control);
    check(is_name, format!("a name has 1 to {NAME_BYTES_MAX} bytes without control characters"));
    let is_none = rule.services.iter().any(String::is_empty);
    check(!is_none, "a service is empty; leave `services` out for all".to_owned());
    for label in RESERVED {
        let is_free = !rule.labels.contains_key(label);
        check(is_free, format!("the label {label:?} is Logweir's own; use another"));
    }
    let share = rule.recovery_share;
    check(share > 0.0 && share <= 1.0, format!("recovery_share is {share}; use above 0 to 1"));
    for (window, is_fine) in windows(&rule.measure) {
        let max = if is_fine { FINE_SECONDS_MAX } else { WINDOW_SECONDS_MAX };
        let is_good = (10..=max).contains(&window);
        check(is_good, format!("a window of {window} s; use 10 to {max}"));
    }
    if let Some(threshold) = threshold(&rule.measure) {
        let number = match threshold {
            Threshold::Absolute(number) => number.is_finite() && number >= 0.0,
            Threshold::Relative(factor) => factor.is_finite() && factor > 0.0,
            Threshold::Unusual => true,
        };
        check(number, "a threshold is a finite number, not negative".to_owned());
        let has_normal =
            !matches!(rule.measure, RuleKind::AnomalyCount { .. } | RuleKind::MatchCount { .. });
        let can_hold = has_normal || !matches!(threshold, Threshold::Relative(_));
        let kind = rule.measure.name();
        check(can_hold, format!("{kind} has no normal to be relative to; use `absolute`"));
    }
    match &rule.measure {
        RuleKind::ErrorRate { threshold: Threshold::Absolute(share), .. } => {
            check(*share < 1.0, format!("an error rate of {share}; write 0.05 for 5 %"));
        }
        RuleKind::NewPattern { hits, .. } => {
            check(*hits > 0, "hits is 0; use 1 or more".to_owned())
        }
        RuleKind::Latency { percentile, .. } => {
            let is_good = *percentile > 0.0 && *percentile < 1.0;
            check(is_good, format!("percentile is {percentile}; write 0.95 for p95"));
        }
        RuleKind::BurnRate { objective, factor, long_window_seconds, short_window_seconds } => {
            let (long, short) = (long_window_seconds, short_window_seconds);
            check(long > short, format!("the long window, {long} s, is not over {short} s"));
            let is_good = *objective > 0.0 && *objective < 1.0;
            check(is_good, format!("objective is {objective}; write 0.999 for 99.9 %"));
            check(*factor > 0.0 && factor.is_finite(), "factor must be above 0".to_owned());
        }
        RuleKind::MatchCount { filter, .. } => {
            if let Err(error) = Filter::parse(filter, 0) {
                check(false, format!("filter: {error}"));
            }
        }
        _ => {}
    }
    found
}

/// The windows of a kind, and whether they rest on the buckets of ten seconds.
fn windows(kind: &RuleKind) -> Vec<(u32, bool)> {
    match *kind {
        RuleKind::ErrorRate { window_seconds, .. }
        | RuleKind::ErrorCount { window_seconds, .. }
        | RuleKind::Volume { window_seconds, .. }
        | RuleKind::Latency { window_seconds, .. }
        | RuleKind::AnomalyCount { window_seconds, .. }
        | RuleKind::MatchCount { window_seconds, .. }
        | RuleKind::DeadLetters { window_seconds, .. }
        | RuleKind::SdkLoss { window_seconds, .. } => vec![(window_seconds, true)],
        RuleKind::BurnRate { long_window_seconds, short_window_seconds, .. } => {
            vec![(long_window_seconds, false), (short_window_seconds, false)]
        }
        RuleKind::ServiceSilence { silence_seconds }
        | RuleKind::ProcessorSilence { silence_seconds } => vec![(silence_seconds, false)],
        RuleKind::NewPattern { .. } | RuleKind::QueueLag { .. } => Vec::new(),
    }
}

const fn threshold(kind: &RuleKind) -> Option<Threshold> {
    match *kind {
        RuleKind::ErrorRate { threshold, .. }
        | RuleKind::ErrorCount { threshold, .. }
        | RuleKind::Volume { threshold, .. }
        | RuleKind::Latency { threshold, .. }
        | RuleKind::AnomalyCount { threshold, .. }
        | RuleKind::MatchCount { threshold, .. } => Some(threshold),
        _ => None,
    }
}
