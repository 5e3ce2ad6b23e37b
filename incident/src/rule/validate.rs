//! What may be wrong with a rule, wherever it comes from: a file, a call, or storage.

use logweir_core::{filter::Filter, timestamp::Timestamp};

use super::{NAME_BYTES_MAX, Rule, RuleKind, Threshold};

/// The shortest window, seconds: a bucket is as long, and nothing shorter can be told apart.
const WINDOW_SECONDS_MIN: u32 = 10;
/// The longest window, seconds: thirty days.
const WINDOW_SECONDS_MAX: u32 = 30 * 86_400;
/// The longest window that rests on buckets of ten seconds, of which an hour is kept.
const BUCKETS_SECONDS_MAX: u32 = 3_600;

/// Labels that incidents have of themselves.
const RESERVED: [&str; 2] = ["rule", "service"];

impl Rule {
    /// What is wrong with it and what to do, a sentence for each mistake; empty if nothing is.
    pub fn validate(&self) -> Vec<String> {
        // All at once: whoever corrects a file should not have to send it once for each mistake.
        let mut mistakes = Vec::new();
        self.validate_names(&mut mistakes);
        self.validate_windows(&mut mistakes);
        self.validate_threshold(&mut mistakes);
        validate_kind(&self.measure, &mut mistakes);
        mistakes.into_iter().map(|message| format!("rule {:?}: {message}", self.name)).collect()
    }

    fn validate_names(&self, mistakes: &mut Vec<String>) {
        let name = &self.name;
        // Names are printed in lines of text and sent in headers, which a line break would end.
        let is_name = !name.trim().is_empty()
            && name.len() <= NAME_BYTES_MAX
            && !name.chars().any(char::is_control);
        if !is_name {
            mistakes
                .push(format!("a name has 1 to {NAME_BYTES_MAX} bytes without control characters"));
        }
        if self.services.iter().any(String::is_empty) {
            mistakes.push("a service is empty; leave `services` out for all".to_owned());
        }
        for label in RESERVED {
            if self.labels.contains_key(label) {
                mistakes.push(format!("the label {label:?} is Logweir's own; use another"));
            }
        }
        let share = self.recovery_share;
        if !(share > 0.0 && share <= 1.0) {
            mistakes.push(format!("recovery_share is {share}; use above 0 to 1"));
        }
    }

    fn validate_windows(&self, mistakes: &mut Vec<String>) {
        for Window { seconds, seconds_max } in windows(&self.measure) {
            if !(WINDOW_SECONDS_MIN..=seconds_max).contains(&seconds) {
                mistakes.push(format!(
                    "a window of {seconds} s; use {WINDOW_SECONDS_MIN} to {seconds_max}"
                ));
            }
        }
    }

    fn validate_threshold(&self, mistakes: &mut Vec<String>) {
        let Some(threshold) = threshold(&self.measure) else { return };
        let is_number = match threshold {
            Threshold::Absolute(number) => number.is_finite() && number >= 0.0,
            Threshold::Relative(factor) => factor.is_finite() && factor > 0.0,
            Threshold::Unusual => true,
        };
        if !is_number {
            mistakes.push("a threshold is a finite number, not negative".to_owned());
        }
        // Nothing is learnt of what a filter matches, nor of anomalies: such a rule would never
        // fire, and whoever set it would think that all is well.
        let has_baseline =
            !matches!(self.measure, RuleKind::AnomalyCount { .. } | RuleKind::MatchCount { .. });
        if !has_baseline && matches!(threshold, Threshold::Relative(_)) {
            let kind = self.measure.name();
            mistakes.push(format!("{kind} has no normal to be relative to; use `absolute`"));
        }
    }
}

/// What only rules of one kind can get wrong.
fn validate_kind(kind: &RuleKind, mistakes: &mut Vec<String>) {
    let mut check = |is_good: bool, message: String| {
        if !is_good {
            mistakes.push(message);
        }
    };
    match kind {
        // Somebody meant per cent: a share of 5 is never passed.
        RuleKind::ErrorRate { threshold: Threshold::Absolute(share), .. } => {
            check(*share < 1.0, format!("an error rate of {share}; write 0.05 for 5 %"));
        }
        RuleKind::NewPattern { hits, .. } => {
            check(*hits > 0, "hits is 0; use 1 or more".to_owned());
        }
        RuleKind::Latency { percentile, .. } => {
            let is_share = *percentile > 0.0 && *percentile < 1.0;
            check(is_share, format!("percentile is {percentile}; write 0.95 for p95"));
        }
        RuleKind::BurnRate { objective, factor, long_window_seconds, short_window_seconds } => {
            let (long, short) = (long_window_seconds, short_window_seconds);
            check(long > short, format!("the long window, {long} s, is not over {short} s"));
            // An objective of 1 leaves no budget that could be burnt.
            let is_share = *objective > 0.0 && *objective < 1.0;
            check(is_share, format!("objective is {objective}; write 0.999 for 99.9 %"));
            check(*factor > 0.0 && factor.is_finite(), "factor must be above 0".to_owned());
        }
        RuleKind::DiskShare { percent } => {
            check((1..=100).contains(percent), format!("percent is {percent}; write 1 to 100"));
        }
        RuleKind::MatchCount { filter, .. } => {
            // At moment 0: times relative to now are valid or not whatever the moment.
            if let Err(error) = Filter::parse(filter, Timestamp::EPOCH) {
                check(false, format!("filter: {error}"));
            }
        }
        _ => {}
    }
}

/// A window of a rule, and how long it may be.
struct Window {
    seconds: u32,
    seconds_max: u32,
}

fn windows(kind: &RuleKind) -> Vec<Window> {
    let of_buckets = |seconds| Window { seconds, seconds_max: BUCKETS_SECONDS_MAX };
    let long = |seconds| Window { seconds, seconds_max: WINDOW_SECONDS_MAX };
    match *kind {
        RuleKind::ErrorRate { window_seconds, .. }
        | RuleKind::ErrorCount { window_seconds, .. }
        | RuleKind::Volume { window_seconds, .. }
        | RuleKind::Latency { window_seconds, .. }
        | RuleKind::AnomalyCount { window_seconds, .. }
        | RuleKind::MatchCount { window_seconds, .. }
        | RuleKind::DeadLetters { window_seconds, .. }
        | RuleKind::SdkLoss { window_seconds, .. } => vec![of_buckets(window_seconds)],
        // The baseline's rows of five minutes reach further back than the buckets.
        RuleKind::BurnRate { long_window_seconds, short_window_seconds, .. } => {
            vec![long(long_window_seconds), long(short_window_seconds)]
        }
        // A silence is measured from the newest log, whose time is kept however old it is.
        RuleKind::ServiceSilence { silence_seconds }
        | RuleKind::ProcessorSilence { silence_seconds } => vec![long(silence_seconds)],
        RuleKind::NewPattern { .. }
        | RuleKind::QueueLag { .. }
        | RuleKind::DiskShare { .. }
        | RuleKind::RulesLate { .. }
        | RuleKind::ClockOff { .. } => Vec::new(),
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
